//! What is compared: a number with a name, a unit and a direction.

use std::collections::BTreeMap;

use crate::load::Shown;

/// One number that a workload yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Broker CPU for 10⁹ bytes of values.
    CpuPerGb,
    /// The same, of reading alone.
    ReadCpuPerGb,
    /// The same, through a SIGTERM at the end.
    CpuPerGbThroughStop,
    /// Broker CPU for a request.
    CpuPerRequest,
    /// Broker CPU for a record.
    CpuPerRecord,
    /// Throughput of values.
    MbPerS,
    /// Throughput of records.
    RecordsPerS,
    /// Throughput of requests.
    RequestsPerS,
    /// From the request to its answer.
    AckP50,
    /// The same.
    AckP99,
    /// The same.
    AckP999,
    /// From the time at which a record is due to its arrival at a consumer.
    EndToEndP50,
    /// The same.
    EndToEndP99,
    /// The same.
    EndToEndP999,
    /// From the start of the process to the first answer to Metadata.
    SpawnToMetadata,
    /// From the start of the process until a record is produced and consumed.
    SpawnToRecord,
    /// CPU of the broker until then.
    StartCpu,
    /// Until partitions are created and all answer.
    Create,
    /// Metadata of all topics.
    Metadata,
    /// Until all members of a group have joined it and know their partitions.
    Join,
    /// CPU a second while nobody asks for anything.
    IdleCpu,
    /// Memory for one more connection.
    PerConnection,
    /// Resident memory.
    Resident,
    /// The peak of resident memory.
    Peak,
    /// Bytes that went to disk for each byte of the batches.
    WrittenPerByte,
    /// The same, through a SIGTERM at the end.
    WrittenThroughStop,
    /// What the client itself used.
    ClientCores,
    /// What everything else on the machine used.
    OtherCores,
    /// What everything else used for 10⁹ bytes of values, until all was on disk: on a quiet machine the kernel's writing.
    OtherCpuPerGb,
    /// How late the generator itself woke up.
    LagP99,
}

/// Its name, its unit, and whether more is better.
impl Figure {
    /// What it is called in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Its unit.
    #[must_use]
    pub fn unit(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::CpuPerGb => ("broker CPU", "s/GB"),
            Self::ReadCpuPerGb => ("broker CPU of reading", "s/GB"),
            Self::CpuPerGbThroughStop => ("broker CPU through SIGTERM", "s/GB"),
            Self::CpuPerRequest => ("broker CPU", "µs/request"),
            Self::CpuPerRecord => ("broker CPU", "µs/record"),
            Self::MbPerS => ("throughput", "MB/s"),
            Self::RecordsPerS => ("records", "1/s"),
            Self::RequestsPerS => ("requests", "1/s"),
            Self::AckP50 => ("ack p50", "ms"),
            Self::AckP99 => ("ack p99", "ms"),
            Self::AckP999 => ("ack p99.9", "ms"),
            Self::EndToEndP50 => ("end to end p50", "ms"),
            Self::EndToEndP99 => ("end to end p99", "ms"),
            Self::EndToEndP999 => ("end to end p99.9", "ms"),
            Self::SpawnToMetadata => ("spawn to Metadata", "ms"),
            Self::SpawnToRecord => ("spawn to a record", "ms"),
            Self::StartCpu => ("CPU until then", "s"),
            Self::Create => ("create", "s"),
            Self::Metadata => ("Metadata of all", "ms"),
            Self::Join => ("group stable", "s"),
            Self::IdleCpu => ("idle CPU", "ms/s"),
            Self::PerConnection => ("memory a connection", "KB"),
            Self::Resident => ("resident", "MB"),
            Self::Peak => ("peak resident", "MB"),
            Self::WrittenPerByte => ("written a byte", "B/B"),
            Self::WrittenThroughStop => ("written a byte through SIGTERM", "B/B"),
            Self::ClientCores => ("client", "cores"),
            Self::OtherCores => ("others", "cores"),
            Self::OtherCpuPerGb => ("others through sync", "s/GB"),
            Self::LagP99 => ("generator lag p99", "ms"),
        }
    }

    /// Whether it tells of the circumstances and not of a broker: no ratio is made of it.
    #[must_use]
    pub fn is_circumstance(self) -> bool {
        matches!(self, Self::ClientCores | Self::OtherCores | Self::OtherCpuPerGb | Self::LagP99)
    }
}

/// The figures of one round.
pub type Sample = BTreeMap<Figure, f64>;

/// The figures of a load, all that it has.
#[must_use]
pub fn sample(shown: &Shown) -> Sample {
    let mut sample = Sample::from([
        (Figure::CpuPerGb, shown.cpu_per_gb()),
        (Figure::CpuPerRequest, shown.cpu_us_per_request()),
        (Figure::CpuPerRecord, shown.cpu_us_per_record()),
        (Figure::MbPerS, shown.mb_per_s()),
        (Figure::RecordsPerS, shown.records_per_s()),
        (Figure::RequestsPerS, shown.requests_per_s()),
        (Figure::Peak, shown.peak_mb()),
        (Figure::WrittenPerByte, shown.written_per_byte()),
        (Figure::ClientCores, shown.client_cores()),
        (Figure::OtherCores, shown.used.other_cores),
    ]);
    let mut latencies = |figures: [Figure; 3], percentiles: Option<crate::stats::Percentiles>| {
        if let Some(p) = percentiles {
            sample.extend(figures.into_iter().zip([p.p50, p.p99, p.p999]));
        }
    };
    latencies([Figure::AckP50, Figure::AckP99, Figure::AckP999], shown.ack);
    latencies([Figure::EndToEndP50, Figure::EndToEndP99, Figure::EndToEndP999], shown.end_to_end);
    if let Some(lag) = shown.lag {
        sample.insert(Figure::LagP99, lag.p99);
    }
    sample
}
