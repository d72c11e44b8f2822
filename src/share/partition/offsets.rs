//! Where the group has got to: the start offset, the next one to read, and records that are gone from the log.

use super::{Limits, RecordState, SharePartitionState};
use crate::types::Offset;

impl SharePartitionState {
    /// Where to read next: the first record that may be delivered again, or what follows the last one in flight.
    pub fn next_fetch_offset(&mut self) -> Offset {
        if self.is_drained() {
            self.look_for_available = false;
            return self.end_offset;
        }
        if self.look_for_available {
            if let Some(offset) = self.first_available() {
                return offset;
            }
            self.look_for_available = false;
        }
        self.end_offset + 1
    }

    fn first_available(&self) -> Option<Offset> {
        let mut gap = self.gap_start();
        for (key, batch) in &self.in_flight {
            if let Some(start) = gap {
                if *key > start {
                    return gap;
                }
                gap = Some(start.max(batch.last + 1));
            }
            let mut available = batch.runs().filter(|(.., state)| state.is_available());
            if let Some((first, ..)) = available.next() {
                return Some(first);
            }
        }
        None
    }

    /// Whether reading is worth it: there are records to deliver again, or there is room for more in flight.
    pub fn can_acquire(&mut self, limits: &Limits) -> bool {
        self.next_fetch_offset() <= self.end_offset || self.in_flight_records() < limits.in_flight_max
    }

    /// The log now starts here, behind the start offset: retention, or somebody who deleted records. What is not held is
    /// archived; what is held stays so until its time is over, and can not be acknowledged any more.
    pub fn log_start_moved(&mut self, log_start: Offset) {
        if log_start <= self.start_offset {
            return;
        }
        if self.in_flight.is_empty() {
            self.start_offset = log_start;
            self.end_offset = log_start;
            self.delivery_complete_count = 0;
            return;
        }
        let done = self.count_done_below(log_start);
        if self.archive(self.start_offset, log_start - 1, RecordState::Available, false) {
            self.look_for_available = true;
        }
        self.start_offset = log_start;
        self.delivery_complete_count -= done;
        self.end_offset = self.end_offset.max(log_start);
        self.gap_reached(log_start);
        self.move_start();
    }

    fn count_done_below(&self, offset: Offset) -> i32 {
        let runs = self.in_flight.range(..offset).flat_map(|(_, batch)| batch.runs());
        let done = runs.filter(|(.., state)| state.state.is_terminal());
        done.map(|(first, last, _)| self.count_in_flight(first, last.min(offset - 1)))
            .fold(0, i32::saturating_add)
    }

    /// Archives those of these records that are in a state; `true` if there were any.
    pub(super) fn archive(&mut self, first: Offset, last: Offset, from: RecordState, counts: bool) -> bool {
        let mut archived = 0_i32;
        let begin = self.floor(first).map_or(first, |(key, _)| key);
        for key in self.keys_within(begin, last) {
            let Some(batch) = self.in_flight.get_mut(&key) else { continue };
            if !batch.is_within(first, last)
                && batch.last >= first
                && batch.whole().is_some_and(|it| it.state == from)
            {
                batch.split();
            }
            for (run_first, run_last, state) in batch.runs_mut() {
                if run_first >= first && run_last <= last && state.state == from {
                    state.archive();
                    archived = archived.saturating_add(super::count(run_first, run_last));
                }
            }
        }
        if counts {
            self.delivery_complete_count = self.delivery_complete_count.saturating_add(archived);
        }
        archived > 0
    }

    /// Moves the start offset behind records that are done with, and forgets them; `true` if there were any.
    pub(super) fn move_start(&mut self) -> bool {
        let Some((last_done, records)) = self.last_done() else { return false };
        let Some((_, newest)) = self.in_flight.last_key_value() else { return false };
        if last_done == newest.last {
            self.start_offset = self.start_offset.max(last_done + 1);
            self.end_offset = self.start_offset;
            self.in_flight.clear();
            self.delivery_complete_count = 0;
            return true;
        }
        let next = match self.floor(last_done) {
            // What lies between two batches is not in the log, or a gap that is to be read.
            Some((_, batch)) if batch.last == last_done => {
                let following = self.in_flight.range(last_done + 1..).next().map(|(key, _)| *key);
                let following = following.unwrap_or(last_done + 1);
                self.gap_start().map_or(following, |gap| gap.min(following))
            }
            _ => last_done + 1,
        };
        self.start_offset = self.start_offset.max(next);
        self.delivery_complete_count -= records;
        while let Some(oldest) = self.in_flight.first_entry().filter(|oldest| oldest.get().last <= last_done)
        {
            oldest.remove();
        }
        true
    }

    /// The last of the records that are done with from the first one on, and how many of them are in flight.
    fn last_done(&self) -> Option<(Offset, i32)> {
        let gap = self.gap_start();
        let mut found: Option<(Offset, i32)> = None;
        for batch in self.in_flight.values() {
            if gap.is_some_and(|gap| batch.last >= gap) {
                return found;
            }
            for (first, last, state) in batch.runs() {
                if !state.is_done() {
                    return found;
                }
                let before = found.map_or(0, |(_, records)| records);
                found = Some((last, before.saturating_add(self.count_in_flight(first, last))));
            }
        }
        found
    }
}
