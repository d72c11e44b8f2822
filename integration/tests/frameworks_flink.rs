//! A job of Apache Flink that counts words exactly once: its sink writes in transactions that belong to its checkpoints. The
//! process is killed, and the job goes on from its last checkpoint; the broker is killed as well.

use std::time::Duration;

use integration::frameworks::{Framework, is_long, node, say};
use integration::words::{Words, await_counts};

/// Both ways in which the sink names its transactions: a new name for each, or names that are used again, with those that
/// are open looked up by ListTransactions.
const NAMINGS: [&str; 2] = ["INCREMENTING", "POOLING"];

#[test]
fn counts_are_exactly_once() {
    if !is_long() {
        return say("Flink: left out, `make frameworks` runs it");
    }
    let framework = Framework::new("flink");
    for naming in NAMINGS {
        // As Flink's transactions live for as long as a job may be away.
        let mut cluster = node(&[("transaction.max.timeout.ms", "900000")]);
        cluster.routes().create_topic("words", 2, 1, &[]);
        cluster.routes().create_topic("counts", 1, 1, &[]);
        let mut words = Words::default();
        let directory = framework.scratch().join(naming).display().to_string();
        let mut job = framework.start(naming, &format!("Job {} {directory} {naming}", cluster.bootstrap()));
        for round in 0..3 {
            words.write(&cluster.bootstrap(), 300);
            await_counts(&cluster, &words, true);
            words.write(&cluster.bootstrap(), 300);
            std::thread::sleep(Duration::from_millis(700));
            if round == 1 {
                cluster.kill9(1);
                cluster.launch(1);
                cluster.await_brokers();
            }
            job.kill9();
            words.write(&cluster.bootstrap(), 300);
            job.launch();
        }
        await_counts(&cluster, &words, true);
        job.kill9();
        say(&format!(
            "Flink, {naming}: {} words counted exactly once, the job killed three times, the broker once",
            words.total()
        ));
    }
}
