//! Listeners: where klamm listens, and where it tells clients to connect
//! (Kafka's `listeners`, `advertised.listeners` and what belongs to them).

use std::collections::BTreeMap;
use std::fmt;

use super::broker::BrokerConfig;
use super::key::ConfigError;

/// How a listener is secured (`org.apache.kafka.common.security.auth.SecurityProtocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's number of the protocol, as it stands in broker registrations.
    pub fn wire_id(self) -> i16 {
        match self {
            Self::Plaintext => 0,
            Self::Ssl => 1,
            Self::SaslPlaintext => 2,
            Self::SaslSsl => 3,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => Self::Plaintext,
            "SSL" => Self::Ssl,
            "SASL_PLAINTEXT" => Self::SaslPlaintext,
            "SASL_SSL" => Self::SaslSsl,
            _ => return None,
        })
    }
}

/// Whose APIs a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    Broker,
    Controller,
    /// Where no listener is the controller's own.
    Both,
}

impl ListenerKind {
    /// Whether what is meant for listeners of the `other` kind is served here.
    pub fn serves(self, other: Self) -> bool {
        self == Self::Both || other == Self::Both || self == other
    }

    /// Whether clients and brokers find the broker there.
    pub fn serves_broker(self) -> bool {
        matches!(self, Self::Broker | Self::Both)
    }

    /// Whether brokers and controllers find the controller there.
    pub fn serves_controller(self) -> bool {
        matches!(self, Self::Controller | Self::Both)
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub kind: ListenerKind,
    /// In capitals, as Kafka keeps names.
    pub name: String,
    pub protocol: SecurityProtocol,
    /// Empty: every interface.
    pub host: String,
    /// 0: one that is free.
    pub port: u16,
    /// What clients are told to connect to; `None`: the address that they used.
    pub advertised: Option<(String, u16)>,
}

/// The text of an address, with brackets around an IPv6 address.
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.name, host_port(&self.host, self.port))
    }
}

/// What stands in `listeners` or `advertised.listeners`: NAME, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

/// Reads `host:port`, where the host may be empty, a name, or an address with or without brackets.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_host_port(text: &str) -> Result<(String, u16), ConfigError> {
    let problem = || ConfigError(format!("\"{text}\" is not an address: write HOST:PORT"));
    let (host, port) = text.trim().rsplit_once(':').ok_or_else(problem)?;
    let port = port.parse::<u16>().map_err(|_| problem())?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._:%".contains(letter);
    if bare.chars().all(plain) { Ok((bare.to_owned(), port)) } else { Err(problem()) }
}

fn endpoints(key: &str, items: &[String]) -> Result<Vec<Endpoint>, ConfigError> {
    let endpoint = |item: &String| {
        let problem = || ConfigError(format!("{key}: \"{item}\" is not a listener: write NAME://HOST:PORT"));
        let (name, address) = item.split_once("://").ok_or_else(problem)?;
        let (host, port) = parse_host_port(address).map_err(|_| problem())?;
        let name = name.trim().to_ascii_uppercase();
        if name.is_empty() { Err(problem()) } else { Ok(Endpoint { name, host, port }) }
    };
    let found: Vec<Endpoint> = items.iter().map(endpoint).collect::<Result<_, _>>()?;
    for (index, one) in found.iter().enumerate() {
        if found.iter().take(index).any(|other| other.name == one.name) {
            return Err(ConfigError(format!(
                "{key}: two listeners are named {}; each needs a name of its own",
                one.name
            )));
        }
    }
    Ok(found)
}

/// Reads `listener.security.protocol.map`.
fn protocol_map(text: &str) -> Result<BTreeMap<String, SecurityProtocol>, ConfigError> {
    let key = "listener.security.protocol.map";
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, protocol) = pair.rsplit_once(':').ok_or_else(|| {
                ConfigError(format!("{key}: \"{pair}\" is not a pair: write NAME:PROTOCOL"))
            })?;
            let known = SecurityProtocol::named(protocol.trim()).ok_or_else(|| {
                ConfigError(format!("Invalid security protocol `{}` defined in {key}", protocol.trim()))
            })?;
            Ok((name.trim().to_ascii_uppercase(), known))
        })
        .collect()
}

