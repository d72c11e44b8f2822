//! Transactions while the broker and clients are killed: several producers write to several partitions and commit offsets,
//! in both protocols. In the end every transaction is seen as a whole or not at all, as its producer was told.
//!
//! `KLAMM_TRANSACTION_SECONDS=N` goes on for so long; `KLAMM_SEED=N` repeats the choices of a run, as far as threads
//! allow that.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use integration::cluster::client::Routes;
use integration::transactions::{PARTITIONS, TOPIC, Work, seconds, seed, under_transactions};
use integration::{Klamm, until};

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn transactions_are_whole_or_not_at_all() {
    let mut broker = Klamm::spawn(&["--topic", &format!("{TOPIC}:{PARTITIONS}")]);
    let routes = Routes::new(vec![broker.bootstrap().to_owned()]).patient_for(PATIENCE);
    let work =
        Work { routes, resends: false, freezes: false, has_kafka: false, pace: Duration::ZERO, seed: seed() };
    let (length, seed) = (seconds(10), work.seed);
    let mut kills = 0;
    let counts = under_transactions(work, |progress, random| {
        let since = Instant::now();
        while since.elapsed() < length {
            let target = progress.ended() + 1 + random.below(150);
            until("transactions", PATIENCE, || (progress.ended() >= target).then_some(()));
            broker.kill9();
            broker.restart();
            kills += 1;
        }
    });
    // A closed standard error is no reason to fail.
    let _ = writeln!(
        io::stderr(),
        "{counts:?}, {kills} kills (seed {seed}): each transaction whole or not there"
    );
}
