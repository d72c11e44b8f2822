//! The tables of the README, generated from the declarations.

use super::broker::BROKER_KEYS;
use super::group::{CLIENT_METRICS_KEYS, GROUP_KEYS};
use super::key::{ConfigKey, ConfigType, Scope};
use super::topic::TOPIC_KEYS;
use super::unsupported;

/// Every key in Markdown: what klamm acts on, what it keeps without effect, what it refuses.
pub fn reference_markdown() -> String {
    let mut text = String::new();
    section(&mut text, "Broker keys", BROKER_KEYS, "");
    section(&mut text, "Topic keys", TOPIC_KEYS, "per topic");
    section(&mut text, "Group keys", GROUP_KEYS, "per group");
    section(&mut text, "Client metrics keys", CLIENT_METRICS_KEYS, "per subscription");
    text.push_str("### Kept without effect\n\n");
    text.push_str("These keys are read, checked and reported, and change nothing.\n\n| Key | Of | Why |\n|---|---|---|\n");
    for (of, table) in [
        ("broker", BROKER_KEYS),
        ("topic", TOPIC_KEYS),
        ("group", GROUP_KEYS),
        ("client metrics", CLIENT_METRICS_KEYS),
    ] {
        for key in table {
            if let Some(reason) = key.idle {
                push_row(&mut text, &[&format!("`{}`", key.name), of, reason]);
            }
        }
    }
    text.push_str("\n### Known to Kafka, not to klamm\n\n");
    text.push_str(
        "A file may set these broker keys; klamm names them when it starts.\n\n| Why | Keys |\n|---|---|\n",
    );
    grouped(&mut text, unsupported::without_effect());
    text.push_str("\n### Refused\n\n");
    text.push_str("klamm does not start when one of these is set to something other than Kafka's default.\n\n| Why | Keys |\n|---|---|\n");
    grouped(&mut text, unsupported::refused());
    text
}

/// The keys whose default differs from Kafka's, in Markdown.
pub fn differences_markdown() -> String {
    let mut text = "| Key | Kafka | klamm | Why |\n|---|---|---|---|\n".to_owned();
    for key in BROKER_KEYS.iter().chain(TOPIC_KEYS) {
        if let Some((kafka, why)) = key.differs {
            push_row(&mut text, &[&format!("`{}`", key.name), &code(kafka), &default_of(key), why]);
        }
    }
    text
}

fn section(text: &mut String, title: &str, table: &[ConfigKey], resource: &str) {
    text.push_str(&format!(
        "### {title}\n\n| Key | Type | Default | Valid | Update | What it does |\n|---|---|---|---|---|---|\n"
    ));
    for key in table.iter().filter(|key| key.idle.is_none()) {
        let valid = key.valid_values();
        let update = if key.scope == Scope::Resource { resource } else { key.scope.name() };
        push_row(
            text,
            &[
                &format!("`{}`", key.name),
                &kind(key.kind),
                &default_of(key),
                &valid,
                update,
                key.documentation,
            ],
        );
    }
    text.push('\n');
}

fn kind(kind: ConfigType) -> String {
    kind.name().to_lowercase()
}

fn default_of(key: &ConfigKey) -> String {
    key.default.map_or_else(|| "null".to_owned(), code)
}

fn code(text: &str) -> String {
    if text.is_empty() { "empty".to_owned() } else { format!("`{text}`") }
}

fn push_row(text: &mut String, cells: &[&str]) {
    text.push('|');
    for cell in cells {
        text.push_str(&format!(" {} |", cell.replace('|', "\\|")));
    }
    text.push('\n');
}

/// One row per reason, in the order of the table.
fn grouped(text: &mut String, keys: &[unsupported::UnsupportedKey]) {
    let mut reasons: Vec<&str> = Vec::new();
    for key in keys {
        if !reasons.contains(&key.reason) {
            reasons.push(key.reason);
        }
    }
    for reason in reasons {
        let names = keys.iter().filter(|key| key.reason == reason).map(|key| format!("`{}`", key.name));
        push_row(text, &[reason, &names.collect::<Vec<_>>().join(", ")]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_the_reference() {
        let reference = reference_markdown();
        for table in [BROKER_KEYS, TOPIC_KEYS, GROUP_KEYS, CLIENT_METRICS_KEYS] {
            for key in table {
                assert!(reference.contains(&format!("`{}`", key.name)), "{}", key.name);
            }
        }
        for key in unsupported::without_effect().iter().chain(unsupported::refused()) {
            assert!(reference.contains(&format!("`{}`", key.name)), "{}", key.name);
        }
        for line in reference.lines().filter(|line| line.starts_with('|')) {
            assert!(line.ends_with('|'), "{line}");
        }
    }

    #[test]
    fn the_differences_are_those_that_are_declared() {
        let differences = differences_markdown();
        for name in ["group.initial.rebalance.delay.ms", "offsets.topic.replication.factor", "listeners"] {
            assert!(differences.contains(&format!("| `{name}` |")), "{name}");
        }
        assert!(differences.contains("| `group.initial.rebalance.delay.ms` | `3000` | `0` |"));
        assert!(!differences.contains("`num.partitions`"));
    }
}
