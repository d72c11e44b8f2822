//! How fast replicas that are being moved may be copied (KIP-73, `ReplicationQuotaManager`): what the leader sends to,
//! and the follower fetches for, the replicas that the topic's configuration names. A replica in sync is never held
//! back, so that a throttle does not make it fall out.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::types::NodeId;

/// How the rate is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// `replication.quota.window.num`.
    pub count: usize,
    /// `replication.quota.window.size.seconds`, in milliseconds.
    pub length_ms: i64,
}

/// One direction of throttled replication.
#[derive(Debug)]
pub struct ReplicationQuota {
    windows: Windows,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes per second; `None` for as many as there are.
    rate: Option<i64>,
    /// When each window began, and the bytes in it.
    samples: VecDeque<(i64, u64)>,
}

impl ReplicationQuota {
    /// Without a limit.
    pub fn new(windows: Windows) -> Self {
        Self { windows, state: Mutex::default() }
    }

    /// Limits it to this many bytes per second.
    pub fn set_rate(&self, rate: Option<i64>) {
        self.state.lock().rate = rate;
    }

    /// Whether there is a limit at all.
    pub fn is_limited(&self) -> bool {
        self.state.lock().rate.is_some()
    }

    /// Takes note of throttled bytes.
    pub fn record(&self, bytes: u64, now_ms: i64) {
        let mut state = self.state.lock();
        if state.rate.is_none() {
            state.samples.clear();
            return;
        }
        self.drop_old(&mut state, now_ms);
        match state.samples.back_mut() {
            Some((began_ms, counted)) if now_ms - *began_ms < self.windows.length_ms => *counted += bytes,
            _ => state.samples.push_back((now_ms, bytes)),
        }
    }

    /// Whether more was sent than is allowed.
    pub fn is_exceeded(&self, now_ms: i64) -> bool {
        let mut state = self.state.lock();
        let Some(rate) = state.rate else { return false };
        self.drop_old(&mut state, now_ms);
        let Some((began_ms, _)) = state.samples.front() else { return false };
        // A burst counts as if it had taken a whole window (Kafka's `SimpleRate`).
        let elapsed_ms = (now_ms - began_ms).max(self.windows.length_ms);
        let bytes: u64 = state.samples.iter().map(|(_, bytes)| bytes).sum();
        u128::from(bytes) * 1_000 > u128::from(rate.unsigned_abs()) * u128::from(elapsed_ms.unsigned_abs())
    }

    fn drop_old(&self, state: &mut State, now_ms: i64) {
        let kept_ms = i64::try_from(self.windows.count).unwrap_or(1).saturating_mul(self.windows.length_ms);
        while state.samples.front().is_some_and(|(began_ms, _)| now_ms - began_ms >= kept_ms) {
            state.samples.pop_front();
        }
    }
}

/// Whether a list of throttled replicas (`leader.replication.throttled.replicas`) names a partition's replica on a
/// broker: `*`, or `partition:broker`.
pub fn names(throttled: &[String], partition: i32, broker: NodeId) -> bool {
    throttled.iter().any(|item| {
        let number = |text: &str| text.parse::<i32>().ok();
        item == "*"
            || item
                .split_once(':')
                .is_some_and(|(one, two)| (number(one), number(two)) == (Some(partition), Some(broker)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_all_windows() {
        let quota = ReplicationQuota::new(Windows { count: 11, length_ms: 1_000 });
        quota.record(1 << 30, 0);
        assert!(!quota.is_exceeded(0), "nothing is limited");
        quota.set_rate(Some(100));
        assert!(!quota.is_exceeded(0), "what was before does not count");
        quota.record(100, 10);
        assert!(!quota.is_exceeded(10));
        quota.record(1, 20);
        assert!(quota.is_exceeded(20) && quota.is_exceeded(1_010));
        assert!(!quota.is_exceeded(1_030), "101 bytes in 1020 ms");
        quota.record(1_000, 5_010);
        assert!(quota.is_exceeded(11_000));
        assert!(quota.is_exceeded(11_010), "the first window is gone, the thousand bytes are not");
        assert!(!quota.is_exceeded(15_010), "1000 bytes in 10 s");
        quota.set_rate(None);
        assert!(!quota.is_exceeded(5_010));
    }

    #[test]
    fn a_list_names_replicas() {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        assert!(names(&list(&["*"]), 3, 1));
        assert!(names(&list(&["0:1", "3:1"]), 3, 1));
        assert!(!names(&list(&["0:1", "3:2", "1:3"]), 3, 1));
        assert!(!names(&list(&[""]), 3, 1) && !names(&[], 3, 1));
    }
}
