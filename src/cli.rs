//! The command line, and everything that is set outside: arguments, the environment, a file.
//!
//! Of a key that is set in several places the first of these counts: an option of the command
//! line (or its `KLAMM_*` variable), `--override`, a `KAFKA_*` variable, the file of `--config`,
//! the default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::cluster::Controllers;
use crate::config::dynamic::{self, ConfigResource};
use crate::config::key::ConfigError;
use crate::config::listener::{self, Listener};
use crate::config::{BrokerConfig, file};

mod cluster;
mod format;
mod topics;
mod warnings;

pub use cluster::ClusterError;
pub use format::Formatting;
pub use topics::SeedTopic;

const LONG_ABOUT: &str = "\
A Kafka-compatible broker in one binary.

Without arguments klamm listens on 127.0.0.1:9092, keeps its data in
~/.local/share/klamm, serves metrics and health on http://127.0.0.1:9404, and
needs no configuration, no format step and no other process.";

const EXAMPLES: &str = "\
Examples:
  klamm                                      serve on 127.0.0.1:9092
  klamm --ephemeral --topic orders:3         a broker for a test: gone when it stops
  klamm --listen 0.0.0.0:9092                reachable from other machines; clients are
                                             told the address that they used
  klamm --listen IN://0.0.0.0:19092 --listen OUT://0.0.0.0:9092 \\
        --advertise IN://kafka:19092 --advertise OUT://localhost:9092
  klamm --config server.properties --override log.retention.hours=1
  klamm --join kafka1:9092 --listen 0.0.0.0:9092
                                             one more node of the cluster that kafka1 is in
  klamm cluster --nodes 3                    a cluster on this machine, for development
  klamm export-metadata --data-dir DIR --to OUT
                                             the metadata log for Kafka's tools

Data:
  In --data-dir; else in log.dirs or log.dir of the configuration; else in
  $XDG_DATA_HOME/klamm, which is ~/.local/share/klamm where that is not set.
  One klamm at a time uses a directory, and what it answered survives kill -9.

Configuration:
  Keys have Kafka's names. An option wins over --override, that over the
  environment, that over --config. KAFKA_LOG_RETENTION_MS is log.retention.ms, as
  in the apache/kafka image (KAFKA_CFG_… as in bitnami's). Each option has a
  variable: KLAMM_DATA_DIR, KLAMM_LISTEN, KLAMM_TOPICS (or TOPICS=a:3,b:1:compact).
  Keys that klamm does not act on are named at the start, with the reason.
  RUST_LOG sets what is logged, for example RUST_LOG=klamm=debug.";

/// What the command line holds.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "klamm",
    version,
    about = "A Kafka-compatible broker in one binary",
    long_about = LONG_ABOUT,
    after_long_help = EXAMPLES
)]
pub struct Options {
    /// Without one, klamm serves
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where the data lives [default: ~/.local/share/klamm]
    #[arg(long, value_name = "DIR", env = "KLAMM_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Keep the data in a temporary directory that is removed at exit
    #[arg(long, env = "KLAMM_EPHEMERAL", conflicts_with = "data_dir", global = true)]
    pub ephemeral: bool,
    /// Where to listen for clients; repeatable [default: 127.0.0.1:9092]
    #[arg(long, value_name = "[NAME://]HOST:PORT", env = "KLAMM_LISTEN", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// What to tell clients to connect to; repeatable [default: the address that they used]
    #[arg(long, value_name = "[NAME://]HOST:PORT", env = "KLAMM_ADVERTISE", value_delimiter = ',')]
    pub advertise: Vec<String>,
    /// A node of the cluster to join, as broker and controller; repeatable. Without node.id a free one is chosen
    #[arg(long, value_name = "HOST:PORT", env = "KLAMM_JOIN", value_delimiter = ',')]
    pub join: Vec<String>,
    /// Where to serve /metrics, /healthz and /readyz over HTTP [default: 127.0.0.1:9404, or a free port where that is
    /// in use]
    #[arg(long, value_name = "HOST:PORT", env = "KLAMM_ADMIN_LISTEN")]
    pub admin_listen: Option<String>,
    /// A topic to create at the start if it is missing: orders, orders:3, orders:3:compact,
    /// orders:3:retention.ms=60000; repeatable (variable: KLAMM_TOPICS, separated by commas)
    #[arg(long = "topic", value_name = "NAME[:PARTITIONS[:KEY=VALUE…]]", global = true)]
    pub topics: Vec<String>,
    /// A Kafka server.properties
    #[arg(short, long, value_name = "FILE", env = "KLAMM_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// One key of the configuration; repeatable (variable: KLAMM_OVERRIDE, separated by semicolons)
    #[arg(long = "override", value_name = "KEY=VALUE", global = true)]
    pub overrides: Vec<String>,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", env = "KLAMM_LOG_FORMAT", value_enum, default_value_t, global = true)]
    pub log_format: LogFormat,
}

