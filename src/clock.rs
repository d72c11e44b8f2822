//! Time, always passed in: the system's, or a virtual one that stands until it is moved.
//!
//! There are two readings. The wall clock dates records; it may jump, when somebody sets it or a laptop wakes up. The
//! steady clock measures how long something takes; deadlines are in it, so that no jump ends every session at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::types::TimestampMs;

/// Tells the time and waits for it. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The steady clock counts from here.
    System(Instant),
    Virtual(Arc<Virtual>),
}

#[derive(Debug)]
struct Virtual {
    steady: watch::Sender<i64>,
    /// What the wall clock shows more than the steady one.
    ahead_ms: AtomicI64,
}

impl Clock {
    /// The time of the operating system.
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that shows `now_ms` until [`Clock::advance`] moves it.
    pub fn virtual_at(now_ms: TimestampMs) -> Self {
        Self(Source::Virtual(Arc::new(Virtual {
            steady: watch::Sender::new(now_ms),
            ahead_ms: AtomicI64::new(0),
        })))
    }

    /// The wall clock: milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> TimestampMs {
        match &self.0 {
            Source::System(_) => {
                milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
            }
            Source::Virtual(now) => *now.steady.borrow() + now.ahead_ms.load(Ordering::Relaxed),
        }
    }

    /// The steady clock: milliseconds since some moment, never set back and never set forward.
    pub fn steady_ms(&self) -> i64 {
        match &self.0 {
            Source::System(start) => milliseconds(start.elapsed()),
            Source::Virtual(now) => *now.steady.borrow(),
        }
    }

    /// Moves a virtual clock forward and wakes whoever waited for that time.
    ///
    /// # Panics
    /// On the system clock, which nobody can move.
    pub fn advance(&self, by_ms: i64) {
        match &self.0 {
            Source::System(_) => panic!("the system clock can not be moved"),
            Source::Virtual(now) => now.steady.send_modify(|now| *now += by_ms),
        }
    }

    /// Sets the wall clock of a virtual clock forward or back, as an administrator does: no time passes.
    ///
    /// # Panics
    /// On the system clock.
    pub fn set_wall(&self, by_ms: i64) {
        match &self.0 {
            Source::System(_) => panic!("the system clock can not be set"),
            Source::Virtual(now) => {
                now.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
            }
        }
    }

    /// Waits until the steady clock shows `deadline_ms`. Safe to cancel.
    pub async fn sleep_until(&self, deadline_ms: i64) {
        match &self.0 {
            Source::System(_) => {
                let left_ms = deadline_ms.saturating_sub(self.steady_ms());
                if let Ok(left_ms @ 1..) = u64::try_from(left_ms) {
                    tokio::time::sleep(Duration::from_millis(left_ms)).await;
                }
            }
            Source::Virtual(now) => {
                // The sender lives in `self`, so the wait can only end by time.
                let _ = now.steady.subscribe().wait_for(|now| *now >= deadline_ms).await;
            }
        }
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
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
        clock.set_wall(-700);
        assert_eq!((clock.now_ms(), clock.steady_ms()), (800, 1_500));
    }
}
