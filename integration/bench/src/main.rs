//! klamm and Apache Kafka under the same load.
//!
//! `bench compare` runs both brokers and writes a report; `bench load …` puts one load on a broker that runs already and
//! prints what that cost.
#![expect(clippy::print_stdout, reason = "its output is the product")]

use std::io;
use std::process::ExitCode;
use std::thread;

use bench::batch::Compression;
use bench::compare::{Options, compare};
use bench::load::consume::{drain, tail};
use bench::load::latency::Latency;
use bench::load::produce::Produce;
use bench::load::requests::Requests;
use bench::load::{Broker, Limit, Shown};
use bench::recovery::{RecoveryOptions, recovery};
use bench::server::Registry;
use bench::topic::Topic;
use clap::{Args, Parser, Subcommand};

/// Load for a Kafka broker, and what it costs the broker.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One load on a broker that runs already
    #[command(subcommand)]
    Load(Load),
    /// klamm and Apache Kafka in turn, and a report
    Compare(Options),
    /// How long three nodes of either need after one of them failed
    Recovery(RecoveryOptions),
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Batches as fast as they are acknowledged
    Produce {
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        produce: ProduceArgs,
    },
    /// Produce, and then read everything from the start of the topic
    Consume {
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        produce: ProduceArgs,
        /// Consumers that each read everything
        #[arg(long, default_value_t = 1)]
        consumers: usize,
        /// Read at the tail while it is produced, instead of behind it
        #[arg(long)]
        tail: bool,
        /// Read the topic --topic as it is, without producing first
        #[arg(long, conflicts_with = "tail")]
        existing: bool,
    },
    /// One record a request on many connections
    Requests {
        #[command(flatten)]
        target: TargetArgs,
        /// Connections, each with one request in flight
        #[arg(long, default_value_t = 100)]
        connections: usize,
        /// The size of the value
        #[arg(long, default_value_t = 100)]
        value_bytes: usize,
        /// 0 is not possible
        #[arg(long, default_value = "all", value_parser = acks)]
        acks: i16,
    },
    /// Records at a fixed rate, timed from the producer to a consumer
    Latency {
        #[command(flatten)]
        target: TargetArgs,
        /// Records a second
        #[arg(long, default_value_t = 10_000)]
        rate: u32,
        /// The size of a value
        #[arg(long, default_value_t = 100)]
        value_bytes: usize,
        /// Megabytes a second that another producer writes to another topic
        #[arg(long)]
        background: Option<f64>,
    },
}

#[derive(Debug, Args)]
struct TargetArgs {
    /// Where the broker listens
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The process of the broker
    #[arg(long)]
    pid: u32,
    /// The topic; where none is given one is created and deleted again
    #[arg(long)]
    topic: Option<String>,
    /// Partitions of the topic that is created
    #[arg(long, default_value_t = 12)]
    partitions: i32,
    /// A setting of the topic that is created, such as flush.messages=1
    #[arg(long = "config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Megabytes of values, where that is reached earlier
    #[arg(long)]
    megabytes: Option<u64>,
}

#[derive(Debug, Args)]
struct ProduceArgs {
    /// Producers, each with a connection
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// The size of a value
    #[arg(long, default_value_t = 1_024)]
    value_bytes: usize,
    /// The size of a batch before compression
    #[arg(long, default_value_t = 65_536)]
    batch_bytes: usize,
    /// all or 1
    #[arg(long, default_value = "all", value_parser = acks)]
    acks: i16,
    /// Without producer id and sequence numbers
    #[arg(long)]
    not_idempotent: bool,
    /// Of the batches
    #[arg(long, value_enum, default_value_t)]
    compression: Compression,
    /// Unanswered requests of a connection
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// Megabytes of values a second instead of as fast as it goes
    #[arg(long)]
    rate: Option<f64>,
}

