//! Those who wait until an offset is reached: by the high watermark, by the low watermark.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::error::ErrorCode;
use crate::types::Offset;

/// How many wait before it is looked whether some have given up.
const CROWD: usize = 64;

/// Those who wait, by the offset that they wait for.
#[derive(Debug)]
pub(super) struct Waiters {
    by_offset: BTreeMap<(Offset, u64), oneshot::Sender<Result<(), ErrorCode>>>,
    next_number: u64,
    crowd: usize,
}

impl Default for Waiters {
    fn default() -> Self {
        Self { by_offset: BTreeMap::new(), next_number: 0, crowd: CROWD }
    }
}

impl Waiters {
    /// Waits for an offset. Dropping the receiver ends it.
    pub(super) fn add(&mut self, offset: Offset) -> oneshot::Receiver<Result<(), ErrorCode>> {
        if self.by_offset.len() >= self.crowd {
            self.by_offset.retain(|_, waiter| !waiter.is_closed());
            self.crowd = CROWD.max(2 * self.by_offset.len());
        }
        let (sender, receiver) = oneshot::channel();
        self.by_offset.insert((offset, self.next_number), sender);
        self.next_number += 1;
        receiver
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }

    /// Tells those who wait for this offset or one before it.
    pub(super) fn reached(&mut self, offset: Offset, result: Result<(), ErrorCode>) {
        while let Some(first) = self.by_offset.first_entry() {
            if first.key().0 > offset {
                return;
            }
            // Whoever gave up waiting does not hear of it.
            let _ = first.remove().send(result);
        }
    }

    /// Tells everybody that it will not be reached.
    pub(super) fn fail(&mut self, code: ErrorCode) {
        self.reached(Offset::MAX, Err(code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_its_offset_is_reached() {
        let mut waiters = Waiters::default();
        let (mut five, mut five_too, mut nine) = (waiters.add(5), waiters.add(5), waiters.add(9));
        waiters.reached(4, Ok(()));
        assert!(five.try_recv().is_err());
        waiters.reached(6, Ok(()));
        assert_eq!((five.try_recv(), five_too.try_recv()), (Ok(Ok(())), Ok(Ok(()))));
        assert!(nine.try_recv().is_err() && !waiters.is_empty());
        waiters.fail(ErrorCode::NotLeaderOrFollower);
        assert_eq!(nine.try_recv(), Ok(Err(ErrorCode::NotLeaderOrFollower)));
        assert!(waiters.is_empty());
    }

    #[test]
    fn those_who_gave_up_do_not_add_up() {
        let mut waiters = Waiters::default();
        let stays = waiters.add(7);
        for _ in 0..1_000 {
            drop(waiters.add(7));
        }
        assert!(waiters.by_offset.len() <= CROWD + 1);
        drop(stays);
    }
}
