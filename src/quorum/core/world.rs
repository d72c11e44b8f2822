//! A few nodes on virtual time with disks and a network in memory, for tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;

use super::super::control::ControlRecord;
use super::super::election::{ElectionState, ReplicaKey};
use super::super::voters::{VersionRange, Voter, VoterEndpoint, Voters};
use super::history::LogView;
use super::message::{
    Action, Batch, Destination, Event, Header, NewRecords, Progress, Request, Response, RoleName,
    SnapshotContents, SnapshotId, Token, Unreachable,
};
use super::{Config, InitialVoters, QuorumCore, Remembered, Timing};
use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// How long a message takes.
const DELAY_MS: i64 = 1;

pub(super) fn voter(id: NodeId) -> Voter {
    let key = ReplicaKey { id, directory_id: Uuid::from_u128(1_000 + u128::from(id.unsigned_abs())) };
    let port = u16::try_from(id).expect("a small id");
    let endpoint = VoterEndpoint { listener: "C".to_owned(), host: "h".to_owned(), port };
    Voter { key, endpoints: vec![endpoint], kraft_versions: VersionRange::SUPPORTED }
}

pub(super) fn voters(ids: &[NodeId]) -> Voters {
    Voters(ids.iter().map(|id| (*id, voter(*id))).collect())
}

/// What a node has on its disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) election: ElectionState,
    pub(super) start: Offset,
    pub(super) batches: Vec<Batch>,
    pub(super) snapshots: BTreeMap<SnapshotId, (SnapshotContents, Vec<String>)>,
    download: Vec<u8>,
}

impl Disk {
    fn end(&self) -> Offset {
        self.batches.last().map_or(self.start, |batch| batch.last_offset + 1)
    }

    fn remembered(&self) -> Remembered {
        let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for batch in &self.batches {
            if epochs.last().is_none_or(|(epoch, _)| *epoch < batch.epoch) {
                epochs.push((batch.epoch, batch.base_offset));
            }
        }
        let snapshots: Vec<SnapshotId> = self.snapshots.keys().copied().collect();
        let log = LogView { start: self.start, end: self.end(), epochs, snapshots };
        let snapshot = self.snapshots.last_key_value().map(|(id, (contents, _))| (*id, contents.clone()));
        let behind = snapshot.as_ref().map_or(0, |(id, _)| id.end_offset);
        let control = self.batches.iter().flat_map(|batch| batch.control.clone());
        let control = control.filter(|(offset, _)| *offset >= behind).collect();
        Remembered { election: self.election.clone(), log, snapshot, control }
    }

    /// What the state is that the records before an offset make.
    pub(super) fn values(&self, end: Offset) -> Vec<String> {
        let snapshot = self.snapshots.iter().rev().find(|(id, _)| id.end_offset <= end);
        let (behind, mut values) =
            snapshot.map_or((0, Vec::new()), |(id, (_, values))| (id.end_offset, values.clone()));
        for batch in &self.batches {
            if batch.base_offset >= behind && batch.last_offset < end && batch.control.is_empty() {
                values.push(String::from_utf8_lossy(&batch.bytes).into_owned());
            }
        }
        values
    }
}

/// One node; without a core it is down.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) config: Config,
    pub(super) core: Option<QuorumCore>,
    pub(super) disk: Disk,
    pub(super) committed: Offset,
}

#[derive(Clone, Debug)]
enum Message {
    Request { from: NodeId, correlation: u64, request: Request },
    Response { correlation: u64, response: Result<Response, Unreachable> },
}

/// The nodes and what is between them.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) now_ms: i64,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// When it arrives, in which order, where, what.
    flying: Vec<(i64, u64, NodeId, Message)>,
    sent: u64,
    tokens: BTreeMap<Token, (NodeId, u64)>,
    next_token: Token,
    pub(super) cut: Vec<(NodeId, NodeId)>,
    /// The answers to what the test asked itself.
    pub(super) answers: Vec<(Token, Response)>,
    /// What was done, as the script shows it.
    pub(super) trace: Vec<String>,
    /// Requests of these kinds are not known to the node.
    pub(super) no_pre_vote: Vec<NodeId>,
    /// Whether who is asked for a snapshot only says that something is wrong.
    pub(super) snapshots_fail: bool,
}