/// The listeners, each with whose APIs it serves: the controller's are those that `controller.listener.names` lists.
///
/// # Errors
/// One sentence that says what does not fit together, or that a listener is to be secured, which
/// is not built yet.
pub fn listeners(config: &BrokerConfig) -> Result<Vec<Listener>, ConfigError> {
    let map = protocol_map(&config.listener_security_protocol_map)?;
    // Without a map of its own a file may use any name: Kafka asks for a map then, and klamm
    // takes the only protocol that it speaks.
    let mapped = config.layers.get("listener.security.protocol.map").is_some();
    let mut advertised: BTreeMap<String, Endpoint> = BTreeMap::new();
    let addresses = config.advertised_listeners.as_deref().unwrap_or_default();
    for endpoint in endpoints("advertised.listeners", addresses)? {
        advertised.insert(endpoint.name.clone(), endpoint);
    }
    let mut found = Vec::new();
    for endpoint in endpoints("listeners", &config.listeners)? {
        let Endpoint { name, host, port } = endpoint;
        let protocol = match map.get(&name) {
            Some(protocol) => *protocol,
            None if mapped => {
                return Err(ConfigError(format!(
                    "No security protocol defined for listener {name}: add {name}:PLAINTEXT to listener.security.protocol.map"
                )));
            }
            None => SecurityProtocol::Plaintext,
        };
        if protocol != SecurityProtocol::Plaintext {
            return Err(ConfigError(format!(
                "the listener {name} is to be secured, and security is not built yet: map it to PLAINTEXT in listener.security.protocol.map, or remove it"
            )));
        }
        let advertised = match advertised.remove(&name) {
            Some(endpoint) => reachable(&endpoint, port)?,
            None => None,
        };
        let kind =
            if is_controllers(config, &name) { ListenerKind::Controller } else { ListenerKind::Broker };
        found.push(Listener { kind, name, protocol, host, port, advertised });
    }
    // A broker's file may tell where controllers are reached; a broker does not listen there.
    advertised.retain(|name, _| !is_controllers(config, name));
    check(config, &found, &advertised)?;
    assign(config, &mut found)?;
    Ok(found)
}

fn is_controllers(config: &BrokerConfig, name: &str) -> bool {
    config.controller_listener_names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The listener that brokers use among themselves: `inter.broker.listener.name`, else the one named PLAINTEXT, else
/// the first that serves the broker. `None` on a controller.
pub fn inter_broker<'a>(config: &BrokerConfig, listeners: &'a [Listener]) -> Option<&'a Listener> {
    let mut brokers = listeners.iter().filter(|listener| listener.kind.serves_broker());
    let name = config.inter_broker_listener_name.as_deref().unwrap_or("PLAINTEXT");
    brokers.clone().find(|listener| listener.name.eq_ignore_ascii_case(name)).or_else(|| brokers.next())
}

/// Gives the controller a listener where none is its own, and asks of roles and listeners what Kafka does.
fn assign(config: &BrokerConfig, found: &mut [Listener]) -> Result<(), ConfigError> {
    let roles = config.roles();
    let named = config.layers.get("controller.listener.names").is_some();
    let names = config.controller_listener_names.join(", ");
    let controllers = found.iter().filter(|listener| listener.kind == ListenerKind::Controller).count();
    if !roles.controller {
        return match controllers {
            0 => Ok(()),
            _ => Err(ConfigError(format!(
                "process.roles is broker, so listeners must not hold what controller.listener.names does: {names}"
            ))),
        };
    }
    if !roles.broker {
        match controllers {
            all if all == found.len() => return Ok(()),
            0 if !named => found.iter_mut().for_each(|listener| listener.kind = ListenerKind::Controller),
            _ => {
                return Err(ConfigError(format!(
                    "process.roles is controller, so listeners must only hold what controller.listener.names does: {names}"
                )));
            }
        }
        return Ok(());
    }
    if controllers > 0 {
        return Ok(());
    }
    if named {
        return Err(ConfigError(format!(
            "listeners must hold what controller.listener.names does ({names}), because process.roles has controller"
        )));
    }
    let between = inter_broker(config, found).map(|listener| listener.name.clone());
    for listener in found.iter_mut().filter(|listener| Some(&listener.name) == between.as_ref()) {
        listener.kind = ListenerKind::Both;
    }
    Ok(())
}

/// What an advertised address tells clients. Without a host it means the address that they used.
fn reachable(endpoint: &Endpoint, listening: u16) -> Result<Option<(String, u16)>, ConfigError> {
    let Endpoint { name, host, port } = endpoint;
    match host.as_str() {
        "" if *port == listening => Ok(None),
        "" => Err(ConfigError(format!(
            "advertised.listeners: {name} has another port than the listener, and needs a host too"
        ))),
        "0.0.0.0" => Err(ConfigError(
            "advertised.listeners can not use 0.0.0.0, which clients can not connect to: name an address, or leave the key out"
                .to_owned(),
        )),
        host => Ok(Some((host.to_owned(), *port))),
    }
}

