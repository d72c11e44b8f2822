//! The sticky assignor (`StickyTaskAssignor`): as many tasks for everybody as possible, each with who had it, then with
//! who had a copy of its state, then with the process that has the least to do; copies likewise, never twice in a
//! process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::warn;

use super::java::{BUCKETS, PriorityQueue, hash, hash_order};
use super::tasks::{TaskIds, Tasks, each};

/// A task: its subtopology's id, and its number.
type TaskId = (Arc<str>, i32);

/// What an assignor is told of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSpec {
    pub process_id: Arc<str>,
    /// What was assigned to it last.
    pub previous: Arc<Tasks>,
}

/// What an assignor is told of a subtopology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubtopologySpec {
    pub id: Arc<str>,
    pub tasks: i32,
    /// Whether it has state that can be copied.
    pub is_stateful: bool,
}

/// A new assignment for all members. `standby_replicas`: how many copies there are to be of each task's state.
pub fn assign(
    members: &BTreeMap<Arc<str>, MemberSpec>,
    subtopologies: &[SubtopologySpec],
    standby_replicas: usize,
) -> BTreeMap<Arc<str>, Tasks> {
    if members.is_empty() {
        return BTreeMap::new();
    }
    let mut assignment = Assignment::new(members, subtopologies, standby_replicas);
    assignment.assign_active(tasks_of(subtopologies.iter()));
    if standby_replicas > 0 {
        let stateful = subtopologies.iter().filter(|subtopology| subtopology.is_stateful);
        assignment.assign_standby(tasks_of(stateful), standby_replicas);
    }
    assignment.members.into_iter().map(|member| (member.id, member.tasks)).collect()
}

fn tasks_of<'a>(subtopologies: impl Iterator<Item = &'a SubtopologySpec>) -> Vec<TaskId> {
    subtopologies
        .flat_map(|subtopology| (0..subtopology.tasks).map(|task| (subtopology.id.clone(), task)))
        .collect()
}

/// A member, as far as it has been assigned.
struct Member {
    id: Arc<str>,
    process: usize,
    tasks: Tasks,
    count: usize,
}

/// The members of a process (`ProcessState`).
struct Process {
    id: Arc<str>,
    members: Vec<usize>,
    tasks: BTreeSet<TaskId>,
    count: usize,
    /// Its members by what they have to do, as long as nobody was chosen otherwise.
    by_load: Option<PriorityQueue<(usize, usize)>>,
}

impl Process {
    /// Tasks for each member.
    #[expect(clippy::cast_precision_loss, reason = "few tasks")]
    fn load(&self) -> f64 {
        self.count as f64 / self.members.len() as f64
    }
}

/// How many tasks are left, for how many members that have room for some.
struct Quota {
    tasks: usize,
    members: usize,
    per_member: usize,
}

impl Quota {
    fn new(tasks: usize, members: usize) -> Self {
        Self { tasks, members, per_member: if members == 0 { 0 } else { tasks.div_ceil(members) } }
    }

    /// A member has this many tasks now: where that is all it gets, the others share the rest.
    fn reached(&mut self, count: usize) {
        if count == self.per_member {
            *self = Self::new(self.tasks.saturating_sub(count), self.members.saturating_sub(1));
        }
    }
}

/// An assignment in the making. Members and processes are named by their places in the lists.
struct Assignment {
    members: Vec<Member>,
    processes: Vec<Process>,
    previous_active: BTreeMap<TaskId, usize>,
    previous_standby: BTreeMap<TaskId, Vec<usize>>,
    active: Quota,
    total: Quota,
}

