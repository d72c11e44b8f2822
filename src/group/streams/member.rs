//! A member of a streams group: one stream thread of one process.

use super::group::StreamsGroup;
use super::tasks::AssignedTasks;
use crate::group::modern::Member;

/// How far a member is on its way to its target assignment (`MemberState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it is to have.
    Stable,
    /// It has to give up tasks before it can go to the next epoch.
    UnrevokedTasks,
    /// It is in the last epoch, and waits for tasks that others have to give up.
    UnreleasedTasks,
    /// A later version of the software knows what this is.
    Unknown,
}

impl MemberState {
    /// The number in records.
    pub fn id(self) -> i8 {
        match self {
            Self::Stable => 1,
            Self::UnrevokedTasks => 2,
            Self::UnreleasedTasks => 3,
            Self::Unknown => 127,
        }
    }

    /// The state of this number.
    pub fn from_id(id: i8) -> Self {
        let known = [Self::Stable, Self::UnrevokedTasks, Self::UnreleasedTasks];
        known.into_iter().find(|state| state.id() == id).unwrap_or(Self::Unknown)
    }
}

/// A member of a streams group (`StreamsGroupMember`).
pub type StreamsMember = Member<StreamsGroup>;

impl StreamsMember {
    /// Whether it has what it is to have in this epoch.
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == epoch
    }

    /// The epoch in which an active task was assigned, as long as the member may still have it.
    pub fn assigned_in(&self, subtopology_id: &str, task: i32) -> Option<i32> {
        let of = |tasks: &AssignedTasks| tasks.assigned_in(subtopology_id, task);
        of(&self.current.assigned).or_else(|| of(&self.current.revoking))
    }
}
