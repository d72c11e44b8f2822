//! Tasks: a subtopology's work on one partition of its source topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tasks by subtopology. Where the broker makes it, there are no empty sets in it.
pub type TaskIds = BTreeMap<Arc<str>, BTreeSet<i32>>;

/// Tasks by subtopology, each with the epoch in which it was assigned. There are no empty maps in it.
pub type TaskEpochs = BTreeMap<Arc<str>, BTreeMap<i32, i32>>;

/// What a member is to have, or says that it has (`TasksTuple`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// Those that it processes.
    pub active: TaskIds,
    /// Those whose state it keeps a copy of.
    pub standby: TaskIds,
    /// Those whose state it builds up before it gets them as active ones.
    pub warmup: TaskIds,
}

/// What a member has (`TasksTupleWithEpochs`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignedTasks {
    pub active: TaskEpochs,
    pub standby: TaskIds,
    pub warmup: TaskIds,
}

impl Tasks {
    /// Whether there are none of any kind.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// Whether a task is in both, in the same role.
    pub fn contains_any(&self, other: &AssignedTasks) -> bool {
        let active = self.active.iter().any(|(id, tasks)| {
            let others = other.active.get(id);
            others.is_some_and(|others| tasks.iter().any(|task| others.contains_key(task)))
        });
        active || share_any(&self.standby, &other.standby) || share_any(&self.warmup, &other.warmup)
    }

    /// Whether each task is in the other too, in the same role.
    pub fn is_within(&self, other: &AssignedTasks) -> bool {
        self.active.iter().all(|(id, tasks)| {
            let others = other.active.get(id);
            others.is_some_and(|others| tasks.iter().all(|task| others.contains_key(task)))
        }) && is_subset(&self.standby, &other.standby)
            && is_subset(&self.warmup, &other.warmup)
    }
}

impl AssignedTasks {
    /// Whether there are none of any kind.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// The same without epochs.
    pub fn without_epochs(&self) -> Tasks {
        let active = self.active.iter().map(|(id, tasks)| (id.clone(), tasks.keys().copied().collect()));
        Tasks { active: active.collect(), standby: self.standby.clone(), warmup: self.warmup.clone() }
    }

    /// Takes in what the other has.
    pub fn merge(&mut self, other: Self) {
        for (id, tasks) in other.active {
            self.active.entry(id).or_default().extend(tasks);
        }
        for (mine, others) in [(&mut self.standby, other.standby), (&mut self.warmup, other.warmup)] {
            for (id, tasks) in others {
                mine.entry(id).or_default().extend(tasks);
            }
        }
    }

    /// The epoch in which an active task was assigned.
    pub fn assigned_in(&self, subtopology_id: &str, task: i32) -> Option<i32> {
        self.active.get(subtopology_id)?.get(&task).copied()
    }
}

/// Every task on its own.
pub(super) fn each(tasks: &TaskIds) -> impl Iterator<Item = (Arc<str>, i32)> {
    tasks.iter().flat_map(|(id, tasks)| tasks.iter().map(|task| (id.clone(), *task)))
}

fn share_any(one: &TaskIds, other: &TaskIds) -> bool {
    one.iter().any(|(id, tasks)| other.get(id).is_some_and(|others| !tasks.is_disjoint(others)))
}

fn is_subset(one: &TaskIds, other: &TaskIds) -> bool {
    one.iter().all(|(id, tasks)| other.get(id).is_some_and(|others| tasks.is_subset(others)))
}
