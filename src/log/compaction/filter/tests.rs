//! Which records stay.

use std::hash::RandomState;

use super::*;
use crate::log::batch::{BatchBuilder, control_key};
use crate::log::compaction::offset_map::MapBound;
use crate::log::transactions::AbortedTransaction;

const NOW_MS: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 86_400_000;
const TIME: i64 = NOW_MS - 1_000;

/// Records of a batch, as `key=value`, or `key` for a tombstone.
fn batch(base_offset: Offset, records: &str) -> BatchBuilder {
    let add = |builder: BatchBuilder, record: &str| match record.split_once('=') {
        Some((key, value)) => builder.record(TIME, Some(key.as_bytes()), Some(value.as_bytes())),
        None => builder.record(TIME, Some(record.as_bytes()), None),
    };
    records.split_whitespace().fold(BatchBuilder::new().base_offset(base_offset), add)
}

fn view(builder: BatchBuilder) -> BatchView {
    BatchView::first(&builder.build()).unwrap()
}

fn marker(offset: Offset, producer_id: i64, kind: i16) -> BatchView {
    let builder = BatchBuilder::new().base_offset(offset).control().attributes(TRANSACTIONAL);
    view(builder.producer(producer_id, 0, -1).record(TIME, Some(&control_key(kind)), Some(&[0; 6])))
}

/// A filter that knows these keys.
fn filter(keys: &[(&str, Offset)], latest: Offset) -> Filter {
    let bound = MapBound { bytes: 1 << 16, load_factor: 0.9 };
    let mut map = OffsetMap::new(bound, [RandomState::new(), RandomState::new()]);
    keys.iter().for_each(|(key, offset)| assert!(map.put(key.as_bytes(), *offset)));
    map.update_latest_offset(latest);
    Filter {
        map,
        transactions: Transactions::default(),
        last_records: HashMap::new(),
        upper_bound: 1_000,
        now_ms: NOW_MS,
        delete_retention_ms: DAY_MS,
    }
}

/// What is left of a batch: `same`, `gone`, or the records with their offsets.
fn left(filter: &mut Filter, batch: &BatchView) -> String {
    match filter.filter(batch).unwrap().kept {
        Kept::Same => "same".to_owned(),
        Kept::Nothing => "gone".to_owned(),
        Kept::Rebuilt(bytes) => shown(&rebuilt(&bytes)),
    }
}

fn rebuilt(bytes: &Bytes) -> BatchView {
    let batch = BatchView::first(bytes).unwrap();
    assert_eq!(batch.len(), bytes.len());
    assert!(batch.crc_matches());
    batch
}

fn shown(batch: &BatchView) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let records = batch.records().unwrap().map(Result::unwrap).map(|record| {
        let key = record.key.as_ref().map(text).unwrap_or_default();
        let value = record.value.as_ref().map(|value| format!("={}", text(value))).unwrap_or_default();
        format!("{}:{key}{value}", record.offset)
    });
    records.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_last_record_of_a_key_stays() {
    let batch = view(batch(10, "a=1 b=2 c=3"));
    for (keys, latest, expected) in [
        (&[][..], 50, "same"),
        (&[("a", 10), ("b", 11), ("c", 12)], 50, "same"),
        (&[("a", 40)], 50, "11:b=2 12:c=3"),
        (&[("a", 40), ("c", 13)], 50, "11:b=2"),
        (&[("a", 40), ("b", 41), ("c", 42)], 50, "gone"),
        (&[("a", 40), ("b", 41), ("c", 42)], 11, "12:c=3"),
        (&[("a", 40), ("b", 41), ("c", 42)], 9, "same"),
    ] {
        assert_eq!(left(&mut filter(keys, latest), &batch), expected, "{keys:?} up to {latest}");
    }
}

#[test]
fn records_without_a_key_do_not_stay() {
    let batch = view(BatchBuilder::new().base_offset(5).record(TIME, None, Some(b"v")));
    assert_eq!(left(&mut filter(&[], 50), &batch), "gone");
    assert_eq!(left(&mut filter(&[], 4), &batch), "same");
}

