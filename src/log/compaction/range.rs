//! How dirty a log is, and up to where it may be cleaned (Kafka's `LogCleanerManager` and
//! `LogToClean`).

use crate::log::settings::LogConfig;
use crate::log::state::Segment;
use crate::types::{Offset, TimestampMs};

/// A log as this looks at it.
pub(super) struct LogView<'a> {
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    pub(super) last_stable: Offset,
    /// The segments in order, the active one last.
    pub(super) segments: &'a [Segment],
    /// Where the last cleaning ended.
    pub(super) checkpoint: Option<Offset>,
}

/// What a cleaning of a log would find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Dirtiness {
    /// The first offset whose keys were not looked at yet.
    pub(super) first_dirty: Offset,
    /// Where cleaning ends, which is the start of a segment.
    pub(super) first_uncleanable: Offset,
    pub(super) clean_bytes: u64,
    pub(super) cleanable_bytes: u64,
    /// How long ago `max.compaction.lag.ms` asked for a cleaning; 0 if it did not.
    pub(super) delay_ms: i64,
}

impl Dirtiness {
    pub(super) fn of(log: &LogView<'_>, config: &LogConfig, now_ms: TimestampMs) -> Self {
        let first_dirty = match log.checkpoint {
            Some(offset) if (log.log_start..=log.log_end).contains(&offset) => offset,
            _ => log.log_start,
        };
        let active_base = log.segments.last().map_or(0, |segment| segment.base_offset);
        // What was not cleaned yet, without the active segment.
        let dirty = if first_dirty > active_base { &[] } else { log.between(first_dirty, active_base) };
        let too_young = |segment: &&Segment| {
            segment.largest_timestamp() > now_ms.saturating_sub(config.min_compaction_lag_ms)
        };
        let waits = dirty.iter().find(|segment| config.min_compaction_lag_ms > 0 && too_young(segment));
        let uncleanable = waits
            .map_or(active_base, |segment| segment.base_offset)
            .min(active_base)
            .min(log.last_stable)
            .max(first_dirty);
        let first_uncleanable = log.floor(uncleanable).min(active_base);
        let cleanable = log.between(first_dirty.min(first_uncleanable), first_uncleanable);
        let clean = log.segments.partition_point(|segment| segment.base_offset < first_dirty);
        let bytes = |segments: &[Segment]| segments.iter().map(|segment| segment.size_bytes).sum();

        let started = dirty.iter().map(|segment| segment.first_timestamp).filter(|time| *time > 0).min();
        let clean_until = now_ms.saturating_sub(config.max_compaction_lag_ms.max(0));
        let delay_ms = started.map_or(0, |started| clean_until.saturating_sub(started).max(0));
        Self {
            first_dirty,
            first_uncleanable,
            clean_bytes: bytes(&log.segments[..clean]),
            cleanable_bytes: bytes(cleanable),
            delay_ms,
        }
    }

    /// Which part of the bytes is dirty, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub(super) fn ratio(&self) -> f64 {
        match self.clean_bytes + self.cleanable_bytes {
            0 => 0.0,
            total => self.cleanable_bytes as f64 / total as f64,
        }
    }

    /// Whether the topic asks for a cleaning now.
    pub(super) fn is_due(&self, min_dirty_ratio: f64) -> bool {
        self.cleanable_bytes > 0 && (self.delay_ms > 0 || self.ratio() > min_dirty_ratio)
    }
}

impl LogView<'_> {
    /// The segments that hold offsets from `from` on and start below `to`.
    fn between(&self, from: Offset, to: Offset) -> &[Segment] {
        if from >= to {
            return &[];
        }
        let first = self.segments.partition_point(|segment| segment.base_offset <= from).saturating_sub(1);
        let end = self.segments.partition_point(|segment| segment.base_offset < to);
        self.segments.get(first..end).unwrap_or_default()
    }

    /// The start of the segment that holds an offset.
    fn floor(&self, offset: Offset) -> Offset {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        self.segments.get(after.saturating_sub(1)).map_or(0, |segment| segment.base_offset)
    }
}

/// How many of the next segments become one: as many as would fit into one by their sizes
/// (`Cleaner.groupSegmentsBySize`). `ends` are where they end.
pub(super) fn group_length(segments: &[(Segment, Offset)], segment_bytes: u64) -> usize {
    let Some(((first, _), rest)) = segments.split_first() else { return 0 };
    let mut bytes = first.size_bytes;
    let fits = |(segment, end): &&(Segment, Offset)| {
        let is_near = segment.size_bytes == 0 || end - 1 - first.base_offset <= i64::from(i32::MAX);
        bytes = bytes.saturating_add(segment.size_bytes);
        bytes <= segment_bytes && is_near
    };
    1 + rest.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests;
