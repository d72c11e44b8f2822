//! A snapshot: the records that an image can be made from again, in Kafka's order (`MetadataImage.write`), and when one
//! is due (`SnapshotGenerator`).

use bytes::Bytes;

use super::image::{BrokerImage, Image, KRAFT_VERSION, METADATA_VERSION};
use super::record::{
    ConfigRecord, FeatureLevelRecord, PartitionRecord, ProducerIdsRecord, Record, RegisterBrokerRecord,
    TopicRecord,
};
use crate::protocol::wire::EncodeError;
use crate::types::TimestampMs;

/// The levels of `metadata.version` at which records got what older ones have no place for.
const DIRECTORIES_SINCE: i16 = 17;
const CONTROLLERS_SINCE: i16 = 15;
const CORDONED_SINCE: i16 = 30;
const SCRAM_SINCE: i16 = 11;
const TOKENS_SINCE: i16 = 14;
/// The feature without which no eligible leader replicas are written (KIP-966).
const ELR_VERSION: &str = "eligible.leader.replicas.version";

/// The records of an image, `metadata.version` first.
pub fn records(image: &Image) -> impl Iterator<Item = Record> {
    let level = image.metadata_version().unwrap_or(0);
    let others = image.features().filter(|(name, _)| ![METADATA_VERSION, KRAFT_VERSION].contains(name));
    let features = image.metadata_version().map(|level| (METADATA_VERSION, level)).into_iter().chain(others);
    let features = features.map(|(name, feature_level)| {
        FeatureLevelRecord { name: name.to_owned(), feature_level, ..FeatureLevelRecord::default() }.into()
    });
    let brokers = image.brokers.values().map(move |broker| broker_record(broker, level).into());
    let controllers = image.controllers.values().filter(move |_| level >= CONTROLLERS_SINCE);
    let controllers = controllers.map(|controller| controller.to_record().into());
    let configs = image.configs().flat_map(|(resource, values)| {
        values.iter().map(move |(name, value)| {
            ConfigRecord {
                resource_type: resource.kind.id(),
                resource_name: resource.name.to_string(),
                name: name.clone(),
                value: Some(value.clone()),
                ..ConfigRecord::default()
            }
            .into()
        })
    });
    let producer_ids = (image.next_producer_id > 0).then(|| {
        ProducerIdsRecord {
            broker_id: -1,
            next_producer_id: image.next_producer_id,
            ..ProducerIdsRecord::default()
        }
        .into()
    });
    let security = image.kept.security().filter(move |record| {
        let since = if matches!(record, Record::UserScramCredential(_)) {
            SCRAM_SINCE
        } else if matches!(record, Record::DelegationToken(_)) {
            TOKENS_SINCE
        } else {
            0
        };
        level >= since
    });
    features
        .chain(brokers)
        .chain(controllers)
        .chain(topics(image, level))
        .chain(configs)
        .chain(image.quotas.records())
        .chain(producer_ids)
        .chain(security)
}

/// The same as values of the log, in the versions that the image's `metadata.version` asks for.
///
/// # Errors
/// Where a record can not be written in its version.
pub fn values(image: &Image) -> Result<Vec<Bytes>, EncodeError> {
    let level = image.metadata_version().unwrap_or(0);
    records(image).map(|record| record.encode(record.version_at(level))).collect()
}

fn broker_record(broker: &BrokerImage, level: i16) -> RegisterBrokerRecord {
    let mut record = broker.to_record();
    if level < DIRECTORIES_SINCE {
        record.log_dirs.clear();
    }
    if level < CORDONED_SINCE {
        record.cordoned_log_dirs = None;
    }
    record
}

fn topics(image: &Image, level: i16) -> impl Iterator<Item = Record> {
    let with_elr = image.feature(ELR_VERSION) > 0;
    image.topics.iter().flat_map(move |topic| {
        let partitions = topic.partitions().map(move |(number, partition)| {
            let mut record: PartitionRecord = partition.to_record(topic.id, number);
            if level < DIRECTORIES_SINCE {
                record.directories.clear();
            }
            if !with_elr {
                record.eligible_leader_replicas = None;
                record.last_known_elr = None;
            }
            record.into()
        });
        let name = topic.name.to_string();
        let record = TopicRecord { name, topic_id: topic.id, ..TopicRecord::default() };
        std::iter::once(record.into()).chain(partitions)
    })
}

/// When a snapshot is due.
#[derive(Clone, Debug)]
pub(super) struct Due {
    /// How many bytes of records may follow a snapshot (`metadata.log.max.record.bytes.between.snapshots`).
    pub(super) bytes_max: i64,
    /// How old a snapshot may get while records follow it (`metadata.log.max.snapshot.interval.ms`); 0 for any age.
    pub(super) interval_ms_max: i64,
    bytes: i64,
    since_ms: TimestampMs,
}

impl Due {
    /// Begins to count now, on the steady clock.
    pub(super) fn new(bytes_max: i64, interval_ms_max: i64, now_ms: TimestampMs) -> Self {
        Self { bytes_max, interval_ms_max, bytes: 0, since_ms: now_ms }
    }

