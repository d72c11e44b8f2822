//! Kafka Connect in distributed mode: two workers, the file connectors, and exactly-once support for sources.
//!
//! A file grows; a source brings its lines into a topic, a sink writes them into another file. Workers are killed and started
//! again meanwhile, in the long version also frozen, and the broker is killed as well. In the end readers of committed records have seen
//! every line once, in order.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use integration::cluster::Cluster;
use integration::connect::{Worker, committed_lines, lines};
use integration::frameworks::{Framework, is_long, node, say, setting};
use integration::until;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);
const SOURCE: &str = "lines";
const SINK: &str = "copy";

/// A file that grows, line by line, until it is told to stop.
struct Growing {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Growing {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut file = File::create(&path).expect("a file that grows");
        let thread = thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                writeln!(file, "line {number}").expect("the file takes a line");
                if number % 5 == 4 {
                    thread::sleep(Duration::from_millis(25));
                }
            }
        });
        Self { path, stop, thread: Some(thread) }
    }

    /// Stops, and gives the lines.
    fn finish(&mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer of the file");
        }
        lines(&self.path)
    }
}

/// The broker, the workers, and the files at both ends.
struct Scene {
    cluster: Cluster,
    workers: Vec<Worker>,
    input: Growing,
    output: PathBuf,
    _framework: Framework,
}

impl Scene {
    fn start() -> Self {
        let mut cluster = node(&[("log.cleaner.backoff.ms", "500"), ("auto.create.topics.enable", "false")]);
        let framework = Framework::new("connect");
        let bootstrap = cluster.bootstrap();
        let mut workers: Vec<Worker> =
            ["one", "two"].iter().map(|name| Worker::start(&framework, name, &bootstrap)).collect();
        workers.iter_mut().for_each(Worker::await_ready);
        let input = Growing::start(framework.scratch().join("input"));
        let output = framework.scratch().join("output");
        cluster.tools().run("kafka-topics --describe --topic connect-offsets").success().contains("compact");
        let scene = Self { cluster, workers, input, output, _framework: framework };
        scene.connect();
        scene
    }

    fn connect(&self) {
        // The source keeps back what is behind a full batch until the file grows again: no batch becomes full.
        self.workers[0].configure(
            SOURCE,
            &json!({
                "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1",
                "file": self.input.path, "topic": SOURCE, "batch.size": "100000", "exactly.once.support": "required",
                "topic.creation.default.replication.factor": "1", "topic.creation.default.partitions": "1",
            }),
        );
        self.await_committed(100);
        self.workers[0].configure(
            SINK,
            &json!({
                "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max": "1",
                "file": self.output, "topics": SOURCE,
                "consumer.override.isolation.level": "read_committed",
            }),
        );
        until("the sink to run", PATIENCE, || self.workers[0].worker_of(SINK));
    }

    fn committed(&self) -> Vec<String> {
        committed_lines(&self.cluster.bootstrap(), SOURCE)
    }

    fn await_committed(&self, count: usize) {
        until(&format!("{count} committed lines"), PATIENCE, || {
            thread::sleep(Duration::from_millis(200));
            let bootstrap = self.cluster.bootstrap();
            // The topic is made when the source starts.
            let known =
                self.cluster.routes().partitions(SOURCE).is_some_and(|partitions| !partitions.is_empty());
            (known && committed_lines(&bootstrap, SOURCE).len() >= count).then_some(())
        });
    }

    fn await_output(&self, count: usize) {
        until(&format!("{count} lines of the sink"), PATIENCE, || {
            thread::sleep(Duration::from_millis(50));
            (lines(&self.output).len() >= count).then_some(())
        });
    }

    /// The place of the worker that runs the source's task, and of another one.
    fn places(&self) -> (usize, usize) {
        let address = until("the source to run", PATIENCE, || {
            self.workers.iter().find_map(|worker| worker.worker_of(SOURCE))
        });
        let of = self
            .workers
            .iter()
            .position(|worker| worker.address() == address)
            .expect("a worker of this test");
        (of, 1 - of)
    }

    /// Waits until the source runs on this worker, and until records have gone all the way.
    fn await_progress(&self, worker: usize) {
        let at = &self.workers[worker];
        until("the source on the other worker", PATIENCE, || {
            thread::sleep(Duration::from_millis(100));
            at.worker_of(SOURCE).filter(|address| address == at.address())
        });
        let (committed, written) = (self.committed().len(), lines(&self.output).len());
        self.await_committed(committed + 200);
        self.await_output(written + 200);
    }

    /// Kills the worker that runs the source's task: the other one takes over.
    fn kill_worker(&mut self) {
        let (killed, other) = self.places();
        self.workers[killed].program().kill9();
        self.await_progress(other);
        self.workers[killed].program().launch();
        self.workers[killed].await_ready();
    }

