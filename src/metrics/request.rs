//! Requests by API: how many, and where their time went (`kafka.network:type=RequestMetrics`).

use std::sync::OnceLock;
use std::time::Duration;

use super::times::Times;
use super::topic::Count;
use super::{Sheet, table};

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
    name: &'static str,
    /// Requests by version.
    versions: Vec<Count>,
    total: Times,
    request_queue: Times,
    local: Times,
    remote: Times,
    response_queue: Times,
    response_send: Times,
}

impl RequestMetrics {
    fn new(name: &'static str, max_version: i16) -> Self {
        Self {
            name,
            versions: (0..=max_version).map(|_| Count::default()).collect(),
            total: Times::new(),
            request_queue: Times::new(),
            local: Times::new(),
            remote: Times::new(),
            response_queue: Times::new(),
            response_send: Times::new(),
        }
    }

    /// Counts a request of this version that was answered, or that needed no answer.
    pub fn observe(&self, version: i16, times: &RequestTimes) {
        let version = usize::try_from(version).ok().and_then(|version| self.versions.get(version));
        if let Some(requests) = version {
            requests.increment(1);
        }
        self.total.record(times.total());
        self.request_queue.record(times.request_queue);
        self.local.record(times.local);
        self.remote.record(times.remote);
        self.response_queue.record(times.response_queue);
        self.response_send.record(times.response_send);
    }

    fn times(&self) -> [(&'static table::Metric, &Times); 6] {
        [
            (&table::TOTAL_TIME_MS, &self.total),
            (&table::REQUEST_QUEUE_TIME_MS, &self.request_queue),
            (&table::LOCAL_TIME_MS, &self.local),
            (&table::REMOTE_TIME_MS, &self.remote),
            (&table::RESPONSE_QUEUE_TIME_MS, &self.response_queue),
            (&table::RESPONSE_SEND_TIME_MS, &self.response_send),
        ]
    }
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
    pub(super) fn get(&self, api_key: i16, name: &'static str, max_version: i16) -> &RequestMetrics {
        let key = usize::try_from(api_key).expect("only known APIs are measured");
        self.0[key].get_or_init(|| RequestMetrics::new(name, max_version))
    }

    fn all(&self) -> impl Iterator<Item = &RequestMetrics> {
        self.0.iter().filter_map(OnceLock::get)
    }

    pub(super) fn turn(&self) {
        self.all().flat_map(RequestMetrics::times).for_each(|(_, times)| times.turn());
    }

    pub(super) fn put_on(&self, sheet: &Sheet) {
        for api in self.all() {
            for (version, requests) in api.versions.iter().enumerate() {
                sheet.put(&table::REQUESTS_TOTAL, &[api.name, &version.to_string()], requests.get());
            }
            for (metric, times) in api.times() {
                sheet.put_times(metric, &[api.name], times);
            }
        }
    }
}
