//! What a follower of one partition does: fetch, truncate what its leader does not have, and back off
//! (`AbstractFetcherThread`).
//!
//! A state machine without clock, network and disk. [`Follower::wants`] says what to ask the leader;
//! [`Follower::fetched`] and [`Follower::leader_offsets`] take the answers and say what to do with the log; what was
//! done is told by [`Follower::appended`] and [`Follower::log_changed`]. An answer to a question that is not the
//! current one any more is dropped.

use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, Offset};

/// The log of a follower, as far as it has to know it.
pub trait FollowerLog {
    /// The oldest offset.
    fn log_start(&self) -> Offset;
    /// The next offset.
    fn log_end(&self) -> Offset;
    /// What is known to be committed.
    fn high_watermark(&self) -> Offset;
    /// The epoch of the last records; `None` where there are none.
    fn latest_epoch(&self) -> Option<LeaderEpoch>;
    /// The largest epoch that is at most this one and the offset where it ends; `None` where no such epoch is known.
    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;
}

/// A question to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Records from here on.
    Fetch(FetchFrom),
    /// Where the leader's log starts and ends, under this leader epoch.
    LeaderOffsets(LeaderEpoch),
}

/// From where records are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchFrom {
    pub offset: Offset,
    /// The epoch of the record before; -1 where there is none.
    pub last_fetched_epoch: LeaderEpoch,
    pub current_leader_epoch: LeaderEpoch,
}

/// What the leader says to a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Records, perhaps none.
    Records,
    /// The logs differ before the offset: the leader's records of this epoch end there.
    Diverging {
        epoch: LeaderEpoch,
        end_offset: Offset,
    },
    Error(ErrorCode),
}

/// What to do with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    Nothing,
    /// Append the records that came, then tell [`Follower::appended`].
    Append,
    /// Remove everything from this offset on, then tell [`Follower::log_changed`].
    Truncate(Offset),
    /// Remove everything and begin at this offset, then tell [`Follower::log_changed`].
    StartAt(Offset),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fetching,
    /// The leader does not have the offset: where its log starts and ends decides.
    OutOfRange,
    /// Nothing is done before the metadata gives another leader epoch.
    Failed,
}

/// The follower of one partition under one leader epoch.
#[derive(Clone, Debug)]
pub struct Follower {
    leader_epoch: LeaderEpoch,
    offset: Offset,
    last_fetched_epoch: Option<LeaderEpoch>,
    state: State,
    not_before_ms: i64,
    /// How many records the leader has committed that are not here; `None` before the first answer.
    lag: Option<i64>,
}

impl Follower {
    /// Begins to follow the leader of this epoch. A log without epochs holds nothing that could be compared, so it goes
    /// on from what is committed: the caller truncates there first where [`Follower::start`] says so.
    pub fn start(leader_epoch: LeaderEpoch, log: &impl FollowerLog) -> (Self, Do) {
        let last_fetched_epoch = log.latest_epoch();
        let end = log.log_end();
        let committed = log.high_watermark().min(end);
        let truncates = last_fetched_epoch.is_none() && committed < end;
        let follower = Self {
            leader_epoch,
            offset: if truncates { committed } else { end },
            last_fetched_epoch,
            state: State::Fetching,
            not_before_ms: i64::MIN,
            lag: None,
        };
        (follower, if truncates { Do::Truncate(committed) } else { Do::Nothing })
    }

    /// The leader epoch that the metadata gave.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// From where it fetches next.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// How many records the leader has committed that are not here; `None` before the first answer.
    pub fn lag(&self) -> Option<i64> {
        self.lag
    }

    /// Whether it has given up until the metadata changes.
    pub fn is_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// Whether it has everything that is committed, as far as the last answer tells.
    pub fn is_in_sync(&self) -> bool {
        self.lag.is_some_and(|lag| lag <= 0)
    }

    /// When it wants something again; `None` where it has given up.
    pub fn not_before_ms(&self) -> Option<i64> {
        (self.state != State::Failed).then_some(self.not_before_ms)
    }

    /// What to ask the leader now.
    pub fn wants(&self, now_ms: i64) -> Option<Want> {
        if now_ms < self.not_before_ms {
            return None;
        }
        match self.state {
            State::Fetching => Some(Want::Fetch(self.fetch_from())),
            State::OutOfRange => Some(Want::LeaderOffsets(self.leader_epoch)),
            State::Failed => None,
        }
    }

