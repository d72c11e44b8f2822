//! Requests that lie. Every version of every API that is served is changed in many ways and read as the broker reads it:
//! nothing may panic, and nothing may allocate more than a small multiple of the frame. `make fuzz` goes on from here
//! without an end.
//!
//! This binary has one test, because it counts what the whole process allocates.
#![expect(clippy::print_stdout, reason = "the counts are part of the result")]

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use protocol_tests::golden::{self, Kind, Sample};
use protocol_tests::served::{SERVED, Served};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What a request may allocate for each byte of its frame. The worst are arrays of empty strings (one byte there, 32
/// here, and twice that while the array grows).
const ALLOCATION_PER_BYTE_MAX: usize = 64;

/// What a request may allocate beside that, such as the text of an error and the first of the unknown tags.
const ALLOCATION_BASE_MAX: usize = 32 * 1024;

/// What is written over each place of a message: counts and lengths in either form, huge, large, negative and null.
const OVERWRITES: &[&[u8]] = &[
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0x00, 0x10, 0x00, 0x00],
    &[0x7f, 0xff],
    &[0x80, 0x80, 0x04],
    &[0xff],
    &[0x00],
    &[0x01],
    &[0x7f],
];

/// Counts of elements in either form. Behind them come bytes of one value, so that the elements are the smallest that
/// there are: one to six bytes, some with a tagged field that nobody knows.
const COUNTS: &[(&[u8], usize)] = &[
    (&[0x40], 63),
    (&[0x80, 0x02], 255),
    (&[0x80, 0x20], 4095),
    (&[0x00, 0x00, 0x00, 0xff], 255),
    (&[0x00, 0x00, 0x0f, 0xff], 4095),
];

#[derive(Default)]
struct Report {
    mutations: usize,
    accepted: usize,
    worst_ratio: f64,
    worst: String,
}

impl Report {
    fn read(&mut self, api: &Served, version: i16, body: Vec<u8>) {
        let body = Bytes::from(body);
        ALLOCATED.reset_peak_usage();
        let before = ALLOCATED.current_usage();
        let accepted = api.read(version, &body).is_ok();
        let allocated = ALLOCATED.peak_usage().saturating_sub(before);
        let limit = ALLOCATION_BASE_MAX + ALLOCATION_PER_BYTE_MAX * body.len();
        assert!(allocated <= limit, "{} {version}: {allocated} bytes for {body:?}", api.name());
        self.mutations += 1;
        self.accepted += usize::from(accepted);
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let ratio = allocated as f64 / body.len().max(1) as f64;
        if body.len() >= 4096 && ratio > self.worst_ratio {
            self.worst_ratio = ratio;
            self.worst = format!("{} {version}", api.name());
        }
    }

    fn mutate(&mut self, api: &Served, sample: &Sample) {
        let (version, bytes) = (sample.version, &sample.bytes[..]);
        for at in 0..bytes.len() {
            self.read(api, version, bytes[..at].to_vec());
            for pattern in OVERWRITES {
                let mut changed = bytes.to_vec();
                changed.truncate(at);
                changed.extend_from_slice(pattern);
                changed.extend_from_slice(bytes.get(at + pattern.len()..).unwrap_or_default());
                self.read(api, version, changed);
            }
        }
    }

    fn fill(&mut self, api: &Served, sample: &Sample) {
        for at in 0..sample.bytes.len() {
            for (bytes, count) in COUNTS {
                for (filler, element_bytes) in [(0, 1), (0, 3), (0, 6), (1, 1), (1, 3), (1, 6), (2, 3)] {
                    let mut changed = sample.bytes[..at].to_vec();
                    changed.extend_from_slice(bytes);
                    changed.resize(changed.len() + count * element_bytes, filler);
                    self.read(api, sample.version, changed);
                }
            }
        }
    }
}

#[test]
fn a_lying_request_costs_no_more_than_a_small_multiple_of_its_frame() {
    let mut report = Report::default();
    for api in SERVED {
        let samples = golden::load("messages", api.name());
        let requests = samples.iter().filter(|sample| sample.kind == Kind::Request);
        let mut filled = None;
        for sample in requests.filter(|sample| api.versions.contains(&sample.version)) {
            report.mutate(api, sample);
            if filled != Some(sample.version) {
                report.fill(api, sample);
                filled = Some(sample.version);
            }
        }
    }
    println!(
        "{} mutations, {} of them accepted; at worst {:.1} bytes are allocated for a byte ({})",
        report.mutations, report.accepted, report.worst_ratio, report.worst
    );
    assert!(report.mutations > 500_000 && report.accepted > 100_000);
}
