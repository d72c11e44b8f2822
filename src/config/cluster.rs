//! What the keys of a cluster mean together: roles, voters, where controllers are found
//! (Kafka's `KRaftConfigs`, `QuorumConfig`, and what `KafkaConfig.validateValues` asks of them).

use std::fmt;

use uuid::Uuid;

use super::broker::BrokerConfig;
use super::key::{ConfigError, Value};
use super::listener::{self, Listener};
use crate::types::{kafka_id, parse_kafka_id};

/// The class that sends consumers to a replica in their rack.
const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// What a process does in its cluster (`process.roles`); at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    pub broker: bool,
    pub controller: bool,
}

/// One entry of `controller.quorum.voters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterAddress {
    pub id: i32,
    pub host: String,
    pub port: u16,
}

/// One of the controllers that a new cluster begins with (Kafka's `DynamicVoter`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialController {
    pub address: VoterAddress,
    /// The id of its data directory.
    pub directory_id: Uuid,
}

impl fmt::Display for InitialController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VoterAddress { id, host, port } = &self.address;
        write!(f, "{id}@{}:{}", listener::host_port(host, *port), kafka_id(self.directory_id))
    }
}

/// Reads `id@host:port:directory,…`, as `--initial-controllers` and formatted directories have it.
///
/// # Errors
/// One sentence that says what was expected.
pub fn initial_controllers(text: &str) -> Result<Vec<InitialController>, ConfigError> {
    let mut found: Vec<InitialController> = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let problem = || ConfigError(format!("{item} is not a controller: write ID@HOST:PORT:DIRECTORY_ID"));
        let (address, directory_id) = item.rsplit_once(':').ok_or_else(problem)?;
        let directory_id = parse_kafka_id(directory_id).ok_or_else(problem)?;
        let address = voter(address).map_err(|_| problem())?;
        if found.iter().any(|other| other.address.id == address.id) {
            return Err(ConfigError(format!("the controller {} stands there twice", address.id)));
        }
        found.push(InitialController { address, directory_id });
    }
    Ok(found)
}

/// Who the controllers of the cluster are where this node's log does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Controllers {
    /// This node alone, to begin with.
    ThisNode,
    /// These, to begin with: the directory was formatted so.
    Formatted(Vec<InitialController>),
    /// Always these (`controller.quorum.voters`).
    Fixed(Vec<VoterAddress>),
    /// Those that one of these knows (`controller.quorum.bootstrap.servers`).
    KnownBy(Vec<(String, u16)>),
}

impl Controllers {
    /// The id of a new cluster, where all of its nodes must find the same one by themselves: that of fixed voters
    /// follows from who they are.
    pub fn cluster_id(&self) -> Option<String> {
        let Self::Fixed(voters) = self else { return None };
        let mut entries: Vec<String> =
            voters.iter().map(|VoterAddress { id, host, port }| format!("{id}@{host}:{port}")).collect();
        entries.sort_unstable();
        let mut text = entries.join(",");
        loop {
            let id = uuid::Builder::from_random_bytes(fnv1a(text.as_bytes()).to_be_bytes()).into_uuid();
            // An id that looks like an option confuses command lines.
            match kafka_id(id) {
                id if id.starts_with('-') => text.push(','),
                id => return Some(id),
            }
        }
    }
}

