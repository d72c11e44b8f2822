//! Tests of the declarations and of what values mean.

use std::collections::BTreeMap;

use super::broker::BROKER_KEYS;
use super::group::{CLIENT_METRICS_KEYS, GROUP_KEYS};
use super::key::{ConfigType, parse_type};
use super::topic::TOPIC_KEYS;
use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn broker(pairs: &[(&str, &str)]) -> BrokerConfig {
    BrokerConfig::from_static(map(pairs)).unwrap()
}

#[test]
fn every_declared_default_is_a_valid_value_of_its_key() {
    for table in [BROKER_KEYS, TOPIC_KEYS, GROUP_KEYS, CLIENT_METRICS_KEYS] {
        for key in table {
            if let Some(default) = key.default {
                assert!(key.parse(default).is_ok(), "{}: {:?}", key.name, key.parse(default));
            }
            assert!(key.documentation.ends_with('.'), "{} needs a sentence", key.name);
        }
    }
    let _ = (BrokerConfig::default(), TopicConfig::default());
    assert!(GroupConfig::resolve(&BTreeMap::new(), &BrokerConfig::default()).is_ok());
    assert!(ClientMetricsConfig::resolve(&BTreeMap::new()).is_ok());
}

#[test]
fn every_broker_key_of_kafka_stands_in_exactly_one_table() {
    let mut names: Vec<&str> = BROKER_KEYS.iter().map(|key| key.name).collect();
    names.extend(unsupported::without_effect().iter().map(|key| key.name));
    names.extend(unsupported::refused().iter().map(|key| key.name));
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    // Apache Kafka 4.3.1 defines 360 keys in KafkaConfig.
    assert_eq!((names.len(), all), (360, 360));
    for key in unsupported::without_effect().iter().chain(unsupported::refused()) {
        if let Some(default) = key.default {
            assert!(parse_type(key.name, key.kind, default).is_ok(), "{}", key.name);
        }
    }
}

#[test]
fn values_are_read_as_kafka_reads_them() {
    let cases: &[(ConfigType, &str, Result<&str, &str>)] = &[
        (ConfigType::Boolean, " TRUE ", Ok("true")),
        (
            ConfigType::Boolean,
            "yes",
            Err("Invalid value yes for configuration x: Expected value to be either true or false"),
        ),
        (ConfigType::Int, " 12 ", Ok("12")),
        (ConfigType::Int, "+12", Ok("12")),
        (
            ConfigType::Int,
            "2147483648",
            Err("Invalid value 2147483648 for configuration x: Not a number of type INT"),
        ),
        (
            ConfigType::Short,
            "32768",
            Err("Invalid value 32768 for configuration x: Not a number of type SHORT"),
        ),
        (ConfigType::Long, "9223372036854775807", Ok("9223372036854775807")),
        (ConfigType::Long, "", Err("Invalid value  for configuration x: Not a number of type LONG")),
        (ConfigType::Double, "1", Ok("1.0")),
        (ConfigType::Double, "0.5", Ok("0.5")),
        (ConfigType::Double, "1.7976931348623157E308", Ok("1.7976931348623157E308")),
        (ConfigType::Double, "10000000", Ok("1.0E7")),
        (ConfigType::List, "", Ok("")),
        (ConfigType::List, " a , b,c ", Ok("a,b,c")),
        (ConfigType::Password, " p ", Ok("p")),
    ];
    for (kind, text, expected) in cases {
        let read = parse_type("x", *kind, text).map(|value| value.to_string()).map_err(|error| error.0);
        assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned), "{kind:?} {text:?}");
    }
}

#[test]
fn values_out_of_range_are_refused_in_kafkas_words() {
    let cases = [
        ("num.partitions", "0", "Invalid value 0 for configuration num.partitions: Value must be at least 1"),
        (
            "compression.type",
            "brotli",
            "Invalid value brotli for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            "compression.gzip.level",
            "0",
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
        ),
        (
            "compression.lz4.level",
            "18",
            "Invalid value 18 for configuration compression.lz4.level: Value must be no more than 17",
        ),
        (
            "log.cleanup.policy",
            "delete,,compact",
            "Configuration 'log.cleanup.policy' values must not be empty.",
        ),
        (
            "log.cleanup.policy",
            "remove",
            "Invalid value remove for configuration log.cleanup.policy: String must be one of: compact, delete",
        ),
        (
            "log.cleaner.min.cleanable.ratio",
            "1.5",
            "Invalid value 1.5 for configuration log.cleaner.min.cleanable.ratio: Value must be no more than 1",
        ),
        (
            "listeners",
            "",
            "Configuration 'listeners' must not be empty. Valid values include: any non-empty value",
        ),
        ("log.retention.ms", "0", "log.retention.ms must be unlimited (-1) or, greater than or equal to 1"),
        (
            "max.connections.per.ip",
            "0",
            "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
        ),
        (
            "queued.max.request.bytes",
            "5",
            "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
        ),
    ];
    for (name, value, expected) in cases {
        let error = BrokerConfig::from_static(map(&[(name, value)])).unwrap_err();
        assert_eq!(error.0, expected);
    }
    let doubles = broker(&[("log.cleanup.policy", "delete, delete")]);
    assert_eq!(doubles.log_cleanup_policy, ["delete"]);
    let ids = BrokerConfig::from_static(map(&[("node.id", "1"), ("broker.id", "2")])).unwrap_err();
    assert!(ids.0.contains("the same value"), "{ids}");
}

