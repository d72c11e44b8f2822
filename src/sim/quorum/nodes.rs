//! Nodes of a quorum in one world: the core of each is the real one, everything around it is made here.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use uuid::Uuid;

use super::history::History;
use super::mutants::Mutant;
use super::storage::{Kept, Snapshot, Write, Written};
use crate::quorum::core::message::{
    Correlation, Event, Leadership, Request, Response, RoleName, SnapshotId, Token,
};
use crate::quorum::core::{QuorumCore, Timing};
use crate::quorum::{ReplicaKey, Voter, VoterEndpoint, Voters};
use crate::sim::disk::Disk;
use crate::sim::network::Network;
use crate::sim::random::Random;
use crate::sim::runner::Violation;
use crate::sim::timeline::Timeline;
use crate::sim::trace::Trace;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// The listener of all nodes.
pub(in crate::sim) const LISTENER: &str = "CONTROLLER";
/// The longest time until somebody who gets no answer gives up.
pub(super) const REQUEST_TIMEOUT_MS: i64 = 2_000;

/// How a world is.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Settings {
    /// Of a million steps, in how many the node crashes between two actions.
    pub(in crate::sim) crash_in_step: u32,
    /// The longest time until what a leader appended is on its disk.
    pub(in crate::sim) flush_ms_max: i64,
    /// The shortest time until a node gives up waiting for a response.
    pub(in crate::sim) timeout_ms_min: i64,
    /// Whether the voters are configured, and so can not change.
    pub(in crate::sim) fixed: bool,
    /// Whether voters know the addresses of others by more than the voters' list.
    pub(in crate::sim) has_bootstrap: bool,
    /// How long things may take.
    pub(in crate::sim) timing: Timing,
    /// What is wrong with the nodes, if anything is.
    pub(in crate::sim) mutant: Option<Mutant>,
}

/// One node.
#[derive(Clone)]
pub(in crate::sim) struct Node {
    pub(in crate::sim) id: NodeId,
    pub(in crate::sim) directory_id: Uuid,
    pub(in crate::sim) port: u16,
    pub(in crate::sim) disk: Disk<Kept>,
    /// `None` while it is down.
    pub(in crate::sim) core: Option<QuorumCore>,
    /// Which life it lives: what was meant for an older one is lost.
    pub(in crate::sim) life: u32,
    /// What it said about itself last.
    pub(in crate::sim) leadership: Leadership,
    /// What it knows to be committed in this life.
    pub(in crate::sim) committed: Offset,
    /// Whether it was told to stop.
    pub(in crate::sim) stops: bool,
    /// Nothing happens in it before this moment.
    pub(in crate::sim) frozen_until_ms: i64,
    /// How far its clock is from that of the world.
    pub(in crate::sim) skew_ms: i64,
    pub(super) planned_tick_ms: i64,
    pub(in crate::sim) flush_planned: bool,
    /// Requests that got no response yet, with where they went.
    pub(in crate::sim) outstanding: BTreeMap<Correlation, NodeId>,
    /// A snapshot that is being fetched.
    pub(in crate::sim) download: Option<(SnapshotId, Vec<u8>)>,
}

impl Node {
    pub(in crate::sim) fn key(&self) -> ReplicaKey {
        ReplicaKey { id: self.id, directory_id: self.directory_id }
    }

    pub(in crate::sim) fn voter(&self) -> Voter {
        Voter {
            key: self.key(),
            endpoints: vec![endpoint(self.id, self.port)],
            kraft_versions: crate::quorum::voters::VersionRange::SUPPORTED,
        }
    }

    /// Nothing is planned for it.
    pub(in crate::sim) fn forget_ticks(&mut self) {
        self.planned_tick_ms = i64::MAX;
    }

    pub(in crate::sim) fn is_leader(&self) -> bool {
        self.core.is_some() && self.leadership.role == RoleName::Leader
    }
}

/// Where a node is reached.
pub(in crate::sim) fn endpoint(id: NodeId, port: u16) -> VoterEndpoint {
    VoterEndpoint { listener: LISTENER.to_owned(), host: format!("n{id}"), port }
}

/// All nodes. A copy has them in common with the original until one of the two changes them.
#[derive(Clone)]
pub(in crate::sim) struct Nodes(BTreeMap<NodeId, Rc<Node>>);

impl Nodes {
    pub(in crate::sim) fn get(&self, id: &NodeId) -> Option<&Node> {
        self.0.get(id).map(Rc::as_ref)
    }

    pub(in crate::sim) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Node> {
        self.0.get_mut(id).map(Rc::make_mut)
    }

    pub(in crate::sim) fn keys(&self) -> impl Iterator<Item = &NodeId> {
        self.0.keys()
    }

    pub(in crate::sim) fn values(&self) -> impl Iterator<Item = &Node> {
        self.0.values().map(Rc::as_ref)
    }

    pub(in crate::sim) fn values_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.0.values_mut().map(Rc::make_mut)
    }
}

