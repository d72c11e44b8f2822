//! Requests, timers and records, brought to their group.

use std::sync::Arc;

use super::ModernGroup;
use super::draft::Draft;
use super::record::{Body, GroupRecord};
use crate::error::{ApiError, ErrorCode};
use crate::group::core::GroupCore;
use crate::shard::Decision;
use crate::types::TimestampMs;

/// There is no group of the kind with this id; `is_another`: it is one of another kind.
pub(in crate::group) fn no_group<G: ModernGroup>(group_id: &str, is_another: bool) -> ApiError {
    let text = if is_another {
        format!("Group {group_id} is not a {}.", G::KIND)
    } else {
        format!("Group {group_id} not found.")
    };
    ApiError::with(ErrorCode::GroupIdNotFound, text)
}

impl GroupCore {
    /// A decision about a group that there is.
    pub(in crate::group) fn draft<G: ModernGroup>(&self, now_ms: TimestampMs, group: &G) -> Draft<'_, G> {
        Draft { is_new: false, ..self.new_draft(now_ms, group.clone()) }
    }

    /// A decision about a group that is not there yet.
    pub(in crate::group) fn draft_of_new<G: ModernGroup>(
        &self,
        now_ms: TimestampMs,
        group_id: &Arc<str>,
    ) -> Draft<'_, G> {
        self.new_draft(now_ms, G::new(group_id.clone()))
    }

    fn new_draft<G: ModernGroup>(&self, now_ms: TimestampMs, group: G) -> Draft<'_, G> {
        let (settings, cluster, decision) = (&*self.settings, &*self.cluster, Decision::default());
        Draft { settings, cluster, now_ms, group, is_new: true, decision }
    }

    /// The group with this id, if it is one of the kind.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`.
    pub(in crate::group) fn group_of<G: ModernGroup>(&self, group_id: &str) -> Result<&G, ApiError> {
        let found = self.groups.get(group_id);
        found.and_then(G::of).ok_or_else(|| no_group::<G>(group_id, found.is_some()))
    }

    /// What becomes of a group.
    pub(in crate::group) fn decide_for<'a, G: ModernGroup>(
        &'a self,
        now_ms: TimestampMs,
        group: &G,
        decide: impl FnOnce(&mut Draft<'a, G>),
    ) -> Decision<Self> {
        let mut draft = self.draft(now_ms, group);
        decide(&mut draft);
        draft.finish()
    }

    /// What becomes of the group with this id; nothing where there is none of the kind.
    pub(in crate::group) fn decide_if_there<'a, G: ModernGroup>(
        &'a self,
        now_ms: TimestampMs,
        group_id: &str,
        decide: impl FnOnce(&mut Draft<'a, G>),
    ) -> Decision<Self> {
        let group = self.groups.get(group_id).and_then(G::of);
        group.map(|group| self.decide_for(now_ms, group, decide)).unwrap_or_default()
    }

    /// Changes a group for good; the first record of one makes it, also in the place of a group that was only assumed
    /// because somebody commits offsets.
    pub(in crate::group) fn replay_record<G: ModernGroup>(&mut self, record: &GroupRecord<G>) {
        let group_id = &record.group_id;
        match self.groups.get_mut(group_id).and_then(G::of_mut) {
            Some(_) if record.body == Body::Epoch(None) => {
                self.groups.remove(group_id);
            }
            Some(group) => group.replay(&record.body),
            None if record.is_tombstone() => {}
            None => {
                let mut group = G::new(group_id.clone());
                group.replay(&record.body);
                self.groups.insert(group_id.clone(), group.into());
            }
        }
    }

    /// Changes a group until the next restart.
    pub(in crate::group) fn replay_change<G: ModernGroup>(&mut self, group_id: &str, change: &G::Change) {
        if let Some(group) = self.groups.get_mut(group_id).and_then(G::of_mut) {
            group.replay_change(change);
        }
    }
}
