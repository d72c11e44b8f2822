//! The search itself.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use super::state::{Choice, Scope, State};
use crate::sim::runner::Violation;
use crate::sim::trace::Trace;
use crate::types::Offset;

/// What a search saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) states: usize,
    pub(super) steps: u64,
    /// How many steps the longest way has that it went.
    depth: usize,
    /// Steps that the scope does not follow.
    beyond: u64,
    /// How much was committed at most, and in how many epochs.
    committed: Offset,
    epochs: u64,
    /// What happened that must not, and how.
    pub(super) violation: Option<Violation>,
    /// Whether there are no more states.
    pub(super) is_complete: bool,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, beyond, committed, epochs, is_complete, .. } = self;
        let all = if *is_complete { "all" } else { "the first" };
        write!(f, "{all} {states} states, {steps} steps, depth {depth}, {beyond} beyond the scope")?;
        write!(f, ", {committed} committed, {epochs} epochs")
    }
}

/// Where the search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// With the states that need the fewest steps, so that what is found is short.
    Short,
    /// With the newest state, so that few of them have to be kept.
    Deep,
}

/// Goes through all states that the scope has, or until there are this many.
pub(super) fn explore(scope: &Scope, order: Order, states_max: usize) -> Seen {
    let first = match State::first(scope, &mut Trace::off()) {
        Ok(first) => first,
        Err(violation) => return Seen { violation: Some(violation), ..Seen::default() },
    };
    let known = HashSet::from([first.digest()]);
    let mut search = Search { scope, known, ways: Vec::new(), queue: VecDeque::new(), seen: Seen::default() };
    search.ways.push(Way { from: 0, taken: None });
    search.queue.push_back(Open { state: first, way: 0, depth: 0 });
    let ended = loop {
        let next = match order {
            Order::Short => search.queue.pop_front(),
            Order::Deep => search.queue.pop_back(),
        };
        let Some(open) = next else { break Ok(true) };
        if let Err(violation) = search.expand(&open) {
            break Err(format!("{violation}\n{}", story(scope, &search.ways)));
        }
        if search.known.len() >= states_max {
            break Ok(false);
        }
    };
    let states = search.known.len();
    match ended {
        Ok(is_complete) => Seen { states, is_complete, ..search.seen },
        Err(violation) => Seen { states, violation: Some(violation), ..search.seen },
    }
}

/// A state from which nothing was tried yet.
struct Open {
    state: State,
    way: usize,
    depth: usize,
}

struct Search<'a> {
    scope: &'a Scope,
    known: HashSet<u64>,
    ways: Vec<Way>,
    queue: VecDeque<Open>,
    seen: Seen,
}

impl Search<'_> {
    /// Tries everything that may happen next, also with a crash in the middle of it.
    fn expand(&mut self, open: &Open) -> Result<(), Violation> {
        for choice in open.state.choices(self.scope) {
            let done = self.try_one(open, choice, None)?;
            let crashes = if open.state.left.crashes > 0 { done } else { 0 };
            for crash_at in 1..crashes {
                self.try_one(open, choice, Some(crash_at))?;
            }
        }
        Ok(())
    }

    /// Gives how many things the node did that acted.
    fn try_one(&mut self, open: &Open, choice: Choice, crash_at: Option<usize>) -> Result<usize, Violation> {
        let seen = &mut self.seen;
        seen.steps += 1;
        let way = Way { from: open.way, taken: Some((choice, crash_at)) };
        let step = match open.state.after(self.scope, choice, crash_at, &mut Trace::off()) {
            Ok(step) => step,
            Err(violation) => {
                self.ways.push(way);
                return Err(violation);
            }
        };
        if step.state.epoch() > self.scope.epochs {
            seen.beyond += 1;
        } else if self.known.insert(step.state.digest()) {
            let depth = open.depth + 1;
            seen.depth = seen.depth.max(depth);
            seen.committed = seen.committed.max(step.state.world.history.committed());
            seen.epochs = seen.epochs.max(step.state.world.history.epochs());
            self.ways.push(way);
            self.queue.push_back(Open { state: step.state, way: self.ways.len() - 1, depth });
        }
        Ok(step.done)
    }
}

/// How a state was reached first.
struct Way {
    from: usize,
    taken: Option<(Choice, Option<usize>)>,
}

/// What happened on the way to the last state.
fn story(scope: &Scope, ways: &[Way]) -> String {
    let mut path = Vec::new();
    let mut way = ways.last();
    while let Some(Way { from, taken: Some(taken) }) = way {
        path.push(*taken);
        way = ways.get(*from);
    }
    let mut trace = Trace::on(usize::MAX);
    let Ok(mut state) = State::first(scope, &mut trace) else { return trace.lines() };
    for (choice, crash_at) in path.into_iter().rev() {
        match state.after(scope, choice, crash_at, &mut trace) {
            Ok(step) => state = step.state,
            Err(_) => break,
        }
    }
    trace.lines()
}
