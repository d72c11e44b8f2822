//! A state of the search, and what may happen in it.

use std::rc::Rc;

use bytes::Bytes;

use super::settle::Message;
use crate::quorum::core::canonical::NEVER_MS;
use crate::quorum::core::message::{AddVoterRequest, Correlation, Event, Request, RoleName};
use crate::quorum::core::{QuorumCore, Timing};
use crate::sim::quorum::mutants::Mutant;
use crate::sim::quorum::nodes::{Node, Planned, Quorum, Settings};
use crate::sim::random::Random;
use crate::sim::runner::Violation;
use crate::sim::trace::Trace;
use crate::types::{LeaderEpoch, NodeId};

/// How much may happen, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// How many batches are appended besides those of the leaders themselves.
    pub(super) appends: u8,
    /// How often a node loses its power.
    pub(super) crashes: u8,
    /// How often time passes on the clock of a node until something is due there.
    pub(super) ticks: u8,
    /// How often a node no longer waits for an answer.
    pub(super) give_ups: u8,
    /// How often a request arrives twice.
    pub(super) duplicates: u8,
    /// How often a leader is asked to let go of a voter.
    pub(super) removals: u8,
    /// How often a leader is asked to take in a node.
    pub(super) additions: u8,
    /// How often a node makes a snapshot.
    pub(super) snapshots: u8,
    /// How often a disk is lost.
    pub(super) wipes: u8,
}

const BOUNDLESS: Budget = Budget {
    appends: 100,
    crashes: 100,
    ticks: 100,
    give_ups: 100,
    duplicates: 100,
    removals: 100,
    additions: 100,
    snapshots: 100,
    wipes: 100,
};

/// What is searched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) name: &'static str,
    pub(super) nodes: NodeId,
    pub(super) voters: NodeId,
    /// What begins a later epoch than this is not followed.
    pub(super) epochs: LeaderEpoch,
    /// How many messages that nobody waits for any more are on their way at once.
    pub(super) stale: usize,
    /// What has happened before the search begins. Without any the nodes know nothing.
    pub(super) scenes: &'static [&'static [Scene]],
    /// Whether time passes between an append of a leader and its being on the disk.
    pub(super) slow_disks: bool,
    pub(super) budget: Budget,
    /// What is wrong with the nodes, if anything is.
    pub(super) mutant: Option<Mutant>,
}

/// After so many arrivals nodes have nothing more to say.
const ARRIVALS_MAX: usize = 200;

/// Something that may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The message at this place arrives.
    Deliver(usize),
    /// It arrives, and will again.
    Twice(usize),
    Tick(NodeId),
    GiveUp(NodeId, Correlation),
    Flush(NodeId),
    /// Of what is not synced, so many writes survive.
    Crash(NodeId, usize),
    Start(NodeId),
    Append(NodeId),
    Remove(NodeId, NodeId),
    Add(NodeId, NodeId),
    Snapshot(NodeId),
    Wipe(NodeId),
}

