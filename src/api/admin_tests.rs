//! The APIs that administer, against a controller with its log: what each answers, in the words of the wire.

#![expect(clippy::unwrap_used, reason = "a test")]

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{alter_configs_request, incremental_alter_configs_request};
use uuid::Uuid;

use super::outcome::text;
use super::{
    alter_configs, create_partitions, create_topics, delete_topics, describe_configs, describe_quorum,
    incremental_alter_configs, list_config_resources, update_features,
};
use crate::metadata::Metadata;
use crate::metadata::command::PartitionQuota;
use crate::metadata::tests::Node;
use crate::protocol::messages::*;

const NONE: i16 = 0;
const UNKNOWN_TOPIC: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const UNSUPPORTED_VERSION: i16 = 35;
const TOPIC_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION: i16 = 38;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const DELETION_DISABLED: i16 = 73;
const INVALID_UPDATE_VERSION: i16 = 95;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn creatable(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    let topic = CreatableTopic::default().with_name(text(name).into());
    topic.with_num_partitions(partitions).with_replication_factor(replicas)
}

async fn create(metadata: &Metadata, topics: Vec<CreatableTopic>) -> CreateTopicsResponse {
    create_topics::create(metadata, CreateTopicsRequest::default().with_topics(topics), PartitionQuota::NONE)
        .await
}

/// Trap 32: defaults, every refusal, duplicates, and what newer versions answer besides.
#[tokio::test]
async fn create_topics_answers_every_topic_with_its_own_result() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("5")));
    let bad = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("x")));
    let response = create(
        &node.metadata,
        vec![
            creatable("defaults", -1, -1).with_configs(vec![config]),
            creatable("bad name", 1, 1),
            creatable("none", 0, 1),
            creatable("many", 1, 3),
            creatable("config", 1, 1).with_configs(vec![bad]),
            creatable("twice", 1, 1),
            creatable("twice", 1, 1),
            creatable("__cluster_metadata", 1, 1),
        ],
    )
    .await;
    let codes: Vec<_> =
        response.topics.iter().map(|topic| (topic.name.to_string(), topic.error_code)).collect();
    let expected = [
        ("defaults", NONE),
        ("bad name", INVALID_TOPIC),
        ("none", INVALID_PARTITIONS),
        ("many", INVALID_REPLICATION),
        ("config", INVALID_CONFIG),
        ("twice", INVALID_REQUEST),
        ("__cluster_metadata", INVALID_REQUEST),
    ];
    assert_eq!(codes, expected.map(|(name, code)| (name.to_owned(), code)));
    assert!(response.topics.iter().all(|topic| (topic.error_code == NONE) == topic.error_message.is_none()));
    let created = &response.topics[0];
    assert_eq!(node.metadata.image().topics.get("defaults").unwrap().id, created.topic_id);
    assert_eq!((created.num_partitions, created.replication_factor), (1, 1));
    let configs = created.configs.as_ref().unwrap();
    assert!(configs.is_sorted_by_key(|config| config.name.to_string()));
    let own = configs.iter().find(|config| config.name.as_str() == "retention.ms").unwrap();
    assert_eq!((own.value.as_deref(), own.config_source), (Some("5"), 1));

    let again = create(&node.metadata, vec![creatable("defaults", 1, 1)]).await;
    assert_eq!(again.topics[0].error_code, TOPIC_EXISTS);
    let request =
        CreateTopicsRequest::default().with_topics(vec![creatable("tried", 4, 1)]).with_validate_only(true);
    let tried = create_topics::create(&node.metadata, request, PartitionQuota::NONE).await;
    assert_eq!((tried.topics[0].error_code, tried.topics[0].num_partitions), (NONE, 4));
    assert!(node.metadata.image().topics.get("tried").is_none());
    node.stop().await;
}

