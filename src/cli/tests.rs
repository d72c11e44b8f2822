//! Tests of what the outside says and what becomes of it.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn settings_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, String> {
    let options =
        Options::try_parse_from(["klamm"].iter().chain(arguments)).map_err(|error| error.to_string())?;
    let mut variables = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
    variables.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    options.settings(&variables).map_err(|error| error.0)
}

fn settings(arguments: &[&str]) -> Settings {
    settings_with(arguments, &[]).unwrap()
}

fn properties(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn with_file(text: &str) -> Result<Settings, String> {
    let file = properties(text);
    settings_with(&["--config", file.path().to_str().unwrap()], &[])
}

#[test]
fn the_command_line_is_well_formed() {
    Options::command().debug_assert();
    let help = Options::command().render_long_help().to_string();
    for word in ["--data-dir", "--ephemeral", "server.properties", "~/.local/share/klamm", "Examples:"] {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn nothing_needs_to_be_said() {
    let settings = settings(&[]);
    assert_eq!(settings.data_dir, Path::new("/home/me/.local/share/klamm"));
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.listeners[0].to_string(), "PLAINTEXT://127.0.0.1:9092");
    assert_eq!(settings.listeners[0].advertised, None);
    assert_eq!(settings.admin_listen, None);
    assert_eq!((settings.ephemeral, settings.log_format), (false, LogFormat::Text));
    assert_eq!((settings.topics.len(), settings.warnings.len()), (0, 0));
    assert_eq!(
        settings.broker.log_dirs.as_deref(),
        Some(["/home/me/.local/share/klamm".to_owned()].as_slice())
    );
}

#[test]
fn options_say_where_things_are() {
    let settings = settings(&[
        "--data-dir",
        "/d",
        "--listen",
        "0.0.0.0:1",
        "--listen",
        "OUT://[::]:2",
        "--advertise",
        "OUT://kafka.local:3",
        "--admin-listen",
        "0.0.0.0:0",
        "--log-format",
        "json",
        "--topic",
        "a:3",
        "--topic",
        "b:1:compact",
    ]);
    assert_eq!(settings.data_dir, Path::new("/d"));
    let shown: Vec<_> = settings.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["PLAINTEXT://0.0.0.0:1", "OUT://[::]:2"]);
    assert_eq!(settings.listeners[0].advertised, None);
    assert_eq!(settings.listeners[1].advertised, Some(("kafka.local".to_owned(), 3)));
    let admin_listen = settings.admin_listen.map(|(_, port)| port);
    assert_eq!((admin_listen, settings.log_format), (Some(0), LogFormat::Json));
    let topics: Vec<_> =
        settings.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
    assert_eq!(topics, [("a", 3), ("b", 1)]);
    assert_eq!(settings_with(&["--listen", ""], &[]).unwrap().listeners[0].port, 9092);
    assert!(settings_with(&["--ephemeral", "--data-dir", "/d"], &[]).is_err());
    let ephemeral = settings_with(&["--ephemeral"], &[]).unwrap();
    assert!(ephemeral.ephemeral && ephemeral.broker.log_dirs.is_none());
}

#[test]
fn the_data_directory_has_an_order_of_places() {
    let cases: &[(&str, Pairs<'_>, &str)] = &[
        ("", &[], "/home/me/.local/share/klamm"),
        ("", &[("XDG_DATA_HOME", "/x")], "/x/klamm"),
        ("", &[("XDG_DATA_HOME", "relative")], "/home/me/.local/share/klamm"),
        ("log.dir=/one", &[], "/one"),
        ("log.dir=/one\nlog.dirs=/two", &[], "/two"),
        ("log.dirs=/two", &[("KAFKA_LOG_DIRS", "/three")], "/three"),
    ];
    for (text, environment, expected) in cases {
        let file = properties(text);
        let settings = settings_with(&["--config", file.path().to_str().unwrap()], environment).unwrap();
        assert_eq!(settings.data_dir, Path::new(expected), "{text} {environment:?}");
    }
    let several = with_file("log.dirs=/a,/b").unwrap();
    assert_eq!(several.warnings, ["log.dirs names several directories; klamm uses the first, /a"]);
    let homeless = Options::try_parse_from(["klamm"]).unwrap().settings(&BTreeMap::new()).unwrap_err();
    assert!(homeless.0.contains("--data-dir"), "{homeless}");
}

#[test]
fn an_option_wins_over_override_environment_and_file() {
    let file = properties("num.partitions=2\nlisteners=A://h:1\n");
    let path = file.path().to_str().unwrap();
    let partitions = |arguments: &[&str], environment: &[(&str, &str)]| {
        let all: Vec<&str> = ["--config", path].iter().chain(arguments).copied().collect();
        settings_with(&all, environment).unwrap().broker.num_partitions
    };
    assert_eq!(partitions(&[], &[]), 2);
    assert_eq!(partitions(&[], &[("KAFKA_NUM_PARTITIONS", "3")]), 3);
    let both = [("KAFKA_NUM_PARTITIONS", "3"), ("KLAMM_OVERRIDE", "num.partitions=4;num.io.threads=1")];
    assert_eq!(partitions(&[], &both), 4);
    assert_eq!(partitions(&["--override", "num.partitions=5"], &both), 5);
    let open = settings(&["--config", path, "--override", "listeners=B://h:2", "--listen", "h:3"]);
    assert_eq!(open.listeners[0].to_string(), "PLAINTEXT://h:3");
}

#[test]
fn apache_kafkas_own_server_properties_starts_klamm() {
    let settings = with_file(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
         listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
         advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
         num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\nsocket.receive.buffer.bytes=102400\n\
         socket.request.max.bytes=104857600\nlog.dirs=/tmp/kraft-combined-logs\nnum.partitions=1\n\
         num.recovery.threads.per.data.dir=2\noffsets.topic.replication.factor=1\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         log.retention.hours=168\nlog.segment.bytes=1073741824\nlog.retention.check.interval.ms=300000\n",
    )
    .unwrap();
    assert_eq!(settings.listeners.len(), 2);
    assert_eq!(settings.controllers, Controllers::ThisNode);
    assert_eq!(settings.listeners[0].advertised, Some(("localhost".to_owned(), 9092)));
    assert_eq!(
        settings.warnings,
        [
            "num.io.threads, num.network.threads, num.recovery.threads.per.data.dir have no effect here: klamm has one pool of threads, as many as there are processors",
        ]
    );
}

#[test]
fn keys_without_effect_and_unknown_keys_are_named() {
    let cases = [
        (
            "zookeeper.connect=localhost",
            "zookeeper.connect has no effect here: klamm keeps its metadata itself, as Kafka does since 4.0",
        ),
        (
            "log.index.interval.bytes=5",
            "log.index.interval.bytes has no effect here: klamm stores batches in RocksDB and has no segment or index files",
        ),
        (
            "log.retention.hour=1",
            "log.retention.hour is not a key that klamm knows: did you mean log.retention.hours?",
        ),
        ("Num.Partitions=1", "Num.Partitions is not a key that klamm knows: did you mean num.partitions?"),
        (
            "retention.ms=1",
            "retention.ms is not a key that klamm knows of a broker; topics have it: set it on a topic",
        ),
        ("no.such.thing=1", "no.such.thing is not a key that klamm knows"),
    ];
    for (text, expected) in cases {
        assert_eq!(with_file(text).unwrap().warnings, [expected]);
    }
    assert!(with_file("log.index.interval.bytes=4096\nssl.protocol=TLSv1.3").unwrap().warnings.is_empty());
}

#[test]
fn what_would_be_dangerous_or_wrong_stops_klamm_with_one_sentence() {
    let cases = [
        (
            "ssl.keystore.location=/k\nssl.key.password=x",
            "ssl.key.password, ssl.keystore.location: security is not built yet",
        ),
        (
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "authorizer.class.name: security",
        ),
        (
            "listener.name.a.sasl.enabled.mechanisms=PLAIN",
            "listener.name.a.sasl.enabled.mechanisms: security",
        ),
        ("create.topic.policy.class.name=a.B", "create.topic.policy.class.name: klamm can not run a policy"),
        ("listeners=SASL_SSL://:9092", "is to be secured"),
        ("process.roles=broker", "controller.quorum.bootstrap.servers must say where controllers are"),
        ("controller.quorum.voters=2@a:1,3@b:1", "node.id 1 must be one of controller.quorum.voters"),
        (
            "num.partitions=none",
            "Invalid value none for configuration num.partitions: Not a number of type INT",
        ),
        ("node.id=1\nbroker.id=2", "the same value"),
    ];
    for (text, expected) in cases {
        let error = with_file(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let arguments: &[(&[&str], &str)] = &[
        (&["--config", "/no/such"], "the configuration file /no/such can not be read"),
        (&["--override", "x"], "--override x: write KEY=VALUE"),
        (&["--listen", "9092"], "--listen: \"9092\" is not an address: write HOST:PORT"),
        (&["--admin-listen", "here"], "--admin-listen: \"here\" is not an address"),
        (&["--topic", "a:x"], "--topic a:x: \"x\" is not a number of partitions"),
        (&["--topic", "a:1:no.such=1"], "--topic a:1:no.such=1: Unknown topic config name: no.such"),
        (&["--topic", "a:1:retention.ms=x"], "Not a number of type LONG"),
    ];
    for (arguments, expected) in arguments {
        let error = settings_with(arguments, &[]).unwrap_err();
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn topics_and_the_cluster_id_come_from_the_environment_too() {
    let environment = [("TOPICS", "a:3,b:1:compact"), ("CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw")];
    let settings = settings_with(&["--topic", "a:5"], &environment).unwrap();
    let topics: Vec<_> =
        settings.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
    assert_eq!(topics, [("a", 5), ("b", 1)]);
    assert_eq!(settings.cluster_id.as_deref(), Some("4L6g3nShT-eMCtK--X86sw"));
    let image = settings_with(&[], &[("KAFKA_CREATE_TOPICS", "x:2:1,y:1:1:compact")]).unwrap();
    assert_eq!(image.topics.len(), 2);
    assert!(image.warnings.is_empty());
}

#[test]
fn a_node_that_joins_asks_the_nodes_that_it_is_given() {
    let settings = settings(&["--join", "localhost:9092", "--listen", "localhost:0"]);
    assert_eq!(settings.controllers, Controllers::KnownBy(vec![("localhost".to_owned(), 9092)]));
    assert!(settings.broker.controller_quorum_auto_join_enable);
    let broker = ["--join", "h:1,i:2", "--listen", "0.0.0.0:1", "--override", "process.roles=broker"];
    let broker = settings_with(&broker, &[]).unwrap();
    assert!(!broker.broker.controller_quorum_auto_join_enable);
    assert_eq!(broker.broker.quorum_bootstrap_servers().len(), 2);
    let refused: &[(&[&str], &str)] = &[
        (&["--join", "h"], "--join: \"h\" is not an address: write HOST:PORT"),
        (&["--join", "h:1"], "add --listen 0.0.0.0:9092"),
        (
            &["--join", "localhost:1", "--override", "controller.quorum.voters=1@h:1"],
            "no place beside controller.quorum.voters",
        ),
    ];
    for (arguments, expected) in refused {
        let error = settings_with(arguments, &[]).unwrap_err();
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

fn formatting(arguments: &[&str]) -> Result<Formatting, String> {
    let options = Options::try_parse_from(["klamm"].iter().chain(arguments)).unwrap();
    let Some(Command::Format(how)) = &options.command else { panic!("not a format") };
    let environment = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
    options.settings(&environment).unwrap().formatting(how).map_err(|error| error.0)
}

#[test]
fn a_directory_is_formatted_by_the_rules_of_kafkas_tool() {
    let alone = formatting(&["format", "--standalone"]).unwrap();
    assert_eq!(alone.initial_controllers.len(), 1);
    assert_eq!(alone.initial_controllers[0].directory_id, alone.directory_id);
    assert_eq!(alone.initial_controllers[0].address.port, 9092);
    let list = "1@h:1:AAAAAAAAAAAAAAAAAAAAAQ,2@i:2:AAAAAAAAAAAAAAAAAAAAAg";
    let several = ["format", "--cluster-id", "x", "--initial-controllers", list, "--override", "node.id=2"];
    let several = formatting(&several).unwrap();
    assert_eq!((several.node_id, several.directory_id.as_u128()), (2, 2));
    assert_eq!(several.initial_controllers.len(), 2);
    let joining = formatting(&["format", "--cluster-id", "x", "--no-initial-controllers"]).unwrap();
    assert!(joining.initial_controllers.is_empty());
    let older = ["format", "-s", "-r", "3.9", "-f", "group.version=0"];
    assert_eq!(formatting(&older).unwrap().features["metadata.version"], 21);
    let fixed = ["--override", "controller.quorum.voters=1@h:1"];
    assert!(formatting(&[&["format", "--cluster-id", "x"], &fixed[..]].concat()).is_ok());
    let refused: &[(&[&str], &str)] = &[
        (
            &["format", "--cluster-id", "x"],
            "say --standalone, --initial-controllers or --no-initial-controllers",
        ),
        (&["format", "--no-initial-controllers"], "--cluster-id is needed"),
        (&["format", "--standalone", "-S", "SCRAM-SHA-256=[name=a,password=b]"], "no SCRAM credentials"),
        (&["format", "--standalone", "--feature", "kraft.version=0"], "needs controller.quorum.voters"),
        (
            &["format", "-t", "x", "-f", "kraft.version=1", fixed[0], fixed[1]],
            "remove controller.quorum.voters",
        ),
        (
            &["format", "--cluster-id", "x", "--initial-controllers", "2@h:1:AAAAAAAAAAAAAAAAAAAAAQ"],
            "does not name this node, 1",
        ),
        (&["format", "--standalone", fixed[0], fixed[1]], "controller.quorum.voters fixes the voters"),
    ];
    for (arguments, expected) in refused {
        let error = formatting(arguments).unwrap_err();
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}
