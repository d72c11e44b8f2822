#![expect(clippy::unwrap_used, reason = "a test")]

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::*;
use crate::config::dynamic::ConfigOp;
use crate::error::ErrorCode;
use crate::metadata::command::{
    ConfigChange, ConfigReplacement, FeatureUpdate, NewPartitions, NewTopic, PartitionQuota, Registration,
    UpgradeType,
};
use crate::metadata::image::{ConfigResource, Endpoint, METADATA_VERSION, ResourceType};

/// A controller without its task: what it decides is replayed at once.
pub(crate) struct Model {
    pub(crate) image: Image,
    pub(crate) settings: Settings,
    pub(crate) random: StdRng,
    pub(crate) soft: SoftState,
    pub(crate) now_ms: i64,
    pub(crate) log: Vec<Record>,
}

impl Model {
    /// A cluster with the bootstrap records and these active brokers; the first one is the controller.
    pub(crate) fn with_brokers(ids: &[NodeId]) -> Self {
        Self::at_version(features::METADATA_VERSION_LATEST, ids)
    }

    /// The same with an older `metadata.version`; before there are any, without eligible leader replicas.
    pub(crate) fn at_version(metadata_version: i16, ids: &[NodeId]) -> Self {
        let config = BrokerConfig { num_partitions: 3, ..BrokerConfig::default() };
        let settings = Settings {
            node_id: 1,
            cluster_id: "c".into(),
            features: features::supported(),
            config: Arc::new(config),
        };
        let mut model = Self {
            image: Image::empty(),
            soft: SoftState::activate(&Image::empty(), &settings, 0),
            settings,
            random: StdRng::seed_from_u64(7),
            now_ms: 0,
            log: Vec::new(),
        };
        let bootstrap = features::activate(&model.image, false, &bootstrap::latest(), 1);
        model.replay(bootstrap);
        if metadata_version < features::METADATA_VERSION_LATEST {
            model.feature(METADATA_VERSION, metadata_version);
            model.feature(features::ELR_VERSION, i16::from(metadata_version >= features::ELR_SINCE));
        }
        for id in ids {
            let epoch = model.run(|context| brokers::register(context, &registration(*id, 1))).unwrap();
            model.run(|context| brokers::unfence(context, *id, epoch)).unwrap();
        }
        model
    }