#[tokio::test]
async fn delete_topics_takes_names_and_since_version_6_ids() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let [_, by_id, both] =
        [node.create("name", 1).await, node.create("id", 1).await, node.create("both", 1).await];
    let name = |name: &str| DeleteTopicState::default().with_name(Some(text(name).into()));
    let id = |id| DeleteTopicState::default().with_topic_id(id);
    let unknown = Uuid::from_u128(987_654);
    let request = DeleteTopicsRequest::default().with_topics(vec![
        name("name"),
        id(by_id),
        name("no"),
        id(unknown),
        DeleteTopicState::default(),
        name("both").with_topic_id(both),
        name("dup"),
        name("dup"),
    ]);
    let response = delete_topics::delete(&node.metadata, request, 6, PartitionQuota::NONE).await;
    let codes: Vec<_> = response.responses.iter().map(|one| one.error_code).collect();
    let expected =
        [NONE, NONE, UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, INVALID_REQUEST, INVALID_REQUEST, INVALID_REQUEST];
    assert_eq!(codes, expected);
    assert_eq!(response.responses[1].name.as_ref().unwrap().as_str(), "id");
    assert_eq!(response.responses[3].topic_id, unknown);

    let same = DeleteTopicsRequest::default().with_topics(vec![name("both"), id(both)]);
    let response = delete_topics::delete(&node.metadata, same, 6, PartitionQuota::NONE).await;
    assert_eq!(response.responses.iter().map(|one| one.error_code).collect::<Vec<_>>(), [INVALID_REQUEST; 2]);
    assert!(node.metadata.image().topics.get("both").is_some());

    let names = vec![text("both").into(), text("no").into()];
    let old = DeleteTopicsRequest::default().with_topic_names(names);
    let response = delete_topics::delete(&node.metadata, old, 1, PartitionQuota::NONE).await;
    let answers: Vec<_> = response
        .responses
        .iter()
        .map(|one| (one.name.as_ref().unwrap().to_string(), one.error_code))
        .collect();
    assert_eq!(answers, [("both".to_owned(), NONE), ("no".to_owned(), UNKNOWN_TOPIC)]);
    node.stop().await;

    let directory = tempfile::tempdir().unwrap();
    let node = Node::start_with(directory.path(), &[("delete.topic.enable", "false")]).await;
    for (version, code) in [(2, INVALID_REQUEST), (5, DELETION_DISABLED)] {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![text("t").into()]);
        let response = delete_topics::delete(&node.metadata, request, version, PartitionQuota::NONE).await;
        assert_eq!(response.responses[0].error_code, code);
    }
    node.stop().await;
}

#[tokio::test]
async fn create_partitions_refuses_a_topic_that_stands_twice() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let topic = node.create("t", 1).await;
    node.create("u", 1).await;
    let more = |name: &str, count| {
        CreatePartitionsTopic::default().with_name(text(name).into()).with_count(count).with_assignments(None)
    };
    let topics = vec![more("t", 3), more("u", 2), more("u", 3), more("no", 2)];
    let request = CreatePartitionsRequest::default().with_topics(topics);
    let response = create_partitions::create(&node.metadata, request, PartitionQuota::NONE).await;
    let mut codes: Vec<_> =
        response.results.iter().map(|one| (one.name.to_string(), one.error_code)).collect();
    codes.sort();
    let expected = [("no", UNKNOWN_TOPIC), ("t", NONE), ("u", INVALID_REQUEST)];
    assert_eq!(codes, expected.map(|(name, code)| (name.to_owned(), code)));
    assert!(node.logs.get(topic, 2).is_some());
    node.stop().await;
}

fn describe(metadata: &Metadata, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(*key)).collect()));
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    describe_configs::describe_all(metadata, &crate::levels::Levels::default(), &request).results.remove(0)
}

/// Trap 34: sources, synonyms in order of precedence, types, documentation, all keys or some.
#[tokio::test]
async fn describe_configs_says_where_values_come_from() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    node.create("t", 1).await;
    let set = |kind, name: &str, key: &str, value: &str| incremental(kind, name, &[(key, 0, Some(value))]);
    let changes = vec![
        set(2, "t", "retention.ms", "1"),
        set(4, "1", "log.retention.ms", "2"),
        set(4, "", "log.retention.ms", "3"),
    ];
    assert_eq!(alter(&node.metadata, changes).await, [NONE; 3]);
    let described = describe(&node.metadata, 2, "t", Some(&["retention.ms"]));
    assert_eq!(described.configs.len(), 1);
    let entry = &described.configs[0];
    let synonyms: Vec<_> = entry
        .synonyms
        .iter()
        .map(|one| (one.name.to_string(), one.value.as_deref().unwrap().to_owned(), one.source))
        .collect();
    let owned = |name: &str, value: &str, source: i8| (name.to_owned(), value.to_owned(), source);
    assert_eq!(synonyms[0], owned("retention.ms", "1", 1));
    assert_eq!(synonyms[1], owned("log.retention.ms", "2", 2));
    assert_eq!(synonyms[2], owned("log.retention.ms", "3", 3));
    assert_eq!((entry.value.as_deref(), entry.config_source, entry.config_type), (Some("1"), 1, 5));
    assert!(!entry.documentation.as_ref().unwrap().is_empty());

    assert!(describe(&node.metadata, 2, "t", None).configs.len() > 20);
    assert!(
        describe(&node.metadata, 2, "t", Some(&[])).configs.len() > 20,
        "an empty list is no list in 4.3"
    );
    assert!(describe(&node.metadata, 4, "1", None).configs.len() > 50);
    let cluster = describe(&node.metadata, 4, "", None);
    let names: Vec<_> = cluster.configs.iter().map(|config| config.name.as_str()).collect();
    assert_eq!(names, ["log.retention.ms", "min.insync.replicas"]);
    assert_eq!(describe(&node.metadata, 32, "any", None).error_code, NONE);
    let refused = [(2, "no", UNKNOWN_TOPIC), (2, "b d", INVALID_TOPIC), (4, "7", INVALID_REQUEST)];
    let refused = refused.into_iter().chain([(4, "x", INVALID_REQUEST), (8, "7", INVALID_REQUEST)]);
    let refused =
        refused.chain([(16, "", INVALID_REQUEST), (32, "", INVALID_REQUEST), (99, "x", INVALID_REQUEST)]);
    for (kind, name, code) in refused {
        let described = describe(&node.metadata, kind, name, None);
        assert_eq!((described.error_code, described.configs.len()), (code, 0), "{kind} {name}");
    }
    node.stop().await;
}

