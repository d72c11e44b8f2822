//! What clients pushed last, for Prometheus.
//!
//! `org.apache.kafka.producer.record.send.rate` becomes `org_apache_kafka_producer_record_send_rate`; sums that only grow
//! end with `_total`. Names of other origin begin with `client_`, so that nobody pushes what looks like the broker's own.
//! Histograms of both kinds become Prometheus' histograms, and summaries its summaries.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::distribution::{Buckets, Summary};
use super::otlp::{Attribute, Point, Value};

/// How much text is kept, in bytes: all lines with their names and labels. One client has some hundred series of some
/// hundred bytes; a histogram has a line for each bucket.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Longer names and values of labels are cut.
const WORD_BYTES_MAX: usize = 200;

/// What a line takes besides its name and labels, roughly.
const LINE_BYTES: usize = 64;

/// What Prometheus calls a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    Histogram,
    Summary,
}

/// What the lines of a histogram and of a summary add to the name of their family.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Gauge(_) | Value::Sum { is_monotonic: false, .. } => Self::Gauge,
            Value::Sum { is_monotonic: true, .. } => Self::Counter,
            Value::Histogram { .. } => Self::Histogram,
            Value::Summary(_) => Self::Summary,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }

    /// Whether its lines have names of their own.
    fn has_suffixes(self) -> bool {
        matches!(self, Self::Histogram | Self::Summary)
    }
}

#[derive(Clone, Debug)]
enum Known {
    Number(f64),
    Histogram(Buckets),
    Summary(Summary),
}

impl Known {
    fn lines(&self) -> usize {
        match self {
            Self::Number(_) => 1,
            // One for all values, the sum and the count.
            Self::Histogram(buckets) => buckets.len() + 3,
            Self::Summary(summary) => summary.quantiles.len() + 2,
        }
    }
}

#[derive(Clone, Debug)]
struct Series {
    known: Known,
    expires_ms: i64,
}

/// The series of one name.
#[derive(Debug)]
struct Family {
    kind: Kind,
    /// By their labels, as they are written.
    series: BTreeMap<String, Series>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Received {
    families: BTreeMap<String, Family>,
    text_bytes: usize,
    dropped: u64,
}

fn text_bytes(name: &str, labels: &str, known: &Known) -> usize {
    (name.len() + labels.len() + LINE_BYTES) * known.lines()
}

impl Received {
    /// Takes a data point in. `labels` are what the broker knows of the client, and count before what it says.
    pub(super) fn take(&mut self, point: Point<'_>, labels: &[(&'static str, String)], expires_ms: i64) {
        let kind = Kind::of(&point.value);
        let name = name(point.name, kind);
        let labels = label_text(labels, &point.attributes);
        let family = self.families.get(&name);
        let is_misfit = match family {
            Some(family) => family.kind != kind,
            None => self.is_ambiguous(&name, kind),
        };
        let before = family.and_then(|family| family.series.get(&labels)).filter(|_| !is_misfit);
        let known = after(before.map(|series| &series.known), point.value);
        let bytes_before = before.map_or(0, |series| text_bytes(&name, &labels, &series.known));
        let bytes = self.text_bytes - bytes_before + text_bytes(&name, &labels, &known);
        if is_misfit || bytes > TEXT_BYTES_MAX && bytes > self.text_bytes {
            self.dropped += 1;
            return;
        }
        self.text_bytes = bytes;
        let family = self.families.entry(name).or_insert_with(|| Family { kind, series: BTreeMap::new() });
        family.series.insert(labels, Series { known, expires_ms });
    }

    /// Whether lines of a new family would have the names of another one's.
    fn is_ambiguous(&self, name: &str, kind: Kind) -> bool {
        let has_lines_of =
            |base: &str| self.families.get(base).is_some_and(|family| family.kind.has_suffixes());
        kind.has_suffixes()
            && SUFFIXES.iter().any(|suffix| self.families.contains_key(&format!("{name}{suffix}")))
            || SUFFIXES.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(has_lines_of))
    }

    /// Forgets what was not pushed again in time.
    pub(super) fn expire(&mut self, now_ms: i64) {
        let mut left = 0;
        self.families.retain(|name, family| {
            family.series.retain(|_, series| series.expires_ms >= now_ms);
            let all = family.series.iter();
            left += all.map(|(labels, one)| text_bytes(name, labels, &one.known)).sum::<usize>();
            !family.series.is_empty()
        });
        self.text_bytes = left;
    }

    /// How many numbers had no place.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Everything in Prometheus' text format.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            // Writing to a text does not fail.
            let _ = writeln!(text, "# TYPE {name} {}", family.kind.name());
            for (labels, series) in &family.series {
                put_lines(&mut text, name, labels, &series.known);
            }
        }
        text
    }
}