    pub(crate) fn run<T>(&mut self, decide: impl FnOnce(&mut Context<'_>) -> Decision<T>) -> T {
        let decision = self.decide(decide);
        self.replay(decision.records);
        decision.reply
    }

    pub(crate) fn decide<T>(&mut self, decide: impl FnOnce(&mut Context<'_>) -> Decision<T>) -> Decision<T> {
        let next_offset = i64::try_from(self.log.len()).unwrap();
        let Self { image, settings, random, soft, now_ms, .. } = self;
        decide(&mut Context { image, next_offset, settings, random, now_ms: *now_ms, soft })
    }

    fn replay(&mut self, records: Vec<Record>) {
        for record in records {
            // It can be written at the level that the cluster works at.
            let metadata_version = self.image.metadata_version().unwrap_or(features::METADATA_VERSION_LATEST);
            record.encode(record.version_at(metadata_version)).unwrap();
            self.image.apply(&record).unwrap();
            self.image.offset += 1;
            self.log.push(record);
        }
    }

    /// Finalises a feature at this level, whatever that loses.
    pub(crate) fn feature(&mut self, name: &str, feature_level: i16) {
        let name = name.to_owned();
        let level = crate::metadata::record::FeatureLevelRecord { name, feature_level, ..Default::default() };
        self.replay(vec![level.into()]);
    }

    fn create(&mut self, topic: NewTopic) -> Result<Uuid, ApiError> {
        let created =
            self.run(|context| topics::create(context, &[topic], false, &PartitionQuota::NONE)).remove(0);
        created.map(|created| created.topic_id)
    }
}

pub(crate) fn registration(broker_id: NodeId, life: u128) -> Registration {
    let id = u128::from(broker_id.unsigned_abs());
    Registration {
        broker_id,
        cluster_id: "c".to_owned(),
        incarnation_id: Uuid::from_u128(1_000 * id + life),
        endpoints: vec![Endpoint { listener: "P".into(), host: "h".into(), port: 1, security_protocol: 0 }],
        features: features::supported(),
        rack: None,
        log_dirs: vec![Uuid::from_u128(1_000_000 + id)],
        previous_broker_epoch: -1,
        kept_everything: false,
    }
}

fn topic(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic { partitions, replication_factor, ..NewTopic::with_defaults(name) }
}

fn assigned(assignments: &[(i32, &[NodeId])]) -> NewTopic {
    let assignments = assignments.iter().map(|(number, replicas)| (*number, replicas.to_vec())).collect();
    NewTopic { assignments, ..NewTopic::with_defaults("m") }
}

fn code<T>(result: &Result<T, ApiError>) -> Option<ErrorCode> {
    result.as_ref().err().map(|error| error.code)
}

#[test]
fn topics_are_refused_with_kafkas_codes() {
    use ErrorCode::*;
    let mut model = Model::with_brokers(&[1, 2]);
    model.create(topic("a.b", 1, 1)).unwrap();
    let with_config = |name: &str, value: Option<&str>| NewTopic {
        configs: vec![(name.to_owned(), value.map(str::to_owned))],
        ..topic("c", 1, 1)
    };
    let long = "x".repeat(250);
    let cases = [
        (topic("a.b", 1, 1), TopicAlreadyExists),
        (topic("a_b", 1, 1), InvalidTopicException),
        (topic("", 1, 1), InvalidTopicException),
        (topic(".", 1, 1), InvalidTopicException),
        (topic("..", 1, 1), InvalidTopicException),
        (topic("sp ace", 1, 1), InvalidTopicException),
        (topic("ümlaut", 1, 1), InvalidTopicException),
        (topic(&long, 1, 1), InvalidTopicException),
        (topic("t", 0, 1), InvalidPartitions),
        (topic("t", -2, 1), InvalidPartitions),
        (topic("t", 1, 0), InvalidReplicationFactor),
        (topic("t", 1, -2), InvalidReplicationFactor),
        (topic("t", 1, 3), InvalidReplicationFactor),
        (topic("t", 10_001, 1), PolicyViolation),
        (with_config("retention.ms", Some("x")), InvalidConfig),
        (with_config("retention.ms", None), InvalidConfig),
        (with_config("no.such.key", Some("1")), InvalidConfig),
        (NewTopic { partitions: 1, ..assigned(&[(0, &[1])]) }, InvalidRequest),
        (NewTopic { replication_factor: 1, ..assigned(&[(0, &[1])]) }, InvalidRequest),
        (assigned(&[(0, &[1]), (0, &[1])]), InvalidReplicaAssignment),
        (assigned(&[(0, &[1]), (2, &[1])]), InvalidReplicaAssignment),
        (assigned(&[(1, &[1])]), InvalidReplicaAssignment),
        (assigned(&[(0, &[])]), InvalidReplicaAssignment),
        (assigned(&[(0, &[1, 1])]), InvalidReplicaAssignment),
        (assigned(&[(0, &[9])]), InvalidReplicaAssignment),
        (assigned(&[(0, &[1]), (1, &[1, 2])]), InvalidReplicaAssignment),
    ];
    for (topic, expected) in cases {
        let result = model.create(topic.clone());
        assert_eq!(code(&result), Some(expected), "{topic:?}");
        assert!(result.unwrap_err().message.is_some(), "{topic:?}");
    }
    assert_eq!(model.image.topics.len(), 1, "what is refused leaves nothing");
    assert_eq!(code(&model.create(topic(&long[..249], 1, 1))), None);
}

#[test]
fn a_topic_has_what_was_asked_for_or_the_defaults() {
    let mut model = Model::with_brokers(&[1, 2]);
    model.create(NewTopic::with_defaults("d")).unwrap();
    let configs = vec![("retention.ms".to_owned(), Some("5".to_owned()))];
    let id = model.create(NewTopic { configs, ..assigned(&[(1, &[2]), (0, &[1])]) }).unwrap();
    let defaults = model.image.topics.get("d").unwrap();
    assert_eq!(defaults.partition_count(), 3);
    let created = model.image.topics.by_id(id).unwrap();
    let replicas: Vec<_> =
        created.partitions().map(|(number, p)| (number, p.replicas.clone(), p.leader)).collect();
    assert_eq!(replicas, [(0, vec![1], 1), (1, vec![2], 2)]);
    let partition = created.partition(0).unwrap();
    assert_eq!((partition.leader_epoch, partition.partition_epoch), (0, 0));
    assert_eq!(partition.directories, [Uuid::from_u128(1_000_001)]);
    assert_eq!(model.image.config(&ConfigResource::topic("m")).unwrap()["retention.ms"], "5");
    let kinds: Vec<u32> = model.log.iter().rev().take(4).rev().map(Record::kind).collect();
    assert_eq!(kinds, [2, 4, 3, 3], "topic, configuration, partitions, as Kafka writes them");
}

#[test]
fn validating_creates_nothing() {
    let mut model = Model::with_brokers(&[1]);
    let before = model.image.clone();
    let created = model.run(|context| {
        topics::create(context, &[topic("t", 5, 1), topic("", 1, 1)], true, &PartitionQuota::NONE)
    });
    assert_eq!(created[0].as_ref().unwrap().partitions, 5);
    assert_eq!(code(&created[1]), Some(ErrorCode::InvalidTopicException));
    model.create(topic("p", 1, 1)).unwrap();
    let more = NewPartitions { topic: "p".to_owned(), count: 2, assignments: None };
    let with_topic = model.image.clone();
    assert_eq!(
        model.run(|context| topics::create_partitions(context, &[more], true, &PartitionQuota::NONE)),
        [Ok(())]
    );
    assert_eq!(model.image, with_topic);
    assert_eq!(before.topics.len(), 0);
}

#[test]
fn a_topic_that_comes_again_has_another_id() {
    let mut model = Model::with_brokers(&[1]);
    let first = model.create(topic("t", 1, 1)).unwrap();
    assert_eq!(model.run(|context| topics::delete(context, &[first], &PartitionQuota::NONE)), [Ok(())]);
    let again = model.run(|context| topics::delete(context, &[first], &PartitionQuota::NONE));
    assert_eq!(code(&again[0]), Some(ErrorCode::UnknownTopicId));
    let second = model.create(topic("t", 1, 1)).unwrap();
    assert_ne!(first, second);
}

#[test]
fn partitions_only_grow() {
    use ErrorCode::*;
    let mut model = Model::with_brokers(&[1, 2]);
    model.create(topic("t", 2, 1)).unwrap();
    let more = |topic: &str, count, assignments: Option<&[&[NodeId]]>| NewPartitions {
        topic: topic.to_owned(),
        count,
        assignments: assignments.map(|chosen| chosen.iter().map(|ids| ids.to_vec()).collect()),
    };
    let cases = [
        (more("no", 3, None), UnknownTopicOrPartition),
        (more("t", 2, None), InvalidPartitions),
        (more("t", 1, None), InvalidPartitions),
        (more("t", 4, Some(&[&[1]])), InvalidReplicaAssignment),
        (more("t", 3, Some(&[&[1, 2]])), InvalidReplicaAssignment),
        (more("t", 3, Some(&[&[9]])), InvalidReplicaAssignment),
        (more("t", 3, Some(&[&[]])), InvalidReplicaAssignment),
        (more("t", 20_000, None), PolicyViolation),
    ];
    for (wanted, expected) in cases {
        let result = model.run(|context| {
            topics::create_partitions(context, std::slice::from_ref(&wanted), false, &PartitionQuota::NONE)
        });
        assert_eq!(code(&result[0]), Some(expected), "{wanted:?}");
    }
    let wanted = [more("t", 4, Some(&[&[2], &[1]]))];
    assert_eq!(
        model.run(|context| topics::create_partitions(context, &wanted, false, &PartitionQuota::NONE)),
        [Ok(())]
    );
    let leaders: Vec<_> =
        model.image.topics.get("t").unwrap().partitions().map(|(_, p)| p.leader).skip(2).collect();
    assert_eq!(leaders, [2, 1]);
}

#[test]
fn configurations_change_as_asked_and_only_then() {
    use ErrorCode::*;
    let mut model = Model::with_brokers(&[1]);
    model.create(topic("t", 1, 1)).unwrap();
    let set = |value: &str| ConfigOp::Set(value.to_owned());
    let change = |resource: ConfigResource, name: &str, op: ConfigOp| ConfigChange {
        resource,
        changes: vec![(name.to_owned(), op)],
    };
    let broker = |name: &str| ConfigResource::new(ResourceType::Broker, name);
    let cases = [
        (change(ConfigResource::topic("t"), "retention.ms", set("5")), None),
        (change(ConfigResource::topic("t"), "cleanup.policy", ConfigOp::Append("compact".to_owned())), None),
        (change(ConfigResource::topic("t"), "retention.ms", set("x")), Some(InvalidConfig)),
        (
            change(ConfigResource::topic("t"), "retention.ms", ConfigOp::Append("5".to_owned())),
            Some(InvalidConfig),
        ),
        (change(ConfigResource::topic("no"), "retention.ms", set("5")), Some(UnknownTopicOrPartition)),
        (change(ConfigResource::topic(""), "retention.ms", set("5")), Some(InvalidRequest)),
        (change(broker(""), "log.retention.ms", set("9")), None),
        (change(broker("1"), "log.retention.ms", set("8")), None),
        (change(broker("1"), "num.partitions", set("8")), Some(InvalidRequest)),
        (change(broker("2"), "log.retention.ms", set("8")), Some(InvalidRequest)),
        (change(broker("one"), "log.retention.ms", set("8")), Some(InvalidRequest)),
        (change(ConfigResource::group("g"), "consumer.session.timeout.ms", set("50000")), None),
        (change(ConfigResource::group("g"), "no.such.key", set("1")), Some(InvalidConfig)),
        (change(ConfigResource::new(ResourceType::ClientMetrics, "m"), "interval.ms", set("1000")), None),
        (
            change(ConfigResource::new(ResourceType::BrokerLogger, "1"), "root", set("INFO")),
            Some(InvalidRequest),
        ),
    ];
    for (wanted, expected) in cases {
        let result =
            model.run(|context| configs::alter_incrementally(context, std::slice::from_ref(&wanted), false));
        assert_eq!(code(&result[0]), expected, "{wanted:?}: {result:?}");
    }
    let values = model.image.config(&ConfigResource::topic("t")).unwrap();
    assert_eq!(values["cleanup.policy"], "delete,compact");
    assert_eq!(model.image.configs().count(), 5);

    let same = change(ConfigResource::topic("t"), "retention.ms", set("5"));
    let decision = model.decide(|context| configs::alter_incrementally(context, &[same], false));
    assert_eq!(decision.records, [], "what is so already is not written for a topic");
    let same = change(broker("1"), "log.retention.ms", set("8"));
    let decision = model.decide(|context| configs::alter_incrementally(context, &[same], false));
    assert_eq!(decision.records.len(), 1, "and is for a broker, which may have to reload a file");

    let values = [("retention.bytes".to_owned(), "7".to_owned())].into();
    let replacement = ConfigReplacement { resource: ConfigResource::topic("t"), values };
    let only_tried =
        model.decide(|context| configs::replace(context, std::slice::from_ref(&replacement), true));
    assert_eq!(only_tried, Decision::reply(vec![Ok(())]));
    assert_eq!(model.run(|context| configs::replace(context, &[replacement], false)), [Ok(())]);
    let values = model.image.config(&ConfigResource::topic("t")).unwrap();
    assert_eq!(values.iter().collect::<Vec<_>>(), [(&"retention.bytes".to_owned(), &"7".to_owned())]);
}

#[test]
fn features_change_where_everyone_supports_it_and_nothing_is_lost() {
    use UpgradeType::*;
    let mut model = Model::with_brokers(&[1]);
    let mut update = |name: &str, level, upgrade_type| {
        let update = FeatureUpdate { name: name.to_owned(), level, upgrade_type };
        model.run(|context| features::update(context, &[update], false))
    };
    let refused = [
        (METADATA_VERSION, 31, Upgrade),
        (METADATA_VERSION, 6, UnsafeDowngrade),
        (METADATA_VERSION, 0, UnsafeDowngrade),
        (METADATA_VERSION, 29, Upgrade),
        (METADATA_VERSION, 29, SafeDowngrade),
        (METADATA_VERSION, 29, UnsafeDowngrade),
        (METADATA_VERSION, 30, Unknown),
        ("kraft.version", 0, SafeDowngrade),
        ("kraft.version", 2, Upgrade),
        ("group.version", 2, Upgrade),
        ("share.version", 2, Upgrade),
        ("transaction.version", 3, Upgrade),
        (features::ELR_VERSION, 2, Upgrade),
        ("no.such.feature", 1, Upgrade),
        ("no.such.feature", -1, Upgrade),
    ];
    for (name, level, upgrade_type) in refused {
        let result = update(name, level, upgrade_type);
        assert_eq!(code(&result), Some(ErrorCode::InvalidUpdateVersion), "{name} {level} {upgrade_type:?}");
    }
    assert_eq!(update(METADATA_VERSION, 30, Upgrade), Ok(()));
    assert_eq!(update("kraft.version", 1, Upgrade), Ok(()));
    assert_eq!(update("group.version", 1, Upgrade), Ok(()));
    assert_eq!(update("group.version", 0, SafeDowngrade), Ok(()));
    assert_eq!(update("streams.version", 0, SafeDowngrade), Ok(()));
    assert_eq!(update("transaction.version", 0, SafeDowngrade), Ok(()));
    assert_eq!(update(features::ELR_VERSION, 0, SafeDowngrade), Ok(()));
    assert_eq!(update("share.version", 0, SafeDowngrade), Ok(()));
    assert_eq!(model.image.features().collect::<Vec<_>>(), [(METADATA_VERSION, 30)]);
}

#[test]
fn metadata_version_goes_down_as_long_as_no_record_changed() {
    let mut model = Model::with_brokers(&[1]);
    model.feature(METADATA_VERSION, 29);
    let mut update = |level| {
        let update = FeatureUpdate {
            name: METADATA_VERSION.to_owned(),
            level,
            upgrade_type: UpgradeType::SafeDowngrade,
        };
        model.run(|context| features::update(context, &[update], false))
    };
    assert_eq!(update(23), Ok(()));
    assert_eq!(code(&update(22)), Some(ErrorCode::InvalidUpdateVersion));
}

#[test]
fn a_new_life_of_a_broker_begins_new_leader_epochs() {
    let mut model = Model::with_brokers(&[1]);
    let id = model.create(topic("t", 2, 1)).unwrap();
    let epoch = model.image.brokers[&1].epoch;
    let again = model.run(|context| brokers::register(context, &registration(1, 2))).unwrap();
    assert!(again > epoch);
    let partition = model.image.topics.by_id(id).unwrap().partition(1).unwrap().clone();
    assert_eq!((partition.leader, partition.leader_epoch, partition.isr), (-1, 1, vec![]));
    assert_eq!((partition.elr, partition.last_known_elr), (vec![], vec![1]), "it may have lost something");
    let stale = model.run(|context| brokers::unfence(context, 1, epoch));
    assert_eq!(code(&stale), Some(ErrorCode::StaleBrokerEpoch));
    model.run(|context| brokers::unfence(context, 1, again)).unwrap();
    let partition = model.image.topics.by_id(id).unwrap().partition(1).unwrap().clone();
    assert_eq!((partition.leader, partition.leader_epoch, partition.partition_epoch), (1, 2, 2));
    assert_eq!((partition.isr, partition.recovering), (vec![1], true), "the last leader leads again");
    let same = model.run(|context| brokers::register(context, &registration(1, 2))).unwrap();
    assert_eq!(same, again, "the same life keeps its epoch");
    assert!(model.image.active_broker(1).is_some(), "and stays unfenced");
}

#[test]
fn leadership_goes_to_a_replica_in_sync() {
    for elr in [false, true] {
        let mut model = Model::with_brokers(&[1, 2, 3]);
        if !elr {
            model.feature(features::ELR_VERSION, 0);
        }
        let pair = model.create(assigned(&[(0, &[2, 3])])).unwrap();
        let alone = model.create(NewTopic { name: "alone".to_owned(), ..assigned(&[(0, &[2])]) }).unwrap();
        let previous_broker_epoch = model.image.brokers[&2].epoch;
        let clean = Registration { previous_broker_epoch, ..registration(2, 2) };
        model.run(|context| brokers::register(context, &clean)).unwrap();
        let partition = |id| model.image.topics.by_id(id).unwrap().partition(0).unwrap();
        let (two, one) = (partition(pair), partition(alone));
        assert_eq!((two.leader, two.isr.clone(), two.leader_epoch), (3, vec![3], 1));
        let last = if elr { (vec![], vec![2]) } else { (vec![2], vec![]) };
        assert_eq!((one.leader, one.isr.clone(), one.elr.clone()), (-1, last.0, last.1));
    }
}

#[test]
fn registrations_are_checked() {
    use ErrorCode::*;
    let mut model = Model::with_brokers(&[1]);
    let wrong = |change: &dyn Fn(&mut Registration)| {
        let mut wanted = registration(2, 1);
        change(&mut wanted);
        wanted
    };
    let cases = [
        (wrong(&|r| r.cluster_id = "d".to_owned()), InconsistentClusterId),
        (wrong(&|r| r.log_dirs.clear()), InvalidRegistration),
        (wrong(&|r| r.log_dirs = vec![Uuid::nil()]), InvalidRegistration),
        (wrong(&|r| r.log_dirs.push(r.log_dirs[0])), InvalidRegistration),
        (wrong(&|r| r.log_dirs = registration(1, 1).log_dirs), InvalidRegistration),
        (wrong(&|r| r.features.clear()), InvalidRegistration),
        (wrong(&|r| r.features[3].max = 29), UnsupportedVersion),
    ];
    for (wanted, expected) in cases {
        let result = model.run(|context| brokers::register(context, &wanted));
        assert_eq!(code(&result), Some(expected), "{wanted:?}");
    }
}

#[test]
fn producer_ids_come_in_blocks_and_only_once() {
    let mut model = Model::with_brokers(&[1]);
    let epoch = model.image.brokers[&1].epoch;
    let mut allocate = |epoch| model.run(|context| producer_ids::allocate(context, 1, epoch));
    assert_eq!(allocate(epoch), Ok(0..1_000));
    assert_eq!(allocate(epoch), Ok(1_000..2_000));
    assert_eq!(code(&allocate(epoch - 1)), Some(ErrorCode::StaleBrokerEpoch));
    assert_eq!(allocate(epoch), Ok(2_000..3_000));
}

#[test]
fn a_controller_begins_with_what_is_missing() {
    let empty: Vec<u32> = features::activate(&Image::empty(), false, &bootstrap::latest(), 1)
        .iter()
        .map(Record::kind)
        .collect();
    assert_eq!(empty, [23, 12, 12, 12, 12, 12, 12, 4, 24]);
    let crashed: Vec<u32> =
        features::activate(&Image::empty(), true, &bootstrap::latest(), 1).iter().map(Record::kind).collect();
    assert_eq!(crashed, [25, 23, 12, 12, 12, 12, 12, 12, 4, 24]);
    let model = Model::with_brokers(&[1]);
    assert_eq!(features::activate(&model.image, false, &bootstrap::latest(), 1), []);
}
