//! Where the replicas of new partitions go.
//!
//! Kafka's striping (`StripedReplicaPlacer`): the racks are visited in turn, in each rack the brokers in turn, so that
//! leaders and replicas spread evenly and the replicas of one partition lie on different racks as long as there are
//! enough. The first replica, which will lead, is on a broker that is not fenced.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng as _, RngCore, seq::SliceRandom as _};

use crate::metadata::image::Image;
use crate::types::NodeId;

/// Places `partitions` partitions of `replicas` replicas each.
///
/// # Errors
/// A sentence that says why the cluster can not have such partitions.
pub fn place(
    image: &Image,
    partitions: usize,
    replicas: usize,
    random: &mut dyn RngCore,
) -> Result<Vec<Vec<NodeId>>, String> {
    let mut racks = Racks::new(image, random);
    if replicas == 0 {
        return Err("the replication factor must be positive.".to_owned());
    }
    if racks.unfenced == 0 {
        return Err("all brokers are fenced, or all of their directories are cordoned.".to_owned());
    }
    if replicas > racks.total {
        return Err(format!(
            "the replication factor {replicas} can not be reached with {} usable broker(s).",
            racks.total
        ));
    }
    Ok((0..partitions).map(|_| racks.place(replicas, random)).collect())
}

/// Brokers that are visited in turn. With every round the turn begins one further.
#[derive(Default)]
struct Turn {
    brokers: Vec<NodeId>,
    index: usize,
    offset: usize,
    round: usize,
}

impl Turn {
    fn start(&mut self, random: &mut dyn RngCore) {
        if !self.brokers.is_empty() {
            self.offset = random.random_range(0..self.brokers.len());
        }
    }

    fn next(&mut self, round: usize) -> Option<NodeId> {
        let count = self.brokers.len();
        if count == 0 {
            return None;
        }
        if self.round != round {
            self.round = round;
            self.index = 0;
            self.offset = (self.offset + 1) % count;
        }
        if self.index >= count {
            return None;
        }
        let broker = self.brokers[(self.index + self.offset) % count];
        self.index += 1;
        Some(broker)
    }
}

#[derive(Default)]
struct Rack {
    unfenced: Turn,
    fenced: Turn,
}

struct Racks {
    racks: Vec<Rack>,
    total: usize,
    unfenced: usize,
    round: usize,
    offset: usize,
}

impl Racks {
    fn new(image: &Image, random: &mut dyn RngCore) -> Self {
        let mut racks: BTreeMap<Option<Arc<str>>, Rack> = BTreeMap::new();
        let (mut total, mut unfenced) = (0, 0);
        for broker in image.brokers.values() {
            if broker.in_controlled_shutdown || !broker.takes_replicas() {
                continue;
            }
            let rack = racks.entry(broker.rack.clone()).or_default();
            total += 1;
            if broker.fenced {
                rack.fenced.brokers.push(broker.id);
            } else {
                unfenced += 1;
                rack.unfenced.brokers.push(broker.id);
            }
        }
        let mut racks: Vec<Rack> = racks.into_values().collect();
        for rack in &mut racks {
            rack.unfenced.start(random);
            rack.fenced.start(random);
        }
        let offset = if racks.is_empty() { 0 } else { random.random_range(0..racks.len()) };
        Self { racks, total, unfenced, round: 0, offset }
    }

    /// The replicas of the next partition. There are enough brokers, and one of them is not fenced.
    fn place(&mut self, replicas: usize, random: &mut dyn RngCore) -> Vec<NodeId> {
        // After as many rounds as there are leaders every one of them had its turn: mix, so that the same sets of
        // replicas do not come again.
        if self.round == self.unfenced && self.unfenced > 1 {
            self.shuffle(random);
            self.round = 0;
        }
        let count = self.racks.len();
        let first = (0..count).map(|step| (self.offset + step) % count);
        let leader = first.clone().find_map(|at| Some((at, self.racks[at].unfenced.next(self.round)?)));
        let (mut chosen, mut skip) = (Vec::with_capacity(replicas), None);
        if let Some((at, broker)) = leader {
            chosen.push(broker);
            skip = Some(at);
        }
        let mut at = self.offset;
        while chosen.len() < replicas {
            if skip == Some(at) {
                // The leader's rack had its turn.
                skip = None;
            } else {
                let rack = &mut self.racks[at];
                chosen.extend(rack.unfenced.next(self.round).or_else(|| rack.fenced.next(self.round)));
            }
            at = (at + 1) % count;
        }
        self.round += 1;
        self.offset = (self.offset + 1) % count;
        chosen
    }

    fn shuffle(&mut self, random: &mut dyn RngCore) {
        self.racks.shuffle(random);
        for rack in &mut self.racks {
            rack.unfenced.brokers.shuffle(random);
            rack.fenced.brokers.shuffle(random);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use std::collections::{BTreeMap, BTreeSet};

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::metadata::record::{Record, RegisterBrokerRecord};

    fn cluster(brokers: &[(NodeId, Option<&str>, bool)]) -> Image {
        let mut image = Image::empty();
        for &(broker_id, rack, fenced) in brokers {
            let rack = rack.map(str::to_owned);
            let record = RegisterBrokerRecord { broker_id, rack, fenced, ..RegisterBrokerRecord::default() };
            image.apply(&Record::from(record)).unwrap();
        }
        image
    }

    #[test]
    fn one_broker_gets_everything() {
        let image = cluster(&[(1, None, false)]);
        let placed = place(&image, 3, 1, &mut StdRng::seed_from_u64(1)).unwrap();
        assert_eq!(placed, vec![vec![1]; 3]);
    }

    #[test]
    fn replicas_differ_spread_over_racks_and_lead_evenly() {
        let racks = [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")];
        let rack_of: BTreeMap<NodeId, &str> = racks.into_iter().collect();
        let image = cluster(&racks.map(|(id, rack)| (id, Some(rack), false)));
        for seed in 0..20 {
            let placed = place(&image, 60, 3, &mut StdRng::seed_from_u64(seed)).unwrap();
            let mut leads: BTreeMap<NodeId, usize> = BTreeMap::new();
            for replicas in &placed {
                let racks: BTreeSet<_> = replicas.iter().map(|id| rack_of[id]).collect();
                assert_eq!(racks.len(), 3, "{replicas:?}");
                *leads.entry(replicas[0]).or_default() += 1;
            }
            assert!(leads.values().all(|count| (5..=15).contains(count)), "{leads:?}");
        }
    }

    #[test]
    fn a_fenced_broker_may_follow_and_never_leads() {
        let image = cluster(&[(1, None, false), (2, None, true), (3, None, false)]);
        for replicas in place(&image, 20, 3, &mut StdRng::seed_from_u64(7)).unwrap() {
            assert_ne!(replicas[0], 2);
            assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 3);
        }
    }

    #[test]
    fn what_can_not_be_placed_is_refused() {
        let mut random = StdRng::seed_from_u64(1);
        assert!(place(&cluster(&[(1, None, false)]), 1, 2, &mut random).unwrap_err().contains("1 usable"));
        assert!(place(&cluster(&[(1, None, true)]), 1, 1, &mut random).unwrap_err().contains("fenced"));
        assert!(place(&cluster(&[(1, None, false)]), 1, 0, &mut random).unwrap_err().contains("positive"));
    }
}
