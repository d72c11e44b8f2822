//! Time, always passed in: the system's, or a virtual one that stands until it is moved.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::types::TimestampMs;

/// Tells the time and waits for it. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Virtual(Arc<watch::Sender<TimestampMs>>),
}

impl Clock {
    /// The time of the operating system.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `now_ms` until [`Clock::advance`] moves it.
    pub fn virtual_at(now_ms: TimestampMs) -> Self {
        Self(Source::Virtual(Arc::new(watch::Sender::new(now_ms))))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> TimestampMs {
        match &self.0 {
            Source::System => {
                let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                TimestampMs::try_from(elapsed.as_millis()).unwrap_or(TimestampMs::MAX)
            }
            Source::Virtual(now) => *now.borrow(),
        }
    }

    /// Moves a virtual clock forward and wakes whoever waited for that time.
    ///
    /// # Panics
    /// On the system clock, which nobody can move.
    pub fn advance(&self, by_ms: i64) {
        match &self.0 {
            Source::System => panic!("the system clock can not be moved"),
            Source::Virtual(now) => now.send_modify(|now| *now += by_ms),
        }
    }

    /// Waits until the clock shows `deadline_ms` or later. Safe to cancel.
    pub async fn sleep_until(&self, deadline_ms: TimestampMs) {
        match &self.0 {
            Source::System => {
                // The wall clock may be set back while we wait, so look again after each sleep.
                loop {
                    let left_ms = deadline_ms.saturating_sub(self.now_ms());
                    let Ok(left_ms @ 1..) = u64::try_from(left_ms) else { return };
                    tokio::time::sleep(Duration::from_millis(left_ms)).await;
                }
            }
            Source::Virtual(now) => {
                // The sender lives in `self`, so the wait can only end by time.
                let _ = now.subscribe().wait_for(|now| *now >= deadline_ms).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn virtual_time_stands_until_it_is_moved() {
        let clock = Clock::virtual_at(1_000);
        let other = clock.clone();
        let sleeper = tokio::spawn(async move { other.sleep_until(1_500).await });
        clock.advance(499);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(1);
        sleeper.await.expect("the sleeper ends");
        assert_eq!(clock.now_ms(), 1_500);
    }
}
