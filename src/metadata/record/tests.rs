#![expect(clippy::unwrap_used, reason = "a test")]

use super::*;

/// Every type in every version with random values, written by Apache Kafka 4.3.1's `MetadataRecordSerde`: the number
/// of the type, the version, the bytes.
const GOLDEN: &str = include_str!("golden.txt");

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn what_java_wrote_is_read_and_written_back_the_same() {
    let mut kinds = std::collections::BTreeSet::new();
    for line in GOLDEN.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let bytes = unhex(fields[2]);
        let (record, version) =
            Record::decode(bytes.clone()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!((record.kind().to_string(), version.to_string()), (fields[0].into(), fields[1].into()));
        assert_eq!(record.encode(version).unwrap(), bytes, "{line}");
        kinds.insert(record.kind());
    }
    assert_eq!(kinds.len(), 26);
}

#[test]
fn no_prefix_of_a_record_is_a_record() {
    for line in GOLDEN.lines() {
        let bytes = unhex(line.rsplit(' ').next().unwrap());
        for length in 0..bytes.len() {
            assert!(Record::decode(bytes.slice(..length)).is_err(), "{line} cut to {length}");
        }
        let longer: Bytes = [bytes.as_ref(), &[0]].concat().into();
        assert_eq!(Record::decode(longer), Err(RecordError::Trailing(1)));
    }
}

#[test]
fn what_is_unknown_is_named() {
    assert_eq!(Record::decode(unhex("000000")), Err(RecordError::Frame(0)));
    assert_eq!(Record::decode(unhex("010600")), Err(RecordError::Type(6)));
    assert!(matches!(Record::decode(unhex("011401")), Err(RecordError::Body { kind: 20, .. })));
}

#[test]
fn records_are_written_in_the_version_that_the_metadata_version_allows() {
    let register = Record::from(RegisterBrokerRecord::default());
    let partition = Record::from(PartitionRecord::default());
    assert_eq!([7, 8, 17, 30].map(|level| register.version_at(level)), [1, 2, 3, 4]);
    assert_eq!([7, 17, 22, 23, 30].map(|level| partition.version_at(level)), [0, 1, 1, 2, 2]);
    let unfence = BrokerRegistrationChangeRecord { fenced: -1, ..Default::default() };
    assert_eq!(Record::from(unfence).version_at(30), 0);
    let shutdown = BrokerRegistrationChangeRecord { in_controlled_shutdown: 1, ..Default::default() };
    assert_eq!(Record::from(shutdown).version_at(30), 1);
    let cordon = BrokerRegistrationChangeRecord { cordoned_log_dirs: Some(vec![]), ..Default::default() };
    assert_eq!(Record::from(cordon).version_at(30), 3);
}