impl World {
    pub(super) fn with(nodes: &[(NodeId, InitialVoters)]) -> Self {
        let mut world = Self { next_token: 1, now_ms: 1_000, ..Self::default() };
        for (id, initial_voters) in nodes {
            world.add(*id, initial_voters.clone());
        }
        world
    }

    /// As many voters of a new cluster.
    pub(super) fn of(count: NodeId) -> Self {
        let ids: Vec<NodeId> = (1..=count).collect();
        let nodes: Vec<_> = ids.iter().map(|id| (*id, InitialVoters::Formatted(voters(&ids)))).collect();
        Self::with(&nodes)
    }

    pub(super) fn add(&mut self, id: NodeId, initial_voters: InitialVoters) {
        let config = Config {
            local: voter(id),
            can_vote: true,
            auto_join: false,
            listener: "C".to_owned(),
            bootstrap: Vec::new(),
            initial_voters,
            timing: Timing::default(),
            seed: u64::from(id.unsigned_abs()),
        };
        self.nodes.insert(id, Node { config, core: None, disk: Disk::default(), committed: 0 });
        self.start(id);
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.config.seed += 100;
        let (core, actions) = QuorumCore::start(node.config.clone(), node.disk.remembered(), now_ms);
        node.core = Some(core);
        self.carry_out(id, actions);
    }

