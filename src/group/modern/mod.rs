//! What consumer groups, share groups and streams groups have in common: members live by heartbeats, and the broker
//! computes who is to have what (Kafka's package `group.modern`).
//!
//! A kind of groups is a [`ModernGroup`]. It says what its records hold and how they change it; from that it gets:
//!
//! - [`record`]: its records, from and to Kafka's bytes, by the numbers of its [`RecordTypes`];
//! - [`Member`], [`TargetAssignment`] and [`ModernGroup::replay`]: how records change a group;
//! - [`draft`]: a decision in the making, which works on a cheap copy of the group and lists the changes;
//! - `requests`: how requests, timers and records find their group.
//!
//! What a heartbeat decides is each kind's own.

pub(super) mod draft;
#[cfg(test)]
pub(super) mod invariants;
pub mod record;
pub(super) mod requests;

use std::fmt::Debug;
use std::sync::Arc;

use imbl::OrdMap;

use super::cluster::ClusterView;
use super::core::Event;
use super::kind::Group;
use super::record::Record;
use crate::types::TimestampMs;
use record::{Body, GroupRecord, OwnRecord, RecordTypes, TargetEpoch, Value};

/// The member epoch with which a member leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// The member epoch with which a static member goes away for a while.
pub const LEAVE_STATIC_EPOCH: i32 = -2;

/// The members of a group, by their ids.
pub type Members<G> = OrdMap<Arc<str>, Arc<Member<G>>>;

/// A kind of groups, and a group of it. Cheap to copy: members are shared.
pub trait ModernGroup: Clone + Debug + Eq + Into<Group> + 'static {
    /// What users call it, as in "a consumer group".
    const KIND: &'static str;
    /// The numbers of its records.
    const RECORD_TYPES: RecordTypes;

    /// The group's epoch, and what it was begun for.
    type Epoch: Value<Self>;
    /// What a member is and wants.
    type Metadata: Value<Self> + Default;
    /// What a member has.
    type Current: Value<Self> + Current;
    /// What a member is to have.
    type Target: Value<Self> + Default;
    /// What its records say that those of other kinds do not.
    type Own: OwnRecord;
    /// A change that is not persisted.
    type Change: Clone + Debug + Eq;

    /// A group that nobody has joined yet.
    fn new(group_id: Arc<str>) -> Self;
    /// The group, if it is one of this kind.
    fn of(group: &Group) -> Option<&Self>;
    /// The same, to be changed.
    fn of_mut(group: &mut Group) -> Option<&mut Self>;
    /// A record among those of all groups.
    fn record(record: GroupRecord<Self>) -> Record;
    /// A change that is not persisted, among those of all groups.
    fn event(group_id: Arc<str>, change: Self::Change) -> Event;

    fn group_id(&self) -> &Arc<str>;
    /// For how long a member need not be heard of, in milliseconds.
    fn session_timeout_ms(&self, cluster: &ClusterView) -> i32;
    fn members(&self) -> &Members<Self>;
    fn members_mut(&mut self) -> &mut Members<Self>;
    fn target(&self) -> &TargetAssignment<Self::Target>;
    fn target_mut(&mut self) -> &mut TargetAssignment<Self::Target>;

    /// Goes to an epoch.
    fn begin_epoch(&mut self, epoch: &Self::Epoch);
    /// Takes a member into what is counted over all members.
    fn count(&mut self, member: &Member<Self>);
    /// Takes it out again.
    fn uncount(&mut self, member: &Member<Self>);
    /// A member is gone for good, and not counted any more.
    fn forget(&mut self, _member: &Member<Self>) {}
    /// Changes the group for good, as only groups of this kind are.
    fn replay_own(&mut self, own: &Self::Own);
    /// Changes the group until the next restart.
    fn replay_change(&mut self, change: &Self::Change);

    /// Changes the group for good. Deleting the group itself is its owner's.
    fn replay(&mut self, body: &Body<Self>) {
        match body {
            Body::Epoch(Some(value)) => self.begin_epoch(value),
            Body::Epoch(None) => {}
            Body::Member { member_id, value: Some(value) } => {
                self.update(member_id, |member| member.metadata = value.clone());
            }
            Body::Member { member_id, value: None } => {
                if let Some(member) = self.members_mut().remove(member_id) {
                    self.uncount(&member);
                    self.forget(&member);
                }
            }
            Body::TargetEpoch(value) => self.target_mut().replay_epoch(*value),
            Body::Target { member_id, value } => self.target_mut().replay(member_id, value.as_ref()),
            Body::Current { member_id, value: Some(value) } => {
                self.update(member_id, |member| member.current = value.clone());
            }
            Body::Current { member_id, value: None } => {
                if self.members().contains_key(member_id) {
                    self.update(member_id, |member| member.current = member.current.left());
                }
            }
            Body::Own(own) => self.replay_own(own),
        }
    }

    /// Changes a member, also one that is not there yet.
    fn update(&mut self, member_id: &Arc<str>, change: impl FnOnce(&mut Member<Self>)) {
        let before = self.members().get(member_id).cloned();
        let mut after = before.as_deref().cloned().unwrap_or_else(|| Member::new(member_id.clone()));
        change(&mut after);
        if let Some(before) = before {
            self.uncount(&before);
        }
        self.count(&after);
        self.members_mut().insert(member_id.clone(), Arc::new(after));
    }
}