/// What happens later.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Planned {
    Arrives { to: NodeId, port: u16, from: NodeId, life: u32, correlation: Correlation, request: Request },
    Returns { to: NodeId, from: NodeId, life: u32, correlation: Correlation, response: Response },
    GivesUp { node: NodeId, life: u32, correlation: Correlation },
    Tick { node: NodeId, life: u32 },
    Flush { node: NodeId, life: u32 },
}

/// Who waits for a reply.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Asker {
    /// A node, in this life, by this request.
    Node { id: NodeId, life: u32, correlation: Correlation, request: Request },
    /// Whoever uses this world.
    User,
}

/// A request of the user was answered.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Answered {
    pub(in crate::sim) token: Token,
    pub(in crate::sim) response: Response,
}

/// All nodes, and what is between them.
#[derive(Clone)]
pub(in crate::sim) struct Quorum {
    pub(in crate::sim) settings: Settings,
    pub(in crate::sim) nodes: Nodes,
    pub(in crate::sim) network: Network,
    pub(in crate::sim) history: Rc<History>,
    pub(in crate::sim) random: Random,
    pub(in crate::sim) crashes: u64,
    pub(in crate::sim) installed: u64,
    pub(in crate::sim) truncated: u64,
    /// The disks that were lost. What was committed because of them counts.
    pub(in crate::sim) lost: Vec<(ReplicaKey, Kept)>,
    /// The node that acts next crashes before it has done so many things.
    pub(in crate::sim) crash_at: Option<usize>,
    /// How much survives the next crash of what is not synced, if not chance decides it.
    pub(in crate::sim) survives: Option<usize>,
    /// How many things the node did that acted last.
    pub(in crate::sim) done: usize,
    /// The voters of a new quorum.
    pub(super) bootstrap: Voters,
    pub(in crate::sim) timeline: Timeline<Planned>,
    pub(in crate::sim) askers: BTreeMap<Token, Asker>,
    pub(in crate::sim) tokens: Token,
    pub(super) batches: HashMap<u64, Rc<Written>>,
    pub(super) snapshots: HashMap<u64, Rc<Snapshot>>,
    pub(super) answers: Vec<Answered>,
}

impl Quorum {
    /// Nodes that do not run yet; the first `voters` of them vote.
    pub(in crate::sim) fn new(settings: Settings, nodes: NodeId, voters: NodeId, mut random: Random) -> Self {
        let node = |id: NodeId| Node {
            id,
            directory_id: directory(id, 0),
            port: 1,
            disk: Disk::new(Kept::default()),
            core: None,
            life: 0,
            leadership: nobody(),
            committed: 0,
            stops: false,
            frozen_until_ms: 0,
            skew_ms: 0,
            planned_tick_ms: i64::MAX,
            flush_planned: false,
            outstanding: BTreeMap::new(),
            download: None,
        };
        let mut nodes = Nodes((1..=nodes).map(|id| (id, Rc::new(node(id)))).collect());
        let bootstrap = Voters(
            nodes.values().filter(|node| node.id <= voters).map(|node| (node.id, node.voter())).collect(),
        );
        for node in nodes.values_mut() {
            node.skew_ms = random.between(0, 100_000);
        }
        Self {
            settings,
            nodes,
            network: Network::default(),
            history: Rc::default(),
            random,
            crashes: 0,
            installed: 0,
            truncated: 0,
            lost: Vec::new(),
            crash_at: None,
            survives: None,
            done: 0,
            bootstrap,
            timeline: Timeline::new(),
            askers: BTreeMap::new(),
            tokens: 0,
            batches: HashMap::new(),
            snapshots: HashMap::new(),
            answers: Vec::new(),
        }
    }

    pub(in crate::sim) fn now_ms(&self) -> i64 {
        self.timeline.now_ms()
    }

    /// When something happens next.
    pub(in crate::sim) fn next_ms(&self) -> Option<i64> {
        self.timeline.next_ms()
    }

    /// Lets time pass in which nothing happens.
    pub(in crate::sim) fn advance_to(&mut self, now_ms: i64) {
        self.timeline.advance_to(now_ms);
    }