#[test]
fn a_rebuilt_batch_keeps_its_numbers_and_its_compression() {
    for compression in Compression::ALL {
        let builder = batch(10, "a=1 b=2 c=3 d=4").record_with_headers(
            TIME + 7,
            Some(b"e"),
            Some(b"5"),
            &[("h", Some(b"x")), ("h", None)],
        );
        let builder = builder.leader_epoch(3).producer(77, 4, 500).attributes(TRANSACTIONAL);
        let original = view(builder.compression(compression));
        let mut filter = filter(&[("a", 40), ("c", 41)], 50);
        let filtered = filter.filter(&original).unwrap();
        assert_eq!((filtered.records_read, filtered.records_kept), (5, 3));
        let Kept::Rebuilt(bytes) = filtered.kept else { panic!("it lost records") };
        let batch = rebuilt(&bytes);
        assert_eq!(shown(&batch), "11:b=2 13:d=4 14:e=5", "{compression:?}");
        assert_eq!(batch.attributes(), original.attributes());
        assert_eq!((batch.base_offset(), batch.last_offset()), (10, 14));
        assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (77, 4, 500));
        assert_eq!((batch.last_sequence(), batch.leader_epoch()), (504, 3));
        assert_eq!((batch.record_count(), batch.max_timestamp()), (3, TIME + 7));
        let last = batch.records().unwrap().last().unwrap().unwrap();
        assert_eq!(last.timestamp, TIME + 7);
        let headers: Vec<_> = last.headers().collect();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[0], (Bytes::from_static(b"h"), Some(Bytes::from_static(b"x"))));
    }
}

#[test]
fn the_brokers_time_stays_with_the_records() {
    let stamped = view(batch(10, "a=1 b=2").attributes(LOG_APPEND_TIME));
    let Kept::Rebuilt(bytes) = filter(&[("a", 40)], 50).filter(&stamped).unwrap().kept else {
        panic!("it lost a record")
    };
    let batch = rebuilt(&bytes);
    assert!(batch.is_log_append_time());
    assert_eq!(batch.max_timestamp(), stamped.max_timestamp());
    assert_eq!(batch.records().unwrap().next().unwrap().unwrap().timestamp, stamped.max_timestamp());
}

#[test]
fn tombstones_stay_until_the_time_that_their_first_cleaning_noted() {
    let original = view(batch(10, "a=1 b"));
    let mut first = filter(&[("b", 11)], 50);
    let Kept::Rebuilt(bytes) = first.filter(&original).unwrap().kept else { panic!("the time is noted") };
    let noted = rebuilt(&bytes);
    assert_eq!(noted.delete_horizon_ms(), Some(NOW_MS + DAY_MS));
    assert_eq!(shown(&noted), "10:a=1 11:b");
    let times: Vec<_> = noted.records().unwrap().map(|record| record.unwrap().timestamp).collect();
    assert_eq!(times, [TIME, TIME], "the records' times do not change");
    assert_eq!(noted.max_timestamp(), TIME);

    let mut later = filter(&[], 60);
    assert_eq!(left(&mut later, &noted), "same");
    later.now_ms = NOW_MS + DAY_MS - 1;
    assert_eq!(left(&mut later, &noted), "same", "a later cleaning does not move the time");
    later.now_ms += 1;
    let Kept::Rebuilt(bytes) = later.filter(&noted).unwrap().kept else { panic!("the tombstone goes") };
    assert_eq!(shown(&rebuilt(&bytes)), "10:a=1");
    assert_eq!(rebuilt(&bytes).delete_horizon_ms(), Some(NOW_MS + DAY_MS), "as Kafka leaves it");
    assert_eq!(left(&mut filter(&[("b", 12)], 50), &view(batch(11, "b"))), "gone", "one that is replaced");
    let mut unknown = filter(&[], 10);
    unknown.now_ms = NOW_MS + 2 * DAY_MS;
    assert_eq!(left(&mut unknown, &noted), "same", "one whose key was not looked at yet");
}

