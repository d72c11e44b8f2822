//! What the controller does by itself, as time passes: it fences brokers that are silent, gives leaderships back to
//! preferred replicas, and elects where nobody leads (`PeriodicTaskControlManager` and what registers with it).

use super::heartbeats::Heartbeats;
use super::{Context, Decision, Settings, brokers};
use crate::metadata::image::Image;

/// What the active controller knows and no log says. It begins anew with each controller.
#[derive(Clone, Debug)]
pub struct SoftState {
    /// When brokers were last heard of.
    pub heartbeats: Heartbeats,
}

impl SoftState {
    /// The state of a controller that begins to lead with this image.
    pub fn activate(image: &Image, settings: &Settings, now_ms: i64) -> Self {
        let session_timeout_ms = i64::from(settings.config.broker_session_timeout_ms);
        Self { heartbeats: Heartbeats::activate(image, now_ms, session_timeout_ms) }
    }

    /// The state of the only node while it takes its own place: no earlier life of it is in the way.
    pub fn starting(settings: &Settings) -> Self {
        Self { heartbeats: Heartbeats::new(i64::from(settings.config.broker_session_timeout_ms)) }
    }
}

/// Does one thing that is due. It is to be called when [`next_deadline_ms`] has come, and again while that is not
/// after `now_ms`.
pub fn tick(context: &mut Context<'_>) -> Decision<()> {
    // A controller that did not run for a while, for instance in a process that was suspended, heard of nobody.
    let silent_ms = next_deadline_ms(context.image, context.soft).map_or(0, |due_ms| context.now_ms - due_ms);
    let patience_ms = i64::from(context.settings.config.broker_session_timeout_ms) / 8;
    if silent_ms > patience_ms {
        context.soft.heartbeats.forgive(silent_ms);
        return Decision::reply(());
    }
    match context.soft.heartbeats.stale(context.image, context.now_ms) {
        // One after the other, so that each decision sees what the one before it changed.
        Some(id) => brokers::fence(context, id),
        None => Decision::reply(()),
    }
}

/// When there is something to do, on the steady clock; `None` where nothing will be.
pub fn next_deadline_ms(image: &Image, soft: &SoftState) -> Option<i64> {
    soft.heartbeats.next_stale_ms(image)
}
