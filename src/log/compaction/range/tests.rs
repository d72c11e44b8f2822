//! What is cleaned, when, and up to where.

use super::*;
use crate::config::TopicConfig;

const HOUR_MS: i64 = 3_600_000;
const NOW_MS: i64 = 100 * HOUR_MS;

/// Four segments of ten offsets and a hundred bytes, an hour apart, the last of them active and
/// begun an hour ago.
fn segments() -> Vec<Segment> {
    let segment = |index: i64| {
        let time = NOW_MS - (4 - index) * HOUR_MS;
        let mut segment = Segment::new(index * 10, time);
        segment.add(index * 10, 100, time, time);
        segment
    };
    (0..4).map(segment).collect()
}

fn config(change: impl FnOnce(&mut TopicConfig)) -> LogConfig {
    let mut config = TopicConfig { cleanup_policy: vec!["compact".into()], ..TopicConfig::default() };
    change(&mut config);
    LogConfig::from(&config)
}

struct Log {
    start: Offset,
    last_stable: Offset,
    checkpoint: Option<Offset>,
}

impl Default for Log {
    fn default() -> Self {
        Self { start: 0, last_stable: 40, checkpoint: None }
    }
}

fn dirtiness(log: &Log, config: &LogConfig) -> Dirtiness {
    let segments = segments();
    let view = LogView {
        log_start: log.start,
        log_end: 40,
        last_stable: log.last_stable,
        segments: &segments,
        checkpoint: log.checkpoint,
    };
    Dirtiness::of(&view, config, NOW_MS)
}

/// First dirty offset, first uncleanable one, clean bytes, cleanable bytes.
fn numbers(log: &Log, config: &LogConfig) -> (Offset, Offset, u64, u64) {
    let Dirtiness { first_dirty, first_uncleanable, clean_bytes, cleanable_bytes, .. } =
        dirtiness(log, config);
    (first_dirty, first_uncleanable, clean_bytes, cleanable_bytes)
}

#[test]
fn the_active_segment_is_never_cleaned() {
    let config = config(|_| {});
    let log = |checkpoint| Log { checkpoint, ..Log::default() };
    assert_eq!(numbers(&log(None), &config), (0, 30, 0, 300));
    assert_eq!(numbers(&log(Some(20)), &config), (20, 30, 200, 100));
    assert_eq!(numbers(&log(Some(30)), &config), (30, 30, 300, 0));
    assert_eq!(numbers(&log(Some(35)), &config), (35, 30, 400, 0), "it was shorter when it was cleaned");
    // Where a full map ended a cleaning within a segment, that one is clean and dirty.
    assert_eq!(numbers(&log(Some(15)), &config), (15, 30, 200, 200));
}

#[test]
fn a_checkpoint_that_can_not_be_is_not_believed() {
    let config = config(|_| {});
    let log = Log { start: 12, checkpoint: Some(5), ..Log::default() };
    assert_eq!(numbers(&log, &config), (12, 30, 200, 200), "below the log start");
    let log = Log { checkpoint: Some(41), ..Log::default() };
    assert_eq!(numbers(&log, &config).0, 0, "behind the log end");
}

#[test]
fn a_transaction_without_a_marker_holds_cleaning_up() {
    let config = config(|_| {});
    let log = |last_stable| Log { last_stable, ..Log::default() };
    assert_eq!(numbers(&log(30), &config), (0, 30, 0, 300));
    assert_eq!(numbers(&log(29), &config), (0, 20, 0, 200), "with all of its segment");
    assert_eq!(numbers(&log(5), &config), (0, 0, 0, 0));
    let log = Log { last_stable: 12, checkpoint: Some(20), ..Log::default() };
    assert_eq!(numbers(&log, &config), (20, 20, 200, 0));
}

#[test]
fn young_segments_wait() {
    let lag = |hours: i64| config(|config| config.min_compaction_lag_ms = hours * HOUR_MS);
    let log = Log::default();
    assert_eq!(numbers(&log, &lag(1)).1, 30);
    assert_eq!(numbers(&log, &lag(2)).1, 30, "exactly two hours are enough");
    assert_eq!(numbers(&log, &lag(3)).1, 20);
    assert_eq!(numbers(&log, &lag(5)).1, 0);
}

#[test]
fn a_log_is_due_by_its_dirt_or_by_its_age() {
    let log = Log { checkpoint: Some(20), ..Log::default() };
    let found = dirtiness(&log, &config(|_| {}));
    assert_eq!(found.delay_ms, 0);
    assert!((found.ratio() - 1.0 / 3.0).abs() < 1e-9);
    assert!(found.is_due(0.3) && !found.is_due(0.34));
    let aged = |lag_ms| dirtiness(&log, &config(|config| config.max_compaction_lag_ms = lag_ms));
    assert_eq!(aged(HOUR_MS).delay_ms, HOUR_MS, "the segment at 20 began two hours ago");
    assert!(aged(HOUR_MS).is_due(1.0));
    assert!(!aged(2 * HOUR_MS).is_due(1.0));
    let clean = Log { checkpoint: Some(30), ..Log::default() };
    assert!(!dirtiness(&clean, &config(|config| config.max_compaction_lag_ms = 1)).is_due(0.0));
}

#[test]
fn the_longest_wait_for_compaction_ends_segments() {
    assert_eq!(config(|config| config.max_compaction_lag_ms = 5_000).segment_ms, 5_000);
    let deleted = TopicConfig { max_compaction_lag_ms: 5_000, ..TopicConfig::default() };
    assert_eq!(LogConfig::from(&deleted).segment_ms, deleted.segment_ms);
}

#[test]
fn segments_are_joined_as_far_as_they_fit_into_one() {
    let with_ends: Vec<_> =
        segments().into_iter().map(|segment| (segment, segment.base_offset + 10)).collect();
    assert_eq!(group_length(&with_ends, 1_000), 4);
    assert_eq!(group_length(&with_ends, 399), 3);
    assert_eq!(group_length(&with_ends, 99), 1);
    assert_eq!(group_length(&[], 99), 0);
    let far = [with_ends[0], (Segment { base_offset: 20, ..with_ends[1].0 }, i64::from(i32::MAX) + 2)];
    assert_eq!(group_length(&far, 1_000), 1, "relative offsets would not fit");
}
