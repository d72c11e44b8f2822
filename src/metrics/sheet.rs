//! One scrape's worth of values.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::table::{Kind, Metric};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Values read from the broker's state at one moment; rendered once and thrown away.
pub struct Sheet {
    recorder: PrometheusRecorder,
}

impl Sheet {
    /// An empty sheet.
    #[expect(
        clippy::new_without_default,
        reason = "an empty sheet is where a scrape starts, not a default value"
    )]
    pub fn new() -> Self {
        Self { recorder: PrometheusBuilder::new().build_recorder() }
    }

    /// Puts a value; `labels` are the values of the metric's labels in their declared order.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows no numbers but floats")]
    pub fn put(&self, metric: &Metric, labels: &[&str], value: i64) {
        self.put_f64(metric, labels, value as f64);
    }

    /// Puts a value that is not a whole number, or one that only counts up.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters are whole and positive by their meaning"
    )]
    pub fn put_f64(&self, metric: &Metric, labels: &[&str], value: f64) {
        match metric.kind {
            Kind::Counter => counter(&self.recorder, metric, labels).absolute(value as u64),
            Kind::Gauge => gauge(&self.recorder, metric, labels).set(value),
            Kind::Summary => histogram(&self.recorder, metric, labels).record(value),
        }
        describe(&self.recorder, metric);
    }

    /// Runs `record` with this sheet as the place where the `metrics` crate's macros write.
    pub fn with_macros(&self, record: impl FnOnce()) {
        metrics::with_local_recorder(&self.recorder, record);
    }

    /// The sheet in Prometheus' text format.
    pub fn render(&self) -> String {
        self.recorder.handle().render()
    }
}

pub(super) fn counter(recorder: &PrometheusRecorder, metric: &Metric, labels: &[&str]) -> Counter {
    recorder.register_counter(&key(metric, labels), &METADATA)
}

pub(super) fn gauge(recorder: &PrometheusRecorder, metric: &Metric, labels: &[&str]) -> Gauge {
    recorder.register_gauge(&key(metric, labels), &METADATA)
}

pub(super) fn histogram(recorder: &PrometheusRecorder, metric: &Metric, labels: &[&str]) -> Histogram {
    recorder.register_histogram(&key(metric, labels), &METADATA)
}

pub(super) fn describe(recorder: &PrometheusRecorder, metric: &Metric) {
    let (name, help) = (KeyName::from_const_str(metric.name), metric.help.into());
    match metric.kind {
        Kind::Counter => recorder.describe_counter(name, None, help),
        Kind::Gauge => recorder.describe_gauge(name, None, help),
        Kind::Summary => recorder.describe_histogram(name, None, help),
    }
}

fn key(metric: &Metric, labels: &[&str]) -> Key {
    assert_eq!(metric.labels.len(), labels.len(), "{} has the labels {:?}", metric.name, metric.labels);
    let labels = metric
        .labels
        .iter()
        .zip(labels)
        // Prometheus reads an empty label as an absent one, and so do dashboards.
        .filter(|(_, value)| !value.is_empty())
        .map(|(label, value)| Label::new(*label, (*value).to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}
