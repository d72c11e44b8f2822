//! Runs workloads on both brokers in turn.

use std::io;
use std::time::{Duration, Instant};

use super::figure::{Sample, sample};
use super::workloads::{Life, Load, Work, Workload};
use super::{life, warm};
use crate::load::consume::drain;
use crate::load::produce::Produce;
use crate::load::{Broker, Limit, approximate};
use crate::server::{Kind, Server, Setup, drop_page_cache, sync};

/// No load takes longer; it fails then.
pub(super) const LOAD_SECONDS: f64 = 60.0;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// How often everything is measured.
    pub rounds: usize,
    /// Of the bytes and times of the table.
    pub size: f64,
    /// Whether what takes Apache Kafka minutes is done, too.
    pub full: bool,
}

impl Scale {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of the table"
    )]
    pub(super) fn of(self, amount: u64) -> u64 {
        ((approximate(amount) * self.size) as u64).max(1)
    }

    pub(super) fn bytes(self, megabytes: u64) -> u64 {
        self.of(megabytes * 1_000_000)
    }

    /// A smaller one, to warm up with.
    fn warm_up(self) -> Self {
        Self { size: self.size * 0.25, ..self }
    }
}

/// What came of a workload.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub workload: &'static Workload,
    /// For each round klamm's figures and Apache Kafka's; none where that has failed.
    pub rounds: Vec<[Option<Sample>; 2]>,
    /// What has failed.
    pub errors: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs workloads, and keeps the pair of warm brokers between them.
#[derive(Debug)]
pub struct Runner {
    setup: Setup,
    scale: Scale,
    pair: [Option<Server>; 2],
    /// What is to be told of the circumstances.
    pub notes: Vec<(&'static str, String)>,
    topics: u32,
}

impl Runner {
    /// Nothing is started yet.
    #[must_use]
    pub fn new(setup: Setup, scale: Scale) -> Self {
        Self { setup, scale, pair: [None, None], notes: Vec::new(), topics: 0 }
    }

    /// Runs one workload on both brokers in turn. What fails is told in the outcome.
    pub fn run(&mut self, workload: &'static Workload) -> Outcome {
        let start = Instant::now();
        let mut outcome = Outcome { workload, rounds: Vec::new(), errors: Vec::new(), took: Duration::ZERO };
        match workload.work {
            Work::Load(load) => self.on_warm_brokers(load, &mut outcome),
            Work::Life(life) => {
                self.pair = [None, None];
                if let Life::Cold { megabytes } = life {
                    self.cold(megabytes, &mut outcome);
                } else {
                    self.on_own_brokers(life, &mut outcome);
                }
            }
        }
        outcome.took = start.elapsed();
        outcome
    }

    /// A number that no other topic of this run has.
    fn number(&mut self) -> u32 {
        self.topics += 1;
        self.topics
    }

    /// One round to warm up, then those that count; the two take turns to be the first.
    fn on_warm_brokers(&mut self, load: Load, outcome: &mut Outcome) {
        for round in 0..=self.scale.rounds {
            let mut samples = [None, None];
            let scale = if round == 0 { self.scale.warm_up() } else { self.scale };
            for at in if round % 2 == 1 { [0, 1] } else { [1, 0] } {
                let number = self.number();
                let measured = self.warm(at).and_then(|broker| {
                    sync();
                    warm::on_broker(&self.setup, load, scale, &broker, number)
                });
                match measured {
                    Ok(sample) => samples[at] = Some(sample),
                    Err(error) => outcome.errors.push(failed(Kind::BOTH[at], &error)),
                }
            }
            if round > 0 {
                outcome.rounds.push(samples);
            }
        }
    }

    /// The warm broker, started and warmed up where it does not run.
    fn warm(&mut self, at: usize) -> io::Result<Broker> {
        if let Some(broker) = self.pair[at].as_ref().and_then(|server| server.broker().ok()) {
            return Ok(broker);
        }
        let mut server = Server::new(Kind::BOTH[at], &self.setup)?;
        server.start()?;
        let broker = server.broker()?;
        let cycles = warm::warm_up(&broker, self.scale)?;
        let cycles: Vec<_> = cycles.iter().map(|cpu_s| format!("{cpu_s:.1}")).collect();
        self.notes.push((
            "warm-up, CPU-s of each cycle",
            format!("{}: {}", Kind::BOTH[at].name(), cycles.join(", ")),
        ));
        self.pair[at] = Some(server);
        Ok(broker)
    }

    fn on_own_brokers(&mut self, life: Life, outcome: &mut Outcome) {
        for round in 0..self.rounds_of(life) {
            let mut samples = [None, None];
            for at in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let kind = Kind::BOTH[at];
                if kind == Kind::Kafka && life.is_long_for_kafka() && !self.scale.full {
                    continue;
                }
                sync();
                match life::on_new_broker(&self.setup, life, self.scale, kind) {
                    Ok(sample) => samples[at] = Some(sample),
                    Err(error) => outcome.errors.push(failed(kind, &error)),
                }
            }
            outcome.rounds.push(samples);
        }
    }

    fn rounds_of(&self, life: Life) -> usize {
        match life {
            Life::Partitions { .. } | Life::Kill { .. } => 1,
            Life::ProduceAndStop { .. } | Life::Idle { .. } | Life::Start { megabytes: Some(_) } => {
                self.scale.rounds.min(2)
            }
            Life::Start { megabytes: None } | Life::Cold { .. } => self.scale.rounds,
        }
    }

    /// Both write a topic for every round, are restarted and read another topic until their code is warm; then each round
    /// reads a topic that nobody has read yet.
    fn cold(&mut self, megabytes: u64, outcome: &mut Outcome) {
        let rounds = self.scale.rounds;
        let mut servers = [None, None];
        for at in [0, 1] {
            match life::cold_server(&self.setup, Kind::BOTH[at], self.scale, megabytes, rounds) {
                Ok(server) => servers[at] = Some(server),
                Err(error) => outcome.errors.push(failed(Kind::BOTH[at], &error)),
            }
        }
        let mut dropped = "";
        for round in 0..rounds {
            let mut samples = [None, None];
            for at in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let Some((server, topics)) = &servers[at] else { continue };
                dropped = drop_page_cache(server.directory());
                let read = server.broker().and_then(|broker| {
                    drain(&broker, &topics[round], Produce::USUAL.value_bytes, 1, || {
                        Limit::new(LOAD_SECONDS, u64::MAX)
                    })
                });
                match read {
                    Ok(shown) => samples[at] = Some(sample(&shown)),
                    Err(error) => outcome.errors.push(failed(Kind::BOTH[at], &error)),
                }
            }
            outcome.rounds.push(samples);
        }
        self.notes.push(("page cache dropped by", dropped.to_owned()));
    }
}

fn failed(kind: Kind, error: &io::Error) -> String {
    format!("{}: {error}", kind.name())
}

/// Ends with so many bytes of values, or fails after [`LOAD_SECONDS`].
pub(super) fn limit(bytes: u64) -> Limit {
    Limit::new(LOAD_SECONDS, bytes)
}
