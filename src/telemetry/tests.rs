//! What clients are told and what becomes of what they push.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;
use crate::config::ClientMetricsConfig;

const THROTTLED: ErrorCode = ErrorCode::ThrottlingQuotaExceeded;

/// A client whose connection lives as long as the token.
fn client(id: &str) -> (Identity, Arc<()>) {
    let alive = Arc::new(());
    let identity = Identity {
        client_id: Some(id.to_owned()),
        software: ("apache-kafka-java".to_owned(), "4.3.1".to_owned()),
        peer: SocketAddr::from(([10, 0, 0, 7], 4_711)),
        connection: Arc::downgrade(&alive),
    };
    (identity, alive)
}

fn subscription(name: &str, values: &[(&str, &str)]) -> Subscription {
    let values: BTreeMap<_, _> =
        values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Subscription::new(name, &ClientMetricsConfig::resolve(&values).unwrap()).unwrap()
}

fn push(wanted: &Wanted, metrics: Vec<u8>) -> Push {
    Push {
        instance_id: wanted.instance_id,
        subscription_id: wanted.subscription_id,
        is_terminating: false,
        compression: 0,
        metrics: metrics.into(),
    }
}

/// A field of a message whose value is bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        field.push(u8::try_from(length & 127).unwrap() | 128);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    field.extend_from_slice(bytes);
    field
}

fn key_value(key: &str, value: &str) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
}

fn double(number: u8, value: f64) -> Vec<u8> {
    [vec![number << 3 | 1], value.to_le_bytes().to_vec()].concat()
}

fn sum(name: &str, temporality: u8, is_monotonic: bool, value: i64) -> Vec<u8> {
    let point = [vec![6 << 3 | 1], value.to_le_bytes().to_vec()].concat();
    let flags = [2 << 3, temporality, 3 << 3, u8::from(is_monotonic)];
    field(2, &[field(1, name.as_bytes()), field(7, &[field(1, &point), flags.to_vec()].concat())].concat())
}

fn gauge(name: &str, value: f64, attributes: &[(&str, &str)]) -> Vec<u8> {
    let attributes = attributes.iter().flat_map(|(key, value)| field(7, &key_value(key, value)));
    let point: Vec<u8> = double(4, value).into_iter().chain(attributes).collect();
    field(2, &[field(1, name.as_bytes()), field(5, &field(1, &point))].concat())
}

fn fixed(number: u8, value: u64) -> Vec<u8> {
    [vec![number << 3 | 1], value.to_le_bytes().to_vec()].concat()
}

fn histogram(name: &str, temporality: u8, bounds: &[f64], counts: &[u64]) -> Vec<u8> {
    let packed_counts: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    let packed_bounds: Vec<u8> = bounds.iter().flat_map(|bound| bound.to_le_bytes()).collect();
    let point = [
        fixed(4, counts.iter().sum()),
        double(5, 2.5),
        field(6, &packed_counts),
        field(7, &packed_bounds),
        field(9, &key_value("le", "mine")),
    ];
    let temporality = vec![2 << 3, temporality];
    field(
        2,
        &[field(1, name.as_bytes()), field(9, &[field(1, &point.concat()), temporality].concat())].concat(),
    )
}

fn zigzag(number: i8) -> u8 {
    ((number << 1) ^ (number >> 7)).cast_unsigned()
}

/// With the same buckets for negative values.
fn exponential(
    name: &str,
    temporality: u8,
    (scale, offset, counts): (i8, i8, &[u8]),
    (zeros, threshold): (u64, f64),
) -> Vec<u8> {
    let buckets = [vec![1 << 3, zigzag(offset)], field(2, counts)].concat();
    let scale = vec![6 << 3, zigzag(scale)];
    let point = [scale, fixed(7, zeros), field(8, &buckets), field(9, &buckets), double(14, threshold)];
    let temporality = vec![2 << 3, temporality];
    field(
        2,
        &[field(1, name.as_bytes()), field(10, &[field(1, &point.concat()), temporality].concat())].concat(),
    )
}

fn summary(name: &str, quantiles: &[(f64, f64)]) -> Vec<u8> {
    let quantiles = quantiles
        .iter()
        .map(|(quantile, value)| field(6, &[double(1, *quantile), double(2, *value)].concat()));
    let point = [fixed(4, 7), double(5, 70.0)].into_iter().chain(quantiles).collect::<Vec<_>>().concat();
    field(2, &[field(1, name.as_bytes()), field(11, &field(1, &point))].concat())
}

/// MetricsData of a client with a group.
fn metrics_data(metrics: &[Vec<u8>]) -> Vec<u8> {
    let resource = field(1, &field(1, &key_value("group_id", "g")));
    field(1, &[resource, field(2, &metrics.concat())].concat())
}