    fn fetch_from(&self) -> FetchFrom {
        FetchFrom {
            offset: self.offset,
            last_fetched_epoch: self.last_fetched_epoch.unwrap_or(-1),
            current_leader_epoch: self.leader_epoch,
        }
    }

    /// Takes the answer to `asked`.
    pub fn fetched(
        &mut self,
        asked: FetchFrom,
        answer: Fetched,
        log: &impl FollowerLog,
        now_ms: i64,
        backoff_ms: i64,
    ) -> Do {
        if self.state != State::Fetching || asked != self.fetch_from() {
            return Do::Nothing;
        }
        match answer {
            Fetched::Records => Do::Append,
            Fetched::Diverging { epoch, end_offset } => {
                Do::Truncate(truncation_offset(log, epoch, end_offset))
            }
            Fetched::Error(code) => {
                self.failed(code, now_ms, backoff_ms);
                Do::Nothing
            }
        }
    }

    /// The records are in the log, which now ends at `log_end`; the leader has committed up to `leader_high_watermark`.
    pub fn appended(
        &mut self,
        log_end: Offset,
        last_epoch: Option<LeaderEpoch>,
        leader_high_watermark: Offset,
    ) {
        self.offset = log_end;
        self.last_fetched_epoch = last_epoch.or(self.last_fetched_epoch);
        self.lag = Some(leader_high_watermark.saturating_sub(log_end).max(0));
    }

    /// The log was truncated, or begins anew.
    pub fn log_changed(&mut self, log: &impl FollowerLog) {
        self.offset = log.log_end();
        self.last_fetched_epoch = log.latest_epoch();
        self.state = State::Fetching;
    }

    /// Fetches from where the log ends, although that is not where it was left: what the store could not take is gone.
    pub fn reconcile(&mut self, log: &impl FollowerLog) {
        if self.state == State::Fetching && self.offset != log.log_end() {
            self.log_changed(log);
        }
    }

    /// Takes where the leader's log starts and ends, asked under this epoch, or why it does not say.
    pub fn leader_offsets(
        &mut self,
        asked: LeaderEpoch,
        answer: Result<(Offset, Offset), ErrorCode>,
        log: &impl FollowerLog,
        now_ms: i64,
        backoff_ms: i64,
    ) -> Do {
        if self.state != State::OutOfRange || asked != self.leader_epoch {
            return Do::Nothing;
        }
        let (start, end) = match answer {
            Ok(offsets) => offsets,
            Err(code) => {
                self.failed(code, now_ms, backoff_ms);
                return Do::Nothing;
            }
        };
        let ours = log.log_end();
        self.state = State::Fetching;
        if end < ours {
            // An unclean election: the leader lost what is here.
            Do::Truncate(end)
        } else if start > ours {
            // Everything here is older than what the leader still has.
            Do::StartAt(start)
        } else {
            self.offset = ours;
            self.last_fetched_epoch = log.latest_epoch();
            Do::Nothing
        }
    }

    /// Something went wrong that time may mend: the leader could not be reached, or the store has no room.
    pub fn back_off(&mut self, now_ms: i64, backoff_ms: i64) {
        self.not_before_ms = now_ms.saturating_add(backoff_ms);
    }

    /// Something went wrong that only another leader epoch mends.
    pub fn give_up(&mut self) {
        self.state = State::Failed;
    }

    fn failed(&mut self, code: ErrorCode, now_ms: i64, backoff_ms: i64) {
        if code == ErrorCode::OffsetOutOfRange {
            self.state = State::OutOfRange;
        } else if code == ErrorCode::FencedLeaderEpoch {
            // The metadata that reaches this broker next names a newer epoch.
            self.state = State::Failed;
        } else {
            self.back_off(now_ms, backoff_ms);
        }
    }
}

/// To where a log is cut whose leader says that its records of `epoch` end at `end_offset`: to what is committed, where
/// it does not know.
fn truncation_offset(log: &impl FollowerLog, epoch: LeaderEpoch, end_offset: Offset) -> Offset {
    let log_end = log.log_end();
    if end_offset < 0 {
        return log.high_watermark().min(log_end);
    }
    let known = match log.epoch_end(epoch) {
        // The next fetch tells more, if that was not all.
        Some((ours, end)) if ours != epoch => end,
        Some((_, end)) => end.min(end_offset),
        None => end_offset,
    };
    known.min(log_end)
}
