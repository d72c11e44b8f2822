//! The deadlines of a shard.

use std::collections::{BTreeMap, BTreeSet};

use super::TimerChange;
use crate::types::TimestampMs;

/// Deadlines in order; each timer has at most one.
#[derive(Clone, Debug)]
pub struct Timers<T> {
    in_order: BTreeSet<(TimestampMs, T)>,
    deadlines: BTreeMap<T, TimestampMs>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { in_order: BTreeSet::new(), deadlines: BTreeMap::new() }
    }
}

impl<T: Clone + Ord> Timers<T> {
    /// Sets, moves or takes away a deadline.
    pub fn change(&mut self, change: TimerChange<T>) {
        match change {
            TimerChange::Arm { timer, deadline_ms } => {
                self.cancel(&timer);
                self.deadlines.insert(timer.clone(), deadline_ms);
                self.in_order.insert((deadline_ms, timer));
            }
            TimerChange::Cancel { timer } => self.cancel(&timer),
        }
    }

    fn cancel(&mut self, timer: &T) {
        if let Some((timer, deadline_ms)) = self.deadlines.remove_entry(timer) {
            self.in_order.remove(&(deadline_ms, timer));
        }
    }

    /// When the next one is due.
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        self.in_order.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Takes out the first one whose deadline is not after `now_ms`.
    pub fn pop_due(&mut self, now_ms: TimestampMs) -> Option<T> {
        if self.next_deadline()? > now_ms {
            return None;
        }
        let (_, timer) = self.in_order.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }

    /// All of them, in order.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &(TimestampMs, T)> {
        self.in_order.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_has_its_last_deadline_only() {
        let mut timers = Timers::default();
        timers.change(TimerChange::Arm { timer: "a", deadline_ms: 10 });
        timers.change(TimerChange::Arm { timer: "b", deadline_ms: 20 });
        timers.change(TimerChange::Arm { timer: "a", deadline_ms: 30 });
        timers.change(TimerChange::Arm { timer: "c", deadline_ms: 5 });
        timers.change(TimerChange::Cancel { timer: "c" });
        assert_eq!(timers.next_deadline(), Some(20));
        assert_eq!(timers.pop_due(19), None);
        assert_eq!(timers.pop_due(40), Some("b"));
        assert_eq!(timers.pop_due(40), Some("a"));
        assert_eq!(timers.pop_due(40), None);
        assert_eq!(timers.next_deadline(), None);
    }
}