#[test]
fn a_topic_falls_back_to_the_brokers_keys_in_their_order() {
    let cases: &[(&[(&str, &str)], i64)] = &[
        (&[], 604_800_000),
        (&[("log.retention.hours", "1")], 3_600_000),
        (&[("log.retention.hours", "1"), ("log.retention.minutes", "2")], 120_000),
        (&[("log.retention.hours", "1"), ("log.retention.minutes", "2"), ("log.retention.ms", "3")], 3),
        (&[("log.retention.minutes", "-1")], -1),
    ];
    for (values, expected) in cases {
        let config = TopicConfig::resolve(&BTreeMap::new(), &broker(values));
        assert_eq!(config.retention_ms, *expected, "{values:?}");
    }
    let values =
        [("message.max.bytes", "77"), ("log.roll.hours", "2"), ("log.flush.scheduler.interval.ms", "9")];
    let config = TopicConfig::resolve(&map(&[("retention.bytes", "5")]), &broker(&values));
    assert_eq!((config.max_message_bytes, config.segment_ms, config.flush_ms), (77, 7_200_000, 9));
    assert_eq!(config.retention_bytes, 5);
    assert!(config.deletes() && !config.compacts() && !config.uses_log_append_time());
}

#[test]
fn an_override_that_is_not_valid_leaves_the_topic_its_default() {
    let overrides = map(&[("retention.ms", "soon"), ("max.message.bytes", "5"), ("no.such.key", "1")]);
    let config = TopicConfig::resolve(&overrides, &BrokerConfig::default());
    assert_eq!((config.retention_ms, config.max_message_bytes), (604_800_000, 5));
}

#[test]
fn dynamic_values_win_over_static_ones_and_the_brokers_own_over_the_clusters() {
    let config = broker(&[("message.max.bytes", "1"), ("log.retention.hours", "1")]);
    let cluster = map(&[("message.max.bytes", "2"), ("log.retention.ms", "20")]);
    let effective = config.with_dynamic(&cluster, &map(&[("message.max.bytes", "3")])).unwrap();
    assert_eq!(effective.message_max_bytes, 3);
    let topic = TopicConfig::resolve(&BTreeMap::new(), &effective);
    assert_eq!((topic.max_message_bytes, topic.retention_ms), (3, 20));
    assert_eq!(config.with_dynamic(&cluster, &BTreeMap::new()).unwrap().message_max_bytes, 2);
}

#[test]
fn addresses_can_have_a_connection_limit_of_their_own() {
    let config = broker(&[("max.connections.per.ip.overrides", "10.0.0.1:5, [::1]:7,host:0")]);
    let expected = [("10.0.0.1".to_owned(), 5), ("::1".to_owned(), 7), ("host".to_owned(), 0)];
    assert_eq!(config.connection_limits_by_address(), expected);
    assert!(BrokerConfig::from_static(map(&[("max.connections.per.ip.overrides", "10.0.0.1")])).is_err());
}