#[test]
fn clients_get_the_subscriptions_that_match_them_all_at_once() {
    let telemetry = Telemetry::new(1_000);
    let (identity, _alive) = client("app-1");
    let [id, fresh] = [7, 8].map(Uuid::from_u128);
    let wanted = telemetry.wanted(Uuid::nil(), fresh, &identity, 0).unwrap();
    assert_eq!((wanted.instance_id, wanted.push_interval_ms, wanted.metrics.len()), (fresh, 300_000, 0));
    telemetry.subscribe(1, || {
        let matching = "client_id=app-.*,client_source_port=4711";
        vec![
            subscription("all", &[("metrics", "org.apache.kafka.producer.,a"), ("interval.ms", "5000")]),
            subscription("some", &[("metrics", "b,a"), ("interval.ms", "100"), ("match", matching)]),
            subscription("others", &[("metrics", "*"), ("match", "client_id=app")]),
        ]
    });
    let wanted = telemetry.wanted(id, fresh, &identity, 0).unwrap();
    assert_eq!((wanted.instance_id, wanted.push_interval_ms), (id, 100));
    let mut metrics = wanted.metrics.to_vec();
    metrics.sort();
    assert_eq!(metrics, ["a", "b", "org.apache.kafka.producer."]);
    telemetry.subscribe(1, || panic!("nothing has changed"));
    telemetry.subscribe(0, || panic!("an older image"));
    telemetry.subscribe(2, || vec![subscription("all", &[("metrics", "x,*,y")])]);
    let again = telemetry.wanted(id, fresh, &identity, 1).unwrap();
    assert_eq!(*again.metrics, ["*".to_owned()], "it may ask at once, as there is something new");
    assert_ne!(again.subscription_id, wanted.subscription_id);
}

#[test]
fn requests_that_come_too_early_or_know_too_little_are_refused() {
    let telemetry = Telemetry::new(1_000);
    telemetry.subscribe(1, || vec![subscription("s", &[("metrics", "*"), ("interval.ms", "1000")])]);
    let (identity, alive) = client("app");
    let id = Uuid::from_u128(7);
    let get = |now_ms| telemetry.wanted(id, id, &identity, now_ms);
    let wanted = get(0).unwrap();
    assert_eq!(get(999).unwrap_err().code, THROTTLED);
    let send = |push: &Push, now_ms| telemetry.push(push, &identity, now_ms).map_err(|error| error.code);
    let good = push(&wanted, Vec::new());
    assert_eq!(send(&good, 500), Ok(()), "after it asked it may push at any time");
    assert_eq!(send(&good, 1_499), Err(THROTTLED));
    assert_eq!(send(&good, 1_500), Ok(()));
    let unknown = Push { subscription_id: wanted.subscription_id ^ 1, ..good.clone() };
    assert_eq!(send(&unknown, 2_500), Err(ErrorCode::UnknownSubscriptionId));
    assert_eq!(get(2_501).unwrap(), wanted, "and it may ask for the new one at once");
    let compressed = Push { compression: 5, ..good.clone() };
    assert_eq!(send(&compressed, 3_500), Err(ErrorCode::UnsupportedCompressionType));
    let large = Push { metrics: vec![0; 1_001].into(), ..good.clone() };
    assert_eq!(send(&large, 4_500), Err(ErrorCode::TelemetryTooLarge));
    let garbage = Push { metrics: vec![0xff; 9].into(), ..good.clone() };
    assert_eq!(send(&garbage, 5_500), Err(ErrorCode::InvalidRecord));
    let inflated = Compression::Gzip.compress(&[0; 1_001]).into();
    let bomb = Push { metrics: inflated, compression: 1, ..good.clone() };
    assert_eq!(send(&bomb, 6_500), Err(ErrorCode::InvalidRecord));
    for reserved in [Uuid::nil(), Uuid::from_u128(1)] {
        let nobody = Push { instance_id: reserved, ..good.clone() };
        assert_eq!(send(&nobody, 7_500), Err(ErrorCode::InvalidRequest));
    }
    let last = Push { is_terminating: true, ..good.clone() };
    assert_eq!(send(&last, 6_501), Ok(()), "who ends may push at any time");
    assert_eq!(send(&last, 9_000), Err(ErrorCode::InvalidRequest));
    let count = |expected: &str| {
        let sheet = Sheet::new();
        telemetry.render(&sheet, 9_000);
        let line = format!("kafka_server_client_metrics_instance_count {expected}");
        assert!(sheet.render().contains(&line), "{}", sheet.render());
    };
    count("1");
    drop(alive);
    count("0");
}

