//! What goes into the core and what comes out: events, actions, and the messages of the protocol without their wire
//! form.

use bytes::Bytes;

use super::super::control::ControlRecord;
use super::super::election::{ElectionState, ReplicaKey};
use super::super::voters::{VersionRange, Voter, VoterEndpoint, Voters};
use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, NodeId, Offset, TimestampMs};

/// Names whoever waits for a reply; the caller of the core gives it and gets it back with the reply.
pub type Token = u64;
/// Names a request of the core; the caller gives it back with the response.
pub type Correlation = u64;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing but that time went by.
    Tick,
    /// Another node, or an administrator, asks.
    Request(Token, Request),
    /// A request of this core was answered, or can not be.
    Response(Correlation, Result<Response, Unreachable>),
    /// The controller that leads in this epoch wants these records in the log, in one batch.
    Append(Token, LeaderEpoch, Vec<Bytes>),
    /// Everything that was appended in this epoch before this offset is on the disk.
    Flushed(LeaderEpoch, Offset),
    /// A snapshot of committed records was written here and is durable.
    SnapshotSaved(SnapshotId),
    /// How [`Action::InstallSnapshot`] went: what the snapshot says of the quorum, or `None` where its bytes are broken
    /// and it has to be fetched again.
    SnapshotInstalled(SnapshotId, Option<SnapshotContents>),
    /// The controller that leads in this epoch gives up.
    Resign(LeaderEpoch),
    /// This node is about to stop: a leader resigns, nobody becomes one.
    Shutdown,
}

/// What to do. Actions have to be carried out one after the other: what has to be durable is so before the next begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make this durable.
    Persist(ElectionState),
    /// Append a batch as the leader of an epoch, at this offset. It may become durable later, in the order of the appends;
    /// then the core is told by [`Event::Flushed`], and lets nobody read it before.
    Append {
        /// The epoch of the leader, which is this node.
        epoch: LeaderEpoch,
        /// The offset of the first record: the end of the log.
        base_offset: Offset,
        /// What is appended.
        records: NewRecords,
    },
    /// Append these batches of the leader as they are, and make them durable.
    Replicate(Vec<Batch>),
    /// Remove all records from this offset on, durably.
    Truncate(Offset),
    /// Remove everything before this offset: a snapshot has it. Snapshots that end before it go too.
    DeleteBefore(Offset),
    /// Send a request. Exactly one [`Event::Response`] has to follow at some time, or none if the node stops.
    Send {
        /// Identifies the response.
        correlation: Correlation,
        /// Where to.
        to: Destination,
        /// The request.
        request: Request,
    },
    /// Answer whoever asked.
    Reply(Token, Response),
    /// Everything before this offset is committed.
    Committed(Offset),
    /// What this node is in the quorum has changed.
    Role(Leadership),
    /// Write these bytes of a snapshot of the leader. Position 0 begins it, whatever was there.
    WriteSnapshot {
        /// Which snapshot.
        id: SnapshotId,
        /// Where the bytes go.
        position: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// All bytes of the snapshot are written. Check them; if they are whole, make the snapshot durable, replace the
    /// whole log by it (the log then begins and ends at the snapshot's end), and tell the core by
    /// [`Event::SnapshotInstalled`]. Nothing is fetched before that.
    InstallSnapshot(SnapshotId),
}

/// What a leader appends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NewRecords {
    /// Records of the quorum itself.
    Control(Vec<ControlRecord>),
    /// Records of the controller.
    Values(Vec<Bytes>),
}

impl NewRecords {
    /// How many records there are, which is how many offsets they take.
    pub fn count(&self) -> Offset {
        let count = match self {
            Self::Control(records) => records.len(),
            Self::Values(values) => values.len(),
        };
        Offset::try_from(count).unwrap_or(Offset::MAX)
    }
}

/// A batch of the log as a leader sends it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// The epoch in which it was written.
    pub epoch: LeaderEpoch,
    /// What it says about the quorum, with the offsets.
    pub control: Vec<(Offset, ControlRecord)>,
    /// The batch itself.
    pub bytes: Bytes,
}

/// A snapshot: everything that was committed before an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId {
    /// The epoch of the last record that it covers.
    pub epoch: LeaderEpoch,
    /// The offset behind that record.
    pub end_offset: Offset,
}

/// What a snapshot says of the quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotContents {
    /// The voters, if it names them.
    pub voters: Option<Voters>,
    /// The level of `kraft.version`.
    pub kraft_version: i16,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The node, or a negative number for an address of which only that is known.
    pub id: NodeId,
    /// A host name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// A request got no response: the connection failed, or it took too long, or the other side does not know the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// Nobody answers.
    Disconnected,
    /// The other side speaks no version that can say this.
    UnsupportedVersion,
}