    pub(in crate::sim) fn take_answers(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answers)
    }

    /// The node that leads, if one says so; the newest if several do.
    pub(in crate::sim) fn leader(&self) -> Option<&Node> {
        self.nodes.values().filter(|node| node.is_leader()).max_by_key(|node| node.leadership.epoch)
    }

    pub(super) fn lives(&self, id: NodeId, life: u32) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.life == life && node.core.is_some())
    }

    /// Starts a node that is down.
    pub(in crate::sim) fn start(&mut self, id: NodeId, trace: &mut Trace) -> Result<(), Violation> {
        let seed = self.random.next_u64();
        let now_ms = self.now_ms();
        let bootstrap = self.bootstrap.clone();
        let mut others: Vec<(String, u16)> =
            self.nodes.values().map(|node| (format!("n{}", node.id), node.port)).collect();
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.core.is_none()) else { return Ok(()) };
        if !self.settings.has_bootstrap && bootstrap.contains(node.key()) {
            others.clear();
        }
        node.life += 1;
        node.committed = node.disk.live().log.start();
        node.leadership = nobody();
        node.outstanding.clear();
        node.download = None;
        node.flush_planned = false;
        node.planned_tick_ms = i64::MAX;
        node.frozen_until_ms = 0;
        node.stops = false;
        let (core, actions) =
            super::start::core(node, &bootstrap, &self.settings, others, now_ms + node.skew_ms, seed);
        node.core = Some(core);
        trace.note(now_ms, format_args!("n{id} starts life {} with {:?}", node.life, Outline(node)));
        self.execute(id, actions, trace)
    }

    /// Ends a node; what it had not synced may be lost.
    pub(in crate::sim) fn crash(&mut self, id: NodeId, trace: &mut Trace) {
        let now_ms = self.now_ms();
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.core.is_some()) else { return };
        node.core = None;
        node.life += 1;
        node.leadership = nobody();
        match self.survives.take() {
            Some(kept) => node.disk.lose(kept),
            None => node.disk.crash(&mut self.random),
        }
        trace.note(now_ms, format_args!("n{id} crashes and keeps {:?}", Outline(node)));
        self.crashes += 1;
    }

    /// Gives a node that is down an empty disk: the same id with another directory is another replica.
    pub(in crate::sim) fn wipe(&mut self, id: NodeId, trace: &mut Trace) {
        let now_ms = self.now_ms();
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.core.is_none()) else { return };
        let lost = std::mem::replace(&mut node.disk, Disk::new(Kept::default()));
        self.lost.push((node.key(), lost.synced().clone()));
        if self.settings.mutant != Some(Mutant::WipedVoterVotes) {
            node.directory_id = directory(id, node.life);
        }
        trace.note(now_ms, format_args!("n{id} is wiped"));
    }

    /// Asks a node as an administrator or its controller does; the answer is an [`Answered`] with this token.
    pub(in crate::sim) fn ask(
        &mut self,
        id: NodeId,
        request: Request,
        trace: &mut Trace,
    ) -> Result<Token, Violation> {
        self.tokens += 1;
        let token = self.tokens;
        self.askers.insert(token, Asker::User);
        self.event(id, Event::Request(token, request), trace)?;
        Ok(token)
    }

    /// Appends as the controller of an epoch.
    pub(in crate::sim) fn append(
        &mut self,
        id: NodeId,
        epoch: LeaderEpoch,
        values: Vec<Bytes>,
        trace: &mut Trace,
    ) -> Result<Token, Violation> {
        self.tokens += 1;
        let token = self.tokens;
        self.askers.insert(token, Asker::User);
        self.event(id, Event::Append(token, epoch, values), trace)?;
        Ok(token)
    }

    /// Makes a snapshot of what a node knows to be committed, or of less.
    pub(in crate::sim) fn save_snapshot(
        &mut self,
        id: NodeId,
        trace: &mut Trace,
    ) -> Result<Option<SnapshotId>, Violation> {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.core.is_some()) else { return Ok(None) };
        let kept = node.disk.live();
        let wanted = self.random.between(kept.log.start(), node.committed.max(kept.log.start()));
        let end_offset = match self.settings.mutant {
            Some(Mutant::SnapshotOfUncommitted) => kept.log.end(),
            Some(_) | None => kept.boundary_at_most(wanted),
        };
        let (Some(epoch), Some(chain)) = (kept.log.epoch_before(end_offset), kept.log.chain(end_offset))
        else {
            return Ok(None);
        };
        let newest = kept.snapshots.last().map_or(0, |snapshot| snapshot.id.end_offset);
        if end_offset <= kept.log.start().max(newest) {
            return Ok(None);
        }
        let snapshot = Rc::new(Snapshot {
            id: SnapshotId { epoch, end_offset },
            chain,
            contents: kept.contents_before(end_offset),
        });
        self.snapshots.insert(chain, Rc::clone(&snapshot));
        if self.history.chain(end_offset) != Some(chain) {
            return Err(format!(
                "NoIllegalState: n{id} makes a snapshot before {end_offset} of what is not committed"
            ));
        }
        node.disk.write(Write::Save(snapshot));
        node.disk.sync();
        let saved = SnapshotId { epoch, end_offset };
        self.event(id, Event::SnapshotSaved(saved), trace)?;
        Ok(Some(saved))
    }
}

pub(super) fn nobody() -> Leadership {
    Leadership { epoch: 0, leader: None, endpoints: Vec::new(), role: RoleName::Unattached, epoch_start: 0 }
}

/// The directory of a node after so many lives.
pub(super) fn directory(id: NodeId, life: u32) -> Uuid {
    Uuid::from_u128((u128::from(id.unsigned_abs()) << 64) | u128::from(life) | (1 << 120))
}

/// A node in a few words.
struct Outline<'a>(&'a Node);

impl fmt::Debug for Outline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.disk.live();
        write!(
            f,
            "{:?}, a log from {} to {} of {:?}",
            kept.election,
            kept.log.start(),
            kept.log.end(),
            kept.log.epochs()
        )
    }
}
