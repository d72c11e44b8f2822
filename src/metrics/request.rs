//! Requests by API: how many, and where their time went (`kafka.network:type=RequestMetrics`).

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::{sheet, table};

/// Kafka has fewer API keys than this.
const API_KEYS: usize = 128;

/// Where the time of one request went, as Kafka cuts it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestTimes {
    /// From the arrival of the frame to the start of its handling.
    pub request_queue: Duration,
    /// Handling, without what stands in `remote`.
    pub local: Duration,
    /// Waiting for something to happen: records to fetch, members to join.
    pub remote: Duration,
    /// From the finished response to the start of its sending: earlier responses go first.
    pub response_queue: Duration,
    /// Writing the response to the socket.
    pub response_send: Duration,
}

impl RequestTimes {
    fn total(&self) -> Duration {
        self.request_queue + self.local + self.remote + self.response_queue + self.response_send
    }
}

/// The metrics of one API.
pub struct RequestMetrics {
    /// Requests by version; all are registered at once, so that counting takes no lock.
    versions: Vec<Counter>,
    total: Histogram,
    request_queue: Histogram,
    local: Histogram,
    remote: Histogram,
    response_queue: Histogram,
    response_send: Histogram,
}

impl RequestMetrics {
    pub(super) fn new(recorder: &PrometheusRecorder, name: &'static str, versions: i16) -> Self {
        let version =
            |version: i16| sheet::counter(recorder, &table::REQUESTS_TOTAL, &[name, &version.to_string()]);
        let times = |metric| sheet::histogram(recorder, metric, &[name]);
        Self {
            versions: (0..=versions).map(version).collect(),
            total: times(&table::TOTAL_TIME_MS),
            request_queue: times(&table::REQUEST_QUEUE_TIME_MS),
            local: times(&table::LOCAL_TIME_MS),
            remote: times(&table::REMOTE_TIME_MS),
            response_queue: times(&table::RESPONSE_QUEUE_TIME_MS),
            response_send: times(&table::RESPONSE_SEND_TIME_MS),
        }
    }

    /// Counts a request of this version that was answered, or that needed no answer.
    pub fn observe(&self, version: i16, times: &RequestTimes) {
        let version = usize::try_from(version).ok().and_then(|version| self.versions.get(version));
        if let Some(requests) = version {
            requests.increment(1);
        }
        self.total.record(milliseconds(times.total()));
        self.request_queue.record(milliseconds(times.request_queue));
        self.local.record(milliseconds(times.local));
        self.remote.record(milliseconds(times.remote));
        self.response_queue.record(milliseconds(times.response_queue));
        self.response_send.record(milliseconds(times.response_send));
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// The APIs that were asked for so far, by key.
pub(super) struct ByApi([OnceLock<RequestMetrics>; API_KEYS]);

impl Default for ByApi {
    fn default() -> Self {
        Self([const { OnceLock::new() }; API_KEYS])
    }
}

impl ByApi {
    /// # Panics
    /// When the key is none of Kafka's.
    pub(super) fn get(&self, api_key: i16, create: impl FnOnce() -> RequestMetrics) -> &RequestMetrics {
        let key = usize::try_from(api_key).expect("only known APIs are measured");
        self.0[key].get_or_init(create)
    }
}