fn check(
    config: &BrokerConfig,
    found: &[Listener],
    advertised_only: &BTreeMap<String, Endpoint>,
) -> Result<(), ConfigError> {
    let broker = || found.iter().filter(|listener| listener.kind.serves_broker());
    if config.roles().broker && broker().next().is_none() {
        return Err(ConfigError(
            "listeners holds nothing for clients: all of it stands in controller.listener.names too"
                .to_owned(),
        ));
    }
    let names = broker().map(|listener| listener.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = advertised_only.keys().next() {
        return Err(ConfigError(format!(
            "advertised.listeners names {name}, which listeners does not: it has {names}"
        )));
    }
    if let Some(name) = &config.inter_broker_listener_name
        && config.roles().broker
        && !broker().any(|listener| listener.name.eq_ignore_ascii_case(name))
    {
        return Err(ConfigError(format!(
            "inter.broker.listener.name is {name}, which listeners does not name: it has {names}"
        )));
    }
    for (index, one) in found.iter().enumerate() {
        let same = |other: &&Listener| other.port == one.port && one.port != 0 && other.host == one.host;
        if let Some(other) = found.iter().take(index).find(same) {
            return Err(ConfigError(format!(
                "listeners: {other} and {one} are one address; each listener needs its own"
            )));
        }
    }
    Ok(())
}

/// `--listen`: turns `HOST:PORT` and `NAME://HOST:PORT` into the value of `listeners`. The first
/// listener without a name is PLAINTEXT, the next ones PLAINTEXT2 and so on.
///
/// # Errors
/// A sentence that says what was expected.
pub fn listen_value(items: &[String]) -> Result<String, ConfigError> {
    let mut named = Vec::new();
    let mut unnamed = 0;
    for item in items.iter().filter(|item| !item.trim().is_empty()) {
        if item.contains("://") {
            endpoints("--listen", std::slice::from_ref(item))?;
            named.push(item.trim().to_owned());
            continue;
        }
        let (host, port) =
            parse_host_port(item).map_err(|error| ConfigError(format!("--listen: {error}")))?;
        unnamed += 1;
        let number = if unnamed == 1 { String::new() } else { unnamed.to_string() };
        named.push(format!("PLAINTEXT{number}://{}", host_port(&host, port)));
    }
    Ok(named.join(","))
}

/// `--advertise`: turns `HOST:PORT` into the value of `advertised.listeners` for the listeners in
/// their order; `NAME://HOST:PORT` says which one is meant.
///
/// # Errors
/// A sentence that says what was expected.
pub fn advertise_value(items: &[String], listeners: &[String]) -> Result<String, ConfigError> {
    let names: Vec<String> = endpoints("listeners", listeners)?.into_iter().map(|one| one.name).collect();
    let mut free = names.iter();
    let mut named = Vec::new();
    for item in items.iter().filter(|item| !item.trim().is_empty()) {
        if item.contains("://") {
            endpoints("--advertise", std::slice::from_ref(item))?;
            named.push(item.trim().to_owned());
            continue;
        }
        let (host, port) =
            parse_host_port(item).map_err(|error| ConfigError(format!("--advertise: {error}")))?;
        let name = free.next().ok_or_else(|| {
            ConfigError(format!(
                "--advertise {item} has no listener left to be for: give one --listen for each"
            ))
        })?;
        named.push(format!("{name}://{}", host_port(&host, port)));
    }
    Ok(named.join(","))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn read(pairs: &[(&str, &str)]) -> Result<Vec<Listener>, String> {
        let values = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        listeners(&BrokerConfig::from_static(values).unwrap()).map_err(|error| error.0)
    }

    fn shown(listeners: &[Listener]) -> Vec<String> {
        let one = |listener: &Listener| match &listener.advertised {
            Some((host, port)) => format!("{listener} as {}", host_port(host, *port)),
            None => listener.to_string(),
        };
        listeners.iter().map(one).collect()
    }

    #[test]
    fn listeners_are_read_as_kafka_reads_them() {
        let cases: &[(Pairs<'_>, &[&str])] = &[
            (&[], &["PLAINTEXT://127.0.0.1:9092"]),
            (&[("listeners", "PLAINTEXT://:9092")], &["PLAINTEXT://:9092"]),
            (&[("listeners", "plaintext://[::1]:0")], &["PLAINTEXT://[::1]:0"]),
            (
                &[
                    ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
                    ("controller.listener.names", "CONTROLLER"),
                    ("advertised.listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
                    ("inter.broker.listener.name", "PLAINTEXT"),
                    (
                        "listener.security.protocol.map",
                        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
                    ),
                ],
                &["PLAINTEXT://:9092 as localhost:9092", "CONTROLLER://:9093 as localhost:9093"],
            ),
            (
                &[
                    ("listeners", "INTERNAL://0.0.0.0:19092, EXTERNAL://0.0.0.0:9092"),
                    ("listener.security.protocol.map", "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT"),
                    ("advertised.listeners", "INTERNAL://kafka:19092,EXTERNAL://localhost:9092"),
                    ("inter.broker.listener.name", "INTERNAL"),
                ],
                &["INTERNAL://0.0.0.0:19092 as kafka:19092", "EXTERNAL://0.0.0.0:9092 as localhost:9092"],
            ),
            (&[("listeners", "MINE://h:1")], &["MINE://h:1"]),
            (&[("advertised.listeners", "PLAINTEXT://:9092")], &["PLAINTEXT://127.0.0.1:9092"]),
        ];
        for (values, expected) in cases {
            assert_eq!(shown(&read(values).unwrap()), *expected, "{values:?}");
        }
    }

    #[test]
    fn a_listener_serves_the_broker_the_controller_or_both() {
        use ListenerKind::{Both, Broker, Controller};
        let (join, roles) = ("controller.quorum.bootstrap.servers", "process.roles");
        let cases: &[(Pairs<'_>, &[ListenerKind])] = &[
            (&[], &[Both]),
            (&[("listeners", "A://:1,B://:2")], &[Both, Broker]),
            (&[("listeners", "A://:1,B://:2"), ("inter.broker.listener.name", "B")], &[Broker, Both]),
            (&[("listeners", "A://:1,PLAINTEXT://:2")], &[Broker, Both]),
            (&[("listeners", "A://:1,CONTROLLER://:2")], &[Broker, Controller]),
            (&[(roles, "broker"), (join, "h:1")], &[Broker]),
            (&[(roles, "controller"), ("listeners", "CONTROLLER://:1")], &[Controller]),
            (&[(roles, "controller"), ("listeners", "X://:1")], &[Controller]),
        ];
        for (values, expected) in cases {
            let kinds: Vec<_> = read(values).unwrap().iter().map(|listener| listener.kind).collect();
            assert_eq!(kinds, *expected, "{values:?}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_said_in_one_sentence() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (
                &[("listeners", "localhost:9092")],
                "listeners: \"localhost:9092\" is not a listener: write NAME://HOST:PORT",
            ),
            (&[("listeners", "A://h:port")], "is not a listener"),
            (&[("listeners", "A://h:1,A://h:2")], "two listeners are named A"),
            (&[("listeners", "A://h:1,B://h:1")], "are one address"),
            (
                &[("listeners", "SSL://:9093")],
                "the listener SSL is to be secured, and security is not built yet",
            ),
            (
                &[("listeners", "A://:1"), ("listener.security.protocol.map", "B:PLAINTEXT")],
                "No security protocol defined for listener A",
            ),
            (&[("listener.security.protocol.map", "A:TLS")], "Invalid security protocol `TLS`"),
            (&[("listeners", "CONTROLLER://:9093")], "listeners holds nothing for clients"),
            (
                &[("advertised.listeners", "B://h:1")],
                "advertised.listeners names B, which listeners does not: it has PLAINTEXT",
            ),
            (&[("advertised.listeners", "PLAINTEXT://0.0.0.0:9092")], "can not use 0.0.0.0"),
            (&[("advertised.listeners", "PLAINTEXT://:1")], "needs a host too"),
            (&[("inter.broker.listener.name", "B")], "inter.broker.listener.name is B"),
            (
                &[("controller.listener.names", "X")],
                "listeners must hold what controller.listener.names does (X)",
            ),
            (
                &[
                    ("process.roles", "broker"),
                    ("controller.quorum.bootstrap.servers", "h:1"),
                    ("listeners", "A://:1,CONTROLLER://:2"),
                ],
                "process.roles is broker, so listeners must not hold",
            ),
            (
                &[("process.roles", "controller"), ("listeners", "A://:1,CONTROLLER://:2")],
                "process.roles is controller, so listeners must only hold",
            ),
        ];
        for (values, expected) in cases {
            let error = read(values).unwrap_err();
            assert!(error.contains(expected), "{values:?}: {error}");
        }
    }

    #[test]
    fn the_command_lines_short_forms_become_kafkas_values() {
        let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let listen = listen_value(&owned(&["0.0.0.0:9092", "[::1]:9093", "IN://h:1"])).unwrap();
        assert_eq!(listen, "PLAINTEXT://0.0.0.0:9092,PLAINTEXT2://[::1]:9093,IN://h:1");
        let open = owned(&["A://:1", "B://:2"]);
        assert_eq!(advertise_value(&owned(&["h:1", "k:2"]), &open).unwrap(), "A://h:1,B://k:2");
        assert_eq!(advertise_value(&owned(&["B://k:2"]), &open).unwrap(), "B://k:2");
        assert!(advertise_value(&owned(&["a:1", "b:2", "c:3"]), &open).is_err());
        assert_eq!(
            listen_value(&owned(&["9092"])).unwrap_err().0,
            "--listen: \"9092\" is not an address: write HOST:PORT"
        );
    }
}
