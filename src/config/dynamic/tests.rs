//! Tests of changes of configurations.

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn set(value: &str) -> ConfigOp {
    ConfigOp::Set(value.to_owned())
}

type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, ConfigOp, Result<&'a [(&'a str, &'a str)], &'a str>);

#[test]
fn topic_values_change_as_in_kafka() {
    let append = |items: &str| ConfigOp::Append(items.to_owned());
    let subtract = |items: &str| ConfigOp::Subtract(items.to_owned());
    let cases: &[Case<'_>] = &[
        (&[], "retention.ms", set("5"), Ok(&[("retention.ms", "5")])),
        (&[("retention.ms", "5")], "retention.ms", ConfigOp::Delete, Ok(&[])),
        (&[], "retention.ms", ConfigOp::Delete, Ok(&[])),
        (&[], "cleanup.policy", append("compact"), Ok(&[("cleanup.policy", "delete,compact")])),
        (&[], "cleanup.policy", append("delete"), Ok(&[("cleanup.policy", "delete")])),
        (
            &[("cleanup.policy", "delete,compact")],
            "cleanup.policy",
            subtract("delete"),
            Ok(&[("cleanup.policy", "compact")]),
        ),
        (&[], "cleanup.policy", subtract("delete"), Ok(&[("cleanup.policy", "")])),
        (
            &[],
            "retention.ms",
            append("5"),
            Err("Can't APPEND to key retention.ms because its type is not LIST."),
        ),
        (&[], "no.such.key", set("5"), Err("Unknown topic config name: no.such.key")),
        (
            &[],
            "retention.ms",
            set("-2"),
            Err("Invalid value -2 for configuration retention.ms: Value must be at least -1"),
        ),
        (
            &[],
            "min.compaction.lag.ms",
            set("9223372036854775807"),
            Ok(&[("min.compaction.lag.ms", "9223372036854775807")]),
        ),
        (
            &[("min.compaction.lag.ms", "9")],
            "max.compaction.lag.ms",
            set("8"),
            Err("conflict topic config setting min.compaction.lag.ms (9) > max.compaction.lag.ms (8)"),
        ),
        (
            &[],
            "remote.storage.enable",
            set("true"),
            Err("remote.storage.enable can not be true: tiered storage is disabled in this broker."),
        ),
        (
            &[],
            "leader.replication.throttled.replicas",
            set("0:1,1:2"),
            Ok(&[("leader.replication.throttled.replicas", "0:1,1:2")]),
        ),
        (
            &[],
            "leader.replication.throttled.replicas",
            set("all"),
            Err(
                "Invalid value [all] for configuration leader.replication.throttled.replicas: expected the literal '*' or a list of replicas in the format [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            ),
        ),
    ];
    let resource = ConfigResource::Topic("t".to_owned());
    for (current, name, op, expected) in cases {
        let ops = [((*name).to_owned(), op.clone())];
        let result = incremental(&resource, &map(current), &ops, &BrokerConfig::default());
        match (&result, expected) {
            (Ok(values), Ok(expected)) => assert_eq!(*values, map(expected), "{name} {op:?}"),
            (Err(error), Err(expected)) => {
                assert_eq!((error.code, error.to_string().as_str()), (ErrorCode::InvalidConfig, *expected));
            }
            _ => panic!("{name} {op:?}: {result:?}"),
        }
    }
}

#[test]
fn lists_of_a_broker_have_errors_of_their_own() {
    let resource = ConfigResource::Broker(Some(1));
    let cases = [
        ("log.cleanup.policy", Ok("delete,compact")),
        ("message.max.bytes", Err("Config value append is not allowed for config key: message.max.bytes")),
        ("no.such", Err("Unknown config name: no.such")),
    ];
    for (name, expected) in cases {
        let ops = [(name.to_owned(), ConfigOp::Append("compact".to_owned()))];
        let result = incremental(&resource, &map(&[]), &ops, &BrokerConfig::default());
        let result = result.map(|values| values[name].clone());
        let invalid = |text| ApiError::with(ErrorCode::InvalidConfig, text);
        assert_eq!(result, expected.map(str::to_owned).map_err(invalid), "{name}");
    }
}

#[test]
fn broker_values_change_within_their_scope() {
    let one = ConfigResource::Broker(Some(1));
    let all = ConfigResource::Broker(None);
    let cases = [
        (&one, "message.max.bytes", "5", None),
        (&all, "message.max.bytes", "5", None),
        (&all, "leader.replication.throttled.rate", "5", None),
        (&all, "log.cleaner.threads", "2", None),
        (&all, "plugin.of.mine", "x", None),
        (&one, "num.partitions", "5", Some("Cannot update these configs dynamically: [num.partitions]")),
        (
            &one,
            "message.max.bytes",
            "x",
            Some("Invalid value x for configuration message.max.bytes: Not a number of type INT"),
        ),
        (
            &one,
            "log.cleaner.threads",
            "x",
            Some("Invalid value x for configuration log.cleaner.threads: Not a number of type INT"),
        ),
        (
            &one,
            "log.retention.ms",
            "0",
            Some("log.retention.ms must be unlimited (-1) or, greater than or equal to 1"),
        ),
        (
            &one,
            "ssl.keystore.location",
            "/k",
            Some("security is not built yet, so these can not be set: [ssl.keystore.location]"),
        ),
        (
            &one,
            "listener.name.a.ssl.keystore.location",
            "/k",
            Some(
                "security is not built yet, so these can not be set: [listener.name.a.ssl.keystore.location]",
            ),
        ),
        (
            &all,
            "cordoned.log.dirs",
            "/k",
            Some(
                "Cannot update these configs at default cluster level, broker id must be specified: [cordoned.log.dirs]",
            ),
        ),
    ];
    for (resource, name, value, expected) in cases {
        let result = validate(resource, &map(&[(name, value)]), &BrokerConfig::default());
        let expected = expected.map(|text| ApiError::with(ErrorCode::InvalidRequest, text));
        assert_eq!(result.err(), expected, "{name}={value}");
    }
    let other = validate(&ConfigResource::Broker(Some(7)), &map(&[]), &BrokerConfig::default());
    assert_eq!(other.unwrap_err().to_string(), "Unexpected broker id, expected 1, but received 7");
}

#[test]
fn groups_and_subscriptions_have_their_own_errors() {
    let group = ConfigResource::Group("g".to_owned());
    let metrics = ConfigResource::ClientMetrics("m".to_owned());
    let cases = [
        (&group, "x", "1", ErrorCode::InvalidConfig, "Unknown group config name: x"),
        (&metrics, "x", "1", ErrorCode::InvalidRequest, "Unknown client metrics configuration: x"),
        (
            &metrics,
            "interval.ms",
            "99",
            ErrorCode::InvalidRequest,
            "Invalid value 99 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
        ),
        (&metrics, "match", "who=me", ErrorCode::InvalidConfig, "Illegal client matching pattern: who=me"),
    ];
    for (resource, name, value, code, text) in cases {
        let error = validate(resource, &map(&[(name, value)]), &BrokerConfig::default()).unwrap_err();
        assert_eq!(error, ApiError::with(code, text));
    }
    let valid = map(&[("match", "client_id=a.*"), ("interval.ms", "1000"), ("metrics", "*")]);
    assert_eq!(validate(&metrics, &valid, &BrokerConfig::default()), Ok(()));
    let empty = validate(&ConfigResource::Topic(String::new()), &map(&[]), &BrokerConfig::default());
    assert_eq!(empty.unwrap_err().code, ErrorCode::InvalidRequest);
}

#[test]
fn operations_are_read_with_kafkas_checks() {
    let op = |name: &str, number, value: Option<&str>| (name.to_owned(), number, value.map(str::to_owned));
    let read = read_ops([op("a", 0, Some("1")), op("b", 1, None), op("c", 2, Some("x"))]).unwrap();
    assert_eq!(read.len(), 3);
    let cases = [
        (vec![op("a", 0, Some("1")), op("a", 1, None)], "Error due to duplicate config keys"),
        (vec![op("a", 0, None), op("b", 2, None)], "Null value not supported for : a, b"),
        (vec![op("a", 9, Some("1"))], "Unknown operations type 9"),
    ];
    for (ops, text) in cases {
        assert_eq!(read_ops(ops).unwrap_err(), ApiError::with(ErrorCode::InvalidRequest, text));
    }
}

#[test]
fn a_value_that_is_too_long_for_a_record_is_refused() {
    let long = "1".repeat(VALUE_BYTES_MAX + 1);
    let ops = [("retention.ms".to_owned(), ConfigOp::Set(long))];
    let resource = ConfigResource::Topic("t".to_owned());
    let error = incremental(&resource, &BTreeMap::new(), &ops, &BrokerConfig::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidConfig);
}
