//! Values from `server.properties` and from the environment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::key::ConfigError;

/// Environment variables that the apache/kafka image gives to the Java machine and its logging,
/// not to the broker.
const NOT_THE_BROKERS: &[&str] = &[
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_HOME",
    "KAFKA_CREATE_TOPICS",
    "KAFKA_CLUSTER_ID",
    "KAFKA_KRAFT_CLUSTER_ID",
];

/// Reads a file of Java properties.
///
/// # Errors
/// One sentence when the file can not be opened, or is not one of properties.
pub fn read_properties(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let shown = path.display();
    let file = File::open(path)
        .map_err(|error| ConfigError(format!("the configuration file {shown} can not be read: {error}")))?;
    java_properties::read(BufReader::new(file)).map(|values| values.into_iter().collect()).map_err(|error| {
        ConfigError(format!("the configuration file {shown} is not one of properties: {error}"))
    })
}

/// The values in environment variables, as the apache/kafka image maps them: `KAFKA_` in front,
/// then the key in capitals with `_` for a dot, `__` for an underscore and `___` for a dash. The
/// prefix `KAFKA_CFG_` of the bitnami image means the same.
pub fn from_environment<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut prefixed = Vec::new();
    for (variable, value) in variables {
        if NOT_THE_BROKERS.contains(&variable) {
            continue;
        }
        if let Some(name) = variable.strip_prefix("KAFKA_CFG_") {
            prefixed.push((key_of(name), value.to_owned()));
        } else if let Some(name) = variable.strip_prefix("KAFKA_")
            && !is_service_link(name, value)
        {
            values.insert(key_of(name), value.to_owned());
        }
    }
    values.extend(prefixed);
    values
}

/// Kubernetes and Docker links set `KAFKA_PORT=tcp://…` and the like for a service named "kafka".
fn is_service_link(name: &str, value: &str) -> bool {
    name.starts_with("PORT") && (value.starts_with("tcp://") || name.contains("_TCP"))
        || name.starts_with("SERVICE_HOST")
        || name.starts_with("SERVICE_PORT")
}

fn key_of(name: &str) -> String {
    name.to_lowercase().replace('_', ".").replace("...", "-").replace("..", "_")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn environment_variables_become_keys_as_in_the_image() {
        let cases = [
            ("KAFKA_LOG_RETENTION_MS", Some("log.retention.ms")),
            ("KAFKA_CFG_LOG_RETENTION_MS", Some("log.retention.ms")),
            ("KAFKA_NODE_ID", Some("node.id")),
            ("KAFKA_LISTENER_NAME_SASL__SSL_X", Some("listener.name.sasl_ssl.x")),
            ("KAFKA_A___B", Some("a-b")),
            ("KAFKA_HEAP_OPTS", None),
            ("KAFKA_VERSION", None),
            ("KAFKA_JMX_PORT", None),
            ("KAFKA_SERVICE_HOST", None),
            ("PATH", None),
            ("kafka_node_id", None),
        ];
        for (variable, expected) in cases {
            let values = from_environment([(variable, "1")]);
            assert_eq!(values.keys().next().map(String::as_str), expected, "{variable}");
        }
        assert!(from_environment([("KAFKA_PORT", "tcp://10.0.0.1:9092")]).is_empty());
        assert!(from_environment([("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1")]).is_empty());
        let both = from_environment([("KAFKA_CFG_NODE_ID", "2"), ("KAFKA_NODE_ID", "1")]);
        assert_eq!(both.get("node.id").map(String::as_str), Some("2"));
    }

    #[test]
    fn a_file_of_properties_is_read_as_java_reads_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = "# comment\n! comment\nnode.id = 4\nlog.dirs:/a/b\nlisteners=A://h:1,\\\n   B://h:2\nempty=\nnode.id=5\n";
        file.write_all(text.as_bytes()).unwrap();
        let values = read_properties(file.path()).unwrap();
        let get = |name: &str| values.get(name).map(String::as_str);
        assert_eq!(get("node.id"), Some("5"));
        assert_eq!(get("log.dirs"), Some("/a/b"));
        assert_eq!(get("listeners"), Some("A://h:1,B://h:2"));
        assert_eq!(get("empty"), Some(""));
        let missing = read_properties(Path::new("/no/such/file")).unwrap_err();
        assert!(missing.0.starts_with("the configuration file /no/such/file can not be read"), "{missing}");
    }
}
