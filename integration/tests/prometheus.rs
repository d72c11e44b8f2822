//! A real Prometheus scrapes a broker under load, loads our rules, and finds data for every expression of our dashboards.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration::{Klamm, until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);
/// Scrapes come faster here than `grafana/prometheus.yml` says, so that rates have something to work on soon.
const SCRAPE_INTERVAL: &str = "250ms";
const RATE_INTERVAL: &str = "5s";

/// A process that ends with the test.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana")
}

/// Produces to `topic` and consumes it in a group until the test ends.
struct Load {
    stop: Arc<AtomicBool>,
    _consumer: Background,
    producer: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(bootstrap: &str, topic: &str) -> Self {
        let kcat = |arguments: &[&str], stdin: Stdio| {
            let mut command = Command::new("kcat");
            command.args(["-b", bootstrap]).args(arguments).stdin(stdin).stdout(Stdio::null());
            Background(command.stderr(Stdio::null()).spawn().expect("kcat starts"))
        };
        let consumer = kcat(&["-G", "readers", "-X", "auto.commit.interval.ms=200", topic], Stdio::null());
        let mut producer = kcat(&["-P", "-t", topic, "-X", "linger.ms=5"], Stdio::piped());
        let mut input = producer.0.stdin.take().expect("its input is a pipe");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let producer = std::thread::spawn(move || {
            let _producer = producer;
            let line = format!("{}\n", "x".repeat(100));
            // The pipe and the producer's queue hold this loop back.
            while !stopped.load(Ordering::Relaxed) {
                if input.write_all(line.as_bytes()).is_err() {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(2));
            }
        });
        Self { stop, _consumer: consumer, producer: Some(producer) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(producer) = self.producer.take() {
            let _ = producer.join();
        }
    }
}

/// Our own configuration, pointed at this broker.
fn write_configuration(directory: &Path, target: &str) {
    let ours = fs::read_to_string(grafana().join("prometheus.yml")).expect("prometheus.yml");
    let text = ours
        .replace("127.0.0.1:9404", target)
        .replace("interval: 5s", &format!("interval: {SCRAPE_INTERVAL}"));
    fs::write(directory.join("prometheus.yml"), text).expect("the directory is ours");
    fs::copy(grafana().join("alerts.yml"), directory.join("alerts.yml")).expect("the directory is ours");
    for arguments in [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"]] {
        let check =
            Command::new("promtool").args(arguments).current_dir(directory).output().expect("promtool runs");
        assert!(check.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&check.stderr));
    }
}

/// Starts Prometheus on a free port; its log says which.
fn start_prometheus(directory: &Path) -> (Background, String) {
    let mut child = Command::new("prometheus")
        .args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:0",
        ])
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("prometheus starts");
    let log = BufReader::new(child.stderr.take().expect("its log is a pipe"));
    let mut lines = log.lines();
    let address = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| port_in(&line))
        .expect("prometheus tells its address");
    // Whoever does not read its log stops it in the end.
    std::thread::spawn(move || lines.for_each(drop));
    (Background(child), format!("http://127.0.0.1:{address}"))
}

/// The port that a line of the log tells; first it tells the one that was asked for, which is 0.
fn port_in(line: &str) -> Option<u16> {
    let port = line.split("address=127.0.0.1:").nth(1)?.split_whitespace().next()?;
    port.parse().ok().filter(|port| *port != 0)
}

fn get(url: &str) -> Option<Value> {
    let text = ureq::get(url).call().ok()?.body_mut().read_to_string().ok()?;
    serde_json::from_str(&text).ok()
}

fn query(prometheus: &str, expression: &str) -> Option<Value> {
    let url = format!("{prometheus}/api/v1/query");
    let text = ureq::get(url).query("query", expression).call().ok()?.body_mut().read_to_string().ok()?;
    serde_json::from_str(&text).ok()
}

/// Every expression of a dashboard with its variables filled in.
fn expressions(dashboard: &Path) -> Vec<String> {
    let text = fs::read_to_string(dashboard).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("a dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().expect("a target has an expression"));
    let filled = expressions.map(|expression| {
        ["$job", "$instance", "$topic"]
            .iter()
            .fold(expression.replace("$__rate_interval", RATE_INTERVAL), |text, name| {
                text.replace(name, ".*")
            })
    });
    filled.collect()
}

#[test]
#[expect(clippy::print_stdout, reason = "a test tells its counts")]
fn every_expression_of_the_dashboards_returns_data() {
    let klamm = Klamm::spawn(&["--topic", "loaded:3"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    write_configuration(directory.path(), klamm.admin_url().trim_start_matches("http://"));
    let (_running, prometheus) = start_prometheus(directory.path());
    let _load = Load::start(klamm.bootstrap(), "loaded");

    let dashboards = fs::read_dir(grafana().join("dashboards")).expect("dashboards");
    let expressions: Vec<_> =
        dashboards.flat_map(|file| expressions(&file.expect("a file").path())).collect();
    assert!(!expressions.is_empty());
    for expression in &expressions {
        until(&format!("data for {expression}"), PATIENCE, || {
            let answer = query(&prometheus, expression)?;
            (!answer["data"]["result"].as_array()?.is_empty()).then_some(())
        });
    }
    println!("{} expressions return data", expressions.len());

    let rules = until("rules that were evaluated", PATIENCE, || {
        let rules = get(&format!("{prometheus}/api/v1/rules"))?;
        let rules = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    });
    for rule in &rules {
        assert_ne!(rule["state"], "firing", "{} fires at a broker that is well", rule["name"]);
    }
    println!("{} rules are loaded, none fires", rules.len());
}
