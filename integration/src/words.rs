//! Words that a job counts: what goes in, and what must come out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::committed::read_all;
use crate::process::until;

const PATIENCE: Duration = Duration::from_secs(240);
const WORDS: usize = 25;

/// How often each word was written into the topic "words".
#[derive(Debug, Default)]
pub struct Words {
    counts: BTreeMap<String, u64>,
    written: usize,
}

impl Words {
    /// Writes so many more.
    ///
    /// # Panics
    /// When not all are acknowledged.
    pub fn write(&mut self, bootstrap: &str, count: usize) {
        let mut input = String::new();
        for number in self.written..self.written + count {
            let word = format!("word-{}", number * 7 % WORDS);
            let _ = writeln!(input, "{number}:{word}");
            *self.counts.entry(word).or_default() += 1;
        }
        self.written += count;
        let mut kcat = Command::new("kcat");
        kcat.args(["-P", "-b", bootstrap, "-t", "words", "-K:", "-X", "enable.idempotence=true"]);
        let mut kcat = kcat.stdin(Stdio::piped()).spawn().expect("kcat can be started");
        kcat.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("kcat reads");
        assert!(kcat.wait().expect("kcat ends").success(), "kcat could not write");
    }

    /// How many were written.
    #[must_use]
    pub fn total(&self) -> usize {
        self.written
    }
}

/// Waits until the topic "counts", of lines `WORD COUNT` in one partition, has all the words. Exactly once: each word has each
/// count up to its last one, once and in order. Otherwise counts may come again, and be left out.
///
/// # Panics
/// When it does not, or when there is something else.
pub fn await_counts(cluster: &Cluster, words: &Words, exactly_once: bool) {
    until("all counts", PATIENCE, || {
        thread::sleep(Duration::from_millis(300));
        let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for text in read_all(&mut cluster.routes(), "counts")? {
            let (word, count) = text.value.split_once(' ').expect("a word and a count");
            seen.entry(word.to_owned()).or_default().push(count.parse().expect("a count"));
        }
        for (word, counts) in &seen {
            let last = words.counts.get(word).copied().unwrap_or_default();
            assert!(counts.iter().max() <= Some(&last), "{word} came {last} times, not {counts:?}");
            let whole = counts.iter().zip(1..).all(|(count, wanted)| *count == wanted);
            assert!(whole || !exactly_once, "{word} has the counts {counts:?}");
        }
        let done = |(word, last): (&String, &u64)| {
            seen.get(word).and_then(|counts| counts.iter().max()) == Some(last)
        };
        words.counts.iter().all(done).then_some(())
    });
}
