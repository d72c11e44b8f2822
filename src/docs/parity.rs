//! The table of the README that sets the APIs of Apache Kafka 4.3.1 beside ours, key by key.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::api::advertised;
use crate::config::listener::ListenerKind;

/// The versions over one listener, `None` where it does not serve the API.
type Versions = Option<RangeInclusive<i16>>;

/// An API with its versions over the listener of a broker and over that of a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges {
    name: String,
    broker: Versions,
    controller: Versions,
}

/// What was recorded from Apache Kafka: lines of key, name, broker's versions, controller's versions.
fn recorded(text: &str) -> BTreeMap<i16, Ranges> {
    let versions = |word: &str| {
        let (min, max) = word.split_once('-')?;
        Some(min.parse().ok()?..=max.parse().ok()?)
    };
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [key, name, broker, controller] = words[..] else { panic!("four words, not: {line}") };
        let ranges =
            Ranges { name: name.to_owned(), broker: versions(broker), controller: versions(controller) };
        (key.parse().expect("a key"), ranges)
    });
    lines.collect()
}

fn ours() -> BTreeMap<i16, Ranges> {
    let ranges = |listener: ListenerKind, api: &crate::api::ApiEntry| {
        listener.serves(api.listeners).then_some(api.min..=api.max)
    };
    let apis = advertised().iter().map(|api| {
        let broker = ranges(ListenerKind::Broker, api);
        let controller = ranges(ListenerKind::Controller, api);
        (api.key, Ranges { name: api.name.to_owned(), broker, controller })
    });
    apis.collect()
}

/// Why we differ.
fn reason(key: i16) -> &'static str {
    match key {
        17 | 29..=31 | 36 | 38..=41 | 50 | 51 => "comes with access control",
        71 | 72 => "Kafka: only where a plugin receives metrics; klamm receives them itself",
        _ => "not yet",
    }
}

fn cell(versions: &Versions) -> String {
    versions.as_ref().map_or_else(String::new, |versions| format!("{}–{}", versions.start(), versions.end()))
}

/// The table in Markdown, from what was recorded of Apache Kafka.
pub(super) fn table_markdown(kafka: &str) -> String {
    let (kafka, ours) = (recorded(kafka), ours());
    let mut keys: Vec<i16> = kafka.keys().chain(ours.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let mut table =
        "| key | API | Kafka: brokers | klamm: brokers | Kafka: controllers | klamm: controllers \
                     | why they differ |\n|---:|---|---|---|---|---|---|\n"
            .to_owned();
    let nothing = Ranges::default();
    for key in keys {
        let (theirs, own) = (kafka.get(&key).unwrap_or(&nothing), ours.get(&key).unwrap_or(&nothing));
        let name = if own.name.is_empty() { &theirs.name } else { &own.name };
        let differ = (&theirs.broker, &theirs.controller) != (&own.broker, &own.controller);
        let cells = [&theirs.broker, &own.broker, &theirs.controller, &own.controller].map(cell);
        let why = if differ { reason(key) } else { "" };
        table += &format!("| {key} | {name} | {} | {why} |\n", cells.join(" | "));
    }
    table
}

#[test]
fn differences_are_told_with_their_reason() {
    let table = table_markdown("# a comment\n0 Produce 0-13 -\n29 DescribeAcls 1-3 1-3\n");
    assert!(table.contains("| 0 | Produce | 0–13 | 0–13 |  |  |  |\n"), "{table}");
    assert!(
        table.contains("| 29 | DescribeAcls | 1–3 |  | 1–3 |  | comes with access control |\n"),
        "{table}"
    );
    assert!(table.contains("| 1 | Fetch |  | 4–18 |  | 4–18 | not yet |\n"), "{table}");
}
