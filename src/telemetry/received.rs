//! What clients pushed last, for Prometheus.
//!
//! `org.apache.kafka.producer.record.send.rate` becomes `org_apache_kafka_producer_record_send_rate`; sums that only grow
//! end with `_total`. Names of other origin begin with `client_`, so that nobody pushes what looks like the broker's own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::otlp::{Attribute, Meaning, Point};

/// How much text of names and labels is kept, in bytes. One client has some hundred series of some hundred bytes.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Longer names and values of labels are cut.
const WORD_BYTES_MAX: usize = 200;

/// What a series takes besides its text, roughly.
const SERIES_BYTES: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Series {
    value: f64,
    expires_ms: i64,
}

/// The series of one name.
#[derive(Debug)]
struct Family {
    is_counter: bool,
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

impl Received {
    /// Takes a number in. `labels` are what the broker knows of the client, and count before what it says.
    pub(super) fn take(&mut self, point: &Point<'_>, labels: &[(&'static str, String)], expires_ms: i64) {
        let (is_counter, is_delta) = match point.meaning {
            Meaning::Gauge => (false, false),
            Meaning::Delta { is_monotonic } => (is_monotonic, true),
            Meaning::Cumulative { is_monotonic } => (is_monotonic, false),
        };
        let name = name(point.name, is_counter);
        let labels = label_text(labels, &point.attributes);
        let family = self.families.get(&name);
        let is_new = family.is_none_or(|family| !family.series.contains_key(&labels));
        let bytes = name.len() + labels.len() + SERIES_BYTES;
        let fits = self.text_bytes + bytes <= TEXT_BYTES_MAX;
        if family.is_some_and(|family| family.is_counter != is_counter) || is_new && !fits {
            self.dropped += 1;
            return;
        }
        if is_new {
            self.text_bytes += bytes;
        }
        let family =
            self.families.entry(name).or_insert_with(|| Family { is_counter, series: BTreeMap::new() });
        let series = family.series.entry(labels).or_insert(Series { value: 0.0, expires_ms });
        series.value = if is_delta { series.value + point.value } else { point.value };
        series.expires_ms = expires_ms;
    }

    /// Forgets what was not pushed again in time.
    pub(super) fn expire(&mut self, now_ms: i64) {
        let mut text_bytes = 0;
        self.families.retain(|name, family| {
            family.series.retain(|_, series| series.expires_ms >= now_ms);
            let of_labels = |labels: &String| name.len() + labels.len() + SERIES_BYTES;
            text_bytes += family.series.keys().map(of_labels).sum::<usize>();
            !family.series.is_empty()
        });
        self.text_bytes = text_bytes;
    }

    /// How many numbers had no place.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Everything in Prometheus' text format.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let kind = if family.is_counter { "counter" } else { "gauge" };
            // Writing to a text does not fail.
            let _ = writeln!(text, "# TYPE {name} {kind}");
            for (labels, series) in &family.series {
                let _ = writeln!(text, "{name}{{{labels}}} {}", number(series.value));
            }
        }
        text
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

fn name(client_name: &str, is_counter: bool) -> String {
    let prefix = if client_name.starts_with("org.apache.kafka.") { "" } else { "client_" };
    let suffix = if is_counter && !client_name.ends_with(".total") { "_total" } else { "" };
    format!("{prefix}{}{suffix}", word(client_name))
}

fn label_text(of_broker: &[(&'static str, String)], of_client: &[Attribute<'_>]) -> String {
    let mut labels = BTreeMap::<String, &str>::new();
    for (key, value) in of_client {
        let key = word(key);
        // Names that begin so belong to Prometheus, and none begins with a digit.
        let key = if key.starts_with("__") || key.starts_with(|c: char| c.is_ascii_digit()) {
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
