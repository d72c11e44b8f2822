//! Workloads on brokers that run and are warm.

use std::io;

use super::figure::{Figure, Sample, sample};
use super::run::{LOAD_SECONDS, Scale, limit};
use super::workloads::Load;
use crate::batch::Compression;
use crate::load::consume::{drain, tail};
use crate::load::java::Tools;
use crate::load::latency::Latency;
use crate::load::produce::{self, Produce};
use crate::load::requests::Requests;
use crate::load::{Broker, Limit, approximate, group};
use crate::process::{self, Meter};
use crate::server::{Setup, sync};
use crate::topic::Topic;

/// A broker that does not become cheaper is warm, and one that still does after so many cycles is measured as it is.
const WARM_UP_CYCLES_MAX: usize = 8;

/// Lets the code of a broker become warm, above all that of the JVM: the same cycle of batches, small requests and reads
/// again and again, until it does not become cheaper any more. Answers the CPU-seconds of every cycle.
pub(super) fn warm_up(broker: &Broker, scale: Scale) -> io::Result<Vec<f64>> {
    let mut cycles: Vec<f64> = Vec::new();
    while cycles.len() < WARM_UP_CYCLES_MAX {
        let before = process::usage(broker.pid)?.cpu_s;
        warm_up_cycle(broker, scale, cycles.len())?;
        cycles.push(process::usage(broker.pid)?.cpu_s - before);
        if let [.., earlier, last, this] = cycles[..]
            && this > 0.9 * earlier.min(last)
        {
            break;
        }
    }
    Ok(cycles)
}

fn warm_up_cycle(broker: &Broker, scale: Scale, number: usize) -> io::Result<()> {
    let topic = Topic::create(&broker.bootstrap, &format!("warm-up-{number}"), 12, &[])?;
    let small = Produce { batch_bytes: 16_384, ..Produce::USUAL };
    let lz4 = Produce { compression: Compression::Lz4, ..Produce::USUAL };
    for produce in [small, lz4, Produce::USUAL] {
        produce::run(produce.prepare(&broker.bootstrap, &topic)?, &limit(scale.bytes(300)))?;
    }
    let requests = Requests { connections: 100, value_bytes: 100, acks: -1 };
    requests.run(broker, &topic, || Limit::new(LOAD_SECONDS, scale.of(40_000)))?;
    drain(broker, &topic, Produce::USUAL.value_bytes, 1, || limit(u64::MAX))?;
    topic.delete(&broker.bootstrap)
}

/// Runs a workload once on a broker that runs.
pub(super) fn on_broker(
    setup: &Setup,
    load: Load,
    scale: Scale,
    broker: &Broker,
    number: u32,
) -> io::Result<Sample> {
    let name = format!("bench-{number}");
    let with_topic =
        |partitions, config: Option<(&str, &str)>, one: &dyn Fn(&Topic) -> io::Result<Sample>| {
            let configs: Vec<_> = config.into_iter().collect();
            let topic = Topic::create(&broker.bootstrap, &name, partitions, &configs)?;
            let sample = one(&topic);
            topic.delete(&broker.bootstrap)?;
            sample
        };
    let tool = setup.peer.join("tool");
    let java = Tools { tool: &tool, registry: &setup.registry };
    match load {
        Load::Produce { partitions, produce, megabytes } => with_topic(partitions, None, &|topic| {
            let meter = Meter::start(broker.pid)?;
            let shown = produce.run(broker, topic, || limit(scale.bytes(megabytes)))?;
            sync();
            let used = meter.read()?;
            let mut sample = sample(&shown);
            let gigabytes = approximate(shown.value_bytes.max(1)) / 1e9;
            sample.insert(Figure::OtherCpuPerGb, used.other_cores * used.seconds / gigabytes);
            Ok(sample)
        }),
        Load::Requests { connections, partitions, value_bytes, config } => {
            with_topic(partitions, config, &|topic| {
                let requests = Requests { connections, value_bytes, acks: -1 };
                let shown = requests.run(broker, topic, || Limit::new(3.0 * scale.size, u64::MAX))?;
                Ok(sample(&shown))
            })
        }
        Load::CatchUp { megabytes } => with_topic(12, None, &|topic| {
            let produce = Produce::USUAL;
            produce::run(produce.prepare(&broker.bootstrap, topic)?, &limit(scale.bytes(megabytes)))?;
            sync();
            Ok(sample(&drain(broker, topic, produce.value_bytes, 1, || limit(u64::MAX))?))
        }),
        Load::Tail { consumers, rate_mb_s } => {
            with_topic(12, None, &|topic| at_the_tail(broker, topic, scale, consumers, rate_mb_s))
        }
        Load::Latency { rate, background_mb_s } => with_topic(4, None, &|topic| {
            let latency =
                Latency { rate, value_bytes: 100, seconds: 3.0 * scale.size.max(0.5), background_mb_s };
            let others = match background_mb_s {
                Some(_) => Some(Topic::create(&broker.bootstrap, &format!("{name}-others"), 12, &[])?),
                None => None,
            };
            let shown = latency.run(broker, topic, others.as_ref());
            let shown = shown?;
            if let Some(others) = others {
                others.delete(&broker.bootstrap)?;
            }
            Ok(sample(&shown))
        }),
        Load::JavaProducer { records } => {
            with_topic(12, None, &|topic| Ok(sample(&java.produce(broker, topic, scale.of(records))?)))
        }
        Load::JavaConsumer { records } => with_topic(12, None, &|topic| {
            let enough = scale.of(records) * Produce::USUAL.value_bytes as u64 * 2;
            produce::run(Produce::USUAL.prepare(&broker.bootstrap, topic)?, &limit(enough))?;
            Ok(sample(&java.consume(broker, topic, scale.of(records))?))
        }),
        Load::Group { members } => {
            let meter = Meter::start(broker.pid)?;
            let time = group::join_all(&broker.bootstrap, &name, members, &limit(u64::MAX))?;
            let used = meter.read()?;
            Ok(Sample::from([
                (Figure::Join, time.as_secs_f64()),
                (Figure::StartCpu, used.broker_cpu_s),
                (Figure::OtherCores, used.other_cores),
            ]))
        }
    }
}

/// The same producers without consumers before and after: what the consumers cost is the difference. Where that is less than
/// what the machine's other load makes of it, it may come out below zero.
fn at_the_tail(
    broker: &Broker,
    topic: &Topic,
    scale: Scale,
    consumers: usize,
    rate_mb_s: f64,
) -> io::Result<Sample> {
    let produce = Produce { rate_mb_s: Some(rate_mb_s), ..Produce::USUAL };
    let limit = |seconds: f64| Limit::new(seconds * scale.size.max(0.5), u64::MAX);
    let alone = || Ok::<_, io::Error>(produce.run(broker, topic, || limit(3.0))?.cpu_per_gb());
    let before = alone()?;
    let both = tail(broker, topic, &produce, consumers, || limit(4.0))?;
    let writing = f64::midpoint(before, alone()?) / approximate(consumers as u64);
    let mut sample = sample(&both);
    sample.insert(Figure::ReadCpuPerGb, both.cpu_per_gb() - writing);
    Ok(sample)
}
