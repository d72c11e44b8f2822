//! The next step of a member towards its target assignment (`CurrentAssignmentBuilder`).

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::member::{ConsumerMember, Epochs, MemberState};
use super::record::CurrentAssignment;
use crate::group::assignor::Partitions;

/// What the next step depends on.
pub(super) struct Reconciliation<'a> {
    pub member: &'a ConsumerMember,
    pub target_epoch: i32,
    pub target: &'a Partitions,
    pub subscription_changed: bool,
    /// The partitions that the member says it has; `None` where it says nothing.
    pub owned: Option<&'a Partitions>,
    /// Whether the member is subscribed to a topic that exists.
    pub is_subscribed: &'a dyn Fn(&Uuid) -> bool,
    /// Whether any member has a partition.
    pub is_taken: &'a dyn Fn(Uuid, i32) -> bool,
}

/// The member is in a state that nobody here knows: it has to give up everything and join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fenced;

impl Reconciliation<'_> {
    /// The member's next assignment, which may be the one that it has.
    pub(super) fn next(&self) -> Result<CurrentAssignment, Fenced> {
        let current = &self.member.current;
        match current.state {
            MemberState::Stable if current.epoch != self.target_epoch => Ok(self.advance(current.epoch)),
            MemberState::Stable if self.subscription_changed => Ok(self.give_up_unsubscribed()),
            MemberState::Stable => Ok(current.clone()),
            MemberState::UnrevokedPartitions if self.still_has(&current.revoking) => {
                // More may have to be given up than it was told before.
                Ok(if self.subscription_changed { self.give_up_unsubscribed() } else { current.clone() })
            }
            MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
                Ok(self.advance(current.epoch))
            }
            MemberState::Unknown if self.owned.is_some_and(Partitions::is_empty) => {
                Ok(self.advance(self.target_epoch))
            }
            MemberState::Unknown => Err(Fenced),
        }
    }

    /// Whether the member still has, as far as it says, some of these.
    fn still_has(&self, epochs: &Epochs) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, partitions)| {
            let given_up = epochs.get(topic);
            given_up.is_some_and(|given_up| partitions.iter().any(|p| given_up.contains_key(p)))
        })
    }

    fn at(&self, epoch: i32, state: MemberState, assigned: Epochs, revoking: Epochs) -> CurrentAssignment {
        CurrentAssignment {
            epoch,
            previous_epoch: self.member.current.epoch,
            state,
            assigned: Arc::new(assigned),
            revoking: Arc::new(revoking),
        }
    }

    /// Within its epoch, takes away the topics that the member is not subscribed to any more.
    fn give_up_unsubscribed(&self) -> CurrentAssignment {
        let current = &self.member.current;
        let (kept, given_up): (Epochs, Epochs) = current
            .assigned
            .iter()
            .map(|(t, p)| (*t, p.clone()))
            .partition(|(topic, _)| (self.is_subscribed)(topic));
        if given_up.is_empty() {
            return current.clone();
        }
        let mut revoking = (*current.revoking).clone();
        for (topic, partitions) in given_up {
            revoking.entry(topic).or_default().extend(partitions);
        }
        if self.still_has(&revoking) {
            self.at(current.epoch, MemberState::UnrevokedPartitions, kept, revoking)
        } else {
            self.at(current.epoch, current.state, kept, (*current.revoking).clone())
        }
    }

    /// Goes to the target's epoch, unless the member has to give up something first.
    fn advance(&self, epoch: i32) -> CurrentAssignment {
        let current = &self.member.current;
        let (mut kept, mut revoking) = (Epochs::new(), Epochs::new());
        for (topic, partitions) in current.assigned.iter() {
            let target = self.target.get(topic).filter(|_| (self.is_subscribed)(topic));
            let stays = |partition: &i32| target.is_some_and(|target| target.contains(partition));
            let (stay, go): (BTreeMap<i32, i32>, BTreeMap<i32, i32>) =
                partitions.iter().map(|(p, e)| (*p, *e)).partition(|(partition, _)| stays(partition));
            if !stay.is_empty() {
                kept.insert(*topic, stay);
            }
            if !go.is_empty() {
                revoking.insert(*topic, go);
            }
        }
        if !revoking.is_empty() && self.still_has(&revoking) {
            return self.at(epoch, MemberState::UnrevokedPartitions, kept, revoking);
        }
        let mut waits = false;
        for (topic, partitions) in self.target.iter().filter(|(topic, _)| (self.is_subscribed)(topic)) {
            for partition in partitions {
                if kept.get(topic).is_some_and(|kept| kept.contains_key(partition)) {
                    continue;
                }
                // What the member itself has not given up yet is not in anybody's way.
                let own = current.revoking.get(topic).is_some_and(|own| own.contains_key(partition));
                if (self.is_taken)(*topic, *partition) && !own {
                    waits = true;
                } else {
                    kept.entry(*topic).or_default().insert(*partition, self.target_epoch);
                }
            }
        }
        let state = if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable };
        self.at(self.target_epoch, state, kept, Epochs::new())
    }
}
