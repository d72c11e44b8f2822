//! What nodes say to one another, and whether they may.

use std::rc::Rc;

use bytes::Bytes;

use super::mutants::Mutant;
use super::nodes::{Answered, Asker, Planned, Quorum, REQUEST_TIMEOUT_MS};
use super::storage::Snapshot;
use crate::quorum::core::message::{
    Correlation, Destination, Fetched, FetchedSnapshot, Progress, Request, Response, Token,
};
use crate::sim::runner::Violation;
use crate::types::NodeId;

/// How many bytes of a snapshot travel at once, at most: it takes several requests.
const SNAPSHOT_PIECE: usize = 7;
const SNAPSHOT_BYTES: usize = 16;

impl Quorum {
    pub(super) fn send(
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

    pub(super) fn reply(&mut self, id: NodeId, token: Token, response: Response) -> Result<(), Violation> {
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
            Rc::make_mut(&mut self.history).voted(node.key(), vote.epoch, vote.candidate)?;
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
}

pub(super) fn snapshot_bytes(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = snapshot.chain.to_le_bytes().to_vec();
    bytes.resize(SNAPSHOT_BYTES, 7);
    bytes
}
