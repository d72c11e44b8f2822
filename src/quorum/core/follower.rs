//! Following a leader: fetching its log, cutting what it does not have, taking its snapshots.

use super::super::voters::VoterEndpoint;
use super::QuorumCore;
use super::message::{
    Action, Batch, Destination, FetchRequest, FetchSnapshotRequest, Fetched, FetchedSnapshot, Header,
    Progress, Request, SnapshotContents, SnapshotId,
};
use super::role::{Download, Role};
use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// The node of an address that is only known from the configuration has a negative id, as in Kafka.
const FIRST_BOOTSTRAP_ID: NodeId = -2;

impl QuorumCore {
    pub(super) fn fetch_request(&self) -> Request {
        Request::Fetch(FetchRequest {
            epoch: self.epoch,
            replica: self.config.local.key,
            offset: self.log.end,
            last_epoch: self.log.last_epoch(),
            high_watermark: self.high_watermark.unwrap_or(-1),
            bytes_max: self.config.timing.fetch_bytes_max,
            wait_max_ms: self.config.timing.fetch_wait_max_ms,
        })
    }

    fn fetch_snapshot_request(&self, Download { id, position }: Download) -> Request {
        Request::FetchSnapshot(FetchSnapshotRequest {
            epoch: self.epoch,
            replica: self.config.local.key,
            id,
            position,
            bytes_max: self.config.timing.fetch_snapshot_bytes_max,
        })
    }

    /// Sends a request, if the node is not waited for; gives when it can be asked next.
    pub(super) fn send(&mut self, to: Destination, request: Request) -> Result<(), i64> {
        let correlation = self.connections.begin(&to, self.now_ms)?;
        self.actions.push(Action::Send { correlation, to, request });
        Ok(())
    }

    /// Where a node is reached: by the quorum's listener, or by the first that is known.
    pub(super) fn destination(&self, id: NodeId, endpoints: &[VoterEndpoint]) -> Option<Destination> {
        let named = endpoints.iter().find(|endpoint| endpoint.listener == self.config.listener);
        let VoterEndpoint { host, port, .. } = named.or(endpoints.first())?;
        Some(Destination { id, host: host.clone(), port: *port })
    }

    pub(super) fn leader_destination(&self) -> Option<Destination> {
        let Role::Follower(role) = &self.role else { return None };
        self.destination(role.leader, &role.endpoints)
    }

    /// Asks the leader for more, or anyone for the leader where that one does not answer; gives when to look again.
    pub(super) fn fetch_from_best(&mut self) -> i64 {
        if self.installing {
            return i64::MAX;
        }
        let Some(leader) = self.leader_destination() else { return self.fetch_from_bootstrap() };
        if self.connections.timed_out(leader.id, self.now_ms)
            || self.connections.backing_off(leader.id, self.now_ms).is_some()
        {
            return self.fetch_from_bootstrap();
        }
        if let Some(until_ms) = self.connections.any_waiting(self.now_ms) {
            return until_ms;
        }
        let Role::Follower(role) = &self.role else { return i64::MAX };
        let request = match role.snapshot {
            Some(download) => self.fetch_snapshot_request(download),
            None => self.fetch_request(),
        };
        let sent = self.send(leader, request);
        sent.err().unwrap_or(self.now_ms + self.config.timing.request_timeout_ms)
    }

    /// Asks one of the bootstrap servers, each as likely as the others; gives when to look again.
    pub(super) fn fetch_from_bootstrap(&mut self) -> i64 {
        if self.installing {
            return i64::MAX;
        }
        if let Some(until_ms) = self.connections.any_waiting(self.now_ms) {
            return until_ms;
        }
        let servers = self.bootstrap_servers();
        let retry_at_ms = self.now_ms + self.config.timing.retry_backoff_ms;
        let Ok(count) = i64::try_from(servers.len()) else { return retry_at_ms };
        if count == 0 {
            return i64::MAX;
        }
        let first = usize::try_from(self.random.below(count)).unwrap_or(0);
        let (later, sooner) = servers.split_at(first);
        let mut in_turn = sooner.iter().chain(later);
        let ready = in_turn.find(|server| self.connections.is_ready(server.id, self.now_ms)).cloned();
        let Some(server) = ready else { return retry_at_ms };
        let request = self.fetch_request();
        let sent = self.send(server, request);
        sent.err().unwrap_or(self.now_ms + self.config.timing.request_timeout_ms)
    }

    /// The configured addresses; without any, those of the other voters.
    fn bootstrap_servers(&self) -> Vec<Destination> {
        let local = &self.config.local;
        let is_local = |host: &str, port: u16| {
            local.endpoints.iter().any(|endpoint| endpoint.host == host && endpoint.port == port)
        };
        let configured = (0..).zip(&self.config.bootstrap).filter(|(_, (host, port))| !is_local(host, *port));
        let configured: Vec<_> = configured
            .map(|(index, (host, port))| Destination {
                id: FIRST_BOOTSTRAP_ID - index,
                host: host.clone(),
                port: *port,
            })
            .collect();
        if !configured.is_empty() {
            return configured;
        }
        let others = self.membership.voters().0.values().filter(|voter| voter.key.id != local.key.id);
        others.filter_map(|voter| self.destination(voter.key.id, &voter.endpoints)).collect()
    }

