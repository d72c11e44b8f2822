//! Kafka's own clients, as `kafka-producer-perf-test` and `kafka-consumer-perf-test` run them: the view of a user.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{Broker, Shown, measure};
use crate::server::{Registry, finished};
use crate::stats::Percentiles;
use crate::topic::Topic;

/// No run takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// The size of a value.
const VALUE_BYTES: u64 = 1_024;

/// Where the tools are, and who is told of their processes.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// `integration/peer/tool`.
    pub tool: &'a Path,
    /// Of what is killed when the run is interrupted.
    pub registry: &'a Registry,
}

impl Tools<'_> {
    /// Produces so many records of 1,024 bytes with the defaults of Kafka's producer.
    ///
    /// # Errors
    /// When the tool fails or takes too long.
    pub fn produce(self, broker: &Broker, topic: &Topic, records: u64) -> io::Result<Shown> {
        let records_text = records.to_string();
        let arguments = [
            "kafka-producer-perf-test",
            "--bootstrap-server",
            &broker.bootstrap,
            "--topic",
            &topic.name,
            "--num-records",
            &records_text,
            "--record-size",
            "1024",
            "--throughput",
            "-1",
        ];
        measure(broker, || {
            let output = self.run(&arguments)?;
            let (records_per_s, ack) = of_producer(&output).ok_or_else(|| {
                io::Error::other(format!("the tool wrote otherwise than expected: {output}"))
            })?;
            Ok(Shown { ack: Some(ack), ..shown(records, records_per_s) })
        })
    }

    /// Consumes so many records of 1,024 bytes with the defaults of Kafka's consumer. The rate is that of fetching, without
    /// the time in which the group forms.
    ///
    /// # Errors
    /// When the tool fails or takes too long.
    pub fn consume(self, broker: &Broker, topic: &Topic, records: u64) -> io::Result<Shown> {
        let records_text = records.to_string();
        let arguments = [
            "kafka-consumer-perf-test",
            "--bootstrap-server",
            &broker.bootstrap,
            "--topic",
            &topic.name,
            "--num-records",
            &records_text,
        ];
        measure(broker, || {
            let output = self.run(&arguments)?;
            let records_per_s = of_consumer(&output).ok_or_else(|| {
                io::Error::other(format!("the tool wrote otherwise than expected: {output}"))
            })?;
            Ok(shown(records, records_per_s))
        })
    }

    fn run(self, arguments: &[&str]) -> io::Result<String> {
        let mut child = Command::new(self.tool)
            .args(arguments)
            // The compiler that a long-lived client has, not the quick one of the tools.
            .env("PEER_JVM", "-XX:+UseG1GC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut pipe = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let reader = thread::spawn(move || {
            let mut output = String::new();
            pipe.read_to_string(&mut output).map(|_| output)
        });
        finished(&mut child, PATIENCE, self.registry)?;
        super::ended(reader.join())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of records are far below 2⁵³")]
fn shown(records: u64, records_per_s: f64) -> Shown {
    Shown {
        seconds: records as f64 / records_per_s,
        value_bytes: records * VALUE_BYTES,
        batch_bytes: records * VALUE_BYTES,
        records,
        ..Shown::default()
    }
}

/// Reads the last line: `N records sent, R records/sec (M MB/sec), … ms max latency, A ms 50th, B ms 95th, C ms 99th, D ms
/// 99.9th.`
fn of_producer(output: &str) -> Option<(f64, Percentiles)> {
    let line = output.lines().rfind(|line| line.contains("ms 99.9th"))?;
    let before =
        |unit: &str| -> Option<f64> { line.split(unit).next()?.rsplit([' ', ',']).next()?.parse().ok() };
    let percentiles = Percentiles {
        p50: before(" ms 50th")?,
        p99: before(" ms 99th")?,
        p999: before(" ms 99.9th")?,
        max: before(" ms max latency")?,
    };
    Some((before(" records/sec")?, percentiles))
}

/// Reads the line below the header: the last column is records a second of fetching.
fn of_consumer(output: &str) -> Option<f64> {
    let line = output.lines().rfind(|line| line.matches(", ").count() == 9 && line.starts_with("20"))?;
    line.rsplit(", ").next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_are_understood() {
        let producer = "100 records sent, 20.0 records/sec (0.02 MB/sec), 2.0 ms avg latency, 9.0 ms max latency.\n\
            300000 records sent, 98765.432100 records/sec (96.45 MB/sec), 12.30 ms avg latency, 345.00 ms max latency, \
            3 ms 50th, 40 ms 95th, 120 ms 99th, 300 ms 99.9th.\n";
        let expected = Percentiles { p50: 3.0, p99: 120.0, p999: 300.0, max: 345.0 };
        assert_eq!(of_producer(producer), Some((98_765.432_1, expected)));
        let consumer = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, \
            rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n\
            2026-11-22 09:00:00:123, 2026-11-22 09:00:05:456, 292.9688, 54.9, 300000, 56253.5, 3400, 1933, 151.5, 155199.2\n";
        assert_eq!(of_consumer(consumer), Some(155_199.2));
        assert_eq!(of_consumer("WARNING: Exiting before consuming\n"), None);
    }
}
