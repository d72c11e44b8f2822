//! What DescribeConfigs says of a resource: each key with its value, where the value comes from,
//! and the values that stand behind it in order of precedence (Kafka's `ConfigHelper`).

use std::collections::BTreeMap;

use super::broker::{BROKER_KEYS, BrokerConfig};
use super::dynamic::DYNAMIC_ONLY;
use super::group::{CLIENT_METRICS_KEYS, GROUP_KEYS, broker_synonym};
use super::key::{ConfigKey, ConfigType, Scope, find};
use super::topic::{TOPIC_KEYS, broker_synonyms};
use super::unsupported;

/// Keys that Kafka keeps to itself, and shows only where they are set.
const INTERNAL: &[&str] = &["log.initial.task.delay.ms", "producer.id.expiration.check.interval.ms"];

/// Where a value was set (`DescribeConfigsResponse.ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl ConfigSource {
    /// The number of the source in the response.
    pub fn wire_id(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
            Self::BrokerLogger => 6,
            Self::ClientMetrics => 7,
            Self::Group => 8,
        }
    }
}

/// One value that stands behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: String,
    /// `None` where the value must not be shown.
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// One key of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    /// `None` where nothing is set and the default is null, and where the value must not be shown.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub read_only: bool,
    pub sensitive: bool,
    /// The type's number in the response (`DescribeConfigsResponse.ConfigType`), 0 for a key that
    /// klamm does not know.
    pub type_id: i8,
    /// In order of precedence, the value that counts first.
    pub synonyms: Vec<Synonym>,
    /// A sentence or two, also where the key has no effect.
    pub documentation: String,
}

/// The keys of a topic that has these overrides.
pub fn topic(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Vec<Described> {
    let describe = |key: &'static ConfigKey| {
        let default = broker.topic_default(key.name);
        let behind = broker_synonyms(key.name).first().map(|(name, _)| broker_layers(broker, name));
        resource_key(key, overrides, default, behind.unwrap_or_default(), ConfigSource::Topic)
    };
    TOPIC_KEYS.iter().map(describe).collect()
}

/// The keys of a group that has these overrides.
pub fn group(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Vec<Described> {
    let describe = |key: &'static ConfigKey| {
        let synonym = broker_synonym(key.name);
        let default = synonym.and_then(|name| broker.layers.get(name)).map(str::to_owned);
        let behind = match synonym {
            Some(name) => broker_layers(broker, name),
            None => vec![synonym_of(key.name, key.default.unwrap_or_default(), ConfigSource::Default)],
        };
        resource_key(key, overrides, default, behind, ConfigSource::Group)
    };
    GROUP_KEYS.iter().map(describe).collect()
}

/// The keys of a client metrics subscription that has these values.
pub fn client_metrics(overrides: &BTreeMap<String, String>) -> Vec<Described> {
    let describe =
        |key: &'static ConfigKey| resource_key(key, overrides, None, Vec::new(), ConfigSource::ClientMetrics);
    CLIENT_METRICS_KEYS.iter().map(describe).collect()
}

/// The loggers of this broker, each with its level.
pub fn loggers(levels: BTreeMap<String, &'static str>) -> Vec<Described> {
    let describe = |(name, level): (String, &'static str)| Described {
        name,
        value: Some(level.to_owned()),
        source: ConfigSource::BrokerLogger,
        read_only: false,
        sensitive: false,
        type_id: 0,
        synonyms: Vec::new(),
        documentation: String::new(),
    };
    levels.into_iter().map(describe).collect()
}

/// The keys of this broker: all that klamm reads, and those that are set beyond them.
pub fn broker(broker: &BrokerConfig) -> Vec<Described> {
    let shown = |key: &&ConfigKey| !INTERNAL.contains(&key.name) || broker.layers.get(key.name).is_some();
    let own = BROKER_KEYS.iter().filter(shown).map(|key| {
        let text = broker.layers.get(key.name).or(key.default);
        let value = text.map(|text| canonical(key, text));
        broker_key(key.name, value, broker_layers(broker, key.name))
    });
    let set = broker.layers.effective();
    let beyond = set.into_iter().filter(|(name, _)| find(BROKER_KEYS, name).is_none());
    let beyond = beyond.map(|(name, text)| {
        let behind = broker_layers(broker, &name);
        broker_key(&name, Some(text), behind)
    });
    own.chain(beyond).collect()
}

/// The keys that are set for all brokers of the cluster (a BROKER resource without a name).
pub fn cluster(broker: &BrokerConfig) -> Vec<Described> {
    let describe = |(name, text): (&String, &String)| {
        let mut behind = broker_layers(broker, name);
        behind.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
        broker_key(name, Some(text.clone()), behind)
    };
    broker.layers.cluster.iter().map(describe).collect()
}

