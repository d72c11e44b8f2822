//! The workloads and their goals, each an entry of one table.

use super::figure::Figure;
use crate::batch::Compression;
use crate::load::produce::Produce;

/// One thing that both brokers are made to do.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// By this it is selected.
    pub name: &'static str,
    /// What is done, for readers.
    pub what: &'static str,
    /// Where it stands in the report.
    pub section: Section,
    /// The same in terms of the program.
    pub work: Work,
    /// Whether a quick run has it.
    pub quick: bool,
    /// What is wanted.
    pub goals: &'static [Goal],
}

/// A table of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Batches: produced.
    Produce,
    /// Batches: consumed.
    Consume,
    /// Small requests.
    Requests,
    /// Open loop.
    Latency,
    /// Connections, groups, partitions and starts.
    Life,
}

impl Section {
    /// All, in their order.
    pub const ALL: [Self; 5] = [Self::Produce, Self::Consume, Self::Requests, Self::Latency, Self::Life];

    /// Its heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Produce => "Produce",
            Self::Consume => "Consume",
            Self::Requests => "Small requests",
            Self::Latency => "Latency, open loop",
            Self::Life => "Connections, groups, partitions, starts",
        }
    }

    /// What its table shows, besides circumstances.
    #[must_use]
    pub fn figures(self) -> &'static [Figure] {
        match self {
            Self::Produce => &[
                Figure::CpuPerGb,
                Figure::MbPerS,
                Figure::RecordsPerS,
                Figure::AckP50,
                Figure::AckP99,
                Figure::AckP999,
                Figure::Peak,
                Figure::WrittenPerByte,
                Figure::CpuPerGbThroughStop,
                Figure::WrittenThroughStop,
            ],
            Self::Consume => {
                &[Figure::CpuPerGb, Figure::ReadCpuPerGb, Figure::MbPerS, Figure::RecordsPerS, Figure::Peak]
            }
            Self::Requests => &[
                Figure::CpuPerRequest,
                Figure::RequestsPerS,
                Figure::AckP50,
                Figure::AckP99,
                Figure::AckP999,
                Figure::Peak,
            ],
            Self::Latency => &[
                Figure::EndToEndP50,
                Figure::EndToEndP99,
                Figure::EndToEndP999,
                Figure::AckP50,
                Figure::AckP99,
                Figure::CpuPerRecord,
                Figure::Peak,
            ],
            Self::Life => &[
                Figure::SpawnToMetadata,
                Figure::SpawnToRecord,
                Figure::StartCpu,
                Figure::Create,
                Figure::Metadata,
                Figure::Join,
                Figure::IdleCpu,
                Figure::PerConnection,
                Figure::Resident,
                Figure::Peak,
            ],
        }
    }
}

/// What a figure is wanted to be.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Which figure.
    pub figure: Figure,
    /// Where it is to end.
    pub bound: Bound,
}

/// A bound of a median.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// klamm's share of Apache Kafka's figure.
    RatioAtMost(f64),
    /// How many times Apache Kafka's figure.
    RatioAtLeast(f64),
    /// klamm's own figure, in the figure's unit.
    AtMost(f64),
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// To a broker that runs and is warm.
    Load(Load),
    /// To a broker of its own, from its start on.
    Life(Life),
}

/// A load on a broker that runs and is warm.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Producers into a new topic.
    Produce {
        /// Of the topic.
        partitions: i32,
        /// How.
        produce: Produce,
        /// Of values.
        megabytes: u64,
    },
    /// One record a request.
    Requests {
        /// Each with one request in flight.
        connections: usize,
        /// Of the topic.
        partitions: i32,
        /// Of a value.
        value_bytes: usize,
        /// A setting of the topic.
        config: Option<(&'static str, &'static str)>,
    },
    /// A topic is read from its start right after it was written.
    CatchUp {
        /// Of values.
        megabytes: u64,
    },
    /// Consumers that keep up with producers of this rate.
    Tail {
        /// Each reads everything.
        consumers: usize,
        /// Of values, written a second.
        rate_mb_s: f64,
    },
    /// Records at a fixed rate.
    Latency {
        /// Records a second.
        rate: u32,
        /// What another producer writes a second.
        background_mb_s: Option<f64>,
    },
    /// Kafka's own producer with its defaults.
    JavaProducer {
        /// Of 1,024 bytes each.
        records: u64,
    },
    /// Kafka's own consumer with its defaults.
    JavaConsumer {
        /// Of 1,024 bytes each.
        records: u64,
    },
    /// A new group whose members come at once.
    Group {
        /// How many.
        members: usize,
    },
}

