//! Nodes of a quorum in one world: the core of each is the real one, everything around it is made here.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use uuid::Uuid;

use super::history::History;
use super::mutants::Mutant;
use super::storage::{Kept, Snapshot, Write, Written};
use crate::quorum::core::QuorumCore;
use crate::quorum::core::message::{
    Action, Correlation, Destination, Event, Fetched, FetchedSnapshot, Leadership, NewRecords, Progress,
    Request, Response, RoleName, SnapshotId, Token, Unreachable,
};
use crate::quorum::{ElectionState, ReplicaKey, Voter, VoterEndpoint, Voters};
use crate::sim::disk::Disk;
use crate::sim::network::Network;
use crate::sim::random::Random;
use crate::sim::runner::Violation;
use crate::sim::timeline::Timeline;
use crate::sim::trace::Trace;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// The listener of all nodes.
pub(in crate::sim) const LISTENER: &str = "CONTROLLER";
/// How many bytes of a snapshot travel at once, at most: it takes several requests.
const SNAPSHOT_PIECE: usize = 7;
const SNAPSHOT_BYTES: usize = 16;
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
    /// What is wrong with the nodes, if anything is.
    pub(in crate::sim) mutant: Option<Mutant>,
}

/// One node.
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
    skew_ms: i64,
    planned_tick_ms: i64,
    flush_planned: bool,
    /// Requests that got no response yet, with where they went.
    outstanding: BTreeMap<Correlation, NodeId>,
    /// A snapshot that is being fetched.
    download: Option<(SnapshotId, Vec<u8>)>,
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

    pub(in crate::sim) fn is_leader(&self) -> bool {
        self.core.is_some() && self.leadership.role == RoleName::Leader
    }
}

/// Where a node is reached.
pub(in crate::sim) fn endpoint(id: NodeId, port: u16) -> VoterEndpoint {
    VoterEndpoint { listener: LISTENER.to_owned(), host: format!("n{id}"), port }
}

/// What happens later.
#[derive(Debug)]
enum Planned {
    Arrives { to: NodeId, port: u16, from: NodeId, life: u32, correlation: Correlation, request: Request },
    Returns { to: NodeId, from: NodeId, life: u32, correlation: Correlation, response: Response },
    GivesUp { node: NodeId, life: u32, correlation: Correlation },
    Tick { node: NodeId, life: u32 },
    Flush { node: NodeId, life: u32 },
}

/// Who waits for a reply.
#[derive(Clone, Debug)]
enum Asker {
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
pub(in crate::sim) struct Quorum {
    pub(in crate::sim) settings: Settings,
    pub(in crate::sim) nodes: BTreeMap<NodeId, Node>,
    pub(in crate::sim) network: Network,
    pub(in crate::sim) history: History,
    pub(in crate::sim) random: Random,
    pub(in crate::sim) crashes: u64,
    pub(in crate::sim) installed: u64,
    pub(in crate::sim) truncated: u64,
    /// The disks that were lost. What was committed because of them counts.
    lost: Vec<(ReplicaKey, Kept)>,
    /// The voters of a new quorum.
    bootstrap: Voters,
    timeline: Timeline<Planned>,
    askers: BTreeMap<Token, Asker>,
    tokens: Token,
    batches: Vec<Rc<Written>>,
    snapshots: Vec<Rc<Snapshot>>,
    answers: Vec<Answered>,
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
        let mut nodes: BTreeMap<NodeId, Node> = (1..=nodes).map(|id| (id, node(id))).collect();
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
            history: History::default(),
            random,
            crashes: 0,
            installed: 0,
            truncated: 0,
            lost: Vec::new(),
            bootstrap,
            timeline: Timeline::new(),
            askers: BTreeMap::new(),
            tokens: 0,
            batches: Vec::new(),
            snapshots: Vec::new(),
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