fn incremental(
    kind: i8,
    name: &str,
    ops: &[(&str, i8, Option<&str>)],
) -> incremental_alter_configs_request::AlterConfigsResource {
    let config = |(name, op, value): &(&str, i8, Option<&str>)| {
        incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text(*name))
            .with_config_operation(*op)
            .with_value(value.map(text))
    };
    incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(ops.iter().map(config).collect())
}

async fn alter(
    metadata: &Metadata,
    resources: Vec<incremental_alter_configs_request::AlterConfigsResource>,
) -> Vec<i16> {
    let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
    let response = incremental_alter_configs::alter(metadata, request).await;
    response.responses.iter().map(|one| one.error_code).collect()
}

/// Trap 35: the older API replaces everything, the newer one changes single keys; duplicates are refused.
#[tokio::test]
async fn configurations_are_replaced_or_changed_key_by_key() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    node.create("t", 1).await;
    let value = |key: &str| {
        let values = node.metadata.image();
        values
            .config(&crate::metadata::ConfigResource::topic("t"))
            .and_then(|values| values.get(key).cloned())
    };
    let ops = [("retention.ms", 0, Some("5")), ("cleanup.policy", 2, Some("compact"))];
    assert_eq!(alter(&node.metadata, vec![incremental(2, "t", &ops)]).await, [NONE]);
    assert_eq!(value("cleanup.policy").as_deref(), Some("delete,compact"));
    let subtract = [("cleanup.policy", 3, Some("delete")), ("retention.ms", 1, None)];
    assert_eq!(alter(&node.metadata, vec![incremental(2, "t", &subtract)]).await, [NONE]);
    assert_eq!((value("cleanup.policy").as_deref(), value("retention.ms")), (Some("compact"), None));

    let refused = vec![
        incremental(2, "t", &[("retention.ms", 0, Some("x"))]),
        incremental(2, "no", &[("retention.ms", 0, Some("5"))]),
        incremental(2, "u", &[("retention.ms", 0, None)]),
        incremental(2, "v", &[("retention.ms", 9, Some("5"))]),
        incremental(2, "w", &[("retention.ms", 0, Some("5")), ("retention.ms", 1, None)]),
        incremental(4, "2", &[("log.retention.ms", 0, Some("5"))]),
        incremental(4, "1", &[("num.partitions", 0, Some("5"))]),
        incremental(8, "1", &[("root", 0, Some("INFO"))]),
        incremental(77, "x", &[]),
        incremental(2, "x", &[]),
        incremental(2, "x", &[]),
    ];
    let mut expected = vec![INVALID_CONFIG, UNKNOWN_TOPIC];
    expected.extend([INVALID_REQUEST; 9]);
    assert_eq!(alter(&node.metadata, refused).await, expected);

    let resource = |name: &str, values: &[(&str, Option<&str>)]| {
        let config = |(name, value): &(&str, Option<&str>)| {
            alter_configs_request::AlterableConfig::default()
                .with_name(text(*name))
                .with_value(value.map(text))
        };
        alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(name))
            .with_configs(values.iter().map(config).collect())
    };
    let replace = async |resources, validate_only| {
        let request =
            AlterConfigsRequest::default().with_resources(resources).with_validate_only(validate_only);
        let response = alter_configs::alter(&node.metadata, request).await;
        response.responses.iter().map(|one| one.error_code).collect::<Vec<_>>()
    };
    let wanted = resource("t", &[("retention.bytes", Some("9"))]);
    assert_eq!(replace(vec![wanted.clone()], true).await, [NONE]);
    assert_eq!(value("cleanup.policy").as_deref(), Some("compact"), "it was only tried");
    assert_eq!(replace(vec![wanted.clone(), wanted.clone()], false).await, [INVALID_REQUEST; 2]);
    assert_eq!(replace(vec![resource("t", &[("retention.ms", None)])], false).await, [INVALID_REQUEST]);
    assert_eq!(replace(vec![wanted], false).await, [NONE]);
    assert_eq!((value("cleanup.policy"), value("retention.bytes").as_deref()), (None, Some("9")));
    node.stop().await;
}