/// What is known after a push.
fn after(before: Option<&Known>, pushed: Value) -> Known {
    match (before, pushed) {
        (_, Value::Gauge(value)) => Known::Number(value),
        (Some(Known::Number(sum)), Value::Sum { value, is_delta: true, .. }) => Known::Number(sum + value),
        (_, Value::Sum { value, .. }) => Known::Number(value),
        (Some(Known::Histogram(known)), Value::Histogram { buckets, is_delta: true }) => {
            let mut known = known.clone();
            known.add(buckets);
            Known::Histogram(known)
        }
        (_, Value::Histogram { buckets, .. }) => Known::Histogram(buckets),
        (_, Value::Summary(summary)) => Known::Summary(summary),
    }
}

fn put_lines(text: &mut String, name: &str, labels: &str, known: &Known) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut line = |suffix: &str, label: &str, value: &str| {
        let comma = if label.is_empty() { "" } else { comma };
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name}{suffix}{{{labels}{comma}{label}}} {value}");
    };
    match known {
        Known::Number(value) => line("", "", &number(*value)),
        Known::Histogram(buckets) => {
            let (bounds, count) = buckets.cumulative();
            for (bound, count) in bounds {
                line("_bucket", &format!("le=\"{}\"", number(bound)), &count.to_string());
            }
            line("_bucket", "le=\"+Inf\"", &count.to_string());
            if let Some(sum) = buckets.sum() {
                line("_sum", "", &number(sum));
            }
            line("_count", "", &count.to_string());
        }
        Known::Summary(summary) => {
            for (quantile, value) in &summary.quantiles {
                line("", &format!("quantile=\"{}\"", number(*quantile)), &number(*value));
            }
            line("_sum", "", &number(summary.sum));
            line("_count", "", &summary.count.to_string());
        }
    }
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

/// What may stand in a name of Prometheus, at most [`WORD_BYTES_MAX`] of it.
fn word(text: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    text.chars().take(WORD_BYTES_MAX).map(legal).collect()
}

fn name(client_name: &str, kind: Kind) -> String {
    let prefix = if client_name.starts_with("org.apache.kafka.") { "" } else { "client_" };
    let suffix = if kind == Kind::Counter && !client_name.ends_with(".total") { "_total" } else { "" };
    format!("{prefix}{}{suffix}", word(client_name))
}

fn label_text(of_broker: &[(&'static str, String)], of_client: &[Attribute<'_>]) -> String {
    let mut labels = BTreeMap::<String, &str>::new();
    for (key, value) in of_client {
        let key = word(key);
        // Names that begin so belong to Prometheus, and none begins with a digit; buckets and quantiles have the others.
        let is_taken = key.starts_with("__") || key == "le" || key == "quantile";
        let key = if is_taken || key.starts_with(|c: char| c.is_ascii_digit()) {
            format!("client_{key}")
        } else {
            key
        };
        labels.insert(key, value.as_ref());
    }
    labels.extend(of_broker.iter().map(|(key, value)| ((*key).to_owned(), value.as_str())));
    let pairs = labels.into_iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn escaped(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars().take(WORD_BYTES_MAX) {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text
}