    /// Lets the next thing happen.
    pub(in crate::sim) fn step(&mut self, trace: &mut Trace) -> Result<(), Violation> {
        let Some(planned) = self.timeline.next() else { return Ok(()) };
        if let Some(node) = self.nodes.get(&planned.node())
            && node.core.is_some()
            && node.frozen_until_ms > self.now_ms()
        {
            let until_ms = node.frozen_until_ms;
            self.timeline.at(until_ms, planned);
            return Ok(());
        }
        match planned {
            Planned::Arrives { to, port, from, life, correlation, request } => {
                let up = self.nodes.get(&to).is_some_and(|node| node.core.is_some() && node.port == port);
                if !up || !self.network.reaches(from, to) {
                    return Ok(());
                }
                let request = self.mutated_request(to, request);
                self.tokens += 1;
                let token = self.tokens;
                self.askers
                    .insert(token, Asker::Node { id: from, life, correlation, request: request.clone() });
                self.event(to, Event::Request(token, request), trace)
            }
            Planned::Returns { to, from, life, correlation, response } => {
                if !self.lives(to, life) || !self.network.reaches(from, to) {
                    return Ok(());
                }
                let Some(node) = self.nodes.get_mut(&to) else { return Ok(()) };
                let mut correlation = correlation;
                if node.outstanding.remove(&correlation).is_none()
                    && self.settings.mutant == Some(Mutant::CorrelationsIgnored)
                {
                    // Whatever comes is taken for the answer to what was asked last.
                    let asked = node.outstanding.iter().rev().find(|(_, other)| **other == from);
                    correlation = asked.map_or(correlation, |(asked, _)| *asked);
                    node.outstanding.remove(&correlation);
                }
                self.event(to, Event::Response(correlation, Ok(response)), trace)
            }
            Planned::GivesUp { node, life, correlation } => {
                let Some(waiting) =
                    self.nodes.get_mut(&node).filter(|node| node.life == life && node.core.is_some())
                else {
                    return Ok(());
                };
                if waiting.outstanding.remove(&correlation).is_none() {
                    return Ok(());
                }
                self.event(node, Event::Response(correlation, Err(Unreachable::Disconnected)), trace)
            }
            Planned::Tick { node, life } => {
                if !self.lives(node, life) {
                    return Ok(());
                }
                let now_ms = self.now_ms();
                let Some(ticking) = self.nodes.get_mut(&node) else { return Ok(()) };
                ticking.planned_tick_ms = i64::MAX;
                let due = ticking.core.as_ref().and_then(QuorumCore::deadline);
                if due.is_some_and(|due| due <= now_ms + ticking.skew_ms) {
                    return self.event(node, Event::Tick, trace);
                }
                self.plan_tick(node);
                Ok(())
            }
            Planned::Flush { node, life } => {
                if !self.lives(node, life) {
                    return Ok(());
                }
                let Some(flushing) = self.nodes.get_mut(&node) else { return Ok(()) };
                flushing.flush_planned = false;
                flushing.disk.sync();
                let log = &flushing.disk.live().log;
                let event = Event::Flushed(log.last_epoch(), log.end());
                self.event(node, event, trace)
            }
        }
    }