/// What happens before a search.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scene {
    Do(Choice),
    /// Everything that is on its way is lost.
    Lose,
    /// What these say to one another arrives, until they have nothing more to say.
    Among(&'static [NodeId]),
    /// The same, until this one leads.
    Elected(NodeId, &'static [NodeId]),
}

/// What is true at a moment.
#[derive(Clone)]
pub(super) struct State {
    pub(super) world: Quorum,
    /// On their way, in an order that does not depend on the path.
    pub(super) messages: Vec<Message>,
    pub(super) left: Budget,
}

/// What a choice led to.
pub(super) struct Step {
    pub(super) state: State,
    /// How many things the node did that acted: it might have crashed before each of them.
    pub(super) done: usize,
}

impl State {
    /// All nodes begin with empty disks.
    pub(super) fn first(scope: &Scope, trace: &mut Trace) -> Result<Self, Violation> {
        let settings = Settings {
            crash_in_step: 0,
            flush_ms_max: 0,
            timeout_ms_min: 1,
            fixed: false,
            has_bootstrap: false,
            // Deadlines only say in which order things are due: a clock goes from one to the next.
            timing: Timing {
                election_timeout_ms: 1,
                fetch_timeout_ms: 2,
                election_backoff_max_ms: 1,
                request_timeout_ms: NEVER_MS,
                retry_backoff_ms: 0,
                fetch_wait_max_ms: NEVER_MS,
                ..Timing::default()
            },
            mutant: scope.mutant,
        };
        let world = Quorum::new(settings, scope.nodes, scope.voters, Random::new(0));
        let mut state = Self { world, messages: Vec::new(), left: BOUNDLESS };
        for id in 1..=scope.nodes {
            state.put_clock(id, 0);
            state.world.start(id, trace)?;
            state.settle(id, scope, trace)?;
        }
        for scene in scope.scenes.iter().copied().flatten() {
            state.play(scope, *scene, trace)?;
        }
        state.left = scope.budget;
        Ok(state)
    }

    /// Goes through a scene to where the search begins.
    fn play(&mut self, scope: &Scope, scene: Scene, trace: &mut Trace) -> Result<(), Violation> {
        match scene {
            Scene::Do(choice) => *self = self.after(scope, choice, None, trace)?.state,
            Scene::Lose => self.messages.clear(),
            Scene::Among(ids) | Scene::Elected(_, ids) => {
                // Each in its turn, as two nodes may ask one another without end.
                for turn in 0..ARRIVALS_MAX {
                    let is_elected = |id| self.world.nodes.get(&id).is_some_and(Node::is_leader);
                    if matches!(scene, Scene::Elected(id, _) if is_elected(id)) {
                        return Ok(());
                    }
                    let reach = |message: &Message| message.ends().iter().all(|id| ids.contains(id));
                    let places: Vec<usize> =
                        (0..self.messages.len()).filter(|place| reach(&self.messages[*place])).collect();
                    let Some(place) = places.get(turn % places.len().max(1)) else { return Ok(()) };
                    *self = self.after(scope, Choice::Deliver(*place), None, trace)?.state;
                }
                return Err(format!("EventuallyLeaderElected: {ids:?} do not come to rest"));
            }
        }
        Ok(())
    }

    /// Puts the clock of a node at a moment after the last event.
    fn put_clock(&mut self, id: NodeId, at_ms: i64) {
        let now_ms = self.world.now_ms();
        if let Some(node) = self.world.nodes.get_mut(&id) {
            node.skew_ms = at_ms - now_ms;
        }
    }

    fn due_ms(&self, id: NodeId) -> Option<i64> {
        let core = self.world.nodes.get(&id)?.core.as_ref()?;
        core.deadline().filter(|due_ms| *due_ms < NEVER_MS)
    }

    /// Everything that may happen next.
    pub(super) fn choices(&self, scope: &Scope) -> Vec<Choice> {
        let (mut choices, left) = (Vec::new(), self.left);
        for (place, message) in self.messages.iter().enumerate() {
            if place.checked_sub(1).is_some_and(|before| self.messages[before].same_as(message)) {
                continue;
            }
            choices.push(Choice::Deliver(place));
            if left.duplicates > 0 && scope.may_duplicate(message) {
                choices.push(Choice::Twice(place));
            }
        }
        for node in self.world.nodes.values() {
            let id = node.id;
            if node.core.is_none() {
                choices.push(Choice::Start(id));
                if left.wipes > 0 {
                    choices.push(Choice::Wipe(id));
                }
                continue;
            }
            if left.ticks > 0 && self.due_ms(id).is_some() {
                choices.push(Choice::Tick(id));
            }
            if left.give_ups > 0 {
                choices.extend(node.outstanding.keys().map(|correlation| Choice::GiveUp(id, *correlation)));
            }
            if node.flush_planned {
                choices.push(Choice::Flush(id));
            }
            if left.crashes > 0 {
                choices.push(Choice::Crash(id, 0));
                if node.disk.unsynced() > 0 {
                    choices.push(Choice::Crash(id, usize::MAX));
                }
            }
            if left.snapshots > 0 {
                choices.push(Choice::Snapshot(id));
            }
            if node.leadership.role != RoleName::Leader {
                continue;
            }
            if left.appends > 0 {
                choices.push(Choice::Append(id));
            }
            for other in self.world.nodes.keys() {
                if left.removals > 0 {
                    choices.push(Choice::Remove(id, *other));
                }
                if left.additions > 0 {
                    choices.push(Choice::Add(id, *other));
                }
            }
        }
        choices
    }

    /// The state after something happened. The node that acts crashes before it has done so many things, if told so.
    pub(super) fn after(
        &self,
        scope: &Scope,
        choice: Choice,
        crash_at: Option<usize>,
        trace: &mut Trace,
    ) -> Result<Step, Violation> {
        let mut next = self.clone();
        next.world.crash_at = crash_at;
        next.world.survives = Some(0);
        next.world.done = 0;
        if crash_at.is_some() {
            next.left.crashes -= 1;
        }
        let actor = self.actor(choice);
        next.choose(choice, trace)?;
        let done = next.world.done;
        next.world.crash_at = None;
        next.settle(actor, scope, trace)?;
        Ok(Step { state: next, done })
    }

    /// The node in which it happens.
    fn actor(&self, choice: Choice) -> NodeId {
        match choice {
            Choice::Deliver(place) | Choice::Twice(place) => self.messages[place].planned.node(),
            Choice::Tick(id)
            | Choice::GiveUp(id, _)
            | Choice::Flush(id)
            | Choice::Crash(id, _)
            | Choice::Start(id)
            | Choice::Append(id)
            | Choice::Remove(id, _)
            | Choice::Add(id, _)
            | Choice::Snapshot(id)
            | Choice::Wipe(id) => id,
        }
    }

    fn choose(&mut self, choice: Choice, trace: &mut Trace) -> Result<(), Violation> {
        trace.note(0, format_args!("{choice:?}"));
        let (left, now_ms) = (&mut self.left, self.world.now_ms());
        match choice {
            Choice::Deliver(place) => {
                let message = self.messages.remove(place);
                self.world.timeline.at(now_ms, Rc::unwrap_or_clone(message.planned));
                self.world.step(trace)
            }
            Choice::Twice(place) => {
                left.duplicates -= 1;
                self.world.timeline.at(now_ms, Planned::clone(&self.messages[place].planned));
                self.world.step(trace)
            }
            Choice::Tick(id) => {
                left.ticks -= 1;
                let due_ms = self.due_ms(id).unwrap_or(0);
                self.put_clock(id, due_ms);
                self.world.event(id, Event::Tick, trace)
            }
            Choice::GiveUp(node, correlation) => {
                left.give_ups -= 1;
                let life = self.world.nodes.get(&node).map_or(0, |node| node.life);
                self.world.timeline.at(now_ms, Planned::GivesUp { node, life, correlation });
                self.world.step(trace)
            }
            Choice::Flush(node) => {
                let life = self.world.nodes.get(&node).map_or(0, |node| node.life);
                self.world.timeline.at(now_ms, Planned::Flush { node, life });
                self.world.step(trace)
            }
            Choice::Crash(id, kept) => {
                left.crashes -= 1;
                self.world.survives = Some(kept);
                self.world.crash(id, trace);
                Ok(())
            }
            Choice::Start(id) => self.world.start(id, trace),
            Choice::Append(id) => {
                left.appends -= 1;
                let epoch = self.world.nodes.get(&id).map_or(0, |node| node.leadership.epoch);
                self.world.append(id, epoch, vec![Bytes::from_static(b"v")], trace).map(drop)
            }
            Choice::Remove(id, other) => {
                left.removals -= 1;
                let Some(key) = self.world.nodes.get(&other).map(|node| node.key()) else { return Ok(()) };
                self.world.ask(id, Request::RemoveVoter(key), trace).map(drop)
            }
            Choice::Add(id, other) => {
                left.additions -= 1;
                let Some(voter) = self.world.nodes.get(&other).map(|node| node.voter()) else {
                    return Ok(());
                };
                let request = AddVoterRequest { voter, ack_when_committed: true };
                self.world.ask(id, Request::AddVoter(request), trace).map(drop)
            }
            Choice::Snapshot(id) => {
                left.snapshots -= 1;
                self.world.save_snapshot(id, trace).map(drop)
            }
            Choice::Wipe(id) => {
                left.wipes -= 1;
                self.world.wipe(id, trace);
                Ok(())
            }
        }
    }

    /// The newest epoch that anybody knows.
    pub(super) fn epoch(&self) -> LeaderEpoch {
        let cores = self.world.nodes.values().filter_map(|node| node.core.as_ref());
        cores.map(QuorumCore::epoch).max().unwrap_or(0)
    }
}
