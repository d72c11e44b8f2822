//! Workloads on brokers of their own, from the start of the process on.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use integration::wire::Connection;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;

use super::figure::{Figure, Sample};
use super::run::{LOAD_SECONDS, Scale, limit};
use super::workloads::Life;
use crate::batch::{Compression, Values};
use crate::load::consume::drain;
use crate::load::produce::{self, Produce};
use crate::load::{Broker, Limit, approximate};
use crate::process::{self, Meter};
use crate::server::{Kind, Server, Setup, sync};
use crate::stats::Spread;
use crate::topic::{Topic, create, metadata};
use crate::wire::{FetchShape, Fetcher, ProduceFrame, Stream, check_produced, now_ms};

/// Idle brokers are watched this long.
const IDLE: Duration = Duration::from_secs(5);
/// Partitions of one topic where there are many: what Kafka's controller creates in one request is bounded.
const PARTITIONS_A_TOPIC: i32 = 1_000;
/// What their names begin with.
const MANY: &str = "many-";
const FIRST_OF_MANY: &str = "many-0";

/// Watches a broker that nobody uses, and then the same with connections that have each asked once for the versions.
fn idle(server: &mut Server, connections: usize) -> io::Result<Sample> {
    server.start()?;
    let broker = server.broker()?;
    one_record(&broker, None)?;
    thread::sleep(IDLE);
    let before = process::memory(broker.pid).resident;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("bench"))
        .with_client_software_version(StrBytes::from_static_str("1"));
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut connection = Connection::open(&broker.bootstrap)?;
        connection.call(3, &request)?;
        open.push(connection);
    }
    thread::sleep(Duration::from_secs(1));
    let after = process::memory(broker.pid).resident;
    let meter = Meter::start(broker.pid)?;
    thread::sleep(IDLE);
    let used = meter.read()?;
    drop(open);
    Ok(Sample::from([
        (Figure::IdleCpu, used.broker_cpu_s * 1_000.0 / used.seconds),
        (
            Figure::PerConnection,
            approximate(after.saturating_sub(before)) / approximate(connections as u64) / 1e3,
        ),
        (Figure::Resident, approximate(after) / 1e6),
        (Figure::OtherCores, used.other_cores),
    ]))
}

/// Has written a topic for every round, was restarted, and has read one more topic until its code is warm.
pub(super) fn cold_server(
    setup: &Setup,
    kind: Kind,
    scale: Scale,
    megabytes: u64,
    rounds: usize,
) -> io::Result<(Server, Vec<Topic>)> {
    let mut server = Server::new(kind, setup)?;
    server.start()?;
    let broker = server.broker()?;
    let mut topics = Vec::new();
    // The last one is what the code gets warm with.
    for number in 0..=rounds {
        let topic = Topic::create(&broker.bootstrap, &format!("cold-{number}"), 12, &[])?;
        let producers = Produce::USUAL.prepare(&broker.bootstrap, &topic)?;
        produce::run(producers, &limit(scale.bytes(megabytes)))?;
        topics.push(topic);
    }
    server.stop()?;
    server.start()?;
    let broker = server.broker()?;
    let warm = topics.pop().ok_or_else(|| io::Error::other("no topic"))?;
    for _ in 0..5 {
        drain(&broker, &warm, Produce::USUAL.value_bytes, 1, || limit(u64::MAX))?;
    }
    Ok((server, topics))
}

/// Runs a workload once from the start of a broker on.
pub(super) fn on_new_broker(setup: &Setup, life: Life, scale: Scale, kind: Kind) -> io::Result<Sample> {
    let mut server = Server::new(kind, setup)?;
    match life {
        Life::ProduceAndStop { megabytes } => produce_and_stop(&mut server, scale.bytes(megabytes)),
        Life::Start { megabytes } => {
            if let Some(megabytes) = megabytes {
                server.start()?;
                fill(&server, 12, scale.bytes(megabytes))?;
                server.stop()?;
                sync();
            }
            started(&mut server, megabytes.map(|_| FIRST_OF_MANY))
        }
        Life::Partitions { count } => partitions(&mut server, count),
        Life::Idle { connections } => idle(&mut server, connections),
        Life::Kill { partitions, megabytes, .. } => {
            server.start()?;
            fill(&server, partitions, scale.bytes(megabytes))?;
            server.kill();
            started(&mut server, Some(FIRST_OF_MANY))
        }
        Life::Cold { .. } => Err(io::Error::other("both brokers together read what is cold")),
    }
}