/// The life of a broker of its own.
#[derive(Clone, Copy, Debug)]
pub enum Life {
    /// A broker of its own from an empty directory to SIGTERM, with nothing but this: what reaches the disk in the end.
    ProduceAndStop {
        /// Of values.
        megabytes: u64,
    },
    /// A topic is read from its start by a broker that was restarted, after the page cache was dropped.
    Cold {
        /// Of values, for every round.
        megabytes: u64,
    },
    /// From the start of the process on.
    Start {
        /// What the data directory holds already; none is a new one.
        megabytes: Option<u64>,
    },
    /// Connections that ask for nothing.
    Idle {
        /// How many.
        connections: usize,
    },
    /// Create, restart, metadata.
    Partitions {
        /// How many, in topics of 1,000.
        count: i32,
    },
    /// Restart after `kill -9`.
    Kill {
        /// How many, in topics of 1,000.
        partitions: i32,
        /// Of values.
        megabytes: u64,
    },
}

impl Life {
    /// Whether it takes Apache Kafka many minutes, so that it does it in the full run only.
    #[must_use]
    pub fn is_long_for_kafka(self) -> bool {
        match self {
            Self::Partitions { count } | Self::Kill { partitions: count, .. } => count > 1_000,
            Self::ProduceAndStop { .. } | Self::Cold { .. } | Self::Start { .. } | Self::Idle { .. } => false,
        }
    }
}

const BASE: Produce = Produce::USUAL;

const fn produce(partitions: i32, megabytes: u64, produce: Produce) -> Work {
    Work::Load(Load::Produce { partitions, produce, megabytes })
}

const fn requests(connections: usize, partitions: i32) -> Work {
    Work::Load(Load::Requests { connections, partitions, value_bytes: 100, config: None })
}

/// One record a request from 16 connections, each record on the disk before it is acknowledged.
const fn requests_synced(partitions: i32) -> Work {
    let config = Some(("flush.messages", "1"));
    Work::Load(Load::Requests { connections: 16, partitions, value_bytes: 1_024, config })
}

const fn at_most(figure: Figure, ratio: f64) -> Goal {
    Goal { figure, bound: Bound::RatioAtMost(ratio) }
}

const fn at_least(figure: Figure, ratio: f64) -> Goal {
    Goal { figure, bound: Bound::RatioAtLeast(ratio) }
}

const fn own(figure: Figure, most: f64) -> Goal {
    Goal { figure, bound: Bound::AtMost(most) }
}

macro_rules! workloads {
    ($($name:literal $section:ident $quick:ident $what:literal $work:expr, [$($goal:expr),*];)*) => {
        /// All workloads, in the order in which they run.
        pub const WORKLOADS: &[Workload] = &[$(Workload {
            name: $name,
            what: $what,
            section: Section::$section,
            work: $work,
            quick: workloads!(@$quick),
            goals: &[$($goal),*],
        }),*];
    };
    (@quick) => { true };
    (@whole) => { false };
}

