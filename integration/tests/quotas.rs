//! Quotas as Kafka's own tools and clients meet them.

use std::time::{Duration, Instant};

use integration::cluster::{Cluster, Kind, Layout, Voters};
use integration::wire::Connection;
use integration::{Klamm, Target, Tools, until};
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{AlterClientQuotasRequest, DescribeClientQuotasRequest};
use kafka_protocol::protocol::StrBytes;

const PATIENCE: Duration = Duration::from_secs(120);

/// What the tool prints, line by line, is what it prints against Apache Kafka; the order of values in a line excepted,
/// which is that of a hash table there.
#[test]
fn kafka_configs_sets_and_tells_quotas() {
    let target = Target::start();
    let mut tools = Tools::start(&target.bootstrap);
    let mut run = |line: &str| tools.run(&format!("kafka-configs {line}"));
    let both = "--entity-type users --entity-name alice --entity-type clients --entity-name app";
    let default_of_both = "--entity-type users --entity-default --entity-type clients --entity-default";
    for (entity, values, what) in [
        (both, "producer_byte_rate=1024,request_percentage=200", "config for user alice."),
        (
            "--entity-type users --entity-default",
            "producer_byte_rate=1000",
            "default config for users in the cluster.",
        ),
        (
            "--entity-type clients --entity-default",
            "controller_mutation_rate=250000.5",
            "default config for clients in the cluster.",
        ),
        ("--entity-type clients --entity-name app", "request_percentage=50", "config for client app."),
        (default_of_both, "consumer_byte_rate=9000000", "default config for users in the cluster."),
        ("--entity-type ips --entity-name 10.9.8.7", "connection_creation_rate=7", "config for ip 10.9.8.7."),
        (
            "--entity-type ips --entity-default",
            "connection_creation_rate=700000",
            "default config for ips in the cluster.",
        ),
    ] {
        let done = run(&format!("--alter {entity} --add-config {values}")).success();
        done.has(&format!("Completed updating {what}"));
    }
    // Of users alone the tool asks for SCRAM credentials too, which klamm does not have yet, and complains afterwards.
    run("--describe --entity-type users")
        .has("Quota configs for the default user-principal are producer_byte_rate=1000.0");
    let clients = run("--describe --entity-type clients").success();
    clients.has("Quota configs for the default client-id are controller_mutation_rate=250000.5");
    clients.has("Quota configs for client-id 'app' are request_percentage=50.0");
    let pairs = run("--describe --entity-type users --entity-type clients").success();
    pairs.contains("Quota configs for user-principal 'alice', client-id 'app' are ");
    pairs.contains("producer_byte_rate=1024.0").contains("request_percentage=200.0");
    pairs.has("Quota configs for the default user-principal, the default client-id are consumer_byte_rate=9000000.0");
    run("--describe --entity-type users --entity-name alice").lacks("Quota");
    let ips = run("--describe --entity-type ips").success();
    ips.has("Quota configs for ip '10.9.8.7' are connection_creation_rate=7.0");
    ips.has("Quota configs for the default ip are connection_creation_rate=700000.0");
    run("--describe --ip 10.9.8.7")
        .success()
        .has("Quota configs for ip '10.9.8.7' are connection_creation_rate=7.0");

    let alice = "--alter --entity-type users --entity-name alice";
    for (line, why) in [
        (
            format!("{alice} --add-config producer_byte_rate=0"),
            "Quota producer_byte_rate must be greater than 0",
        ),
        (
            format!("{alice} --add-config producer_byte_rate=1.5"),
            "producer_byte_rate cannot be a fractional value.",
        ),
        (format!("{alice} --delete-config producer_byte_rate"), "Invalid config(s): producer_byte_rate"),
    ] {
        let refused = run(&line);
        refused.contains(why);
        assert_eq!(refused.code, 1);
    }
    for (entity, keys) in [
        (both, "producer_byte_rate,request_percentage"),
        ("--entity-type users --entity-default", "producer_byte_rate"),
        ("--entity-type clients --entity-default", "controller_mutation_rate"),
        ("--entity-type clients --entity-name app", "request_percentage"),
        (default_of_both, "consumer_byte_rate"),
        ("--entity-type ips --entity-name 10.9.8.7", "connection_creation_rate"),
        ("--entity-type ips --entity-default", "connection_creation_rate"),
    ] {
        let _ = run(&format!("--alter {entity} --delete-config {keys}")).success();
    }
    run("--describe --entity-type users --entity-type clients").success().lacks("Quota");
    run("--describe --entity-type ips").success().lacks("Quota");
}

