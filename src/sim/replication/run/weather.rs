//! Storms, in which everything breaks, and calm weather, in which the cluster has to recover.

use super::super::history::History;
use super::{CALM_MS_MAX, CLIENTS, CONTROLLER, Plan, Run};
use crate::metadata::image::PartitionImage;
use crate::replication::lifecycle::BrokerState;
use crate::sim::network::Weather;
use crate::sim::runner::Violation;
use crate::sim::trace::Trace;
use crate::types::{NodeId, Offset};

impl Run {
    pub(super) fn storm(&mut self, trace: &mut Trace) -> Result<(), Violation> {
        self.storm = true;
        self.network.weather = self.plan.weather;
        let steps = self.counts.steps + 300 + self.random.below(2_000);
        trace.note(self.timeline.now_ms(), format_args!("a storm begins"));
        let mut next_ms = self.timeline.now_ms();
        while self.counts.steps < steps && !self.unclean {
            if self.timeline.next_ms().is_some_and(|at_ms| at_ms <= next_ms) {
                self.step(trace)?;
            } else {
                self.timeline.advance_to(next_ms);
                next_ms += self.random.between(1, self.plan.pause_ms);
                self.disturb(trace);
            }
        }
        self.storm = false;
        Ok(())
    }

    fn disturb(&mut self, trace: &mut Trace) {
        let Plan { kills, power_losses, shutdowns, cuts, freezes, failovers, .. } = self.plan;
        let now_ms = self.timeline.now_ms();
        let mut ids: Vec<NodeId> = self.brokers.keys().copied().collect();
        let Some(id) = self.random.pick(&ids).copied() else { return };
        let mut choice =
            self.random.below(14 + kills + power_losses + shutdowns + cuts + freezes + failovers);
        let mut is = |share: u64| {
            let chosen = choice < share;
            choice = choice.wrapping_sub(share);
            chosen
        };
        if is(5) {
            self.start(id);
        } else if is(2) {
            self.network.heal();
        } else if is(7) {
        } else if is(kills) {
            self.stop(id, false, false, trace);
        } else if is(power_losses) {
            // As many disks as the topic can do without.
            if self.may_lose(id) {
                self.stop(id, true, false, trace);
            }
        } else if is(shutdowns) {
            if let Some(broker) = self.brokers.get_mut(&id).filter(|broker| broker.up) {
                if broker.lifecycle.state() == BrokerState::ShuttingDown {
                    self.stop(id, false, true, trace);
                } else {
                    broker.lifecycle.begin_controlled_shutdown(now_ms);
                    self.plan_broker_tick(id);
                }
            }
        } else if is(cuts) {
            ids.extend([CONTROLLER, CLIENTS]);
            self.network.cut(&mut self.random, &ids);
            trace.note(now_ms, format_args!("{:?}", self.network));
        } else if is(freezes) {
            let frozen_ms = self.random.between(10, 6_000);
            if let Some(broker) = self.brokers.get_mut(&id) {
                broker.frozen_until_ms = now_ms + frozen_ms;
            }
            trace.note(now_ms, format_args!("b{id} freezes for {frozen_ms} ms"));
        } else {
            trace.note(now_ms, format_args!("the controller fails"));
            self.fail_over();
        }
    }

    /// Whether the topic promises to survive that this disk loses its end: all others still have what they should.
    fn may_lose(&self, id: NodeId) -> bool {
        let image = self.controller.head();
        let whole = |partition: &PartitionImage| partition.isr.len() + partition.elr.len() >= 2;
        let all_whole = image
            .topics
            .get("t")
            .is_some_and(|topic| topic.partitions().all(|(_, partition)| whole(partition)));
        all_whole && self.brokers.values().all(|broker| broker.id == id || !broker.lost)
    }

    /// Everything works again: brokers are unfenced, everyone is in sync, and producers are answered.
    pub(super) fn calm(&mut self, trace: &mut Trace) -> Result<(), Violation> {
        let now_ms = self.timeline.now_ms();
        trace.note(now_ms, format_args!("calm weather begins"));
        self.network.heal();
        self.network.weather = Weather::CALM;
        self.controller_down_until_ms = self.controller_down_until_ms.min(now_ms);
        self.plan_commit();
        let ids: Vec<NodeId> = self.brokers.keys().copied().collect();
        for id in ids {
            if let Some(broker) = self.brokers.get_mut(&id) {
                broker.frozen_until_ms = now_ms;
            }
            self.start(id);
        }
        let before: Vec<Offset> = self.histories.iter().map(History::committed).collect();
        while !self.recovered(&before) {
            if self.timeline.now_ms() > now_ms + CALM_MS_MAX {
                return Err(self.stuck(&before));
            }
            self.step(trace)?;
            if self.unclean {
                return Ok(());
            }
            let stopped = self
                .brokers
                .values()
                .find(|broker| broker.up && broker.lifecycle.state() == BrokerState::ShuttingDown);
            if let Some(id) = stopped.map(|broker| broker.id) {
                self.stop(id, false, true, trace);
                self.start(id);
            }
        }
        Ok(())
    }

    fn recovered(&self, before: &[Offset]) -> bool {
        let image = self.controller.committed();
        let whole = |partition: &PartitionImage| {
            partition.leader >= 0 && partition.isr.len() == partition.replicas.len()
        };
        let in_sync = image
            .topics
            .get("t")
            .is_some_and(|topic| topic.partitions().all(|(_, partition)| whole(partition)));
        let running = self
            .brokers
            .values()
            .all(|broker| broker.lifecycle.state() == BrokerState::Running && !broker.lost);
        let moved = self.histories.iter().zip(before).all(|(history, before)| history.committed() > *before);
        in_sync && running && moved
    }

    fn stuck(&self, before: &[Offset]) -> Violation {
        let states: Vec<_> =
            self.brokers.values().map(|broker| (broker.id, broker.lifecycle.state(), broker.lost)).collect();
        let image = self.controller.committed();
        let partitions: Vec<_> = image
            .topics
            .get("t")
            .into_iter()
            .flat_map(|topic| topic.partitions().map(|(_, partition)| partition.clone()).collect::<Vec<_>>())
            .collect();
        let what = if states.iter().any(|(_, state, _)| *state != BrokerState::Running) {
            "EventuallyRuns"
        } else {
            "EventuallyMetadataConverges"
        };
        let committed: Vec<Offset> = self.histories.iter().map(History::committed).collect();
        format!(
            "{what}: after {CALM_MS_MAX} ms of calm weather {before:?} to {committed:?}, {states:?}, {partitions:?}"
        )
    }
}