/// What klamm does besides serving.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Write the metadata log of a data directory as a file that Kafka's tools read
    ///
    /// No broker may run on the directory. `kafka-dump-log.sh --cluster-metadata-decoder --files FILE` and
    /// `kafka-metadata-shell.sh --snapshot FILE` read what is written.
    ExportMetadata {
        /// The directory to write 00000000000000000000.log into
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Prepare an empty data directory, where a cluster begins with several controllers
    ///
    /// One node, fixed voters (controller.quorum.voters) and nodes that join need no format step. A new cluster whose
    /// voters may change begins with the controllers that their directories were formatted with.
    Format(FormatOptions),
    /// Run a cluster on this machine, for development: each node a process with a directory of its own
    ///
    /// The first node starts the cluster, the others join it. The same command goes on with what is in the directories.
    Cluster(ClusterOptions),
}

/// How a directory is formatted (`kafka-storage.sh format`).
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct FormatOptions {
    /// The id of the cluster, the same for all of its nodes [default with --standalone: a random one]
    #[arg(short = 't', long, value_name = "ID")]
    pub cluster_id: Option<String>,
    /// This node is the only controller in the beginning
    #[arg(short, long, conflicts_with_all = ["initial_controllers", "no_initial_controllers"])]
    pub standalone: bool,
    /// The controllers in the beginning, this one among them, separated by commas
    #[arg(
        short = 'I',
        long,
        value_name = "ID@HOST:PORT:DIRECTORY_ID",
        conflicts_with = "no_initial_controllers"
    )]
    pub initial_controllers: Option<String>,
    /// The cluster is there, or is brought about by others
    #[arg(short = 'N', long)]
    pub no_initial_controllers: bool,
    /// The release whose features the cluster begins with, for example 4.0 or 4.0-IV3 [default: 4.3]
    #[arg(short, long, value_name = "VERSION")]
    pub release_version: Option<String>,
    /// The level at which the cluster begins with a feature, for example group.version=0; repeatable
    #[arg(short, long = "feature", value_name = "NAME=LEVEL")]
    pub features: Vec<String>,
    /// Leave a directory alone that was formatted before
    #[arg(short = 'g', long)]
    pub ignore_formatted: bool,
    /// Not supported, as there is no access control
    #[arg(short = 'S', long, value_name = "CREDENTIAL", hide = true)]
    pub add_scram: Vec<String>,
}

/// What `klamm cluster` runs.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ClusterOptions {
    /// How many nodes, each broker and controller
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// The port of the first node; the others get the next ones, and 0 means any that are free (with --ephemeral)
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    pub port: u16,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Everything that a broker needs to know when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    pub broker: BrokerConfig,
    /// The data directory; with `ephemeral`, the directory in which a temporary one is made.
    pub data_dir: PathBuf,
    pub ephemeral: bool,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Who the controllers are where the data directory does not say it.
    pub controllers: Controllers,
    /// Host and port of the HTTP side, where they are given.
    pub admin_listen: Option<(String, u16)>,
    /// Topics to create if they are missing.
    pub topics: Vec<SeedTopic>,
    pub log_format: LogFormat,
    /// The cluster id to give to a new data directory (`CLUSTER_ID` of Kafka's images); `None`:
    /// a random one.
    pub cluster_id: Option<String>,
    /// What to log at the start: keys without effect, unknown keys.
    pub warnings: Vec<String>,
}

impl Options {
    /// Puts together what the arguments, the environment and the file say.
    ///
    /// # Errors
    /// One sentence that says what to change.
    pub fn settings(&self, environment: &BTreeMap<String, String>) -> Result<Settings, ConfigError> {
        let mut values = match &self.config {
            Some(path) => file::read_properties(path)?,
            None => BTreeMap::new(),
        };
        let variables = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        values.extend(file::from_environment(variables));
        values.extend(self.overrides(environment)?);
        let given = |items: &[String]| items.iter().any(|item| !item.trim().is_empty());
        if given(&self.listen) {
            values.insert("listeners".to_owned(), listener::listen_value(&self.listen)?);
        }
        self.join(&mut values)?;
        warnings::refuse(&values)?;
        let mut warnings = warnings::collect(&values);
        let data_dir = self.data_dir(&values, environment, &mut warnings)?;
        if !self.ephemeral {
            values.insert("log.dirs".to_owned(), data_dir.display().to_string());
        }
        if given(&self.advertise) {
            let open = BrokerConfig::from_static(values.clone())?.listeners;
            let advertised = listener::advertise_value(&self.advertise, &open)?;
            values.insert("advertised.listeners".to_owned(), advertised);
        }
        let broker = BrokerConfig::from_static(values)?;
        warnings.extend(broker.cluster_warnings());
        let admin_listen = self.admin_listen.as_deref().filter(|address| !address.is_empty());
        let admin_listen = admin_listen.map(listener::parse_host_port).transpose();
        let admin_listen = admin_listen.map_err(|error| ConfigError(format!("--admin-listen: {error}")))?;
        let listeners = listener::listeners(&broker)?;
        Ok(Settings {
            controllers: broker.controllers(&listeners),
            listeners,
            topics: self.seed_topics(environment, &broker)?,
            broker,
            data_dir,
            ephemeral: self.ephemeral,
            admin_listen,
            log_format: self.log_format,
            cluster_id: first_set(environment, &["CLUSTER_ID", "KAFKA_CLUSTER_ID", "KAFKA_KRAFT_CLUSTER_ID"]),
            warnings,
        })
    }

