//! Messages and records in the bytes of Apache Kafka's own classes: every API and every version.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "the counts are part of the result")]

use bytes::{Bytes, BytesMut};
use klamm::group::record::Record;
use klamm::protocol::guard;
use klamm::protocol::header::{RequestHeader, encode_response_header, response_header_size};
use protocol_tests::golden::{self, Kind, Sample};
use protocol_tests::served::SERVED;

/// Every sample of a message, with the key of its API.
fn messages() -> impl Iterator<Item = (i16, Sample)> {
    guard::API_KEYS.iter().filter(|key| !LATER.contains(key)).flat_map(|key| {
        let samples = golden::load("messages", guard::api_name(*key).unwrap());
        samples.into_iter().map(|sample| (*key, sample))
    })
}

/// What came with Kafka 4.4, of which the corpus has nothing.
const LATER: [i16; 2] = [93, 94];

#[test]
fn the_guard_accepts_every_request_and_consumes_it_exactly() {
    let mut count = 0;
    for (key, sample) in messages().filter(|(_, sample)| sample.kind == Kind::Request) {
        let (name, version) = (guard::api_name(key).unwrap(), sample.version);
        assert_eq!(guard::length(key, version, &sample.bytes), Ok(sample.bytes.len()), "{name} {version}");
        let mut longer = BytesMut::from(&sample.bytes[..]);
        longer.extend_from_slice(&[0xff; 3]);
        assert_eq!(
            guard::length(key, version, &longer),
            Ok(sample.bytes.len()),
            "{name} {version} and 3 bytes"
        );
        count += 1;
    }
    println!("{count} requests of {} APIs", guard::API_KEYS.len() - LATER.len());
    assert_eq!(golden::names("messages").len(), guard::API_KEYS.len() - LATER.len());
}

#[test]
fn the_guard_refuses_every_request_that_is_cut_off() {
    let mut count = 0;
    for (key, sample) in messages().filter(|(_, sample)| sample.kind == Kind::Request) {
        for end in 0..sample.bytes.len() {
            assert!(guard::check(key, sample.version, &sample.bytes.slice(..end)).is_err());
            count += 1;
        }
    }
    println!("{count} cuts");
}

#[test]
fn headers_have_the_versions_of_kafka() {
    for (key, sample) in messages() {
        let (name, version) = (guard::api_name(key).unwrap(), sample.version);
        if sample.kind == Kind::Response {
            let size = if sample.number == 0 { 4 } else { 5 };
            assert_eq!(response_header_size(key, version), size, "{name} {version}");
            let mut header = BytesMut::new();
            encode_response_header(&mut header, key, version, 7);
            assert_eq!(header.len(), size);
        } else {
            let mut frame = BytesMut::new();
            frame.extend_from_slice(&key.to_be_bytes());
            frame.extend_from_slice(&version.to_be_bytes());
            frame.extend_from_slice(b"\0\0\0\x07\0\x02me");
            frame.extend_from_slice(if sample.number == 2 { b"\0" } else { b"" });
            frame.extend_from_slice(&sample.bytes);
            let mut frame = frame.freeze();
            let header = RequestHeader::decode(&mut frame).unwrap();
            assert_eq!(
                (header.client_id.as_deref(), &frame),
                (Some("me"), &sample.bytes),
                "{name} {version}"
            );
        }
    }
}

#[test]
fn every_served_message_is_written_as_it_was_read() {
    let mut count = 0;
    for api in SERVED {
        let mut versions: Vec<i16> = Vec::new();
        for sample in golden::load("messages", api.name()) {
            if !api.versions.contains(&sample.version) {
                // Only what Kafka itself does not advertise: the version of InitProducerId for two-phase commit.
                assert_eq!((api.name(), sample.version), ("InitProducerId", 6));
                continue;
            }
            let recode = if sample.kind == Kind::Request { api.recode_request } else { api.recode_response };
            let mut buf: Bytes = sample.bytes.clone();
            let again = recode(&mut buf, sample.version)
                .unwrap_or_else(|error| panic!("{} {sample:?}: {error}", api.name()));
            assert_eq!(again, sample.bytes, "{} {:?} {}", api.name(), sample.kind, sample.version);
            assert!(buf.is_empty());
            versions.push(sample.version);
            count += 1;
        }
        assert!(api.versions.clone().all(|version| versions.contains(&version)), "{}", api.name());
    }
    println!("{count} messages of {} APIs", SERVED.len());
}

macro_rules! check_records {
    ($folder:literal: $($record:ident)*) => {
        [$((stringify!($record), golden::check_record::<klamm::metadata::record::$record>($folder))),*]
    };
}