    /// Takes in that records of so many bytes were loaded.
    pub(super) fn loaded(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Whether a snapshot is due. As in Kafka, nothing is where no record came since the last one.
    pub(super) fn is_due(&self, now_ms: TimestampMs) -> bool {
        let late = self.interval_ms_max > 0 && now_ms - self.since_ms >= self.interval_ms_max;
        self.bytes >= self.bytes_max || (late && self.bytes > 0)
    }

    /// Begins to count anew.
    pub(super) fn taken(&mut self, now_ms: TimestampMs) {
        *self = Self::new(self.bytes_max, self.interval_ms_max, now_ms);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use super::super::loader::Loader;
    use super::super::record::{
        AccessControlEntryRecord, ClientQuotaRecord, DelegationTokenRecord, QuotaEntity,
        RemoveAccessControlEntryRecord, UserScramCredentialRecord,
    };
    use super::*;
    use uuid::Uuid;

    fn load(values: impl IntoIterator<Item = Bytes>) -> Image {
        let mut loader = Loader::new();
        for (offset, value) in (0..).zip(values) {
            loader.replay(offset, 1, value).unwrap();
        }
        loader.image().clone()
    }

    fn again(image: &Image) -> Image {
        let mut again = load(values(image).unwrap());
        (again.offset, again.epoch) = (image.offset, image.epoch);
        again
    }

    #[test]
    fn an_image_of_a_log_of_kafka_comes_back_from_its_snapshot() {
        let image = super::super::loader::tests::kafka_image();
        assert!(!image.topics.is_empty() && !image.controllers.is_empty() && image.configs().count() > 0);
        assert_eq!(again(&image), image);
        let kinds: Vec<u32> = records(&image).map(|record| record.kind()).collect();
        let mut order = kinds.clone();
        order.dedup();
        assert_eq!(order, [12, 0, 27, 2, 3, 4, 15], "{kinds:?}");
    }

    /// The records that an Apache Kafka 4.3.1 wrote until it took a snapshot, without those that say nothing, and the
    /// snapshot: topics, configurations, a quota, a credential.
    const KAFKA_LOG: &str = include_str!("kafka_snapshot_log.txt");
    const KAFKA_SNAPSHOT: &str = include_str!("kafka_snapshot.txt");

    #[test]
    fn a_snapshot_has_the_records_of_kafkas_own() {
        let mut loader = Loader::new();
        for line in KAFKA_LOG.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let value = super::super::loader::tests::bytes(fields[2]);
            loader.replay(fields[0].parse().unwrap(), fields[1].parse().unwrap(), value).unwrap();
        }
        // Topics are in the order of Kafka's hash maps.
        let kinds = |values: &[Bytes]| -> Vec<u32> {
            let kind = |value: &Bytes| Record::decode(value.clone()).unwrap().0.kind();
            let mut kinds: Vec<u32> = values.iter().map(kind).filter(|kind| *kind != 2).collect();
            kinds.dedup();
            kinds
        };
        let mut ours = values(loader.image()).unwrap();
        let mut kafkas: Vec<Bytes> = KAFKA_SNAPSHOT.lines().map(super::super::loader::tests::bytes).collect();
        assert_eq!(kinds(&ours), kinds(&kafkas));
        for value in ours.iter_mut().chain(&mut kafkas) {
            let (mut record, version) = Record::decode(value.clone()).unwrap();
            if let Record::RegisterBroker(broker) = &mut record {
                broker.features.sort_by(|one, two| one.name.cmp(&two.name));
            }
            *value = record.encode(version).unwrap();
        }
        ours.sort();
        kafkas.sort();
        assert_eq!(ours, kafkas);
        assert_eq!(load(kafkas).topics.len(), 2);
    }

    #[test]
    fn quotas_and_what_is_kept_for_others_are_in_a_snapshot() {
        let entity = |kind: &str, name: Option<&str>| QuotaEntity {
            entity_type: kind.to_owned(),
            entity_name: name.map(str::to_owned),
            ..QuotaEntity::default()
        };
        let quota = |value| ClientQuotaRecord {
            entity: vec![entity("user", Some("u")), entity("client-id", None)],
            key: "producer_byte_rate".to_owned(),
            value,
            ..ClientQuotaRecord::default()
        };
        let acl = |id| AccessControlEntryRecord {
            id: Uuid::from_u128(id),
            host: "*".to_owned(),
            ..Default::default()
        };
        let records: Vec<Record> = vec![
            FeatureLevelRecord { name: METADATA_VERSION.to_owned(), feature_level: 30, ..Default::default() }
                .into(),
            quota(1.5).into(),
            quota(2.5).into(),
            acl(1).into(),
            acl(2).into(),
            RemoveAccessControlEntryRecord { id: Uuid::from_u128(1), ..Default::default() }.into(),
            UserScramCredentialRecord { name: "u".to_owned(), iterations: 4_096, ..Default::default() }
                .into(),
            DelegationTokenRecord { token_id: "t".to_owned(), ..Default::default() }.into(),
        ];
        let image = load(records.iter().map(|record| record.encode(0).unwrap()));
        assert_eq!(again(&image), image);
        let kept: Vec<u32> = super::records(&image).map(|record| record.kind()).collect();
        assert_eq!(kept, [12, 14, 18, 11, 10]);
        let older =
            FeatureLevelRecord { name: METADATA_VERSION.to_owned(), feature_level: 7, ..Default::default() };
        let mut image = image;
        image.apply(&older.into()).unwrap();
        assert_eq!(
            super::records(&image).count(),
            3,
            "what the metadata version has no record for is left out"
        );
    }

    #[test]
    fn a_snapshot_is_due_by_bytes_or_by_time_but_never_of_nothing() {
        let mut due = Due::new(100, 1_000, 5);
        assert!(!due.is_due(2_000), "nothing was loaded");
        due.loaded(99);
        assert!(!due.is_due(1_004) && due.is_due(1_005));
        due.loaded(1);
        assert!(due.is_due(6));
        due.taken(6);
        assert!(!due.is_due(5_000));
        let mut never = Due::new(100, 0, 0);
        never.loaded(1);
        assert!(!never.is_due(i64::MAX));
    }
}