    pub(super) fn fetch_answered(&mut self, header: &Header, fetched: Fetched) -> bool {
        let known = (self.epoch, self.leader());
        if let Some(handled) = self.common(header) {
            // Who has nothing to say is not asked again at once (Kafka asks as fast as it is answered).
            let is_news = known != (self.epoch, self.leader());
            return handled && (header.error.is_none() || is_news);
        }
        let is_leaders = matches!(&self.role, Role::Follower(role) if header.leader == Some(role.leader));
        if header.error.is_some() || !is_leaders {
            return false;
        }
        let taken = match fetched.progress {
            Progress::Records(batches) => {
                let taken = self.replicate(batches);
                if let Some(offset) = fetched.high_watermark {
                    self.commit(offset.min(self.log.end));
                }
                taken
            }
            Progress::Diverging { epoch, end_offset } => self.diverged(epoch, end_offset),
            Progress::Snapshot(id) => self.snapshot_offered(id),
            // Nobody who answers says this.
            Progress::Read { .. } => false,
        };
        if taken {
            self.fetched_from_leader();
        }
        taken
    }

    /// The leader is alive and has answered.
    fn fetched_from_leader(&mut self) {
        let fetch_until_ms = self.now_ms + self.config.timing.fetch_timeout_ms;
        if let Role::Follower(role) = &mut self.role {
            role.fetch_until_ms = fetch_until_ms;
            role.has_fetched = true;
        }
    }

    /// Appends what fits to the log; a batch that does not, and all behind it, is left to the next fetch.
    fn replicate(&mut self, batches: Vec<Batch>) -> bool {
        let (mut end, mut epoch) = (self.log.end, self.log.last_epoch());
        let mut fits = |batch: &Batch| {
            let fits = batch.base_offset == end
                && (batch.base_offset..Offset::MAX).contains(&batch.last_offset)
                && (epoch..=self.epoch).contains(&batch.epoch);
            (end, epoch) = (batch.last_offset.saturating_add(1), batch.epoch);
            fits
        };
        let was_empty = batches.is_empty();
        let batches: Vec<Batch> = batches.into_iter().take_while(|batch| fits(batch)).collect();
        if batches.is_empty() {
            return was_empty;
        }
        for batch in &batches {
            self.log.append(batch.epoch, batch.last_offset + 1);
            self.membership.append_batch(batch);
        }
        self.readable_end = self.log.end;
        self.actions.push(Action::Replicate(batches));
        true
    }

    /// Cuts the log to where it agrees with the leader's. What is committed is never cut.
    fn diverged(&mut self, epoch: LeaderEpoch, end_offset: Offset) -> bool {
        let end = self.log.agreement(epoch, end_offset).max(self.log.start);
        if end < self.high_watermark.unwrap_or(0) || end_offset < 0 || epoch < 0 {
            return false;
        }
        if end < self.log.end {
            self.log.truncate(end);
            self.readable_end = self.readable_end.min(end);
            self.membership.truncate(end);
            self.actions.push(Action::Truncate(end));
        }
        true
    }

    /// The log does not reach so far back: the snapshot replaces ours.
    fn snapshot_offered(&mut self, id: SnapshotId) -> bool {
        let is_older = (id.epoch, id.end_offset) <= (self.log.last_epoch(), self.log.end);
        if id.end_offset < 0 || id.epoch < 0 || is_older {
            return false;
        }
        if let Role::Follower(role) = &mut self.role {
            role.snapshot = Some(Download { id, position: 0 });
        }
        true
    }

    pub(super) fn fetch_snapshot_answered(&mut self, header: &Header, piece: FetchedSnapshot) -> bool {
        // Which snapshot the leader has now is what it says next to a fetch. Nothing can be concluded from the error:
        // answers of Apache Kafka 4.3.1 that refuse a partition fail while they are written, as they have no records,
        // and arrive as UNKNOWN_SERVER_ERROR.
        if header.error.is_some()
            && let Role::Follower(role) = &mut self.role
        {
            role.snapshot = None;
        }
        if let Some(handled) = self.common(header) {
            return handled;
        }
        let Role::Follower(role) = &mut self.role else { return false };
        if header.error == Some(ErrorCode::SnapshotNotFound) {
            self.fetched_from_leader();
            return true;
        }
        let Some(download) = &mut role.snapshot else { return false };
        let FetchedSnapshot { id, size, position, bytes, .. } = piece;
        let written = position.saturating_add(bytes.len() as u64);
        if id != download.id || position != download.position || bytes.is_empty() || written > size {
            role.snapshot = None;
            return false;
        }
        download.position = written;
        self.actions.push(Action::WriteSnapshot { id, position, bytes });
        if written == size {
            self.installing = true;
            self.actions.push(Action::InstallSnapshot(id));
        }
        self.fetched_from_leader();
        true
    }

    /// The downloaded snapshot stands in the place of the log, or it was broken, and the leader is asked what it has.
    pub(super) fn snapshot_installed(&mut self, id: SnapshotId, contents: Option<SnapshotContents>) {
        self.installing = false;
        if let Role::Follower(role) = &mut self.role
            && role.snapshot.is_some_and(|download| download.id == id)
        {
            role.snapshot = None;
        }
        if let Some(contents) = contents {
            self.log.reset(id);
            self.readable_end = id.end_offset;
            self.membership.reset(id.end_offset, contents);
            self.commit(id.end_offset);
        }
    }
}