/// The 128-bit FNV-1a hash: the same on every machine and in every version.
fn fnv1a(bytes: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

fn list(value: &Value) -> &[String] {
    let Value::List(items) = value else { return &[] };
    items
}

/// Reads `id@host:port`.
fn voter(item: &str) -> Result<VoterAddress, String> {
    let form = "Each entry should be in the form `{id}@{host}:{port}`.";
    let (id, address) = item.split_once('@').ok_or_else(|| form.to_owned())?;
    let id = id.trim().parse::<i32>().ok().filter(|id| *id >= 0);
    let id = id.ok_or_else(|| format!("the voter id of {item} is not a number. {form}"))?;
    match listener::parse_host_port(address) {
        Ok((host, port)) if !host.is_empty() && port > 0 => Ok(VoterAddress { id, host, port }),
        Ok(_) | Err(_) => Err(format!("the address of {item} is not one. {form}")),
    }
}

pub(super) fn check_voters(value: &Value) -> Result<(), String> {
    let mut ids = Vec::new();
    for item in list(value) {
        let VoterAddress { id, .. } = voter(item)?;
        if ids.contains(&id) {
            return Err(format!("the voter {id} stands there twice"));
        }
        ids.push(id);
    }
    Ok(())
}

/// Reads `host:port` of a node to connect to.
fn server(item: &str) -> Result<(String, u16), String> {
    let address = listener::parse_host_port(item).ok().filter(|(host, port)| !host.is_empty() && *port > 0);
    address.ok_or_else(|| {
        format!("{item} is not an address. Each entry should be in the form {{host}}:{{port}}")
    })
}

pub(super) fn check_bootstrap_servers(value: &Value) -> Result<(), String> {
    list(value).iter().try_for_each(|item| server(item).map(|_| ()))
}

pub(super) fn check_security_protocol(value: &Value) -> Result<(), String> {
    let Value::Text(name) = value else { return Ok(()) };
    match name.as_str() {
        "PLAINTEXT" => Ok(()),
        "SSL" | "SASL_PLAINTEXT" | "SASL_SSL" => Err(super::unsupported::reason::SECURITY.to_owned()),
        _ => Err("String must be one of: PLAINTEXT, SASL_PLAINTEXT, SASL_SSL, SSL".to_owned()),
    }
}

impl BrokerConfig {
    /// The roles of this process.
    pub fn roles(&self) -> Roles {
        let has = |role: &str| self.process_roles.iter().any(|one| one == role);
        Roles { broker: has("broker"), controller: has("controller") }
    }

    /// The voters that `controller.quorum.voters` fixes; empty where voters may change.
    pub fn quorum_voters(&self) -> Vec<VoterAddress> {
        self.controller_quorum_voters.iter().filter_map(|item| voter(item).ok()).collect()
    }

    /// The controllers to ask for the others: `controller.quorum.bootstrap.servers`, else the fixed voters.
    pub fn quorum_bootstrap_servers(&self) -> Vec<(String, u16)> {
        let servers = self.controller_quorum_bootstrap_servers.iter();
        let servers: Vec<_> = servers.filter_map(|item| server(item).ok()).collect();
        if !servers.is_empty() {
            return servers;
        }
        self.quorum_voters().into_iter().map(|voter| (voter.host, voter.port)).collect()
    }

    /// Who the controllers are for a node with an empty directory. A controller whose bootstrap servers are its own
    /// listener is the cluster, as in the `server.properties` that Apache Kafka comes with.
    pub fn controllers(&self, listeners: &[Listener]) -> Controllers {
        let voters = self.quorum_voters();
        if !voters.is_empty() {
            return Controllers::Fixed(voters);
        }
        let servers = self.quorum_bootstrap_servers();
        let own = |(host, port): &(String, u16)| {
            let mut controllers = listeners.iter().filter(|listener| listener.kind.serves_controller());
            let local = ["localhost", "127.0.0.1", "::1"].contains(&host.as_str());
            controllers.any(|listener| {
                let advertised = listener.advertised.as_ref().is_some_and(|(h, p)| (h, p) == (host, port));
                advertised || listener.port == *port && (local || listener.host == *host)
            })
        };
        if self.roles().controller && servers.iter().all(own) {
            Controllers::ThisNode
        } else {
            Controllers::KnownBy(servers)
        }
    }

    /// Whether consumers are sent to a replica in their rack (KIP-392).
    pub fn selects_replicas_by_rack(&self) -> bool {
        self.replica_selector_class.as_deref() == Some(RACK_AWARE)
    }

    /// How many bytes per second replicas that are throttled may send as leaders; `None`: as many as they can.
    pub fn leader_replication_throttled_rate(&self) -> Option<i64> {
        self.rate("leader.replication.throttled.rate")
    }

    /// How many bytes per second replicas that are throttled may fetch as followers; `None`: as many as they can.
    pub fn follower_replication_throttled_rate(&self) -> Option<i64> {
        self.rate("follower.replication.throttled.rate")
    }

    fn rate(&self, name: &str) -> Option<i64> {
        self.layers.get(name).and_then(|text| text.trim().parse().ok())
    }

    /// What Kafka asks of the keys of a cluster together, listeners apart.
    pub(super) fn check_cluster(&self) -> Result<(), ConfigError> {
        let require = |holds: bool, text: &dyn Fn() -> String| {
            if holds { Ok(()) } else { Err(ConfigError(text())) }
        };
        let Roles { broker, controller } = self.roles();
        require(broker || controller, &|| {
            "Configuration 'process.roles' must not be empty: write broker, controller, or both".to_owned()
        })?;
        let voters = self.quorum_voters();
        let listed = voters.iter().any(|voter| voter.id == self.node_id);
        let node = self.node_id;
        require(!controller || voters.is_empty() || listed, &|| {
            format!("process.roles has controller, so node.id {node} must be one of controller.quorum.voters")
        })?;
        require(controller || !listed, &|| {
            format!("process.roles is broker, so node.id {node} must not be one of controller.quorum.voters")
        })?;
        require(controller || !self.quorum_bootstrap_servers().is_empty(), &|| {
            "process.roles is broker, so controller.quorum.bootstrap.servers must say where controllers are (or use --join)"
                .to_owned()
        })?;
        require(controller || !self.controller_quorum_auto_join_enable, &|| {
            "controller.quorum.auto.join.enable needs the role controller in process.roles".to_owned()
        })?;
        let explicit = |name: &str| self.layers.statics.contains_key(name);
        require(
            !(explicit("inter.broker.listener.name") && explicit("security.inter.broker.protocol")),
            &|| {
                "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set."
                    .to_owned()
            },
        )?;
        require(self.replica_fetch_wait_max_ms <= self.replica_socket_timeout_ms, &|| {
            "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms".to_owned()
        })?;
        require(i64::from(self.replica_fetch_wait_max_ms) <= self.replica_lag_time_max_ms, &|| {
            "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms"
                .to_owned()
        })
    }

    /// What Kafka only warns of.
    pub fn cluster_warnings(&self) -> Vec<String> {
        let (interval, session) = (self.broker_heartbeat_interval_ms, self.broker_session_timeout_ms);
        let mut warnings = Vec::new();
        if i64::from(interval) * 2 > i64::from(session) {
            warnings.push(format!(
                "broker.heartbeat.interval.ms ({interval}) is more than half of broker.session.timeout.ms ({session}): brokers may be fenced for one late heartbeat"
            ));
        }
        if let Some(class) = self.replica_selector_class.as_deref().filter(|class| *class != RACK_AWARE) {
            warnings.push(format!("replica.selector.class: klamm runs no Java class; without {class} consumers read from leaders"));
        }
        warnings
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn read(pairs: Pairs<'_>) -> Result<BrokerConfig, String> {
        let values = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        BrokerConfig::from_static(values).map_err(|error| error.0)
    }

    fn controllers(pairs: Pairs<'_>) -> Controllers {
        let config = read(pairs).unwrap();
        config.controllers(&listener::listeners(&config).unwrap())
    }

    #[test]
    fn who_the_controllers_are_follows_from_the_keys() {
        assert_eq!(controllers(&[]), Controllers::ThisNode);
        let stock: Pairs<'_> = &[
            ("controller.quorum.bootstrap.servers", "localhost:9093"),
            ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
            ("controller.listener.names", "CONTROLLER"),
        ];
        assert_eq!(controllers(stock), Controllers::ThisNode);
        let other = Controllers::KnownBy(vec![("h".to_owned(), 9)]);
        assert_eq!(controllers(&[("controller.quorum.bootstrap.servers", "h:9")]), other);
        let broker = [("controller.quorum.bootstrap.servers", "h:9"), ("process.roles", "broker")];
        assert_eq!(controllers(&broker), other);
        let fixed = controllers(&[("controller.quorum.voters", "1@a:1, 2@[::1]:2"), ("node.id", "2")]);
        let voter = |id, host: &str, port| VoterAddress { id, host: host.to_owned(), port };
        assert_eq!(fixed, Controllers::Fixed(vec![voter(1, "a", 1), voter(2, "::1", 2)]));
    }

    #[test]
    fn fixed_voters_find_one_cluster_id_in_any_order() {
        let id = |voters: &str| controllers(&[("controller.quorum.voters", voters)]).cluster_id().unwrap();
        assert_eq!(id("1@a:1,2@b:2,3@c:3"), id("3@c:3,1@a:1, 2@b:2"));
        assert_ne!(id("1@a:1,2@b:2"), id("1@a:1,2@b:3"));
        // Nodes of several versions form one cluster: the id never changes.
        assert_eq!(id("1@a:1"), "DSwH89iDSU-wgL1okgh9og");
        assert_eq!(Controllers::ThisNode.cluster_id(), None);
    }

    #[test]
    fn keys_that_do_not_fit_together_are_refused_in_one_sentence() {
        let cases: &[(Pairs<'_>, &str)] = &[
            (&[("process.roles", "")], "'process.roles' must not be empty"),
            (&[("process.roles", "zookeeper")], "String must be one of: broker, controller"),
            (
                &[("process.roles", "broker")],
                "controller.quorum.bootstrap.servers must say where controllers are",
            ),
            (&[("controller.quorum.voters", "2@h:1")], "node.id 1 must be one of controller.quorum.voters"),
            (
                &[("controller.quorum.voters", "1@h:1"), ("process.roles", "broker")],
                "node.id 1 must not be one of controller.quorum.voters",
            ),
            (&[("controller.quorum.voters", "1:h:1")], "`{id}@{host}:{port}`"),
            (&[("controller.quorum.voters", "x@h:1")], "the voter id of x@h:1 is not a number"),
            (&[("controller.quorum.voters", "1@h")], "the address of 1@h is not one"),
            (&[("controller.quorum.voters", "1@h:1,1@i:1")], "the voter 1 stands there twice"),
            (&[("controller.quorum.bootstrap.servers", "h")], "in the form {host}:{port}"),
            (
                &[
                    ("controller.quorum.auto.join.enable", "true"),
                    ("process.roles", "broker"),
                    ("controller.quorum.bootstrap.servers", "h:1"),
                ],
                "controller.quorum.auto.join.enable needs the role controller",
            ),
            (&[("security.inter.broker.protocol", "SSL")], "security is not built yet"),
            (&[("security.inter.broker.protocol", "TLS")], "String must be one of: PLAINTEXT"),
            (
                &[("security.inter.broker.protocol", "PLAINTEXT"), ("inter.broker.listener.name", "A")],
                "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.",
            ),
            (
                &[("replica.fetch.wait.max.ms", "30001")],
                "replica.socket.timeout.ms should always be at least",
            ),
            (&[("replica.lag.time.max.ms", "499")], "less than or equal to replica.lag.time.max.ms"),
        ];
        for (values, expected) in cases {
            let error = read(values).unwrap_err();
            assert!(error.contains(expected), "{values:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn initial_controllers_are_read_as_kafkas_tool_takes_them() {
        let text = "1@h:1:AAAAAAAAAAAAAAAAAAAAAQ,2@[::1]:2:AAAAAAAAAAAAAAAAAAAAAg";
        let found = initial_controllers(text).unwrap();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), text);
        for wrong in ["1@h:1", "1@h:1:x", "h:1:AAAAAAAAAAAAAAAAAAAAAQ"] {
            assert!(initial_controllers(wrong).unwrap_err().0.contains("is not a controller"), "{wrong}");
        }
        let twice = initial_controllers(&format!("{text},1@h:3:AAAAAAAAAAAAAAAAAAAAAw")).unwrap_err();
        assert_eq!(twice.0, "the controller 1 stands there twice");
    }

    #[test]
    fn what_works_badly_is_warned_of() {
        assert!(read(&[]).unwrap().cluster_warnings().is_empty());
        let late = read(&[("broker.session.timeout.ms", "3999")]).unwrap().cluster_warnings();
        assert!(late[0].contains("more than half"), "{late:?}");
        let selector = read(&[("replica.selector.class", "a.B")]).unwrap();
        assert!(!selector.selects_replicas_by_rack() && selector.cluster_warnings()[0].contains("a.B"));
        let rack = read(&[("replica.selector.class", RACK_AWARE)]).unwrap();
        assert!(rack.selects_replicas_by_rack() && rack.cluster_warnings().is_empty());
    }

    #[test]
    fn rates_of_throttled_replication_are_dynamic() {
        let dynamic = [("leader.replication.throttled.rate".to_owned(), "1000".to_owned())].into();
        let config = read(&[]).unwrap().with_dynamic(&dynamic, &Default::default()).unwrap();
        assert_eq!(config.leader_replication_throttled_rate(), Some(1000));
        assert_eq!(config.follower_replication_throttled_rate(), None);
    }
}
