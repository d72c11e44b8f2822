//! A schema registry that keeps its schemas in topics, Apicurio Registry, and an Avro producer and consumer by it. The
//! registry, and the broker, are killed and started again.

use std::time::Duration;

use integration::cluster::Cluster;
use integration::frameworks::{Framework, Program, is_long, node, say};
use integration::http;
use integration::ports::free_port;
use integration::until;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);

struct Scene {
    cluster: Cluster,
    framework: Framework,
    registry: Program,
    /// Where the registry answers as Confluent's does.
    url: String,
}

impl Scene {
    fn start() -> Self {
        let cluster = node(&[]);
        let framework = Framework::new("registry");
        let port = free_port();
        let registry = framework.start("registry", &format!("serve {} {port}", cluster.bootstrap()));
        let mut scene =
            Self { cluster, framework, registry, url: format!("http://127.0.0.1:{port}/apis/ccompat/v7") };
        scene.await_ready();
        scene
    }

    fn await_ready(&mut self) {
        until("the registry", PATIENCE, || {
            assert!(self.registry.ended().is_none(), "the registry ended");
            http::get(&format!("{}/subjects", self.url))
        });
    }

    fn get(&self, path: &str) -> Value {
        http::get(&format!("{}/{path}", self.url)).map(|answer| answer.json()).unwrap_or_default()
    }

    fn avro(&self, name: &str, what: &str, arguments: &str) -> String {
        let line = format!("avro {what} {} {} users {arguments}", self.cluster.bootstrap(), self.url);
        self.framework.complete(name, &line, PATIENCE)
    }

    /// Reads all that was written, by the schemas that it was written with.
    fn check(&self, count: usize) {
        let output = self.avro(&format!("consume-{count}"), "consume", &count.to_string());
        let mut users: Vec<&str> = output.lines().filter(|line| line.starts_with("user ")).collect();
        let mut wanted: Vec<String> = (0..count)
            .map(|number| {
                let city = if number < 100 { "nowhere".to_owned() } else { format!("city-{number}") };
                format!("user {number} user-{number} {number} {city}")
            })
            .collect();
        users.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(users, wanted);
    }
}

#[test]
fn schemas_are_kept_in_topics() {
    if !is_long() {
        return say("Apicurio Registry: left out, `make frameworks` runs it");
    }
    let mut scene = Scene::start();
    let _ = scene.avro("first", "produce", "1 0 100");
    assert_eq!(scene.get("subjects"), json!(["users-value"]));
    assert_eq!(scene.get("subjects/users-value/versions"), json!([1]));
    assert!(scene.avro("refuse", "refuse", "").contains("refused: 409"), "an incompatible schema was taken");

    scene.registry.kill9();
    scene.registry.launch();
    scene.await_ready();
    let _ = scene.avro("second", "produce", "2 100 50");
    scene.check(150);

    // What the registry knows comes from its topics alone: they outlive the broker's end as well.
    scene.registry.kill9();
    scene.cluster.kill9(1);
    scene.cluster.launch(1);
    scene.cluster.await_brokers();
    scene.registry.launch();
    scene.await_ready();
    assert_eq!(scene.get("subjects/users-value/versions"), json!([1, 2]));
    let schema = scene.get("subjects/users-value/versions/2")["schema"].as_str().map(str::to_owned);
    assert!(schema.is_some_and(|schema| schema.contains("nowhere")), "the second schema is another one");
    let _ = scene.avro("third", "produce", "2 150 50");
    scene.check(200);
    say(
        "Apicurio Registry: two versions of a schema, 200 Avro records, the registry killed twice, the broker once",
    );
}