impl Assignment {
    fn new(
        specs: &BTreeMap<Arc<str>, MemberSpec>,
        subtopologies: &[SubtopologySpec],
        standby_replicas: usize,
    ) -> Self {
        let count = |subtopology: &SubtopologySpec| usize::try_from(subtopology.tasks).unwrap_or(0);
        let active: usize = subtopologies.iter().map(count).sum();
        let stateful = subtopologies.iter().filter(|subtopology| subtopology.is_stateful);
        let copies = stateful.map(count).sum::<usize>() * standby_replicas;
        let ordered = hash_order(specs.iter().collect(), BUCKETS, |(id, _)| hash(id));
        let mut assignment = Self {
            members: Vec::new(),
            processes: Vec::new(),
            previous_active: BTreeMap::new(),
            previous_standby: BTreeMap::new(),
            active: Quota::new(active, specs.len()),
            total: Quota::new(active + copies, specs.len()),
        };
        for process_id in process_ids(&ordered, specs.len()) {
            let (members, tasks) = (Vec::new(), BTreeSet::new());
            assignment.processes.push(Process { id: process_id, members, tasks, count: 0, by_load: None });
        }
        for (id, spec) in ordered {
            assignment.add_member(id, spec);
        }
        for process in &mut assignment.processes {
            let members = std::mem::take(&mut process.members);
            process.members = hash_order(members, BUCKETS, |member| hash(&assignment.members[*member].id));
        }
        assignment
    }

    fn add_member(&mut self, id: &Arc<str>, spec: &MemberSpec) {
        let place = self.members.len();
        let process = self.processes.iter().position(|process| process.id == spec.process_id);
        let process = process.unwrap_or_default();
        self.processes[process].members.push(place);
        self.members.push(Member { id: id.clone(), process, tasks: Tasks::default(), count: 0 });
        self.previous_active.extend(each(&spec.previous.active).map(|task| (task, place)));
        for task in each(&spec.previous.standby) {
            self.previous_standby.entry(task).or_default().push(place);
        }
    }

    /// Gives a task to a member; how many it has then.
    fn give(&mut self, member: usize, task: &TaskId, is_active: bool) -> usize {
        let member = &mut self.members[member];
        let tasks: &mut TaskIds =
            if is_active { &mut member.tasks.active } else { &mut member.tasks.standby };
        tasks.entry(task.0.clone()).or_default().insert(task.1);
        member.count += 1;
        let process = &mut self.processes[member.process];
        process.tasks.insert(task.clone());
        process.count += 1;
        if is_active {
            self.active.reached(member.count);
        }
        self.total.reached(member.count);
        member.count
    }

    /// Gives a task to a member that was chosen.
    fn give_to(&mut self, member: usize, task: &TaskId, is_active: bool) {
        self.give(member, task, is_active);
        self.processes[self.members[member].process].by_load = None;
    }

    /// Gives a task to the member of a process that has the least to do.
    fn give_to_least_loaded(&mut self, process: usize, task: &TaskId, is_active: bool) {
        let least = |a: (usize, usize), b: (usize, usize)| a.1 < b.1;
        if let [member] = self.processes[process].members[..] {
            self.give(member, task, is_active);
            return;
        }
        let mut by_load = self.processes[process].by_load.take().unwrap_or_else(|| {
            let members = self.processes[process].members.iter();
            PriorityQueue::of(members.map(|member| (*member, self.members[*member].count)), least)
        });
        if let Some((member, _)) = by_load.poll(least) {
            let count = self.give(member, task, is_active);
            by_load.add((member, count), least);
        }
        self.processes[process].by_load = Some(by_load);
    }

    fn has_less_to_do(&self, one: usize, other: usize) -> bool {
        self.processes[one].load() < self.processes[other].load()
    }

    fn processes_by_load(&self) -> PriorityQueue<usize> {
        PriorityQueue::of(0..self.processes.len(), |one, other| self.has_less_to_do(one, other))
    }

    fn assign_active(&mut self, mut tasks: Vec<TaskId>) {
        tasks.sort_by(|(id, task), (other_id, other)| (task, id).cmp(&(other, other_id)));
        tasks.retain(|task| {
            let previous = self.previous_active.get(task).copied();
            self.keep_active(previous, task)
        });
        tasks.retain(|task| {
            let previous = self.least_loaded_standby(task, false);
            self.keep_active(previous, task)
        });
        tasks.sort();
        let mut by_load = self.processes_by_load();
        for task in tasks {
            let Some(process) = by_load.poll(|one, other| self.has_less_to_do(one, other)) else { return };
            self.give_to_least_loaded(process, &task, true);
            by_load.add(process, |one, other| self.has_less_to_do(one, other));
        }
    }