    /// Freezes the worker that runs the source's task until the other one has taken over: what it does when it wakes up comes
    /// too late.
    fn freeze_worker(&mut self) {
        let (frozen, other) = self.places();
        self.workers[frozen].program().signal("STOP");
        self.await_progress(other);
        self.workers[frozen].program().signal("CONT");
        self.workers[frozen].await_ready();
    }

    /// Kills the broker. What tasks do not survive is started again, as an operator does.
    fn kill_broker(&mut self) {
        self.cluster.kill9(1);
        self.cluster.launch(1);
        self.cluster.await_brokers();
        for connector in [SOURCE, SINK] {
            until(&format!("{connector} after the broker's end"), PATIENCE, || {
                self.workers[0].restart_failed(connector);
                thread::sleep(Duration::from_millis(500));
                self.workers[0].worker_of(connector)
            });
        }
        let (of, _) = self.places();
        self.await_progress(of);
    }

    /// Every line was committed once, in order, and has come to the sink.
    fn check(&mut self) -> usize {
        let all = self.input.finish();
        self.await_committed(all.len());
        // Whether the sink lags, or has written lines again after a kill: all are there in the end.
        until("all lines of the sink", PATIENCE, || {
            let written = lines(&self.output);
            let written: HashSet<&String> = written.iter().collect();
            all.iter().all(|line| written.contains(line)).then_some(())
        });
        let committed = self.committed();
        assert!(committed == all, "{} lines, {} were committed", all.len(), committed.len());
        all.len()
    }
}

/// What the offsets API changes, takes effect.
fn offsets(scene: &mut Scene) {
    let all = lines(&scene.input.path);
    let size = std::fs::metadata(&scene.input.path).expect("the file that grew").len();
    let worker = &scene.workers[0];
    worker.stop(SOURCE);
    let offsets = until("the offsets of the source", PATIENCE, || worker.offsets(SOURCE));
    let partition = json!({"filename": scene.input.path});
    assert_eq!(offsets, [(partition.clone(), json!({"position": size}))]);

    let again: usize = all[all.len() - 10..].iter().map(|line| line.len() + 1).sum();
    worker.alter_offset(
        SOURCE,
        &partition,
        &json!({"position": size - u64::try_from(again).expect("a length")}),
    );
    worker.resume(SOURCE);
    scene.await_committed(all.len() + 10);
    assert!(scene.committed()[all.len()..] == all[all.len() - 10..], "the last lines came not again");

    let worker = &scene.workers[1];
    worker.stop(SOURCE);
    worker.reset_offsets(SOURCE);
    assert_eq!(worker.offsets(SOURCE), Some(Vec::new()));
    worker.resume(SOURCE);
    scene.await_committed(2 * all.len() + 10);
    assert!(scene.committed()[all.len() + 10..] == all, "the whole file came not again");

    worker.stop(SINK);
    let end = until("the offsets of the sink", PATIENCE, || worker.offsets(SINK));
    assert_eq!(end[0].0, json!({"kafka_topic": SOURCE, "kafka_partition": 0}));
    std::fs::remove_file(&scene.output).expect("the file of the sink");
    worker.alter_offset(SINK, &end[0].0, &json!({"kafka_offset": 0}));
    worker.resume(SINK);
    scene.await_output(2 * all.len() + 10);
    assert!(lines(&scene.output) == scene.committed(), "the sink began not at the beginning");

    let worker = &scene.workers[0];
    worker.stop(SINK);
    worker.reset_offsets(SINK);
    assert_eq!(worker.offsets(SINK), Some(Vec::new()));
    worker.resume(SINK);
    let _ = worker.change("POST", &format!("connectors/{SOURCE}/restart?includeTasks=true"), None);
    until("the source after its restart", PATIENCE, || worker.worker_of(SOURCE));
}

/// Where offsets are kept is compacted: one record for each key is left, and what the active segment holds. That becomes
/// another one when more is written.
fn compacted(scene: &Scene) {
    let mut file = File::options().append(true).open(&scene.input.path).expect("the file that grew");
    until("the offsets to be compacted", PATIENCE, || {
        writeln!(file, "one more").expect("the file takes a line");
        thread::sleep(Duration::from_millis(700));
        let left = committed_lines(&scene.cluster.bootstrap(), "connect-offsets").len();
        (left < 20).then_some(())
    });
}

#[test]
fn workers_take_over_from_one_another() {
    let mut scene = Scene::start();
    scene.await_output(200);
    let rounds = setting(1, 3);
    for _ in 0..rounds {
        scene.kill_worker();
        if is_long() {
            scene.freeze_worker();
            scene.kill_broker();
        }
    }
    let count = scene.check();
    offsets(&mut scene);
    compacted(&scene);
    say(&format!("Connect: {count} lines once and in order, {rounds} workers killed"));
}