#[test]
fn the_last_batch_of_a_producer_and_of_a_cleaning_leave_their_headers() {
    let original = view(batch(10, "a=1 b=2").producer(77, 4, 500).leader_epoch(3));
    let keys = [("a", 40), ("b", 41)];
    let last = |offset| HashMap::from([(77, LastRecord { data_offset: Some(offset), epoch: 4 })]);
    let mut of_producer = filter(&keys, 50);
    of_producer.last_records = last(11);
    let Kept::Rebuilt(bytes) = of_producer.filter(&original).unwrap().kept else { panic!("it stays") };
    let empty = rebuilt(&bytes);
    assert_eq!((empty.record_count(), empty.len()), (0, HEADER_BYTES));
    assert_eq!((empty.base_offset(), empty.last_offset(), empty.last_sequence()), (10, 11, 501));
    assert_eq!((empty.base_timestamp(), empty.max_timestamp(), empty.leader_epoch()), (-1, TIME, 3));
    assert_eq!(left(&mut of_producer, &empty), "same");
    of_producer.last_records = last(12);
    assert_eq!(left(&mut of_producer, &empty), "gone", "the producer has written since");

    let mut of_cleaning = filter(&keys, 50);
    of_cleaning.upper_bound = 12;
    assert_eq!(left(&mut of_cleaning, &original), "");
    of_cleaning.upper_bound = 13;
    assert_eq!(left(&mut of_cleaning, &original), "gone");
}

fn aborted(producer_id: i64, first_offset: Offset, last_offset: Offset) -> AbortedTransaction {
    AbortedTransaction { producer_id, first_offset, last_offset, last_stable: last_offset + 1 }
}

#[test]
fn aborted_records_go_at_once_and_their_marker_later() {
    let records = view(batch(10, "a=1 b=2").producer(7, 0, 0).attributes(TRANSACTIONAL));
    let abort = marker(12, 7, 0);
    let mut first = filter(&[], 50);
    first.transactions = Transactions::new(vec![aborted(7, 10, 12)]);
    assert_eq!(left(&mut first, &records), "gone");
    assert_eq!(left(&mut first, &abort), "same", "the records were here a moment ago");
    assert_eq!(first.transactions.take_emptied(), []);

    let mut second = filter(&[], 50);
    second.transactions = Transactions::new(vec![aborted(7, 10, 12)]);
    let Kept::Rebuilt(bytes) = second.filter(&abort).unwrap().kept else { panic!("the time is noted") };
    let noted = rebuilt(&bytes);
    assert_eq!(noted.delete_horizon_ms(), Some(NOW_MS + DAY_MS));
    assert!(noted.is_control() && noted.is_transactional());
    assert_eq!(second.transactions.take_emptied(), [aborted(7, 10, 12)]);

    let mut third = filter(&[], 50);
    third.now_ms = NOW_MS + DAY_MS - 1;
    assert_eq!(left(&mut third, &noted), "same");
    third.now_ms += 1;
    assert_eq!(left(&mut third, &noted), "gone");
    third.last_records = HashMap::from([(7, LastRecord { data_offset: None, epoch: 0 })]);
    assert_eq!(left(&mut third, &noted), "", "its epoch is all that is known of the producer");
}

#[test]
fn a_commit_marker_stays_while_records_of_its_transaction_do() {
    let records = view(batch(10, "a=1").producer(7, 0, 0).attributes(TRANSACTIONAL));
    let commit = marker(11, 7, 1);
    let mut busy = filter(&[], 50);
    assert_eq!(left(&mut busy, &records), "same");
    assert_eq!(left(&mut busy, &commit), "same");
    let mut idle = filter(&[], 50);
    assert!(left(&mut idle, &commit).starts_with("11:"), "nothing is left of it: the time is noted");
    let other = marker(12, 8, 2);
    assert_eq!(left(&mut idle, &other), "same", "other control records are none of the cleaner's");
}

#[test]
fn keys_of_aborted_and_control_records_are_not_looked_at() {
    let bound = MapBound { bytes: 1 << 12, load_factor: 0.9 };
    let mut map = OffsetMap::new(bound, [RandomState::new(), RandomState::new()]);
    let mut transactions = Transactions::new(vec![aborted(7, 10, 12)]);
    for batch in [
        view(batch(8, "a=1 b=1")),
        view(batch(10, "a=2 b=2").producer(7, 0, 0).attributes(TRANSACTIONAL)),
        marker(12, 7, 0),
        view(batch(13, "b=3").producer(7, 0, 2).attributes(TRANSACTIONAL)),
    ] {
        assert!(index(&batch, 9, &mut map, &mut transactions).unwrap());
    }
    assert_eq!((map.get(b"a"), map.get(b"b"), map.latest_offset()), (None, Some(13), 13));
}
