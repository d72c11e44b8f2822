//! The network between the nodes.

use std::collections::BTreeSet;

use super::random::Random;
use crate::types::NodeId;

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// Of a million messages, how many are lost.
    pub(super) drop: u32,
    /// Of a million messages, how many come twice.
    pub(super) duplicate: u32,
    /// Of a million messages, how many take up to ten times the longest delay.
    pub(super) straggle: u32,
    /// The longest ordinary delay. Messages overtake one another when it is more than 1.
    pub(super) delay_ms: i64,
}

impl Weather {
    /// A network that works.
    pub(super) const CALM: Self = Self { drop: 0, duplicate: 0, straggle: 0, delay_ms: 3 };
}

/// Who reaches whom, and how well.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    pub(super) weather: Weather,
    /// From whom nothing reaches whom.
    blocked: BTreeSet<(NodeId, NodeId)>,
}

impl Network {
    /// After how long a message arrives: never, once or twice.
    pub(super) fn send(&self, random: &mut Random, from: NodeId, to: NodeId) -> [Option<i64>; 2] {
        let Weather { drop, duplicate, straggle, delay_ms } = self.weather;
        if !self.reaches(from, to) || random.chance(drop) {
            return [None, None];
        }
        let mut delay = || {
            let longest = if random.chance(straggle) { delay_ms * 10 } else { delay_ms };
            random.between(0, longest)
        };
        let first = delay();
        let second = delay();
        [Some(first), random.chance(duplicate).then_some(second)]
    }

    /// Whether a message that is on its way arrives.
    pub(super) fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        self.blocked.is_empty() || !self.blocked.contains(&(from, to))
    }

    /// Everyone reaches everyone again.
    pub(super) fn heal(&mut self) {
        self.blocked.clear();
    }

    /// Cuts the network in one of the ways that happen: one node off, two halves, one direction of one link, everything
    /// that a node says, everything that it hears.
    pub(super) fn cut(&mut self, random: &mut Random, nodes: &[NodeId]) {
        let Some(victim) = random.pick(nodes).copied() else { return };
        let kind = random.below(6);
        let mut side = BTreeSet::from([victim]);
        if kind >= 4 {
            side.extend(nodes.iter().copied().filter(|_| random.chance(500_000)));
        }
        let (mut out, mut back) = (kind != 1, kind != 2);
        if kind == 3 {
            // One link in one direction, or in both.
            let Some(other) = random.pick(nodes).copied() else { return };
            out = true;
            back = random.chance(500_000);
            self.block(victim, other, out, back);
            return;
        }
        if !out && !back {
            (out, back) = (true, true);
        }
        for one in &side {
            for other in nodes.iter().filter(|other| !side.contains(other)) {
                self.block(*one, *other, out, back);
            }
        }
    }

    fn block(&mut self, one: NodeId, other: NodeId, out: bool, back: bool) {
        if out {
            self.blocked.insert((one, other));
        }
        if back {
            self.blocked.insert((other, one));
        }
    }
}