workloads! {
    "produce-1-acks1" Produce whole "1 KB, 1 partition, acks=1"
        produce(1, 500, Produce { acks: 1, idempotent: false, ..BASE }), [];
    "produce-1" Produce whole "1 KB, 1 partition, acks=all, idempotent"
        produce(1, 500, BASE), [];
    "produce-12-acks1" Produce whole "1 KB, 12 partitions, acks=1"
        produce(12, 600, Produce { acks: 1, idempotent: false, ..BASE }), [];
    "produce-12" Produce quick "1 KB, 12 partitions, acks=all, idempotent"
        produce(12, 700, BASE), [at_most(Figure::CpuPerGb, 0.7)];
    "produce-12-lz4" Produce quick "1 KB, 12 partitions, lz4 (MB and GB of values)"
        produce(12, 700, Produce { compression: Compression::Lz4, ..BASE }), [at_most(Figure::CpuPerGb, 0.4)];
    "produce-12-zstd" Produce whole "1 KB, 12 partitions, zstd (MB and GB of values)"
        produce(12, 700, Produce { compression: Compression::Zstd, ..BASE }), [];
    "produce-12-100b" Produce quick "100 B, 12 partitions"
        produce(12, 300, Produce { value_bytes: 100, ..BASE }), [at_most(Figure::CpuPerGb, 0.4)];
    "produce-12-16kb" Produce quick "1 KB in 16 KB batches, 12 partitions"
        produce(12, 400, Produce { batch_bytes: 16_384, ..BASE }), [at_most(Figure::CpuPerGb, 0.5)];
    "produce-12-1mb" Produce whole "1 KB in 1 MB batches, 12 partitions"
        produce(12, 600, Produce { batch_bytes: 1_000_000, ..BASE }), [];
    "java-producer" Produce whole "Kafka's producer with its defaults, 1 KB, 12 partitions"
        Work::Load(Load::JavaProducer { records: 200_000 }), [];
    "requests-100" Requests quick "one 100 B record a request, 100 connections, 12 partitions, acks=all"
        requests(100, 12), [at_most(Figure::CpuPerRequest, 0.25), at_least(Figure::RequestsPerS, 3.0)];
    "requests-1" Requests quick "one 100 B record a request, 1 connection, acks=all"
        requests(1, 1), [at_most(Figure::CpuPerRequest, 0.3)];
    "requests-fsync-16" Requests quick "one 1 KB record a request, flush.messages=1, 16 connections, 1 partition"
        requests_synced(1), [at_least(Figure::RequestsPerS, 10.0)];
    "requests-fsync-16-spread" Requests quick "the same into 16 partitions, whose files Kafka syncs side by side"
        requests_synced(16), [at_least(Figure::RequestsPerS, 10.0)];
    "consume-tail" Consume quick "1 consumer that keeps up with 100 MB/s in 12 partitions"
        Work::Load(Load::Tail { consumers: 1, rate_mb_s: 100.0 }), [at_most(Figure::ReadCpuPerGb, 0.8)];
    "consume-fanout-10" Consume whole "10 consumers that keep up with 20 MB/s in 12 partitions (GB read)"
        Work::Load(Load::Tail { consumers: 10, rate_mb_s: 20.0 }), [];
    "consume-catchup" Consume quick "12 partitions from their start, right after they were written"
        Work::Load(Load::CatchUp { megabytes: 500 }), [];
    "java-consumer" Consume whole "Kafka's consumer with its defaults, 1 KB, 12 partitions"
        Work::Load(Load::JavaConsumer { records: 200_000 }), [];
    "latency-1k" Latency whole "1,000 records/s of 100 B" Work::Load(Load::Latency { rate: 1_000, background_mb_s: None }), [];
    "latency-10k" Latency quick "10,000 records/s of 100 B" Work::Load(Load::Latency { rate: 10_000, background_mb_s: None }),
        [at_most(Figure::EndToEndP99, 0.5), own(Figure::EndToEndP999, 5.0)];
    "latency-20k" Latency whole "20,000 records/s of 100 B" Work::Load(Load::Latency { rate: 20_000, background_mb_s: None }), [];
    "latency-100k" Latency whole "100,000 records/s of 100 B"
        Work::Load(Load::Latency { rate: 100_000, background_mb_s: None }), [];
    "latency-1k-busy" Latency whole "1,000 records/s beside 20 MB/s"
        Work::Load(Load::Latency { rate: 1_000, background_mb_s: Some(20.0) }), [];
    "latency-10k-busy" Latency quick "10,000 records/s beside 20 MB/s"
        Work::Load(Load::Latency { rate: 10_000, background_mb_s: Some(20.0) }), [];
    "latency-20k-busy" Latency whole "20,000 records/s beside 20 MB/s"
        Work::Load(Load::Latency { rate: 20_000, background_mb_s: Some(20.0) }), [];
    "latency-100k-busy" Latency whole "100,000 records/s beside 20 MB/s"
        Work::Load(Load::Latency { rate: 100_000, background_mb_s: Some(20.0) }), [];
    "group-50" Life whole "50 members join a new group of the classic protocol" Work::Load(Load::Group { members: 50 }), [];
    "idle-1000" Life quick "1,000 connections that ask for nothing" Work::Life(Life::Idle { connections: 1_000 }), [];
    "produce-stop" Produce quick "1 KB, 12 partitions, acks=all: new broker, produce, SIGTERM"
        Work::Life(Life::ProduceAndStop { megabytes: 1_200 }), [own(Figure::WrittenThroughStop, 1.3)];
    "consume-cold" Consume quick "12 partitions from their start, after a restart, page cache dropped"
        Work::Life(Life::Cold { megabytes: 400 }), [at_most(Figure::CpuPerGb, 1.2)];
    "start" Life quick "start in a new directory" Work::Life(Life::Start { megabytes: None }),
        [own(Figure::SpawnToMetadata, 60.0), own(Figure::SpawnToRecord, 150.0)];
    "start-data" Life whole "start with 500 MB in 12 partitions, after SIGTERM"
        Work::Life(Life::Start { megabytes: Some(500) }), [];
    "partitions-1000" Life whole "1,000 partitions: create, then restart after SIGTERM"
        Work::Life(Life::Partitions { count: 1_000 }), [];
    "partitions-10000" Life whole "10,000 partitions: create, then restart after SIGTERM"
        Work::Life(Life::Partitions { count: 10_000 }), [];
    "kill-10000" Life whole "restart after kill -9 with 10,000 partitions and 5 GB (to Metadata, to the first record)"
        Work::Life(Life::Kill { partitions: 10_000, megabytes: 5_000 }),
        [own(Figure::SpawnToRecord, 1_000.0)];
}

/// The most memory that may ever be resident, in megabytes.
pub const PEAK_GOAL_MB: f64 = 150.0;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_brokers_of_their_own_come_last() {
        let names: BTreeSet<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
        let own: Vec<bool> =
            WORKLOADS.iter().map(|workload| matches!(workload.work, Work::Life(_))).collect();
        assert!(own.is_sorted(), "the pair of warm brokers is stopped before others are started");
    }

    #[test]
    fn every_goal_is_shown_in_its_section() {
        for workload in WORKLOADS {
            for goal in workload.goals {
                assert!(workload.section.figures().contains(&goal.figure), "{}: {goal:?}", workload.name);
            }
        }
    }
}
