//! What is said of keys that klamm does not act on.

use std::collections::BTreeMap;

use crate::config::broker::{BROKER_KEYS, listener_limit};
use crate::config::key::{ConfigError, ConfigKey};
use crate::config::topic::TOPIC_KEYS;
use crate::config::unsupported::{self, reason};

/// Stops klamm when a key is set that must not be ignored.
pub(super) fn refuse(values: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let refused = values.iter().filter(|(name, value)| unsupported::is_refused(name, value));
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, _) in refused {
        let why = unsupported::find(name).map_or(reason::SECURITY, |key| key.reason);
        names.entry(why).or_default().push(name);
    }
    match names.into_iter().next() {
        None => Ok(()),
        Some((why, names)) => Err(ConfigError(format!("{}: {why}", names.join(", ")))),
    }
}

/// One warning for each reason, and one for each key that Kafka does not know either.
pub(super) fn collect(values: &BTreeMap<String, String>) -> Vec<String> {
    let mut without_effect: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut warnings = Vec::new();
    for (name, value) in values {
        match standing(name, value) {
            Standing::Honoured => {}
            Standing::WithoutEffect(why) => without_effect.entry(why).or_default().push(name),
            Standing::Unknown(hint) => {
                warnings.push(format!("{name} is not a key that klamm knows{hint}"));
            }
        }
    }
    let grouped = without_effect.into_iter().map(|(why, names)| {
        let verb = if names.len() == 1 { "has" } else { "have" };
        format!("{} {verb} no effect here: {why}", names.join(", "))
    });
    grouped.chain(warnings).collect()
}

enum Standing {
    Honoured,
    WithoutEffect(&'static str),
    Unknown(String),
}

fn key_in(table: &'static [ConfigKey], name: &str) -> Option<&'static ConfigKey> {
    table.iter().find(|key| key.name == name)
}

fn standing(name: &str, value: &str) -> Standing {
    if let Some(key) = key_in(BROKER_KEYS, name) {
        // A value that is the default says nothing that is not so.
        let set = key.default != Some(value.trim());
        return key.idle.filter(|_| set).map_or(Standing::Honoured, Standing::WithoutEffect);
    }
    if let Some(key) = unsupported::find(name) {
        // Refused keys come here with their default only.
        let harmless = unsupported::refused().iter().any(|other| other.name == key.name);
        return if harmless { Standing::Honoured } else { Standing::WithoutEffect(key.reason) };
    }
    if name.starts_with("zookeeper.") {
        return Standing::WithoutEffect("klamm keeps its metadata itself, as Kafka does since 4.0");
    }
    if name == "super.users" || name == "allow.everyone.if.no.acl.found" {
        return Standing::WithoutEffect(reason::AUTHENTICATION);
    }
    if listener_limit(name).is_some() {
        return Standing::Honoured;
    }
    if name.starts_with("listener.name.") {
        return Standing::WithoutEffect("all listeners share the broker's keys");
    }
    if key_in(TOPIC_KEYS, name).is_some() {
        return Standing::Unknown(" of a broker; topics have it: set it on a topic".to_owned());
    }
    let near = BROKER_KEYS.iter().find(|key| is_near(key.name, name));
    Standing::Unknown(near.map_or_else(String::new, |key| format!(": did you mean {}?", key.name)))
}

/// Whether two names differ in case, separators or one letter only.
fn is_near(known: &str, name: &str) -> bool {
    let plain = |text: &str| -> Vec<char> {
        text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let (known, name) = (plain(known), plain(name));
    let same = known.iter().zip(&name).take_while(|(one, two)| one == two).count();
    let rest = known.len().max(name.len()) - same;
    let tail = known.iter().rev().zip(name.iter().rev()).take_while(|(one, two)| one == two).count();
    rest <= tail + 1 && known.len().abs_diff(name.len()) <= 1
}