/// What this node is in the quorum.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leadership {
    /// The newest epoch that is known.
    pub epoch: LeaderEpoch,
    /// Who leads it, if that is known.
    pub leader: Option<NodeId>,
    /// Where that node is reached.
    pub endpoints: Vec<VoterEndpoint>,
    /// The part of this node.
    pub role: RoleName,
    /// For a leader, the offset of its first record: what was before is the past of earlier leaders.
    pub epoch_start: Offset,
}

impl Leadership {
    /// Before anything is known.
    pub fn unknown() -> Self {
        Self { epoch: 0, leader: None, endpoints: Vec::new(), role: RoleName::Unattached, epoch_start: -1 }
    }
}

/// The roles of a node, named as in Kafka's metric `current-state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Knows no leader.
    #[default]
    Unattached,
    /// Asks whether it would be elected.
    Prospective,
    /// Asks to be elected.
    Candidate,
    /// Leads.
    Leader,
    /// Follows a leader and votes.
    Follower,
    /// Led, and waits for another leader.
    Resigned,
    /// Follows a leader without a vote.
    Observer,
}

impl RoleName {
    /// The word of the metric `current-state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unattached => "unattached",
            Self::Prospective => "prospective",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Resigned => "resigned",
            Self::Observer => "observer",
        }
    }
}

/// A request of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Vote (52).
    Vote(VoteRequest),
    /// `BeginQuorumEpoch` (53).
    Begin(BeginRequest),
    /// `EndQuorumEpoch` (54).
    End(EndRequest),
    /// Fetch (1) of the metadata log.
    Fetch(FetchRequest),
    /// `FetchSnapshot` (59).
    FetchSnapshot(FetchSnapshotRequest),
    /// `AddRaftVoter` (80).
    AddVoter(AddVoterRequest),
    /// `RemoveRaftVoter` (81).
    RemoveVoter(ReplicaKey),
    /// `UpdateRaftVoter` (82): the epoch in which it is asked, and the voter as it is now.
    UpdateVoter(LeaderEpoch, Voter),
    /// `ApiVersions` (18), of which the range of `kraft.version` is wanted. Sent only.
    KraftVersions,
    /// Finalise a level of `kraft.version`. Received only, from the controller of this node.
    UpgradeKraftVersion(UpgradeRequest),
    /// Say how the quorum is (`DescribeQuorum`, 55). Received only.
    Describe,
}

/// The answer to a request of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Whether the vote is granted.
    Vote(Header, bool),
    /// Only what all answers say.
    Begin(Header),
    /// Only what all answers say.
    End(Header),
    /// What was fetched.
    Fetch(Header, Fetched),
    /// A piece of a snapshot.
    FetchSnapshot(Header, FetchedSnapshot),
    /// How it went, with a sentence where it did not.
    AddVoter(Outcome),
    /// How it went, with a sentence where it did not.
    RemoveVoter(Outcome),
    /// Only what all answers say.
    UpdateVoter(Header),
    /// The levels of `kraft.version` that a node can work at; `None` where it does not say.
    KraftVersions(Result<Option<VersionRange>, ErrorCode>),
    /// How it went, with a sentence where it did not.
    UpgradeKraftVersion(Outcome),
    /// Where the records are; whether they are committed is told by [`Action::Committed`].
    Appended(Result<std::ops::Range<Offset>, ErrorCode>),
    /// How the quorum is, if this node leads it.
    Described(Option<QuorumState>),
}

/// What every answer says of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Why the request was refused, if it was.
    pub error: Option<ErrorCode>,
    /// The epoch of the answering node; -1 where the answer has no more than an error.
    pub epoch: LeaderEpoch,
    /// The leader of that epoch, if it is known.
    pub leader: Option<NodeId>,
    /// Where the leader is reached; empty where that is not known.
    pub endpoints: Vec<VoterEndpoint>,
}

/// An outcome for a person.
pub type Outcome = Result<(), (ErrorCode, Option<String>)>;

/// Asks for a vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VoteRequest {
    /// The epoch of the candidate.
    pub epoch: LeaderEpoch,
    /// Who wants to be elected.
    pub candidate: ReplicaKey,
    /// Who is asked, if the request says so; a node without that directory refuses.
    pub voter: Option<ReplicaKey>,
    /// The epoch of the candidate's last record.
    pub last_epoch: LeaderEpoch,
    /// Where the candidate's log ends.
    pub end_offset: Offset,
    /// Whether it only wants to know what the answer would be (KIP-996).
    pub pre_vote: bool,
}