    pub(super) fn kill(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.core = None;
        }
    }

    pub(super) fn core(&self, id: NodeId) -> &QuorumCore {
        self.nodes[&id].core.as_ref().expect("the node runs")
    }

    pub(super) fn step(&mut self, id: NodeId, event: Event) {
        let now_ms = self.now_ms;
        let Some(core) = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()) else { return };
        let actions = core.step(now_ms, event);
        self.carry_out(id, actions);
    }

    /// Asks a node something; the answer will be among [`World::answers`].
    pub(super) fn ask(&mut self, id: NodeId, request: Request) -> Token {
        let token = self.token();
        self.step(id, Event::Request(token, request));
        token
    }

    pub(super) fn append(&mut self, id: NodeId, value: &str) -> Token {
        let token = self.token();
        let epoch = self.core(id).epoch();
        self.step(id, Event::Append(token, epoch, vec![Bytes::copy_from_slice(value.as_bytes())]));
        token
    }

    pub(super) fn answer(&self, token: Token) -> Option<&Response> {
        self.answers.iter().find(|(own, _)| *own == token).map(|(_, response)| response)
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token
    }

    /// Lets time go by until something holds, but not longer than that.
    pub(super) fn run_until(&mut self, at_most_ms: i64, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end_ms = self.now_ms + at_most_ms;
        while !done(self) {
            if !self.advance(end_ms) {
                return done(self);
            }
        }
        true
    }

    pub(super) fn run(&mut self, for_ms: i64) {
        self.run_until(for_ms, |_| false);
    }

    /// Goes on to the next thing that happens; false where nothing does before `end_ms`.
    fn advance(&mut self, end_ms: i64) -> bool {
        let arrival = self.flying.iter().map(|(at_ms, order, ..)| (*at_ms, *order)).min();
        let deadlines = self.nodes.iter().filter_map(|(id, node)| {
            node.core.as_ref().and_then(QuorumCore::deadline).map(|at_ms| (at_ms, *id))
        });
        let deadline = deadlines.min();
        let next_ms = [arrival.map(|(at_ms, _)| at_ms), deadline.map(|(at_ms, _)| at_ms)];
        let Some(next_ms) = next_ms.into_iter().flatten().min().filter(|at_ms| *at_ms <= end_ms) else {
            self.now_ms = end_ms;
            return false;
        };
        self.now_ms = self.now_ms.max(next_ms);
        match arrival {
            Some((at_ms, order)) if at_ms == next_ms => {
                let index = self.flying.iter().position(|(_, own, ..)| *own == order).expect("it flies");
                let (_, _, to, message) = self.flying.remove(index);
                self.deliver(to, message);
            }
            _ => {
                if let Some((_, id)) = deadline {
                    self.step(id, Event::Tick);
                }
            }
        }
        true
    }

    fn deliver(&mut self, to: NodeId, message: Message) {
        match message {
            Message::Request { from, correlation, request } => {
                let is_known = !matches!(&request, Request::Vote(vote) if vote.pre_vote && self.no_pre_vote.contains(&to));
                if self.nodes.get(&to).is_none_or(|node| node.core.is_none()) || !is_known {
                    let failure =
                        if is_known { Unreachable::Disconnected } else { Unreachable::UnsupportedVersion };
                    return self.fly(to, from, Message::Response { correlation, response: Err(failure) });
                }
                let token = self.token();
                self.tokens.insert(token, (from, correlation));
                self.step(to, Event::Request(token, request));
            }
            Message::Response { correlation, response } => {
                self.step(to, Event::Response(correlation, response));
            }
        }
    }

    fn fly(&mut self, from: NodeId, to: NodeId, message: Message) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        self.sent += 1;
        self.flying.push((self.now_ms + DELAY_MS, self.sent, to, message));
    }

    fn carry_out(&mut self, id: NodeId, actions: Vec<Action>) {
        for action in actions {
            self.trace.push(format!("{id}: {}", super::script::show_action(&action)));
            self.do_one(id, action);
        }
    }

    fn do_one(&mut self, id: NodeId, action: Action) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match action {
            Action::Persist(state) => node.disk.election = state,
            Action::Append { epoch, base_offset, records } => {
                assert_eq!(base_offset, node.disk.end(), "appends are at the end");
                node.disk.batches.push(as_batch(epoch, base_offset, records));
                let end = node.disk.end();
                self.step(id, Event::Flushed(epoch, end));
            }
            Action::Replicate(batches) => {
                assert_eq!(batches[0].base_offset, node.disk.end(), "batches follow one another");
                node.disk.batches.extend(batches);
            }
            Action::Truncate(end) => {
                assert!(end >= node.committed, "what is committed stays");
                node.disk.batches.retain(|batch| batch.last_offset < end);
                assert_eq!(node.disk.end(), end, "a log is cut between batches");
            }
            Action::DeleteBefore(start) => {
                node.disk.batches.retain(|batch| batch.base_offset >= start);
                node.disk.snapshots.retain(|snapshot, _| snapshot.end_offset >= start);
                node.disk.start = start;
            }
            Action::Send { correlation, to, request } => {
                // The port is the id of the node, whatever the core calls it.
                let Destination { port, .. } = to;
                self.fly(id, NodeId::from(port), Message::Request { from: id, correlation, request });
            }
            Action::Reply(token, response) => self.answered(id, token, response),
            Action::Committed(offset) => {
                assert!(offset >= node.committed && offset <= node.disk.end(), "commits go forward");
                node.committed = offset;
            }
            Action::Role(_) => {}
            Action::WriteSnapshot { position, bytes, .. } => {
                node.disk.download.truncate(usize::try_from(position).expect("small"));
                node.disk.download.extend_from_slice(&bytes);
            }
            Action::InstallSnapshot(snapshot) => self.install(id, snapshot),
        }
    }

    fn answered(&mut self, id: NodeId, token: Token, response: Response) {
        let Some((to, correlation)) = self.tokens.remove(&token) else {
            return self.answers.push((token, response));
        };
        let disk = &self.nodes[&id].disk;
        let response = match response {
            Response::Fetch(header, mut fetched) => {
                if let Progress::Read { from, to, .. } = fetched.progress {
                    let wanted = disk
                        .batches
                        .iter()
                        .filter(|batch| batch.base_offset >= from && batch.last_offset < to);
                    fetched.progress = Progress::Records(wanted.cloned().collect());
                }
                Response::Fetch(header, fetched)
            }
            Response::FetchSnapshot(_, piece) if self.snapshots_fail => {
                let error = Some(ErrorCode::UnknownServerError);
                Response::FetchSnapshot(
                    Header { error, epoch: -1, leader: None, endpoints: Vec::new() },
                    piece,
                )
            }
            Response::FetchSnapshot(header, mut piece) => {
                if let Some((_, values)) = disk.snapshots.get(&piece.id) {
                    let whole = values.join(",").into_bytes();
                    let from = usize::try_from(piece.position).expect("small");
                    piece.size = whole.len() as u64;
                    piece.bytes = Bytes::copy_from_slice(&whole[from..whole.len().min(from + 4)]);
                }
                Response::FetchSnapshot(header, piece)
            }
            other @ (Response::Vote(..)
            | Response::Begin(_)
            | Response::End(_)
            | Response::AddVoter(_)
            | Response::RemoveVoter(_)
            | Response::UpdateVoter(_)
            | Response::KraftVersions(_)
            | Response::UpgradeKraftVersion(_)
            | Response::Appended(_)
            | Response::Described(_)) => other,
        };
        self.fly(id, to, Message::Response { correlation, response: Ok(response) });
    }

    fn install(&mut self, id: NodeId, snapshot: SnapshotId) {
        // The contents are those of whoever made it: this world does not encode them.
        let contents = self.nodes.values().find_map(|node| node.disk.snapshots.get(&snapshot)).cloned();
        let (contents, values) = contents.expect("somebody made it");
        let node = self.nodes.get_mut(&id).expect("it is there");
        assert_eq!(String::from_utf8_lossy(&node.disk.download), values.join(","));
        node.disk.download.clear();
        node.disk.batches.clear();
        node.disk.start = snapshot.end_offset;
        node.disk.snapshots = BTreeMap::from([(snapshot, (contents.clone(), values))]);
        self.step(id, Event::SnapshotInstalled(snapshot, Some(contents)));
    }

    /// Makes a snapshot of what is committed on a node.
    pub(super) fn snapshot(&mut self, id: NodeId) -> SnapshotId {
        let node = self.nodes.get_mut(&id).expect("it is there");
        let core = node.core.as_ref().expect("it runs");
        let end_offset = core.high_watermark().expect("something is committed");
        let last = node.disk.batches.iter().rfind(|batch| batch.last_offset < end_offset);
        let epoch = last.map_or(0, |batch| batch.epoch);
        let snapshot = SnapshotId { epoch, end_offset };
        let contents = core.membership().before(end_offset);
        let values = node.disk.values(end_offset);
        node.disk.snapshots.insert(snapshot, (contents, values));
        self.step(id, Event::SnapshotSaved(snapshot));
        snapshot
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        let leads = |node: &Node| node.core.as_ref().is_some_and(|core| core.role_name() == RoleName::Leader);
        let leaders = self.nodes.iter().filter(|(_, node)| leads(node));
        let newest = leaders.max_by_key(|(_, node)| node.core.as_ref().map(QuorumCore::epoch));
        newest.map(|(id, _)| *id)
    }

    /// Whether all running nodes have committed the same, up to the end of the leader's log.
    pub(super) fn agrees(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let end = self.core(leader).log().end;
        let mut running = self.nodes.values().filter(|node| node.core.is_some());
        running.all(|node| node.committed == end)
    }
}

fn as_batch(epoch: LeaderEpoch, base_offset: Offset, records: NewRecords) -> Batch {
    let last_offset = base_offset + records.count() - 1;
    match records {
        NewRecords::Control(control) => {
            let control: Vec<(Offset, ControlRecord)> = (base_offset..).zip(control).collect();
            Batch { base_offset, last_offset, epoch, control, bytes: Bytes::new() }
        }
        NewRecords::Values(values) => {
            let bytes = values.concat().into();
            Batch { base_offset, last_offset, epoch, control: Vec::new(), bytes }
        }
    }
}