#[test]
fn every_metadata_record_is_written_as_it_was_read() {
    let checked = check_records!("metadata":
        AbortTransactionRecord AccessControlEntryRecord BeginTransactionRecord BrokerRegistrationChangeRecord
        ClearElrRecord ClientQuotaRecord ConfigRecord DelegationTokenRecord EndTransactionRecord
        FeatureLevelRecord FenceBrokerRecord NoOpRecord PartitionChangeRecord PartitionRecord ProducerIdsRecord
        RegisterBrokerRecord RegisterControllerRecord RemoveAccessControlEntryRecord RemoveDelegationTokenRecord
        RemoveTopicRecord RemoveUserScramCredentialRecord TopicRecord UnfenceBrokerRecord UnregisterBrokerRecord
        UserScramCredentialRecord ZkMigrationStateRecord
    );
    let names: Vec<&str> = checked.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, golden::names("metadata"));
    println!("{} records of {} types", checked.iter().map(|(_, count)| count).sum::<usize>(), checked.len());
}

/// A key or value in `__consumer_offsets`: an i16 (the type of a key, the version of a value), then the body.
fn prefixed(prefix: i16, body: &Bytes) -> Bytes {
    [&prefix.to_be_bytes()[..], body].concat().into()
}

#[test]
fn offsets_and_groups_are_written_as_kafka_writes_them() {
    let mut same = 0;
    for (kind, written) in [("OffsetCommit", [1, 4].as_slice()), ("GroupMetadata", &[4])] {
        let keys = golden::load("group", &format!("{kind}Key"));
        let values = golden::load("group", &format!("{kind}Value"));
        assert!(values.len() >= 20);
        for (value, key) in values.iter().zip(keys.iter().cycle()) {
            let (key, version) = (prefixed(key.number, &key.bytes), value.version);
            let value = prefixed(version, &value.bytes);
            let record = Record::decode(key.clone(), Some(value.clone())).unwrap().unwrap();
            let (key_again, value_again) = record.encode().unwrap();
            assert_eq!(key_again, key);
            // The versions that are written come back as they were, the older ones with what they mean. A tagged
            // field that nobody knows (the corpus has `later` in them) is not part of the meaning.
            let unknown_tag = value.windows(5).any(|bytes| bytes == b"later");
            if written.contains(&version) && !unknown_tag {
                assert_eq!(value_again.as_ref(), Some(&value), "{kind} {version}");
                same += 1;
            }
            assert_eq!(Record::decode(key_again, value_again).unwrap(), Some(record));
        }
    }
    assert!(same >= 8);
}

#[test]
fn consumer_and_share_groups_are_written_as_kafka_writes_them() {
    let same = check_group_records(&[
        "ConsumerGroupMetadata",
        "ConsumerGroupPartitionMetadata",
        "ConsumerGroupMemberMetadata",
        "ConsumerGroupTargetAssignmentMetadata",
        "ConsumerGroupTargetAssignmentMember",
        "ConsumerGroupCurrentMemberAssignment",
        "ConsumerGroupRegularExpression",
        "ShareGroupMetadata",
        "ShareGroupMemberMetadata",
        "ShareGroupTargetAssignmentMetadata",
        "ShareGroupTargetAssignmentMember",
        "ShareGroupCurrentMemberAssignment",
        "ShareGroupStatePartitionMetadata",
    ]);
    assert!(same >= 14, "{same}");
}

#[test]
fn streams_groups_are_written_as_kafka_writes_them() {
    let same = check_group_records(&[
        "StreamsGroupMetadata",
        "StreamsGroupMemberMetadata",
        "StreamsGroupTargetAssignmentMetadata",
        "StreamsGroupTargetAssignmentMember",
        "StreamsGroupCurrentMemberAssignment",
        "StreamsGroupTopology",
    ]);
    assert!(same >= 10, "{same}");
}

/// How many values of these kinds come back as they were.
fn check_group_records(kinds: &[&str]) -> usize {
    let mut same = 0;
    for kind in kinds {
        let keys = golden::load("group", &format!("{kind}Key"));
        let values = golden::load("group", &format!("{kind}Value"));
        for (value, key) in values.iter().zip(keys.iter().cycle()) {
            let (key, value) = (prefixed(key.number, &key.bytes), prefixed(value.version, &value.bytes));
            let record = Record::decode(key.clone(), Some(value.clone())).unwrap().unwrap();
            let (key_again, value_again) = record.encode().unwrap();
            assert_eq!(key_again, key, "{kind}");
            // Random values hold what Kafka does not write: topics twice or out of order, no epochs of partitions.
            same += usize::from(value_again.as_ref() == Some(&value));
            assert_eq!(Record::decode(key_again, value_again).unwrap(), Some(record), "{kind}");
            let gone = Record::decode(key.clone(), None).unwrap().unwrap();
            assert_eq!(gone.encode().unwrap(), (key, None), "{kind}");
        }
    }
    same
}

#[test]
fn every_advertised_version_is_among_those_that_are_tested() {
    for api in klamm::api::advertised() {
        let served = SERVED.iter().find(|served| served.key == api.key);
        let versions = served.unwrap_or_else(|| panic!("{} is not in served.rs", api.name)).versions.clone();
        // Produce advertises versions that are refused, for the sake of librdkafka (KAFKA-18659).
        let first_is_tested = *versions.start() <= api.min || api.name == "Produce";
        assert!(first_is_tested && api.max == *versions.end(), "{} {versions:?}", api.name);
    }
}