/// Those parts of a [`ModernGroup`] that differ between kinds only in how the kind is called among groups, records and
/// events.
macro_rules! called {
    ($kind:ident) => {
        fn of(group: &$crate::group::kind::Group) -> Option<&Self> {
            if let $crate::group::kind::Group::$kind(group) = group { Some(group) } else { None }
        }

        fn of_mut(group: &mut $crate::group::kind::Group) -> Option<&mut Self> {
            if let $crate::group::kind::Group::$kind(group) = group { Some(group) } else { None }
        }

        fn record(record: $crate::group::modern::record::GroupRecord<Self>) -> $crate::group::record::Record {
            $crate::group::record::Record::$kind(record)
        }

        fn event(group_id: std::sync::Arc<str>, change: Self::Change) -> $crate::group::core::Event {
            $crate::group::core::Event::$kind { group_id, change }
        }

        fn group_id(&self) -> &std::sync::Arc<str> {
            &self.group_id
        }

        fn members(&self) -> &$crate::group::modern::Members<Self> {
            &self.members
        }

        fn members_mut(&mut self) -> &mut $crate::group::modern::Members<Self> {
            &mut self.members
        }

        fn target(&self) -> &$crate::group::modern::TargetAssignment<Self::Target> {
            &self.target
        }

        fn target_mut(&mut self) -> &mut $crate::group::modern::TargetAssignment<Self::Target> {
            &mut self.target
        }
    };
}
pub(super) use called;

/// What a member has, and in which epoch it is.
pub trait Current: Default {
    /// That of a member that is about to be removed.
    #[must_use]
    fn left(&self) -> Self;
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<G: ModernGroup> {
    pub member_id: Arc<str>,
    pub metadata: G::Metadata,
    /// What the member knows, and what it has.
    pub current: G::Current,
}

impl<G: ModernGroup> Member<G> {
    /// A member of which nothing is known but its id.
    pub fn new(member_id: Arc<str>) -> Self {
        Self { member_id, metadata: G::Metadata::default(), current: G::Current::default() }
    }
}

/// What each member is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAssignment<T> {
    /// The group's epoch for which it was computed; -1 once it is deleted.
    pub epoch: i32,
    /// When it was computed; 0 where that is not known.
    pub assigned_at_ms: TimestampMs,
    pub members: OrdMap<Arc<str>, Arc<T>>,
}

impl<T> Default for TargetAssignment<T> {
    /// That of a group that nobody has joined yet.
    fn default() -> Self {
        Self { epoch: 1, assigned_at_ms: 0, members: OrdMap::new() }
    }
}

impl<T: Default> TargetAssignment<T> {
    /// What a member is to have.
    pub fn of(&self, member_id: &str) -> Arc<T> {
        self.members.get(member_id).cloned().unwrap_or_default()
    }

    fn replay_epoch(&mut self, value: Option<TargetEpoch>) {
        let TargetEpoch { epoch, assigned_at_ms } =
            value.unwrap_or(TargetEpoch { epoch: -1, assigned_at_ms: 0 });
        (self.epoch, self.assigned_at_ms) = (epoch, assigned_at_ms);
    }

    fn replay(&mut self, member_id: &Arc<str>, value: Option<&Arc<T>>) {
        match value {
            Some(value) => self.members.insert(member_id.clone(), Arc::clone(value)),
            None => self.members.remove(member_id),
        };
    }
}