fn resource_key(
    key: &ConfigKey,
    overrides: &BTreeMap<String, String>,
    default: Option<String>,
    behind: Vec<Synonym>,
    own: ConfigSource,
) -> Described {
    let set = overrides.get(key.name);
    let text = set.cloned().or(default).or_else(|| key.default.map(str::to_owned));
    let value = text.map(|text| canonical(key, &text));
    let mut synonyms = behind;
    if set.is_some() {
        synonyms.insert(0, Synonym { name: key.name.to_owned(), value: value.clone(), source: own });
    }
    Described {
        name: key.name.to_owned(),
        value,
        source: synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source),
        read_only: false,
        sensitive: key.is_sensitive(),
        type_id: key.kind.wire_id(),
        synonyms,
        documentation: documentation(key.documentation, key.idle),
    }
}

fn broker_key(name: &str, value: Option<String>, synonyms: Vec<Synonym>) -> Described {
    let known = BrokerKey::find(name);
    let sensitive = known.is_none_or(|key| key.kind == ConfigType::Password);
    Described {
        name: name.to_owned(),
        value: value.filter(|_| !sensitive),
        source: synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source),
        read_only: known.is_none_or(|key| key.scope == Scope::ReadOnly),
        sensitive,
        type_id: known.map_or(0, |key| key.kind.wire_id()),
        synonyms,
        documentation: known.map_or_else(String::new, |key| documentation(key.documentation, key.idle)),
    }
}

/// What the two tables of broker keys have in common.
#[derive(Clone, Copy)]
struct BrokerKey {
    kind: ConfigType,
    scope: Scope,
    default: Option<&'static str>,
    documentation: &'static str,
    idle: Option<&'static str>,
}

impl BrokerKey {
    fn find(name: &str) -> Option<Self> {
        if let Some(key) = find(BROKER_KEYS, name) {
            let ConfigKey { kind, scope, default, documentation, idle, .. } = *key;
            return Some(Self { kind, scope, default, documentation, idle });
        }
        if DYNAMIC_ONLY.contains(&name) {
            let (kind, scope, idle) =
                (ConfigType::Long, Scope::ClusterWide, Some(unsupported::reason::DIRECTORIES));
            return Some(Self { kind, scope, default: None, documentation: "", idle });
        }
        let unsupported::UnsupportedKey { kind, scope, default, reason, .. } = *unsupported::find(name)?;
        Some(Self { kind, scope, default, documentation: "", idle: Some(reason) })
    }
}

fn documentation(text: &str, idle: Option<&str>) -> String {
    let effect = idle.map(|reason| format!("Kept without effect: {reason}."));
    [Some(text.to_owned()).filter(|text| !text.is_empty()), effect]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The names that Kafka reads as one setting, in their order
/// (`DynamicBrokerConfig.brokerConfigSynonyms`).
fn names_of(name: &str) -> Vec<&str> {
    const FAMILIES: &[&[&str]] = &[
        &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
        &["log.roll.ms", "log.roll.hours"],
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    ];
    if name == "log.flush.interval.ms" {
        return vec![name, "log.flush.scheduler.interval.ms"];
    }
    FAMILIES.iter().find(|family| family.contains(&name)).map_or_else(|| vec![name], |family| family.to_vec())
}

/// The values behind a broker key. Kafka starts the list at the key itself: a value of another
/// name that would win stands before it, and is left out.
fn broker_layers(broker: &BrokerConfig, name: &str) -> Vec<Synonym> {
    let layers = [
        (&broker.layers.broker, ConfigSource::DynamicBroker),
        (&broker.layers.cluster, ConfigSource::DynamicDefaultBroker),
        (&broker.layers.statics, ConfigSource::StaticBroker),
    ];
    let names = names_of(name);
    let mut found = Vec::new();
    for (values, source) in layers {
        for name in &names {
            found.extend(values.get(*name).map(|text| synonym_of(name, text, source)));
        }
    }
    for name in &names {
        let default = BrokerKey::find(name).and_then(|key| key.default);
        found.extend(default.map(|text| synonym_of(name, text, ConfigSource::Default)));
    }
    found.into_iter().skip_while(|synonym| synonym.name != name).collect()
}

fn synonym_of(name: &str, text: &str, source: ConfigSource) -> Synonym {
    let resource_key = find(GROUP_KEYS, name).is_some();
    let shown = resource_key || BrokerKey::find(name).is_some_and(|key| key.kind != ConfigType::Password);
    Synonym { name: name.to_owned(), value: shown.then(|| text.to_owned()), source }
}

/// The text of a value as Kafka writes it; a value that can not be read is shown as it is.
fn canonical(key: &ConfigKey, text: &str) -> String {
    key.parse(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
}