    /// `--join`: the nodes to ask, and that this one becomes a voter if it is a controller.
    fn join(&self, values: &mut BTreeMap<String, String>) -> Result<(), ConfigError> {
        let servers: Vec<&str> =
            self.join.iter().map(|one| one.trim()).filter(|one| !one.is_empty()).collect();
        if servers.is_empty() {
            return Ok(());
        }
        for server in &servers {
            let (host, _) = listener::parse_host_port(server)
                .ok()
                .filter(|(host, port)| !host.is_empty() && *port > 0)
                .ok_or_else(|| {
                    ConfigError(format!("--join: \"{server}\" is not an address: write HOST:PORT"))
                })?;
            let near = ["localhost", "127.0.0.1", "::1"].contains(&host.as_str());
            if !near && !values.contains_key("listeners") {
                return Err(ConfigError(format!(
                    "--join {server}: without --listen this node is reached from its own machine only: add --listen 0.0.0.0:9092"
                )));
            }
        }
        if values.contains_key("controller.quorum.voters") {
            return Err(ConfigError("--join has no place beside controller.quorum.voters".to_owned()));
        }
        values.insert("controller.quorum.bootstrap.servers".to_owned(), servers.join(","));
        let controls = values.get("process.roles").is_none_or(|roles| roles.contains("controller"));
        if controls {
            values
                .entry("controller.quorum.auto.join.enable".to_owned())
                .or_insert_with(|| "true".to_owned());
        }
        Ok(())
    }

    /// `--override`, and before it the variable with the same meaning.
    fn overrides(
        &self,
        environment: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        let variable = environment.get("KLAMM_OVERRIDE").map_or("", String::as_str);
        let set = variable.split([';', '\n']).map(str::trim).filter(|pair| !pair.is_empty());
        set.chain(self.overrides.iter().map(String::as_str))
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() => {
                    Ok((name.trim().to_owned(), value.to_owned()))
                }
                _ => Err(ConfigError(format!("--override {pair}: write KEY=VALUE"))),
            })
            .collect()
    }

    fn data_dir(
        &self,
        values: &BTreeMap<String, String>,
        environment: &BTreeMap<String, String>,
        warnings: &mut Vec<String>,
    ) -> Result<PathBuf, ConfigError> {
        if self.ephemeral {
            return Ok(std::env::temp_dir());
        }
        if let Some(directory) = &self.data_dir {
            return Ok(directory.clone());
        }
        for key in ["log.dirs", "log.dir"] {
            let Some(list) = values.get(key) else { continue };
            let mut directories = list.split(',').map(str::trim).filter(|item| !item.is_empty());
            let Some(first) = directories.next() else { continue };
            if directories.next().is_some() {
                warnings.push(format!("{key} names several directories; klamm uses the first, {first}"));
            }
            return Ok(PathBuf::from(first));
        }
        let absolute =
            |name: &str| environment.get(name).map(PathBuf::from).filter(|directory| directory.is_absolute());
        let home = || absolute("HOME").map(|home| home.join(".local").join("share"));
        absolute("XDG_DATA_HOME").or_else(home).map(|share| share.join("klamm")).ok_or_else(|| {
            ConfigError(
                "there is no home directory to keep data in: name one with --data-dir, or use --ephemeral"
                    .to_owned(),
            )
        })
    }

    /// The topics of the command line, then those of the environment that it does not name.
    fn seed_topics(
        &self,
        environment: &BTreeMap<String, String>,
        broker: &BrokerConfig,
    ) -> Result<Vec<SeedTopic>, ConfigError> {
        let variable = first_set(environment, &["KLAMM_TOPICS", "TOPICS", "KAFKA_CREATE_TOPICS"]);
        let listed = variable.as_deref().map(topics::split_list).unwrap_or_default();
        let mut found: Vec<SeedTopic> = Vec::new();
        for text in self.topics.iter().map(String::as_str).chain(listed) {
            let topic = topics::parse(text)?;
            let resource = ConfigResource::Topic(topic.name.clone());
            dynamic::validate(&resource, &topic.configs, broker)
                .map_err(|error| ConfigError(format!("--topic {text}: {error}")))?;
            if found.iter().all(|other| other.name != topic.name) {
                found.push(topic);
            }
        }
        Ok(found)
    }
}

/// The first of these variables that holds something.
fn first_set(environment: &BTreeMap<String, String>, names: &[&str]) -> Option<String> {
    let value = |name: &&str| environment.get(*name).map(|value| value.trim().to_owned());
    names.iter().filter_map(value).find(|value| !value.is_empty())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests;
