//! One scrape's worth of values, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use parking_lot::Mutex;

use super::table::{Kind, Metric};
use super::times::{QUANTILES, Times};

/// Values read from the broker's state at one moment; rendered once and thrown away.
pub struct Sheet {
    /// What is written of each metric, by its name: the lines of a metric stand together.
    metrics: Mutex<BTreeMap<&'static str, String>>,
}

impl Sheet {
    /// An empty sheet.
    #[expect(
        clippy::new_without_default,
        reason = "an empty sheet is where a scrape starts, not a default value"
    )]
    pub fn new() -> Self {
        Self { metrics: Mutex::default() }
    }

    /// Puts a value; `labels` are the values of the metric's labels in their declared order.
    pub fn put(&self, metric: &Metric, labels: &[&str], value: i64) {
        self.line(metric, "", labels, None, value);
    }

    /// Puts a value that is not a whole number.
    pub fn put_f64(&self, metric: &Metric, labels: &[&str], value: f64) {
        self.line(metric, "", labels, None, value);
    }

    /// Puts quantiles, sum and count.
    pub(super) fn put_times(&self, metric: &Metric, labels: &[&str], times: &Times) {
        let summary = times.summary();
        for (quantile, value) in QUANTILES.into_iter().zip(summary.quantiles) {
            self.line(metric, "", labels, Some(quantile), value);
        }
        self.line(metric, "_sum", labels, None, summary.sum_ms);
        self.line(metric, "_count", labels, None, summary.count);
    }

    fn line(
        &self,
        metric: &Metric,
        suffix: &str,
        labels: &[&str],
        quantile: Option<f64>,
        value: impl std::fmt::Display,
    ) {
        let labels = labels_text(metric, labels, quantile);
        let mut metrics = self.metrics.lock();
        let text = metrics.entry(metric.name).or_insert_with(|| heading(metric));
        // Writing to a string can not fail.
        let _ = writeln!(text, "{}{suffix}{labels} {value}", metric.name);
    }

    /// The sheet in Prometheus' text format.
    pub fn render(&self) -> String {
        self.metrics.lock().values().fold(String::new(), |all, metric| all + metric + "\n")
    }
}

fn heading(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Summary => "summary",
    };
    format!("# HELP {0} {1}\n# TYPE {0} {kind}\n", metric.name, metric.help)
}

fn labels_text(metric: &Metric, values: &[&str], quantile: Option<f64>) -> String {
    assert_eq!(metric.labels.len(), values.len(), "{} has the labels {:?}", metric.name, metric.labels);
    let mut text = String::new();
    let mut separator = '{';
    // Prometheus reads an empty label as an absent one, and so do dashboards.
    for (name, value) in metric.labels.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{separator}{name}=\"{value}\"");
        separator = ',';
    }
    if let Some(quantile) = quantile {
        let _ = write!(text, "{separator}quantile=\"{quantile}\"");
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn lines_of_a_metric_stand_together_under_one_heading() {
        let sheet = Sheet::new();
        sheet.put(&table::LOG_SIZE, &["a", "0"], 1);
        sheet.put_f64(&table::PROCESS_CPU_SECONDS, &[], 0.5);
        sheet.put(&table::LOG_SIZE, &["b\"\\\n", "1"], 2);
        sheet.put(&table::BYTES_IN_TOTAL, &[""], 3);
        let wanted = "# HELP kafka_log_log_size Bytes of a partition's log.\n\
                      # TYPE kafka_log_log_size gauge\n\
                      kafka_log_log_size{topic=\"a\",partition=\"0\"} 1\n\
                      kafka_log_log_size{topic=\"b\\\"\\\\\\n\",partition=\"1\"} 2\n\n";
        let text = sheet.render();
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("\nkafka_server_brokertopicmetrics_bytesin_total 3\n"), "{text}");
        assert!(text.ends_with("\nprocess_cpu_seconds_total 0.5\n\n"), "{text}");
    }
}
