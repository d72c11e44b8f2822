//! What a node does, and whether it may.

use std::rc::Rc;

use super::history::History;
use super::messages::snapshot_bytes;
use super::mutants::Mutant;
use super::nodes::{Node, Planned, Quorum};
use super::storage::{Write, Written};
use crate::quorum::core::message::{Action, Event, Leadership, NewRecords, RoleName, SnapshotId};
use crate::quorum::{ElectionState, ReplicaKey, Voters};
use crate::sim::random::mix;
use crate::sim::runner::Violation;
use crate::types::{LeaderEpoch, NodeId, Offset};

impl Quorum {
    /// Carries out one action; gives what the node has to be told because of it.
    pub(super) fn act(&mut self, id: NodeId, action: Action) -> Result<Option<Event>, Violation> {
        match action {
            Action::Persist(election) => self.persist(id, election)?,
            Action::Append { epoch, base_offset, records } => {
                return self.append_batch(id, epoch, base_offset, records);
            }
            Action::Replicate(batches) => {
                let numbers = batches
                    .iter()
                    .filter_map(|batch| Some(u64::from_le_bytes(batch.bytes.as_ref().try_into().ok()?)));
                let batches: Vec<_> =
                    numbers.filter_map(|number| self.batches.get(&number).cloned()).collect();
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
                Rc::make_mut(&mut self.history).appended(&node.disk.live().log, from)?;
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
            Rc::make_mut(&mut self.history).voted(node.key(), election.epoch, candidate)?;
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
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(None) };
        // One life of a node appends once at an offset of an epoch.
        let who = (u64::from(id.unsigned_abs()) << 32) | u64::from(node.life);
        let number =
            mix(mix(mix(who).wrapping_add(u64::from(epoch.unsigned_abs()))) ^ base_offset.unsigned_abs());
        let batch = Rc::new(Written { number, base_offset, epoch, records });
        self.batches.insert(number, Rc::clone(&batch));
        let kept = node.disk.live();
        if base_offset != kept.log.end() || epoch < kept.log.last_epoch() {
            return Err(format!("NoIllegalState: n{id} appends {batch:?} at {}", kept.log.end()));
        }
        let before = kept.voters().cloned();
        let committed = node.committed;
        let changing = kept.voters_logged().iter().any(|(offset, _)| *offset >= committed);
        node.disk.write(Write::Append(batch));
        let kept = node.disk.live();
        Rc::make_mut(&mut self.history).appended(&kept.log, base_offset)?;
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
        Rc::make_mut(&mut self.history).committed_at(kept, end)?;
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
            Rc::make_mut(&mut self.history).leads(node.key(), leadership.epoch, &voters, &kept.log)?;
        }
        Ok(())
    }

    fn install(&mut self, id: NodeId, wanted: SnapshotId) -> Option<Event> {
        let node = self.nodes.get_mut(&id)?;
        let found = node.download.take().filter(|(which, _)| *which == wanted).and_then(|(_, bytes)| {
            let chain = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
            let snapshot = self.snapshots.get(&chain)?;
            (snapshot.id == wanted && bytes == snapshot_bytes(snapshot)).then(|| Rc::clone(snapshot))
        });
        let Some(snapshot) = found else { return Some(Event::SnapshotInstalled(wanted, None)) };
        let contents = snapshot.contents.clone();
        node.disk.write(Write::Install(snapshot));
        node.disk.sync();
        self.installed += 1;
        Some(Event::SnapshotInstalled(wanted, Some(contents)))
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