#[test]
fn group_values_stay_within_the_brokers_bounds() {
    let cases = [
        (
            "consumer.session.timeout.ms",
            "1000",
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        (
            "consumer.heartbeat.interval.ms",
            "20000",
            "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms",
        ),
        (
            "share.isolation.level",
            "none",
            "Invalid value none for configuration share.isolation.level: String must be one of: read_committed, read_uncommitted",
        ),
    ];
    for (name, value, expected) in cases {
        let error = GroupConfig::resolve(&map(&[(name, value)]), &BrokerConfig::default()).unwrap_err();
        assert_eq!(error.0, expected);
    }
    for (value, valid) in [
        ("earliest", true),
        ("by_duration:PT1H", true),
        ("by_duration:P1DT2.5S", true),
        ("by_duration:P", false),
        ("by_duration:-PT1H", false),
        ("never", false),
    ] {
        let config =
            GroupConfig::resolve(&map(&[("share.auto.offset.reset", value)]), &BrokerConfig::default());
        assert_eq!(config.is_ok(), valid, "{value}");
    }
}

#[test]
fn security_keys_are_refused_unless_they_say_what_is_true_anyway() {
    let cases = [
        ("ssl.keystore.location", "/k.jks", true),
        ("ssl.protocol", "TLSv1.3", false),
        ("ssl.client.auth", "required", true),
        ("authorizer.class.name", "", false),
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer", true),
        ("listener.name.internal.ssl.keystore.location", "/k.jks", true),
        ("listener.name.internal.scram-sha-256.sasl.jaas.config", "x", true),
        ("num.io.threads", "9", false),
        ("create.topic.policy.class.name", "a.B", true),
    ];
    for (name, value, refused) in cases {
        assert_eq!(unsupported::is_refused(name, value), refused, "{name}={value}");
    }
}

#[test]
fn a_topics_keys_are_described_with_what_stands_behind_them() {
    use super::describe::ConfigSource::{Default as Unset, DynamicDefaultBroker, StaticBroker, Topic};
    let config = broker(&[("message.max.bytes", "7"), ("log.retention.hours", "1")])
        .with_dynamic(&map(&[("message.max.bytes", "8")]), &BTreeMap::new())
        .unwrap();
    let described = describe::topic(&map(&[("max.message.bytes", " 9 ")]), &config);
    assert_eq!(described.len(), TOPIC_KEYS.len());
    let find = |name: &str| described.iter().find(|key| key.name == name).unwrap();
    let key = find("max.message.bytes");
    assert_eq!((key.value.as_deref(), key.source, key.type_id, key.read_only), (Some("9"), Topic, 3, false));
    let behind: Vec<_> =
        key.synonyms.iter().map(|s| (s.name.as_str(), s.value.as_deref(), s.source)).collect();
    assert_eq!(
        behind,
        [
            ("max.message.bytes", Some("9"), Topic),
            ("message.max.bytes", Some("8"), DynamicDefaultBroker),
            ("message.max.bytes", Some("7"), StaticBroker),
            ("message.max.bytes", Some("1048588"), Unset),
        ]
    );
    // Kafka reports the hours' value, and no synonyms, where only log.retention.hours is set.
    let key = find("retention.ms");
    assert_eq!((key.value.as_deref(), key.source, key.synonyms.len()), (Some("3600000"), Unset, 0));
    assert_eq!(find("min.cleanable.dirty.ratio").value.as_deref(), Some("0.5"));
    assert!(find("index.interval.bytes").documentation.contains("without effect"));
}

#[test]
fn a_brokers_keys_are_described_with_their_sources() {
    use super::describe::ConfigSource::{
        Default as Unset, DynamicBroker, DynamicDefaultBroker, StaticBroker,
    };
    let config = broker(&[
        ("node.id", "4"),
        ("num.io.threads", "9"),
        ("my.plugin.secret", "x"),
        ("log.retention.hours", "2"),
    ])
    .with_dynamic(&map(&[("compression.type", "zstd")]), &map(&[("compression.type", "lz4")]))
    .unwrap();
    let described = describe::broker(&config);
    let find = |name: &str| described.iter().find(|key| key.name == name).unwrap();
    let cases = [
        ("node.id", Some("4"), StaticBroker, true, false, 2),
        ("compression.type", Some("lz4"), DynamicBroker, false, false, 3),
        ("num.io.threads", Some("9"), StaticBroker, false, false, 2),
        ("my.plugin.secret", None, StaticBroker, true, true, 1),
        ("log.retention.ms", None, Unset, false, false, 0),
        ("log.retention.hours", Some("2"), StaticBroker, true, false, 2),
        ("group.initial.rebalance.delay.ms", Some("0"), Unset, true, false, 1),
    ];
    for (name, value, source, read_only, sensitive, synonyms) in cases {
        let key = find(name);
        let seen = (key.value.as_deref(), key.source, key.read_only, key.sensitive, key.synonyms.len());
        assert_eq!(seen, (value, source, read_only, sensitive, synonyms), "{name}");
    }
    let cluster = describe::cluster(&config);
    assert_eq!(cluster.len(), 1);
    assert_eq!((cluster[0].value.as_deref(), cluster[0].source), (Some("zstd"), DynamicDefaultBroker));
}

#[test]
fn a_groups_keys_fall_back_to_the_brokers() {
    use super::describe::ConfigSource::{Default as Unset, Group, StaticBroker};
    let config = broker(&[("group.consumer.session.timeout.ms", "50000")]);
    let described = describe::group(&map(&[("share.isolation.level", "read_committed")]), &config);
    let find = |name: &str| described.iter().find(|key| key.name == name).unwrap();
    assert_eq!(
        (find("consumer.session.timeout.ms").value.as_deref(), find("consumer.session.timeout.ms").source),
        (Some("50000"), StaticBroker)
    );
    assert_eq!(find("share.isolation.level").source, Group);
    assert_eq!(find("share.isolation.level").synonyms.len(), 2);
    assert_eq!(find("share.auto.offset.reset").source, Unset);
    let metrics = describe::client_metrics(&map(&[("interval.ms", "1000")]));
    assert_eq!(
        metrics.iter().filter(|key| key.source == super::describe::ConfigSource::ClientMetrics).count(),
        1
    );
}
