//! What klamm counts and times, under the names that dashboards made for Apache Kafka query.
//!
//! [`table`] declares every metric once. Metrics with a bounded set of labels (requests,
//! connections) live in one [`PrometheusRecorder`] of the broker; those that follow topics,
//! partitions and groups are plain counters or are read from the broker's state, and are put on a
//! fresh [`Sheet`] at each scrape, so that nothing is reported of a topic that is gone.

mod request;
mod share;
mod sheet;
pub mod table;
mod topic;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use parking_lot::RwLock;

pub use request::{RequestMetrics, RequestTimes};
pub use share::{InFlightCounts, ShareGroupCounts, ShareMetrics, SharePartitionCounts};
pub use sheet::Sheet;
pub use table::{Kind, Metric};
pub use topic::TopicMetrics;

/// How often recorded times are folded into their quantiles; between two folds they take memory.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The metrics of one broker. Every broker of a process has its own.
pub struct Metrics {
    recorder: PrometheusRecorder,
    requests: request::ByApi,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicMetrics>>>,
    all_topics: TopicMetrics,
}

impl Metrics {
    /// A registry in which everything stands at zero.
    pub fn new() -> Arc<Self> {
        let recorder = PrometheusBuilder::new().build_recorder();
        for metric in table::TABLE {
            sheet::describe(&recorder, metric);
        }
        Arc::new(Self {
            recorder,
            requests: request::ByApi::default(),
            topics: RwLock::default(),
            all_topics: TopicMetrics::default(),
        })
    }

    /// The metrics of one API, for example `Produce`, whose highest version is `max_version`.
    pub fn request(&self, api_key: i16, api_name: &'static str, max_version: i16) -> &RequestMetrics {
        self.requests.get(api_key, || RequestMetrics::new(&self.recorder, api_name, max_version))
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

    /// Connections that are open on a listener.
    pub fn connections(&self, listener: &str) -> Gauge {
        sheet::gauge(&self.recorder, &table::CONNECTION_COUNT, &[listener])
    }

    /// Connections that were ever accepted on a listener.
    pub fn connections_created(&self, listener: &str) -> Counter {
        sheet::counter(&self.recorder, &table::CONNECTION_CREATION_TOTAL, &[listener])
    }

    /// Folds recorded times into their quantiles; to be called every [`UPKEEP_INTERVAL`].
    pub fn run_upkeep(&self) {
        self.recorder.handle().run_upkeep();
    }

    /// The metrics with bounded labels, and those of every topic, in Prometheus' text format.
    pub fn render(&self) -> String {
        let sheet = Sheet::new();
        self.all_topics.put_on(&sheet, "");
        for (name, topic) in &*self.topics.read() {
            topic.put_on(&sheet, name);
        }
        self.recorder.handle().render() + &sheet.render()
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
        metrics.run_upkeep();
        let text = metrics.render();
        assert!(
            text.contains("kafka_network_requestmetrics_requests_total{request=\"Produce\",version=\"9\"} 1")
        );
        assert!(
            text.contains("kafka_network_requestmetrics_localtimems{request=\"Produce\",quantile=\"0.99\"}")
        );
        assert!(text.contains("kafka_network_requestmetrics_totaltimems_count{request=\"Produce\"} 1"));
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