#[tokio::test]
async fn list_config_resources_knows_metrics_only_in_version_0() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    node.create("t", 1).await;
    let changes = vec![
        incremental(16, "m", &[("interval.ms", 0, Some("1000"))]),
        incremental(32, "g", &[("consumer.session.timeout.ms", 0, Some("50000"))]),
    ];
    assert_eq!(alter(&node.metadata, changes).await, [NONE; 2]);
    let list = |asked: &[i8], version| {
        let response = list_config_resources::list(&node.metadata.image(), asked, version);
        let names =
            response.config_resources.iter().map(|one| (one.resource_type, one.resource_name.to_string()));
        (response.error_code, names.collect::<Vec<_>>())
    };
    let owned =
        |all: &[(i8, &str)]| all.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect::<Vec<_>>();
    assert_eq!(list(&[], 0), (NONE, owned(&[(16, "m")])));
    assert_eq!(list(&[], 1), (NONE, owned(&[(32, "g"), (16, "m"), (8, "1"), (4, "1"), (2, "t")])));
    assert_eq!(list(&[2, 32], 1), (NONE, owned(&[(32, "g"), (2, "t")])));
    assert_eq!(list(&[2], 0), (UNSUPPORTED_VERSION, vec![]));
    assert_eq!(list(&[1], 1), (UNSUPPORTED_VERSION, vec![]));
    node.stop().await;
}

/// Trap 58: what `kafka-metadata-quorum describe` prints.
#[tokio::test]
async fn describe_quorum_has_one_voter_that_leads() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let request = |topic: &str, partitions: &[i32]| {
        let partition = |index: &i32| PartitionData::default().with_partition_index(*index);
        let topic = TopicData::default().with_topic_name(text(topic).into());
        let topic = topic.with_partitions(partitions.iter().map(partition).collect());
        DescribeQuorumRequest::default().with_topics(vec![topic])
    };
    for version in 0..=2 {
        let described =
            describe_quorum::describe(&node.metadata, request("__cluster_metadata", &[0]), version).await;
        let partition = &described.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id.0, partition.leader_epoch), (NONE, 1, 1));
        let voter = &partition.current_voters[0];
        assert_eq!((voter.replica_id.0, voter.log_end_offset), (1, partition.high_watermark));
        assert_eq!(voter.replica_directory_id.is_nil(), version < 2);
        assert_eq!(described.nodes.len(), usize::from(version == 2));
    }
    for (topic, partitions) in
        [("t", &[0][..]), ("__cluster_metadata", &[1]), ("__cluster_metadata", &[0, 1])]
    {
        let described = describe_quorum::describe(&node.metadata, request(topic, partitions), 2).await;
        let codes: Vec<_> = described.topics[0].partitions.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, vec![UNKNOWN_TOPIC; partitions.len()]);
    }
    node.stop().await;
}

#[tokio::test]
async fn update_features_has_results_for_each_feature_up_to_version_1() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let request = |feature: &str, level, upgrade_type| {
        let update = FeatureUpdateKey::default().with_feature(text(feature)).with_max_version_level(level);
        UpdateFeaturesRequest::default().with_feature_updates(vec![update.with_upgrade_type(upgrade_type)])
    };
    for version in 0..=2 {
        let done = update_features::update(&node.metadata, request("metadata.version", 30, 1), version).await;
        assert_eq!((done.error_code, done.results.len()), (NONE, usize::from(version < 2)));
        for (feature, level, upgrade_type) in [("share.version", 2, 1), ("metadata.version", 31, 1)] {
            let request = request(feature, level, upgrade_type);
            let refused = update_features::update(&node.metadata, request, version).await;
            assert_eq!((refused.error_code, refused.results.len()), (INVALID_UPDATE_VERSION, 0));
            assert!(refused.error_message.unwrap().contains(feature));
        }
    }
    let unknown = update_features::update(&node.metadata, request("metadata.version", 30, 9), 2).await;
    assert_eq!(unknown.error_code, INVALID_UPDATE_VERSION);
    let mut old = request("metadata.version", 29, 1);
    old.feature_updates[0].allow_downgrade = true;
    let refused = update_features::update(&node.metadata, old, 0).await;
    assert!(refused.error_message.unwrap().contains("lose metadata"));
    node.stop().await;
}