    fn lives(&self, id: NodeId, life: u32) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.life == life && node.core.is_some())
    }

    /// Starts a node that is down.
    pub(in crate::sim) fn start(&mut self, id: NodeId, trace: &mut Trace) -> Result<(), Violation> {
        let seed = self.random.next_u64();
        let now_ms = self.now_ms();
        let (bootstrap, fixed) = (self.bootstrap.clone(), self.settings.fixed);
        let others: Vec<(String, u16)> =
            self.nodes.values().map(|node| (format!("n{}", node.id), node.port)).collect();
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.core.is_none()) else { return Ok(()) };
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
            super::start::core(node, &bootstrap, fixed, others, now_ms + node.skew_ms, seed);
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
        node.disk.crash(&mut self.random);
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
        let end_offset = kept.boundary_at_most(wanted);
        let (Some(epoch), Some(chain)) = (kept.log.epoch_before(end_offset), kept.log.chain(end_offset))
        else {
            return Ok(None);
        };
        let newest = kept.snapshots.last().map_or(0, |snapshot| snapshot.id.end_offset);
        if end_offset <= kept.log.start().max(newest) {
            return Ok(None);
        }
        let snapshot = Rc::new(Snapshot {
            number: self.snapshots.len() as u64,
            id: SnapshotId { epoch, end_offset },
            chain,
            contents: kept.contents_before(end_offset),
        });
        self.snapshots.push(Rc::clone(&snapshot));
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

    /// Hands an event to a node and does what it wants done.
    pub(in crate::sim) fn event(
        &mut self,
        id: NodeId,
        event: Event,
        trace: &mut Trace,
    ) -> Result<(), Violation> {
        let now_ms = self.now_ms();
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let Some(core) = &mut node.core else { return Ok(()) };
        trace.note(now_ms, format_args!("n{id} < {event:?}"));
        let actions = core.step(now_ms + node.skew_ms, event);
        self.execute(id, actions, trace)?;
        self.check_state(id)
    }

    fn execute(&mut self, id: NodeId, actions: Vec<Action>, trace: &mut Trace) -> Result<(), Violation> {
        let actions = self.mutated_actions(actions);
        let crash_at =
            self.random.chance(self.settings.crash_in_step).then(|| self.random.index(actions.len() + 1));
        let mut then = Vec::new();
        let count = actions.len();
        for (number, action) in actions.into_iter().enumerate() {
            if crash_at == Some(number) {
                self.crash(id, trace);
                return Ok(());
            }
            trace.note(self.now_ms(), format_args!("n{id} > {action:?}"));
            if let Some(event) = self.act(id, action)? {
                then.push(event);
            }
        }
        if crash_at == Some(count) {
            self.crash(id, trace);
            return Ok(());
        }
        self.plan_tick(id);
        for event in then {
            self.event(id, event, trace)?;
        }
        Ok(())
    }

    fn plan_tick(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(due_ms) = node.core.as_ref().and_then(QuorumCore::deadline) else { return };
        let due_ms = due_ms - node.skew_ms;
        if due_ms < node.planned_tick_ms {
            node.planned_tick_ms = due_ms;
            self.timeline.at(due_ms, Planned::Tick { node: id, life: node.life });
        }
    }

    /// Carries out one action; gives what the node has to be told because of it.
    fn act(&mut self, id: NodeId, action: Action) -> Result<Option<Event>, Violation> {
        match action {
            Action::Persist(election) => self.persist(id, election)?,
            Action::Append { epoch, base_offset, records } => {
                return self.append_batch(id, epoch, base_offset, records);
            }
            Action::Replicate(batches) => {
                let numbers = batches
                    .iter()
                    .filter_map(|batch| Some(u32::from_le_bytes(batch.bytes.as_ref().try_into().ok()?)));
                let batches: Vec<_> =
                    numbers.filter_map(|number| self.batches.get(number as usize).cloned()).collect();
                let lazy = self.settings.mutant == Some(Mutant::FetchBeforeSync);
                let Some(node) = self.nodes.get_mut(&id) else { return Ok(None) };
                let from = node.disk.live().log.end();
                for batch in batches {
                    let end = node.disk.live().log.end();
                    if batch.base_offset != end {
                        return Err(format!("NoIllegalState: n{id} appends {} at {end}", batch.base_offset));
                    }
                    node.disk.write(Write::Append(batch));
                }
                if !lazy {
                    node.disk.sync();
                }
                self.history.appended(&node.disk.live().log, from)?;
            }
            Action::Truncate(end) => {
                let Some(node) = self.nodes.get_mut(&id) else { return Ok(None) };
                let kept = node.disk.live();
                if end < node.committed {
                    return Err(format!(
                        "NoIllegalState: n{id} truncates to {end} below its high watermark {}",
                        node.committed
                    ));
                }
                if !kept.is_boundary(end) {
                    return Err(format!("NoIllegalState: n{id} cuts a batch at {end}"));
                }
                self.history.truncated(&kept.log, end)?;
                self.truncated += (kept.log.end() - end).unsigned_abs();
                node.disk.write(Write::Truncate(end));
                node.disk.sync();
            }
            Action::DeleteBefore(start) => {
                let Some(node) = self.nodes.get_mut(&id) else { return Ok(None) };
                if !node.disk.live().snapshots.iter().any(|snapshot| snapshot.id.end_offset == start) {
                    return Err(format!(
                        "NoIllegalState: n{id} deletes before {start} and has no snapshot of that"
                    ));
                }
                node.disk.write(Write::DeleteBefore(start));
            }
            Action::Send { correlation, to, request } => self.send(id, correlation, &to, request)?,
            Action::Reply(token, response) => self.reply(id, token, response)?,
            Action::Committed(end) => self.committed(id, end)?,
            Action::Role(leadership) => self.role(id, leadership)?,
            Action::WriteSnapshot { id: snapshot, position, bytes } => {
                let Some(node) = self.nodes.get_mut(&id) else { return Ok(None) };
                let (which, written) = node.download.get_or_insert_with(|| (snapshot, Vec::new()));
                if position == 0 {
                    (*which, *written) = (snapshot, Vec::new());
                }
                if *which != snapshot || written.len() as u64 != position {
                    return Err(format!(
                        "NoIllegalState: n{id} writes {snapshot:?} from {position} into {which:?}"
                    ));
                }
                written.extend_from_slice(&bytes);
            }
            Action::InstallSnapshot(snapshot) => return Ok(self.install(id, snapshot)),
        }
        Ok(None)
    }

    fn persist(&mut self, id: NodeId, election: ElectionState) -> Result<(), Violation> {
        let mutant = self.settings.mutant;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let before = &node.disk.live().election;
        // A candidate that lost forgets in a crash who won; it does not vote again.
        let other = |leader| before.leader.is_some_and(|before| before != leader);
        let same_epoch = election.epoch == before.epoch;
        if election.epoch < before.epoch || (same_epoch && election.leader.is_some_and(other)) {
            return Err(format!("NoIllegalState: n{id} goes from {before:?} to {election:?}"));
        }
        if let Some(candidate) = election.voted {
            self.history.voted(node.key(), election.epoch, candidate)?;
        }
        let forgets = mutant == Some(Mutant::VoteNotPersisted) && election.voted.is_some();
        node.disk.write(Write::Election(election));
        if !forgets {
            node.disk.sync();
        }
        Ok(())
    }

    fn append_batch(
        &mut self,
        id: NodeId,
        epoch: LeaderEpoch,
        base_offset: Offset,
        records: NewRecords,
    ) -> Result<Option<Event>, Violation> {
        let number = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
        let batch = Rc::new(Written { number, base_offset, epoch, records });
        self.batches.push(Rc::clone(&batch));
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(None) };
        let kept = node.disk.live();
        if base_offset != kept.log.end() || epoch < kept.log.last_epoch() {
            return Err(format!("NoIllegalState: n{id} appends {batch:?} at {}", kept.log.end()));
        }
        let before = kept.voters().cloned();
        let committed = node.committed;
        let changing = kept.voters_logged().iter().any(|(offset, _)| *offset >= committed);
        node.disk.write(Write::Append(batch));
        let kept = node.disk.live();
        self.history.appended(&kept.log, base_offset)?;
        if let (Some(before), Some(after)) = (before, kept.voters())
            && before != *after
        {
            one_at_a_time(
                &before,
                after,
                changing,
                kept.log.get(committed - 1).map(|entry| entry.epoch) == Some(epoch),
            )?;
        }
        if self.settings.mutant == Some(Mutant::LeaderCountsUnflushed) {
            return Ok(Some(Event::Flushed(epoch, kept.log.end())));
        }
        if !node.flush_planned {
            node.flush_planned = true;
            let delay_ms = self.random.between(0, self.settings.flush_ms_max);
            self.timeline.after(delay_ms, Planned::Flush { node: id, life: node.life });
        }
        Ok(None)
    }

    fn send(
        &mut self,
        id: NodeId,
        correlation: Correlation,
        to: &Destination,
        request: Request,
    ) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        if let Request::Fetch(fetch) = &request
            && fetch.offset > node.disk.synced().log.end()
        {
            return Err(format!(
                "Durability: n{id} fetches from {} and what is before is not on its disk",
                fetch.offset
            ));
        }
        if let Request::Vote(vote) = &request
            && !vote.pre_vote
        {
            let synced = &node.disk.synced().election;
            if (synced.epoch, synced.voted) != (vote.epoch, Some(node.key())) {
                return Err(format!(
                    "Durability: n{id} asks for votes of epoch {} with {synced:?} on its disk",
                    vote.epoch
                ));
            }
        }
        node.outstanding.insert(correlation, to.id);
        let life = node.life;
        let timeout_ms = self.random.between(self.settings.timeout_ms_min, REQUEST_TIMEOUT_MS);
        self.timeline.after(timeout_ms, Planned::GivesUp { node: id, life, correlation });
        let Some(number) = to.host.strip_prefix('n').and_then(|number| number.parse::<NodeId>().ok()) else {
            return Err(format!("NoIllegalState: n{id} sends to {to:?}"));
        };
        for delay_ms in self.network.send(&mut self.random, id, number).into_iter().flatten() {
            let request = request.clone();
            self.timeline.after(
                delay_ms,
                Planned::Arrives { to: number, port: to.port, from: id, life, correlation, request },
            );
        }
        Ok(())
    }

    fn reply(&mut self, id: NodeId, token: Token, response: Response) -> Result<(), Violation> {
        let Some(asker) = self.askers.remove(&token) else {
            return Err(format!("NoIllegalState: n{id} answers {token} twice"));
        };
        let Asker::Node { id: to, life, correlation, request } = asker else {
            self.answers.push(Answered { token, response });
            return Ok(());
        };
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        if let (Request::Vote(vote), Response::Vote(_, true)) = (&request, &response)
            && !vote.pre_vote
        {
            self.history.voted(node.key(), vote.epoch, vote.candidate)?;
            let synced = &node.disk.synced().election;
            if (synced.epoch, synced.voted) != (vote.epoch, Some(vote.candidate))
                && self.settings.mutant != Some(Mutant::VoteNotPersisted)
            {
                return Err(format!(
                    "Durability: n{id} votes in epoch {} with {synced:?} on its disk",
                    vote.epoch
                ));
            }
        }
        let Some(response) = self.filled_in(id, response)? else { return Ok(()) };
        let response = self.mutated_response(id, &request, response);
        for delay_ms in self.network.send(&mut self.random, id, to).into_iter().flatten() {
            let response = response.clone();
            self.timeline.after(delay_ms, Planned::Returns { to, from: id, life, correlation, response });
        }
        Ok(())
    }

    /// Reads what an answer promises. Without an answer the connection closes.
    fn filled_in(&mut self, id: NodeId, response: Response) -> Result<Option<Response>, Violation> {
        let Some(node) = self.nodes.get(&id) else { return Ok(None) };
        let kept = node.disk.live();
        match response {
            Response::Fetch(header, Fetched { high_watermark, log_start, progress }) => {
                if high_watermark.is_some_and(|end| end > node.committed) {
                    return Err(format!(
                        "NoIllegalState: n{id} tells {high_watermark:?} and knows {}",
                        node.committed
                    ));
                }
                let progress = match progress {
                    Progress::Read { from, to, .. } => {
                        let Some(batches) = kept.read(from, to) else {
                            return Err(format!("NoIllegalState: n{id} wants to read from {from} to {to}"));
                        };
                        let some = self.random.index(3) + 1;
                        Progress::Records(batches.iter().take(some).map(|batch| batch.to_batch()).collect())
                    }
                    other @ (Progress::Records(_) | Progress::Diverging { .. } | Progress::Snapshot(_)) => {
                        other
                    }
                };
                Ok(Some(Response::Fetch(header, Fetched { high_watermark, log_start, progress })))
            }
            Response::FetchSnapshot(header, fetched) if header.error.is_none() => {
                let Some(snapshot) = kept.snapshots.iter().find(|snapshot| snapshot.id == fetched.id) else {
                    return Err(format!("NoIllegalState: n{id} offers {:?} and has it not", fetched.id));
                };
                let whole = snapshot_bytes(snapshot);
                let from = usize::try_from(fetched.position).unwrap_or(usize::MAX).min(whole.len());
                let to = from.saturating_add(fetched.bytes_max.min(SNAPSHOT_PIECE)).min(whole.len());
                let bytes = Bytes::copy_from_slice(&whole[from..to]);
                Ok(Some(Response::FetchSnapshot(
                    header,
                    FetchedSnapshot { size: whole.len() as u64, bytes, ..fetched },
                )))
            }
            other @ (Response::Vote(..)
            | Response::Begin(_)
            | Response::End(_)
            | Response::FetchSnapshot(..)
            | Response::AddVoter(_)
            | Response::RemoveVoter(_)
            | Response::UpdateVoter(_)
            | Response::KraftVersions(_)
            | Response::UpgradeKraftVersion(_)
            | Response::Appended(_)
            | Response::Described(_)) => Ok(Some(other)),
        }
    }

    fn committed(&mut self, id: NodeId, end: Offset) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        if end < node.committed {
            return Err(format!(
                "NoIllegalState: the high watermark of n{id} goes back from {} to {end}",
                node.committed
            ));
        }
        let kept = node.disk.live();
        if node.leadership.role == RoleName::Leader {
            let synced = |key: ReplicaKey| {
                let other = self.nodes.get(&key.id).filter(|other| key.accepts(other.key()));
                let lost =
                    || self.lost.iter().rev().find(|(other, _)| key.accepts(*other)).map(|(_, kept)| kept);
                other.map(|other| other.disk.synced()).or_else(lost)
            };
            let voters = kept.voters().unwrap_or(&self.bootstrap);
            History::may_commit(kept, voters, node.leadership.epoch, end, synced)?;
        }
        self.history.committed_at(kept, end)?;
        // Whoever leads a later epoch has it (`LeaderCompleteness`).
        let lacks = |other: &&Node| {
            other.is_leader()
                && other.leadership.epoch > node.leadership.epoch
                && end >= other.disk.live().log.start()
                && other.disk.live().log.chain(end) != self.history.chain(end)
        };
        if let Some(other) = self.nodes.values().find(lacks) {
            return Err(format!(
                "LeaderCompleteness: n{} leads and lacks what n{id} commits before {end}",
                other.id
            ));
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.committed = end;
        }
        Ok(())
    }

    fn role(&mut self, id: NodeId, leadership: Leadership) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let begins = leadership.role == RoleName::Leader
            && (node.leadership.role, node.leadership.epoch) != (RoleName::Leader, leadership.epoch);
        if leadership.epoch < node.leadership.epoch {
            return Err(format!(
                "NoIllegalState: n{id} goes back from {:?} to {leadership:?}",
                node.leadership
            ));
        }
        node.leadership = leadership.clone();
        if begins {
            let kept = node.disk.live();
            // It was elected by the voters that it knew before it wrote anything.
            let voters = kept.voters_before(leadership.epoch_start).unwrap_or(&self.bootstrap).clone();
            self.history.leads(node.key(), leadership.epoch, &voters, &kept.log)?;
        }
        Ok(())
    }

    fn install(&mut self, id: NodeId, wanted: SnapshotId) -> Option<Event> {
        let node = self.nodes.get_mut(&id)?;
        let found = node.download.take().filter(|(which, _)| *which == wanted).and_then(|(_, bytes)| {
            let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
            let snapshot = self.snapshots.get(usize::try_from(number).ok()?)?;
            (snapshot.id == wanted && bytes == snapshot_bytes(snapshot)).then(|| Rc::clone(snapshot))
        });
        let Some(snapshot) = found else { return Some(Event::SnapshotInstalled(wanted, None)) };
        let contents = snapshot.contents.clone();
        node.disk.write(Write::Install(snapshot));
        node.disk.sync();
        self.installed += 1;
        Some(Event::SnapshotInstalled(wanted, Some(contents)))
    }

    /// What a node says it is, is what its disk says (`StatesMatchRoles`, `NoIllegalState`).
    fn check_state(&self, id: NodeId) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(&id).filter(|node| node.core.is_some()) else { return Ok(()) };
        let (kept, Leadership { epoch, leader, role, .. }) = (node.disk.synced(), &node.leadership);
        let ElectionState { epoch: durable, leader: led_by, voted } = &kept.election;
        let fits = match role {
            RoleName::Leader => *leader == Some(id) && *led_by == Some(id),
            RoleName::Candidate => *voted == Some(node.key()) && led_by.is_none(),
            RoleName::Follower | RoleName::Observer => *leader != Some(id) && led_by == leader,
            RoleName::Unattached | RoleName::Prospective | RoleName::Resigned => true,
        };
        let mutated = self.settings.mutant == Some(Mutant::VoteNotPersisted);
        if (fits && durable == epoch) || mutated {
            return Ok(());
        }
        Err(format!("StatesMatchRoles: n{id} is {:?} with {:?} on its disk", node.leadership, kept.election))
    }
}

impl Planned {
    /// In whom it happens.
    fn node(&self) -> NodeId {
        match self {
            Self::Arrives { to, .. } | Self::Returns { to, .. } => *to,
            Self::GivesUp { node, .. } | Self::Tick { node, .. } | Self::Flush { node, .. } => *node,
        }
    }
}

/// The voters change one at a time, and only when the change before is committed and the leader has committed something.
fn one_at_a_time(before: &Voters, after: &Voters, changing: bool, led: bool) -> Result<(), Violation> {
    let gone = before.0.values().filter(|voter| !after.contains(voter.key)).count();
    let new = after.0.values().filter(|voter| !before.contains(voter.key)).count();
    if gone + new <= 1 && !changing && led {
        return Ok(());
    }
    Err(format!(
        "NoIllegalState: the voters change by {} (an older change is open: {changing}, the epoch has a commit: {led}): {before:?} {after:?}",
        gone + new
    ))
}

fn snapshot_bytes(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = snapshot.number.to_le_bytes().to_vec();
    bytes.resize(SNAPSHOT_BYTES, 7);
    bytes
}

fn nobody() -> Leadership {
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