/// A leader introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BeginRequest {
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// The leader.
    pub leader: NodeId,
    /// Where it is reached; empty where the version has no field for it.
    pub endpoints: Vec<VoterEndpoint>,
    /// Who is told, if the request says so.
    pub voter: Option<ReplicaKey>,
}

/// A leader resigns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndRequest {
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// The leader that was.
    pub leader: NodeId,
    /// Where it is reached; empty where the version has no field for it.
    pub endpoints: Vec<VoterEndpoint>,
    /// Who should be elected, the best first.
    pub preferred: Vec<ReplicaKey>,
}

/// A replica asks for more of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchRequest {
    /// The epoch that the replica knows.
    pub epoch: LeaderEpoch,
    /// Who asks; a negative id where it is no replica.
    pub replica: ReplicaKey,
    /// Where its log ends.
    pub offset: Offset,
    /// The epoch of its last record.
    pub last_epoch: LeaderEpoch,
    /// The high watermark that it knows (KIP-1166); `Offset::MAX` where the version has no field for it, so that the
    /// leader does not answer because of it.
    pub high_watermark: Offset,
    /// How many bytes it takes.
    pub bytes_max: usize,
    /// How long the leader may wait for more records.
    pub wait_max_ms: i64,
}

/// What a fetch gave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fetched {
    /// Everything before is committed, if the leader knows that already.
    pub high_watermark: Option<Offset>,
    /// Where the leader's log begins.
    pub log_start: Offset,
    /// What the replica should do.
    pub progress: Progress,
}

/// What a fetch means for a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// In an answer of this core: whoever sends it reads the records of the log in this range, as far as the requested
    /// size allows, and one batch at least. Empty where there is nothing.
    Read {
        /// The first offset.
        from: Offset,
        /// The offset behind the last one.
        to: Offset,
        /// The bytes that the replica takes.
        bytes_max: usize,
    },
    /// In an answer to this core: what follows in the leader's log.
    Records(Vec<Batch>),
    /// The logs part: the leader's records of the newest epoch that both may have end here.
    Diverging {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Where it ends in the leader's log.
        end_offset: Offset,
    },
    /// The log no longer has it: take this snapshot.
    Snapshot(SnapshotId),
}

/// A replica asks for a piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchSnapshotRequest {
    /// The epoch that the replica knows.
    pub epoch: LeaderEpoch,
    /// Who asks.
    pub replica: ReplicaKey,
    /// Which snapshot.
    pub id: SnapshotId,
    /// From which byte on.
    pub position: u64,
    /// How many bytes it takes.
    pub bytes_max: usize,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchedSnapshot {
    /// Which snapshot.
    pub id: SnapshotId,
    /// The size of the whole; in an answer of this core it is 0, and whoever sends the answer fills it in.
    pub size: u64,
    /// From which byte on.
    pub position: u64,
    /// The bytes; in an answer of this core they are empty, and whoever sends it reads at most that many.
    pub bytes: Bytes,
    /// How many bytes the replica takes.
    pub bytes_max: usize,
}

/// A new voter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddVoterRequest {
    /// Who and where. Its range of `kraft.version` is asked for by the leader.
    pub voter: Voter,
    /// Whether the answer waits until the change is committed (KIP-1186).
    pub ack_when_committed: bool,
}

/// Another level of `kraft.version`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpgradeRequest {
    /// The epoch of the controller that asks.
    pub epoch: LeaderEpoch,
    /// The new level.
    pub level: i16,
    /// Whether it is only asked whether that could be.
    pub validate_only: bool,
}

/// How the quorum is, as its leader knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuorumState {
    /// Who leads.
    pub leader: NodeId,
    /// In which epoch.
    pub epoch: LeaderEpoch,
    /// Everything before it is committed.
    pub high_watermark: Option<Offset>,
    /// The voters.
    pub voters: Vec<ReplicaState>,
    /// Who follows without a vote.
    pub observers: Vec<ReplicaState>,
}

/// How far a replica of the metadata log is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplicaState {
    /// Which.
    pub key: ReplicaKey,
    /// Where it is reached; empty for an observer.
    pub endpoints: Vec<VoterEndpoint>,
    /// Where its log ends, if that is known.
    pub log_end: Option<Offset>,
    /// When it fetched last, on the clock that the core is told; `None` if it never did.
    pub last_fetch_ms: Option<TimestampMs>,
    /// When it last had everything; `None` if it never had.
    pub last_caught_up_ms: Option<TimestampMs>,
}
