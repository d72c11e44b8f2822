//! A decision about a streams group in the making: its timers, and what a start arms.

use super::group::StreamsGroup;
use super::member::MemberState;
use crate::group::core::Timer;
use crate::group::modern::draft;

/// What becomes of one streams group.
pub(in crate::group) type Draft<'a> = draft::Draft<'a, StreamsGroup>;

impl Draft<'_> {
    /// Every member has a whole session to be heard of, and those who have to give up tasks their whole time.
    pub(in crate::group) fn start(&mut self) {
        for (member_id, member) in &self.group.members.clone() {
            self.touch(member_id);
            if member.current.state == MemberState::UnrevokedTasks {
                self.arm(self.revocation_timer(member_id), member.metadata.rebalance_timeout_ms);
            }
        }
    }

    /// The deadline until which the first members are waited for.
    pub(super) fn delay_timer(&self) -> Timer {
        Timer::InitialDelay { group_id: self.group.group_id.clone() }
    }
}
