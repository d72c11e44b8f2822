//! A job of Apache Spark's structured streaming that counts words. The process is killed, and the job goes on from its
//! checkpoint; the broker is killed as well. Its sink writes a batch again that it had not finished: what is last for each
//! word is right.

use std::time::Duration;

use integration::frameworks::{Framework, is_long, node, say};
use integration::words::{Words, await_counts};

#[test]
fn counts_are_right_in_the_end() {
    if !is_long() {
        return say("Spark: left out, `make frameworks` runs it");
    }
    let framework = Framework::new("spark");
    let mut cluster = node(&[]);
    cluster.routes().create_topic("words", 2, 1, &[]);
    cluster.routes().create_topic("counts", 1, 1, &[]);
    let mut words = Words::default();
    let directory = framework.scratch().join("job").display().to_string();
    let mut job = framework.start("spark", &format!("Job {} {directory}", cluster.bootstrap()));
    for round in 0..3 {
        words.write(&cluster.bootstrap(), 300);
        await_counts(&cluster, &words, false);
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
    await_counts(&cluster, &words, false);
    say(&format!("Spark: {} words counted, the job killed three times, the broker once", words.total()));
}