#[test]
fn what_was_pushed_is_shown_until_nothing_follows() {
    let telemetry = Telemetry::new(10_000);
    telemetry.subscribe(1, || vec![subscription("s", &[("metrics", "*"), ("interval.ms", "1000")])]);
    let (identity, _alive) = client("a\"pp");
    let wanted = telemetry.wanted(Uuid::from_u128(7), Uuid::nil(), &identity, 0).unwrap();
    let metrics = metrics_data(&[
        gauge("org.apache.kafka.consumer.lag", 1.5, &[("topic", "t"), ("client_id", "another"), ("9", "x")]),
        sum("org.apache.kafka.producer.record.total", 1, true, 5),
        sum("org.apache.kafka.producer.requests", 2, true, 9),
        sum("kafka_server_fake", 2, false, -3),
    ]);
    for (round, compression) in Compression::ALL.into_iter().enumerate() {
        let push = Push {
            compression: compression.id().try_into().unwrap(),
            metrics: compression.compress(&metrics).into(),
            ..push(&wanted, Vec::new())
        };
        let now_ms = i64::try_from(round).unwrap() * 1_000;
        telemetry.push(&push, &identity, now_ms).unwrap();
    }
    let text = telemetry.render(&Sheet::new(), 5_000);
    let labels = "client_id=\"a\\\"pp\",client_instance_id=\"AAAAAAAAAAAAAAAAAAAABw\",\
                  client_software_name=\"apache-kafka-java\",client_software_version=\"4.3.1\",\
                  client_source_address=\"10.0.0.7\",group_id=\"g\"";
    let expected = format!(
        "# TYPE client_kafka_server_fake gauge\n\
         client_kafka_server_fake{{{labels}}} -3\n\
         # TYPE org_apache_kafka_consumer_lag gauge\n\
         org_apache_kafka_consumer_lag{{client_9=\"x\",{labels},topic=\"t\"}} 1.5\n\
         # TYPE org_apache_kafka_producer_record_total counter\n\
         org_apache_kafka_producer_record_total{{{labels}}} 25\n\
         # TYPE org_apache_kafka_producer_requests_total counter\n\
         org_apache_kafka_producer_requests_total{{{labels}}} 9\n"
    );
    assert_eq!(text, expected);
    assert_eq!(telemetry.render(&Sheet::new(), 65_000), "", "a minute after the last push");
}

#[test]
fn distributions_are_shown_as_histograms_and_summaries() {
    let telemetry = Telemetry::new(10_000);
    telemetry.subscribe(1, || vec![subscription("s", &[("metrics", "*"), ("interval.ms", "1000")])]);
    let (mut identity, _alive) = client("app");
    identity.client_id = None;
    let wanted = telemetry.wanted(Uuid::from_u128(7), Uuid::nil(), &identity, 0).unwrap();
    let metrics = metrics_data(&[
        histogram("org.apache.kafka.h.delta", 1, &[1.0, 2.5], &[1, 0, 3]),
        histogram("org.apache.kafka.h.whole", 2, &[], &[5]),
        exponential("org.apache.kafka.e", 1, (0, 1, &[1, 2]), (4, 0.5)),
        summary("org.apache.kafka.s", &[(0.99, 20.0), (0.5, 10.0)]),
        gauge("org.apache.kafka.s.count", 9.0, &[]),
    ]);
    for now_ms in [0, 1_000] {
        telemetry.push(&push(&wanted, metrics.clone()), &identity, now_ms).unwrap();
    }
    let text = telemetry.render(&Sheet::new(), 1_000);
    let labels = "client_instance_id=\"AAAAAAAAAAAAAAAAAAAABw\",client_software_name=\"apache-kafka-java\",\
                  client_software_version=\"4.3.1\",client_source_address=\"10.0.0.7\",group_id=\"g\"";
    let expected = [
        ("# TYPE org_apache_kafka_e histogram", ""),
        // Buckets of (2, 4] and (4, 8], and the same below zero.
        ("org_apache_kafka_e_bucket{L,le=\"-8\"}", "0"),
        ("org_apache_kafka_e_bucket{L,le=\"-4\"}", "4"),
        ("org_apache_kafka_e_bucket{L,le=\"-2\"}", "6"),
        ("org_apache_kafka_e_bucket{L,le=\"0.5\"}", "14"),
        ("org_apache_kafka_e_bucket{L,le=\"2\"}", "14"),
        ("org_apache_kafka_e_bucket{L,le=\"4\"}", "16"),
        ("org_apache_kafka_e_bucket{L,le=\"8\"}", "20"),
        ("org_apache_kafka_e_bucket{L,le=\"+Inf\"}", "20"),
        ("org_apache_kafka_e_count{L}", "20"),
        ("# TYPE org_apache_kafka_h_delta histogram", ""),
        ("org_apache_kafka_h_delta_bucket{M,le=\"1\"}", "2"),
        ("org_apache_kafka_h_delta_bucket{M,le=\"2.5\"}", "2"),
        ("org_apache_kafka_h_delta_bucket{M,le=\"+Inf\"}", "8"),
        ("org_apache_kafka_h_delta_sum{M}", "5"),
        ("org_apache_kafka_h_delta_count{M}", "8"),
        ("# TYPE org_apache_kafka_h_whole histogram", ""),
        ("org_apache_kafka_h_whole_bucket{M,le=\"+Inf\"}", "5"),
        ("org_apache_kafka_h_whole_sum{M}", "2.5"),
        ("org_apache_kafka_h_whole_count{M}", "5"),
        ("# TYPE org_apache_kafka_s summary", ""),
        ("org_apache_kafka_s{L,quantile=\"0.5\"}", "10"),
        ("org_apache_kafka_s{L,quantile=\"0.99\"}", "20"),
        ("org_apache_kafka_s_sum{L}", "70"),
        ("org_apache_kafka_s_count{L}", "7"),
    ];
    let (id, rest) = labels.split_once(',').unwrap();
    let with_le = format!("{id},client_le=\"mine\",{rest}");
    let line = |(line, value): &(&str, &str)| {
        let line = line.replace("{L", &format!("{{{labels}")).replace("{M", &format!("{{{with_le}"));
        format!("{line} {value}").trim_end().to_owned() + "\n"
    };
    assert_eq!(text, expected.iter().map(line).collect::<String>());
}