/// A number that a tool prints behind a name, as its metrics stand in lines of `name : value`.
fn printed(output: &str, name: &str) -> f64 {
    let line = output.lines().find(|line| line.contains(name)).unwrap_or_default();
    line.rsplit(':')
        .next()
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or_else(|| panic!("{name} in {output}"))
}

/// The producer of Apache Kafka keeps to its quota, and reads for how long it is held back.
#[test]
fn a_producer_keeps_to_its_rate() {
    const RATE: f64 = 300_000.0;
    let klamm =
        Klamm::spawn(&["--override", "quota.window.num=2", "--override", "auto.create.topics.enable=true"]);
    let mut tools = Tools::start(klamm.bootstrap());
    let _ = tools
        .run(&format!("kafka-configs --alter --entity-type clients --entity-name perf --add-config producer_byte_rate={RATE}"))
        .success();
    let perf = |client_id: &str| {
        format!(
            "kafka-producer-perf-test --topic perf --num-records 1500 --record-size 1000 --throughput -1 \
             --print-metrics --command-property client.id={client_id} batch.size=20000"
        )
    };
    let _ = tools.run(&perf("free")).success();
    let began = Instant::now();
    let held_back = tools.run(&perf("perf")).success();
    let seconds = began.elapsed().as_secs_f64();
    let rate = 1_500_000.0 / seconds;
    // Two windows of a second may be sent at once, of about five. How slow it is beyond that is up to the machine.
    assert!(rate < 1.45 * RATE, "{rate} bytes a second, in {seconds} s");
    assert!(printed(&held_back.stdout, "produce-throttle-time-max") > 100.0);
    let metrics = integration::http::get(&format!("{}/metrics", klamm.admin_url())).expect("metrics").body;
    let line = "kafka_server_quota_throttle_time{resource=\"Produce\",clientId=\"perf\"}";
    assert!(metrics.contains(line), "{metrics}");
    assert!(metrics.contains("kafka_server_quota_byte_rate{resource=\"Produce\",clientId=\"free\"}"));
}

/// A quota that is set through any broker is known to all of them.
#[test]
fn every_broker_takes_quotas_and_tells_them() {
    let cluster = Cluster::start(Layout::three(Kind::under_test(), Voters::Initial).quick());
    let text = |text: String| StrBytes::from_string(text);
    for id in 1..=3 {
        let user = format!("user-{id}");
        let entity = EntityData::default()
            .with_entity_type(text("user".into()))
            .with_entity_name(Some(text(user.clone())));
        let op = OpData::default().with_key(text("producer_byte_rate".into())).with_value(f64::from(id));
        let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![op]);
        let alter = AlterClientQuotasRequest::default().with_entries(vec![entry]);
        let mut broker = Connection::open(&cluster.node(id).address()).expect("the broker listens");
        let answer = broker.call(1, &alter).expect("an answer");
        assert_eq!(answer.entries[0].error_code, 0, "{answer:?}");
        let component = ComponentData::default()
            .with_entity_type(text("user".into()))
            .with_match(Some(text(user.clone())));
        let describe =
            DescribeClientQuotasRequest::default().with_components(vec![component]).with_strict(true);
        for other in 1..=3 {
            let address = cluster.node(other).address();
            until(&format!("broker {other} to know the quota of {user}"), PATIENCE, || {
                let mut broker = Connection::open(&address).ok()?;
                let entries = broker.call(1, &describe).ok()?.entries?;
                (entries.first()?.values.first()?.value == f64::from(id)).then_some(())
            });
        }
    }
}
