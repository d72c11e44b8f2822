//! SyncGroup and Heartbeat.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::draft::Draft;
use super::group::{Change, ClassicGroup, GroupState, Member};
use crate::error::ErrorCode;
use crate::group::command::{Heartbeat, Reply, SyncGroup, SyncedGroup};
use crate::group::settings::GROUP_RECORD_BYTES_MAX;
use crate::shard::Token;

impl Draft<'_> {
    /// Takes the leader's assignment, and gives everybody theirs.
    pub(in crate::group) fn sync(&mut self, token: Token, request: SyncGroup) {
        if let Err(code) = validate_sync(&self.group, &request) {
            return self.reply(token, Reply::Sync(Err(code)));
        }
        let member_id = request.member_id.clone();
        match self.group.state {
            GroupState::CompletingRebalance => {
                // A request that is repeated while the first one is held: its answer would be lost.
                self.answer_held_sync(&member_id, Err(ErrorCode::RebalanceInProgress));
                self.sync_received(&member_id, Some(token));
                if self.group.is_leader(&member_id) {
                    self.assign(request.assignments);
                }
            }
            GroupState::Stable => {
                self.sync_received(&member_id, None);
                let synced =
                    self.group.members.get(&member_id).map(|member| synced_group(&self.group, member));
                self.reply(token, Reply::Sync(synced.ok_or(ErrorCode::UnknownMemberId)));
            }
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => {
                self.reply(token, Reply::Sync(Err(ErrorCode::RebalanceInProgress)));
            }
        }
    }

    fn sync_received(&mut self, member_id: &Arc<str>, awaiting_sync: Option<Token>) {
        self.change(Change::SyncReceived { member_id: member_id.clone(), awaiting_sync });
        if self.group.pending_sync.is_empty() {
            self.cancel_sync();
        }
    }

    fn assign(&mut self, assignments: Vec<(Arc<str>, Bytes)>) {
        let assignments: HashMap<Arc<str>, Bytes> = assignments.into_iter().collect();
        let record = self
            .group
            .to_record(self.now_ms, |member| assignments.get(&member.member_id).cloned().unwrap_or_default());
        if record.size_bytes() > GROUP_RECORD_BYTES_MAX {
            self.refuse_held_syncs(ErrorCode::UnknownServerError);
            return self.prepare_rebalance("the assignment is too large to be stored");
        }
        self.record(record);
        let members: Vec<Arc<Member>> = self.group.members.values().cloned().collect();
        for member in members {
            let synced = synced_group(&self.group, &member);
            if self.answer_held_sync(&member.member_id, Ok(synced)) {
                // Its session may have ended unnoticed while the request was held.
                self.touch(&member.member_id);
            }
        }
    }

    /// A member is alive; it learns whether it has to join again.
    pub(in crate::group) fn heartbeat(&mut self, request: &Heartbeat) -> Result<(), ErrorCode> {
        self.group.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.group.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.group.state {
            GroupState::PreparingRebalance => {
                self.touch(&request.member_id);
                Err(ErrorCode::RebalanceInProgress)
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.touch(&request.member_id);
                Ok(())
            }
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
        }
    }
}

fn validate_sync(group: &ClassicGroup, request: &SyncGroup) -> Result<(), ErrorCode> {
    group.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation_id != group.generation_id {
        return Err(ErrorCode::IllegalGeneration);
    }
    let differs = |sent: &Option<Arc<str>>, ours: &Option<Arc<str>>| matches!((sent, ours), (Some(sent), Some(ours)) if sent != ours);
    if differs(&request.protocol_type, &group.protocol_type)
        || differs(&request.protocol_name, &group.protocol_name)
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    Ok(())
}

fn synced_group(group: &ClassicGroup, member: &Member) -> SyncedGroup {
    SyncedGroup {
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol_name.clone(),
        assignment: member.assignment.clone(),
    }
}