#[test]
fn what_nobody_looks_at_is_forgotten_too() {
    let telemetry = Telemetry::new(10_000);
    telemetry.subscribe(1, || vec![subscription("s", &[("metrics", "*"), ("interval.ms", "1000")])]);
    let (identity, _alive) = client("app");
    let wanted = telemetry.wanted(Uuid::from_u128(7), Uuid::nil(), &identity, 0).unwrap();
    telemetry.push(&push(&wanted, metrics_data(&[gauge("g", 1.0, &[])])), &identity, 0).unwrap();
    telemetry.expire(60_000);
    assert_ne!(telemetry.received.lock().render(), "");
    telemetry.expire(60_001);
    assert_ne!(telemetry.received.lock().render(), "", "it is not looked for all the time");
    telemetry.expire(70_000);
    assert_eq!(telemetry.received.lock().render(), "");
    assert_eq!(telemetry.instances.lock().len(), 0);
}

#[test]
fn of_several_patterns_for_one_attribute_the_last_counts() {
    let telemetry = Telemetry::new(1_000);
    let (mut identity, _alive) = client("app");
    telemetry.subscribe(1, || {
        vec![
            subscription("last", &[("metrics", "a"), ("match", "client_id=other,client_id=app")]),
            subscription("first", &[("metrics", "b"), ("match", "client_id=app,client_id=other")]),
            subscription("any", &[("metrics", "c"), ("match", "client_id=.*")]),
        ]
    });
    let wanted = |identity: &Identity, id| {
        let wanted = telemetry.wanted(Uuid::from_u128(id), Uuid::nil(), identity, 0).unwrap();
        let mut metrics = wanted.metrics.to_vec();
        metrics.sort();
        metrics
    };
    assert_eq!(wanted(&identity, 7), ["a", "c"]);
    identity.client_id = None;
    assert!(wanted(&identity, 8).is_empty(), "what a client does not say matches nothing");
}

/// Every prefix and every flipped bit of a message is read or refused, and nothing else.
#[test]
fn damaged_messages_are_refused_or_read() {
    let metrics = metrics_data(&[
        gauge("g", 1.0, &[("k", "v")]),
        sum("s", 1, true, 1),
        histogram("h", 1, &[1.0, 2.0], &[1, 2, 3]),
        exponential("e", 2, (1, -2, &[1, 2]), (3, 0.5)),
        summary("q", &[(0.5, 1.0)]),
    ]);
    let read = |bytes: &[u8]| otlp::read(bytes, &mut |_| ());
    assert_eq!(read(&metrics), Ok(()));
    for end in 1..metrics.len() {
        assert!(read(&metrics[..end]).is_err(), "the first {end} bytes");
    }
    for bit in 0..metrics.len() * 8 {
        let mut damaged = metrics.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let _ = read(&damaged);
    }
    assert!(read(&[8 | 2, 0xff, 0xff]).is_err());
}

#[test]
fn what_has_no_room_is_dropped_and_counted() {
    let mut received = Received::default();
    let value = "v".repeat(200);
    for number in 0..100_000 {
        let name = format!("org.apache.kafka.{number}");
        let attributes = vec![("k", value.as_str().into())];
        received.take(otlp::Point { name: &name, attributes, value: otlp::Value::Gauge(1.0) }, &[], 10);
    }
    assert!(received.dropped() > 0);
    assert!(received.render().len() < 64 << 20);
    received.expire(11);
    assert_eq!(received.render(), "");
}
