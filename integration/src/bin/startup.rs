//! Prints how quickly klamm serves and how little it holds: from the start of the process to the first Metadata
//! answer, the memory of an idle broker, and a restart with 1,000 partitions. Takes the binary from `KLAMM_BIN`.
#![expect(clippy::print_stdout, reason = "its output is the product")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use integration::Klamm;

/// How often each start is measured; the median is printed.
const ROUNDS: usize = 7;
/// How many partitions exist at the restart.
const PARTITIONS: i32 = 1_000;
/// After this the broker counts as idle.
const SETTLE: Duration = Duration::from_secs(3);

fn main() {
    let fresh: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let klamm = Klamm::spawn(&[]);
            metadata(klamm.bootstrap());
            start.elapsed()
        })
        .collect();
    report("spawn to the first Metadata, new data directory", fresh);

    let mut klamm = Klamm::spawn(&[]);
    metadata(klamm.bootstrap());
    thread::sleep(SETTLE);
    println!("{:>10.1} MB  resident when idle", resident_mb(klamm.pid()));

    create_topic(klamm.bootstrap(), "startup", PARTITIONS);
    println!("{:>10.1} MB  resident with {PARTITIONS} partitions", resident_mb(klamm.pid()));
    let stopped = restarts(&mut klamm, |klamm| {
        let _ = klamm.terminate();
    });
    report("restart with 1,000 partitions, after SIGTERM", stopped);
    let killed = restarts(&mut klamm, Klamm::kill9);
    report("restart with 1,000 partitions, after SIGKILL", killed);
}

fn restarts(klamm: &mut Klamm, stop: impl Fn(&mut Klamm)) -> Vec<Duration> {
    (0..ROUNDS)
        .map(|_| {
            stop(klamm);
            let start = Instant::now();
            klamm.restart();
            metadata(klamm.bootstrap());
            start.elapsed()
        })
        .collect()
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!("{:>10.1} ms  {what} ({:.1} to {:.1})", ms(median), ms(least), ms(most));
}

/// The memory that a process holds, in megabytes.
fn resident_mb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    let kb: f64 = line.trim_end_matches("kB").trim().parse().unwrap_or(0.0);
    kb * 1_024.0 / 1_000_000.0
}

/// Asks for the metadata of all topics (Metadata v1) and waits for the answer.
fn metadata(bootstrap: &str) {
    let answer = call(bootstrap, 3, 1, &(-1_i32).to_be_bytes());
    assert!(answer.len() > 8, "a Metadata answer names a broker");
}

/// Creates a topic (CreateTopics v2).
fn create_topic(bootstrap: &str, name: &str, partitions: i32) {
    let mut body = 1_i32.to_be_bytes().to_vec();
    let length = i16::try_from(name.len()).expect("a short name");
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&partitions.to_be_bytes());
    body.extend_from_slice(&1_i16.to_be_bytes());
    // No assignments, no configs.
    body.extend_from_slice(&[0; 8]);
    body.extend_from_slice(&60_000_i32.to_be_bytes());
    body.push(0);
    let answer = call(bootstrap, 19, 2, &body);
    // Throttle time, count, name, and then the error code.
    let code = &answer[10 + name.len()..12 + name.len()];
    assert_eq!(code, [0, 0], "the topic could not be created");
}

/// Sends one request on a connection of its own; answers the body of the response.
fn call(bootstrap: &str, api_key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut request = api_key.to_be_bytes().to_vec();
    request.extend_from_slice(&version.to_be_bytes());
    request.extend_from_slice(&7_i32.to_be_bytes());
    // No client id.
    request.extend_from_slice(&(-1_i16).to_be_bytes());
    request.extend_from_slice(body);
    let length = i32::try_from(request.len()).expect("a small request");
    let mut stream = TcpStream::connect(bootstrap).expect("klamm listens");
    stream.write_all(&[&length.to_be_bytes(), &request[..]].concat()).expect("a request can be sent");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let length = usize::try_from(i32::from_be_bytes(length)).expect("a length");
    let mut response = vec![0; length];
    stream.read_exact(&mut response).expect("the whole answer");
    response.split_off(4)
}
