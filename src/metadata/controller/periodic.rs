//! What the controller does by itself, as time passes: it fences brokers that are silent, gives leaderships back to
//! preferred replicas, and elects where nobody leads (`PeriodicTaskControlManager` and what registers with it).

use super::heartbeats::Heartbeats;
use super::{Context, Decision, Settings, brokers, elections};
use crate::config::BrokerConfig;
use crate::metadata::image::Image;

/// What the active controller knows and no log says. It begins anew with each controller.
#[derive(Clone, Debug)]
pub struct SoftState {
    /// When brokers were last heard of.
    pub heartbeats: Heartbeats,
    /// When leaderships are given back to preferred replicas the next time; `None` where that is not wanted.
    balance_due_ms: Option<i64>,
    /// When leaders are elected uncleanly the next time, where that is allowed.
    unclean_due_ms: i64,
    /// A configuration changed that may allow such an election, which then does not wait for its time.
    unclean_allowed: bool,
}

impl SoftState {
    /// The state of a controller that begins to lead with this image.
    pub fn activate(image: &Image, settings: &Settings, now_ms: i64) -> Self {
        let config = &settings.config;
        Self {
            heartbeats: Heartbeats::activate(image, now_ms, config.broker_session_timeout_ms.into()),
            balance_due_ms: config
                .auto_leader_rebalance_enable
                .then_some(now_ms + balance_interval_ms(config)),
            unclean_due_ms: now_ms + config.unclean_leader_election_interval_ms,
            unclean_allowed: false,
        }
    }

    /// Unclean elections may be allowed now that were not before. Kafka's controller finds that out only when it looks
    /// the next time.
    pub(super) fn elect_soon(&mut self) {
        self.unclean_allowed = true;
    }
}

fn balance_interval_ms(config: &BrokerConfig) -> i64 {
    config.leader_imbalance_check_interval_seconds.saturating_mul(1_000)
}

/// Does one thing that is due. It is to be called when [`next_deadline_ms`] has come, and again while that is not
/// after `now_ms`.
pub fn tick(context: &mut Context<'_>) -> Decision<()> {
    let Context { image, settings, now_ms, .. } = *context;
    // A controller that did not run for a while, for instance in a process that was suspended, could hear of nobody.
    let late_ms = context.soft.heartbeats.next_stale_ms(image).map_or(0, |due_ms| now_ms - due_ms);
    if late_ms > i64::from(settings.config.broker_session_timeout_ms) / 8 {
        context.soft.heartbeats.forgive(now_ms);
    }
    // One after the other, so that each decision sees what the one before it changed.
    if let Some(id) = context.soft.heartbeats.stale(image, now_ms) {
        return brokers::fence(context, id);
    }
    let is_due = |due_ms: i64| due_ms <= now_ms && image.brokers.len() > 1;
    if context.soft.balance_due_ms.is_some_and(is_due) {
        let (records, more) = elections::balance(context);
        let wait_ms = if more { 0 } else { balance_interval_ms(&settings.config) };
        context.soft.balance_due_ms = Some(now_ms + wait_ms);
        return Decision { records, reply: () };
    }
    if context.soft.unclean_allowed || is_due(context.soft.unclean_due_ms) {
        let (records, more) = elections::elect_uncleanly(context);
        let wait_ms = if more { 0 } else { settings.config.unclean_leader_election_interval_ms };
        context.soft.unclean_due_ms = now_ms + wait_ms;
        context.soft.unclean_allowed = more;
        return Decision { records, reply: () };
    }
    Decision::reply(())
}

/// When there is something to do, on the steady clock; `None` where nothing will be.
pub fn next_deadline_ms(image: &Image, soft: &SoftState) -> Option<i64> {
    if soft.unclean_allowed {
        return Some(i64::MIN);
    }
    let stale = soft.heartbeats.next_stale_ms(image);
    // A single broker leads everything that it can lead.
    let elections = (image.brokers.len() > 1)
        .then(|| soft.balance_due_ms.map_or(soft.unclean_due_ms, |due_ms| due_ms.min(soft.unclean_due_ms)));
    [stale, elections].into_iter().flatten().min()
}
