//! What klamm counts and times, under the names that dashboards made for Apache Kafka query.
//!
//! [`table`] declares every metric once. What happens often is counted in atomics; everything else is read from the
//! broker's state. All of it is put on a fresh [`Sheet`] at each scrape, so that nothing is reported of a topic that
//! is gone.

mod listener;
mod request;
mod sheet;
pub mod table;
mod times;
mod topic;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

pub use listener::ListenerMetrics;
pub use request::{RequestMetrics, RequestTimes};
pub use sheet::Sheet;
pub use table::{Kind, Metric};
pub use topic::TopicMetrics;

/// How often [`Metrics::turn`] is to be called: quantiles are those of the last 40 to 60 seconds.
pub const TURN_INTERVAL: Duration = Duration::from_secs(20);

/// The metrics of one broker. Every broker of a process has its own.
#[derive(Default)]
pub struct Metrics {
    requests: request::ByApi,
    listeners: RwLock<HashMap<String, Arc<ListenerMetrics>>>,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicMetrics>>>,
    all_topics: TopicMetrics,
}

impl Metrics {
    /// A registry in which everything stands at zero.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The metrics of one API, for example `Produce`, whose highest version is `max_version`.
    pub fn request(&self, api_key: i16, api_name: &'static str, max_version: i16) -> &RequestMetrics {
        self.requests.get(api_key, api_name, max_version)
    }

    /// The counters of one topic; handles may be kept, and keep counting, after the topic is gone.
    pub fn topic(&self, name: &str) -> Arc<TopicMetrics> {
        if let Some(metrics) = self.topics.read().get(name) {
            return Arc::clone(metrics);
        }
        let mut topics = self.topics.write();
        Arc::clone(topics.entry(name.into()).or_default())
    }

    /// What all topics together did since the broker started, deleted ones included.
    pub fn all_topics(&self) -> &TopicMetrics {
        &self.all_topics
    }

    /// Stops reporting a deleted topic.
    pub fn forget_topic(&self, name: &str) {
        self.topics.write().remove(name);
    }

    /// The connections of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        Arc::clone(self.listeners.write().entry(name.to_owned()).or_default())
    }

    /// Lets the quantiles forget the oldest times; to be called every [`TURN_INTERVAL`].
    pub fn turn(&self) {
        self.requests.turn();
    }

    /// Puts requests, connections and what clients did with topics on a sheet.
    pub fn put_on(&self, sheet: &Sheet) {
        self.requests.put_on(sheet);
        for (name, listener) in &*self.listeners.read() {
            listener.put_on(sheet, name);
        }
        self.all_topics.put_on(sheet, "");
        for (name, topic) in &*self.topics.read() {
            topic.put_on(sheet, name);
        }
    }

    /// What [`Self::put_on`] makes of a sheet.
    #[cfg(test)]
    pub(crate) fn render(&self) -> String {
        let sheet = Sheet::new();
        self.put_on(&sheet);
        sheet.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_reported_until_it_is_forgotten() {
        let metrics = Metrics::new();
        let topic = metrics.topic("orders");
        topic.messages_in.increment(3);
        let line = "kafka_server_brokertopicmetrics_messagesin_total{topic=\"orders\"} 3";
        assert!(metrics.render().contains(line));
        metrics.forget_topic("orders");
        topic.messages_in.increment(1);
        assert!(!metrics.render().contains("orders"));
    }

    #[test]
    fn request_times_become_quantiles() {
        let metrics = Metrics::new();
        let times = RequestTimes { local: Duration::from_millis(20), ..RequestTimes::default() };
        metrics.request(0, "Produce", 13).observe(9, &times);
        let text = metrics.render();
        for line in [
            "kafka_network_requestmetrics_requests_total{request=\"Produce\",version=\"9\"} 1",
            "kafka_network_requestmetrics_localtimems{request=\"Produce\",quantile=\"0.99\"} ",
            "kafka_network_requestmetrics_localtimems_sum{request=\"Produce\"} 20",
            "kafka_network_requestmetrics_totaltimems_count{request=\"Produce\"} 1",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn names_are_declared_once() {
        let mut names: Vec<_> = table::TABLE.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        let declared = names.len();
        names.dedup();
        assert_eq!(names.len(), declared);
    }
}
