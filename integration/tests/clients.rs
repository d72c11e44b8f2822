//! Real client libraries against klamm: one test for each client and scenario, a broker of its own for each test.
//!
//! `KLAMM_TEST_BOOTSTRAP=HOST:PORT` points the tests at a broker that runs already, such as an Apache Kafka that is
//! to be compared with; it is restarted by `KLAMM_RESTART_CMD`, without which the restart scenarios are left out.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use integration::{Client, Klamm, Outcome, SCENARIOS};

/// How a broker goes down under its client.
#[derive(Clone, Copy)]
enum Stop {
    Terminate,
    Kill,
}

/// Says a line past the test runner, which swallows what a passing test prints.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Offers the restart of a broker as a shell command: who connects is answered when the broker is up again.
fn restart_command(broker: Weak<Mutex<Klamm>>, stop: Stop) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (Ok(mut connection), Some(broker)) = (connection, broker.upgrade()) else { return };
            let mut broker = broker.lock().unwrap_or_else(PoisonError::into_inner);
            match stop {
                Stop::Terminate => {
                    assert!(broker.terminate().success(), "klamm did not end cleanly after SIGTERM")
                }
                Stop::Kill => broker.kill9(),
            }
            broker.restart();
            // When the client has gone meanwhile, its test tells.
            let _ = connection.write_all(b"up\n");
        }
    });
    Ok(format!("exec 3<>/dev/tcp/127.0.0.1/{port} && read -r answer <&3 && [ \"$answer\" = up ]"))
}

fn play(folder: &str, scenario: &str, stop: Stop) {
    let client = Client::new(folder);
    if client.set_up().unwrap_or_else(|e| panic!("{e}")) == Outcome::Unsupported {
        return say(&format!("{folder} {scenario}: skipped, this machine cannot have the client"));
    }
    let outcome = if let Ok(bootstrap) = std::env::var("KLAMM_TEST_BOOTSTRAP") {
        let restart = std::env::var("KLAMM_RESTART_CMD").ok();
        if scenario == "broker-restart" && restart.is_none() {
            return say(&format!("{folder} {scenario}: skipped, KLAMM_RESTART_CMD is not set"));
        }
        client.run(scenario, &bootstrap, restart.as_deref())
    } else {
        // Members hear of changes by their heartbeats: nobody wants to wait for those here.
        let broker = Klamm::spawn(&[
            "--override=group.consumer.min.heartbeat.interval.ms=100",
            "--override=group.consumer.heartbeat.interval.ms=200",
        ]);
        let bootstrap = broker.bootstrap().to_owned();
        let broker = Arc::new(Mutex::new(broker));
        let restart =
            restart_command(Arc::downgrade(&broker), stop).expect("a port on the loopback interface");
        client.run(scenario, &bootstrap, Some(&restart))
    };
    match outcome {
        Ok(Outcome::Passed) => {}
        Ok(Outcome::Unsupported) => {
            say(&format!("{folder} {scenario}: skipped, the client has no such feature"))
        }
        Err(problem) => panic!("{problem}"),
    }
}

macro_rules! clients {
    ($($module:ident: $folder:literal,)*) => {
        const CLIENTS: &[&str] = &[$($folder),*];
        $(mod $module {
            use super::{Stop, play};

            #[test]
            fn produce_consume() { play($folder, "produce-consume", Stop::Terminate); }
            #[test]
            fn idempotent() { play($folder, "idempotent", Stop::Terminate); }
            #[test]
            fn group_rebalance() { play($folder, "group-rebalance", Stop::Terminate); }
            #[test]
            fn consumer_protocol() { play($folder, "consumer-protocol", Stop::Terminate); }
            #[test]
            fn share_groups() { play($folder, "share-groups", Stop::Terminate); }
            #[test]
            fn transactions() { play($folder, "transactions", Stop::Terminate); }
            #[test]
            fn commit_resume() { play($folder, "commit-resume", Stop::Terminate); }
            #[test]
            fn offsets_by_time() { play($folder, "offsets-by-time", Stop::Terminate); }
            #[test]
            fn admin() { play($folder, "admin", Stop::Terminate); }
            #[test]
            fn large_message() { play($folder, "large-message", Stop::Terminate); }
            #[test]
            fn unknown_topic() { play($folder, "unknown-topic", Stop::Terminate); }
            #[test]
            fn broker_restart() { play($folder, "broker-restart", Stop::Terminate); }
            #[test]
            fn broker_kill() { play($folder, "broker-restart", Stop::Kill); }
        })*
    };
}

clients! {
    kcat: "kcat",
    java: "java",
    confluent_kafka_python: "confluent-kafka-python",
    kafka_python: "kafka-python",
    aiokafka: "aiokafka",
    franz_go: "franz-go",
    sarama: "sarama",
    kafka_go: "kafka-go",
    kafkajs: "kafkajs",
    platformatic_kafka: "platformatic-kafka",
    confluent_kafka_javascript: "confluent-kafka-javascript",
    rdkafka_rust: "rdkafka-rust",
}

/// Shows what is not tested, so that nothing is left out in silence.
#[test]
fn table_of_scenarios() {
    let mut table = format!("{:28}{}\n", "client", SCENARIOS.join(" "));
    for name in CLIENTS {
        let known = Client::new(name).scenarios().unwrap_or_else(|e| panic!("{e}"));
        table += &format!("{name:28}");
        for scenario in SCENARIOS {
            let mark = if known.iter().any(|k| k == scenario) { "yes" } else { "SKIP" };
            table += &format!("{mark:width$}", width = scenario.len() + 1);
        }
        table += "\n";
        assert!(
            known.iter().all(|k| SCENARIOS.contains(&k.as_str())),
            "{name} lists a scenario that no test plays"
        );
    }
    say(&format!("\n{table}"));
}

/// Every folder has its tests, and the other way round.
#[test]
fn no_client_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder of the clients")
        .filter_map(|entry| {
            entry.ok().filter(|e| e.path().join("run").exists())?.file_name().into_string().ok()
        })
        .collect();
    found.sort();
    let mut known = CLIENTS.to_vec();
    known.sort_unstable();
    assert_eq!(found, known);
}