    /// Gives a task to who had it or its state, where there is room; whether the task is left.
    fn keep_active(&mut self, member: Option<usize>, task: &TaskId) -> bool {
        let Some(member) = member.filter(|member| self.members[*member].count < self.active.per_member)
        else {
            return true;
        };
        self.give_to(member, task, true);
        false
    }

    /// Who had a copy of a task's state and has the least to do; with `is_new`, nobody where the first one's process has
    /// the task already.
    fn least_loaded_standby(&self, task: &TaskId, is_new: bool) -> Option<usize> {
        let previous = self.previous_standby.get(task)?;
        let process = |member: usize| &self.processes[self.members[member].process];
        let first = *previous.first()?;
        let mut found = (first, process(first).load(), self.members[first].count);
        for &member in &previous[1..] {
            let (load, count) = (process(member).load(), self.members[member].count);
            let is_free = !is_new || !process(member).tasks.contains(task);
            if load < found.1 && is_free && count < found.2 {
                found = (member, load, count);
            }
        }
        (!is_new || !process(first).tasks.contains(task)).then_some(found.0)
    }

    fn assign_standby(&mut self, mut tasks: Vec<TaskId>, replicas: usize) {
        tasks.sort_by(|(id, task), (other_id, other)| (other, other_id).cmp(&(task, id)));
        let mut left: Vec<(TaskId, usize)> = Vec::new();
        for task in tasks {
            let kept = (0..replicas).take_while(|_| self.keep_standby(&task)).count();
            if kept < replicas {
                left.push((task, replicas - kept));
            }
        }
        left.sort_by(|(one, _), (other, _)| other.cmp(one));
        let mut by_load = self.processes_by_load();
        for (task, replicas) in left {
            let given = (0..replicas).take_while(|_| self.add_standby(&mut by_load, &task)).count();
            if given < replicas {
                let missing = replicas - given;
                let (subtopology, task) = task;
                warn!(%subtopology, task, missing, "there are too few processes for all standby replicas");
            }
        }
    }

    /// Gives a copy to who had the task, or a copy of it; whether anybody got it.
    fn keep_standby(&mut self, task: &TaskId) -> bool {
        let has_room = |this: &Self, member: usize| this.members[member].count < this.total.per_member;
        let has_task =
            |this: &Self, member: usize| this.processes[this.members[member].process].tasks.contains(task);
        let active = self.previous_active.get(task).copied();
        let active = active.filter(|member| !has_task(self, *member) && has_room(self, *member));
        let standby = || self.least_loaded_standby(task, true).filter(|member| has_room(self, *member));
        let Some(member) = active.or_else(standby) else { return false };
        self.give_to(member, task, false);
        true
    }

    /// Gives a copy to the process that has the least to do and not the task; whether there is one.
    fn add_standby(&mut self, by_load: &mut PriorityQueue<usize>, task: &TaskId) -> bool {
        let mut polled = Vec::new();
        let mut given = false;
        while !given && let Some(process) = by_load.poll(|one, other| self.has_less_to_do(one, other)) {
            polled.push(process);
            if !self.processes[process].tasks.contains(task) {
                self.give_to_least_loaded(process, task, false);
                given = true;
            }
        }
        for process in polled.into_iter().rev() {
            by_load.add(process, |one, other| self.has_less_to_do(one, other));
        }
        given
    }
}

/// The processes of members that stand in this order.
fn process_ids(members: &[(&Arc<str>, &MemberSpec)], count: usize) -> Vec<Arc<str>> {
    let mut seen = BTreeSet::new();
    let ids = members.iter().map(|(_, spec)| &spec.process_id).filter(|id| seen.insert((*id).clone()));
    hash_order(ids.cloned().collect(), count, |id| hash(id))
}