fn produce_and_stop(server: &mut Server, bytes: u64) -> io::Result<Sample> {
    server.start()?;
    let broker = server.broker()?;
    let topic = Topic::create(&broker.bootstrap, "all", 12, &[])?;
    let before = process::usage(broker.pid)?;
    let meter = Meter::start(broker.pid)?;
    let producers = Produce::USUAL.prepare(&broker.bootstrap, &topic)?;
    let start = Instant::now();
    let shown = produce::run(producers, &limit(bytes))?.shown(start.elapsed());
    let used = meter.read()?;
    let life = server.stop()?;
    let gigabytes = approximate(shown.value_bytes.max(1)) / 1e9;
    Ok(Sample::from([
        (Figure::CpuPerGbThroughStop, (life.cpu_s - before.cpu_s) / gigabytes),
        (
            Figure::WrittenThroughStop,
            approximate(life.write_bytes - before.write_bytes) / approximate(shown.batch_bytes.max(1)),
        ),
        (Figure::MbPerS, shown.mb_per_s()),
        (Figure::Peak, approximate(used.peak) / 1e6),
        (Figure::ClientCores, used.client_cpu_s / used.seconds),
        (Figure::OtherCores, used.other_cores),
    ]))
}

/// Makes topics of at most 1,000 partitions each and writes so many bytes to all together.
fn fill(server: &Server, partitions: i32, bytes: u64) -> io::Result<()> {
    let broker = server.broker()?;
    let topics = many_partitions(&broker, partitions)?;
    let share = bytes / topics.len().max(1) as u64;
    // All partitions get the same: a turn of the frames of a producer writes to all of them.
    let batch_bytes = if partitions > 100 { 16_384 } else { Produce::USUAL.batch_bytes };
    let produce = Produce { connections: 1, batch_bytes, ..Produce::USUAL };
    for topic in &topics {
        produce::run(produce.prepare(&broker.bootstrap, topic)?, &Limit::new(5.0 * LOAD_SECONDS, share))?;
    }
    Ok(())
}

fn many_partitions(broker: &Broker, partitions: i32) -> io::Result<Vec<Topic>> {
    let mut connection = Connection::open(&broker.bootstrap)?;
    let mut topics = Vec::new();
    let mut left = partitions;
    while left > 0 {
        let count = left.min(PARTITIONS_A_TOPIC);
        let name = format!("{MANY}{}", topics.len());
        let id = create(&mut connection, &name, count, &[])?;
        topics.push(Topic { name, id, partitions: count });
        left -= count;
    }
    for topic in &topics {
        topic.wait(&mut connection)?;
    }
    Ok(topics)
}

/// Starts a broker and measures until a record that was produced is consumed again, in a topic that is there or in a new one.
fn started(server: &mut Server, topic: Option<&str>) -> io::Result<Sample> {
    let to_metadata = server.start()?;
    let broker = server.broker()?;
    one_record(&broker, topic)?;
    let to_record = server.since_spawn();
    let used = process::usage(broker.pid)?;
    let memory = process::memory(broker.pid);
    Ok(Sample::from([
        (Figure::SpawnToMetadata, to_metadata.as_secs_f64() * 1e3),
        (Figure::SpawnToRecord, to_record.as_secs_f64() * 1e3),
        (Figure::StartCpu, used.cpu_s),
        (Figure::Resident, approximate(memory.resident) / 1e6),
    ]))
}

/// Produces a record and consumes it.
fn one_record(broker: &Broker, topic: Option<&str>) -> io::Result<()> {
    let topic = match topic {
        Some(name) => Topic::find(&broker.bootstrap, name)?,
        None => Topic::create(&broker.bootstrap, "first", 1, &[])?,
    };
    let mut connection = Connection::open(&broker.bootstrap)?;
    let end = topic.wait(&mut connection)?.first().copied().unwrap_or(0);
    let batch = Values::new(0, 100).batch(1, Compression::None, now_ms())?;
    let mut frame = ProduceFrame::new(topic.id, -1, &[(0, batch)])?;
    let mut stream = Stream::open(&broker.bootstrap)?;
    stream.send(frame.next(1, None))?;
    check_produced(stream.receive()?.1)?;
    let mut fetcher = Fetcher::new(&topic, FetchShape::default(), vec![end]);
    stream.send(fetcher.request(2)?)?;
    fetcher.answer(stream.receive()?.1, |_, _| ())?;
    if fetcher.offsets() == [end + 1] {
        Ok(())
    } else {
        Err(io::Error::other("the record did not come back"))
    }
}

fn partitions(server: &mut Server, count: i32) -> io::Result<Sample> {
    server.start()?;
    let broker = server.broker()?;
    one_record(&broker, None)?;
    let start = Instant::now();
    many_partitions(&broker, count)?;
    let create = start.elapsed();
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        metadata(&broker.bootstrap)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let resident = process::memory(broker.pid).resident;
    server.stop()?;
    let metadata_ms = Spread::of(&times).map_or(0.0, |spread| spread.median);
    let mut sample = started(server, Some(FIRST_OF_MANY))?;
    sample.extend([
        (Figure::Create, create.as_secs_f64()),
        (Figure::Metadata, metadata_ms),
        (Figure::Resident, approximate(resident) / 1e6),
    ]);
    Ok(sample)
}