impl ProduceArgs {
    fn produce(&self) -> Produce {
        Produce {
            connections: self.connections,
            value_bytes: self.value_bytes,
            batch_bytes: self.batch_bytes,
            acks: self.acks,
            idempotent: !self.not_idempotent,
            compression: self.compression,
            in_flight: self.in_flight,
            rate_mb_s: self.rate,
        }
    }
}

impl TargetArgs {
    fn broker(&self) -> Broker {
        Broker { bootstrap: self.bootstrap.clone(), pid: self.pid }
    }

    fn limit(&self) -> Limit {
        Limit::new(self.seconds, self.megabytes.map_or(u64::MAX, |megabytes| megabytes * 1_000_000))
    }

    /// Runs a load on the topic that is named, or on one that is there for the load only.
    fn with_topic(&self, load: impl FnOnce(&Topic) -> io::Result<Shown>) -> io::Result<Shown> {
        if let Some(name) = &self.topic {
            return load(&Topic::find(&self.bootstrap, name)?);
        }
        let topic = self.create(&format!("bench-{}", uuid::Uuid::new_v4().simple()))?;
        let shown = load(&topic);
        topic.delete(&self.bootstrap)?;
        shown
    }

    fn create(&self, name: &str) -> io::Result<Topic> {
        let configs: Vec<_> = self.configs.iter().filter_map(|config| config.split_once('=')).collect();
        Topic::create(&self.bootstrap, name, self.partitions, &configs)
    }
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        _ => Err("acks is all or 1".to_owned()),
    }
}

fn load(load: &Load) -> io::Result<Shown> {
    match load {
        Load::Produce { target, produce } => {
            target.with_topic(|topic| produce.produce().run(&target.broker(), topic, || target.limit()))
        }
        Load::Consume { target, produce, consumers, tail: at_tail, existing } => target.with_topic(|topic| {
            let (broker, produce) = (target.broker(), produce.produce());
            if *at_tail {
                return tail(&broker, topic, &produce, *consumers, || target.limit());
            }
            if !existing {
                print!("produced first: {}", produce.run(&broker, topic, || target.limit())?);
            }
            drain(&broker, topic, produce.value_bytes, *consumers, || Limit::new(600.0, u64::MAX))
        }),
        Load::Requests { target, connections, value_bytes, acks } => target.with_topic(|topic| {
            let requests = Requests { connections: *connections, value_bytes: *value_bytes, acks: *acks };
            requests.run(&target.broker(), topic, || Limit::new(target.seconds, u64::MAX))
        }),
        Load::Latency { target, rate, value_bytes, background } => target.with_topic(|topic| {
            let latency = Latency {
                rate: *rate,
                value_bytes: *value_bytes,
                seconds: target.seconds,
                background_mb_s: *background,
            };
            let others = match background {
                Some(_) => Some(target.create(&format!("{}-background", topic.name))?),
                None => None,
            };
            let shown = latency.run(&target.broker(), topic, others.as_ref());
            if let Some(others) = others {
                others.delete(&target.bootstrap)?;
            }
            shown
        }),
    }
}

/// Ctrl-C and SIGTERM leave no broker and no data behind.
fn clean_when_interrupted(registry: Registry) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                _ = terminate.recv() => {}
                interrupted = tokio::signal::ctrl_c() => interrupted?,
            }
            io::Result::Ok(())
        })?;
        registry.clean();
        // The broker that is waited for was killed: nothing is left to do for the thread that runs the loads.
        std::process::exit(130);
        #[expect(unreachable_code, reason = "for the type of the result")]
        io::Result::Ok(())
    });
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Load(one) => load(one).map(|shown| print!("{shown}")),
        Command::Recovery(options) => recovery(options).map(|report| print!("{report}")),
        Command::Compare(options) => {
            let registry = Registry::default();
            clean_when_interrupted(registry.clone());
            let outcome = compare(options, &registry).map(|report| print!("{report}"));
            registry.clean();
            outcome
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
