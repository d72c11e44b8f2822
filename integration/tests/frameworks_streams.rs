//! Applications of Kafka Streams, whose instances, and whose broker, are killed while input goes on.
//!
//! `make frameworks` runs them for longer, with more kills; `KLAMM_TEST_CLUSTER=kafka` runs them against Apache Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use integration::cluster::{Cluster, Kind, Layout, Voters};
use integration::committed::{Text, read_all};
use integration::frameworks::{Framework, Program, node, say, setting};
use integration::until;

const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;
const USERS: usize = 20;
const WORDS: usize = 40;
const LINES_PER_SECOND: usize = 250;
const TOPICS: [&str; 6] = ["lines", "payments", "teams", "counts", "teamwork", "paid"];

/// What each line leads to.
struct Expected {
    lines: usize,
    /// How often each word is in the input.
    counts: BTreeMap<String, usize>,
}

impl Expected {
    fn of(lines: usize) -> Self {
        let mut counts = BTreeMap::new();
        for line in 0..lines {
            for word in [line, line * 7, line / 3] {
                *counts.entry(format!("word-{}", word % WORDS)).or_default() += 1;
            }
        }
        Self { lines, counts }
    }

    fn team(line: usize) -> String {
        format!("{line} team-{}", line % USERS % 7)
    }
}

/// What is committed in the three outputs.
struct Output {
    counts: Vec<Text>,
    teamwork: Vec<Text>,
    paid: Vec<Text>,
}

impl Output {
    fn read(cluster: &Cluster) -> Option<Self> {
        let mut routes = cluster.routes();
        Some(Self {
            counts: read_all(&mut routes, "counts")?,
            teamwork: read_all(&mut routes, "teamwork")?,
            paid: read_all(&mut routes, "paid")?,
        })
    }

    /// The last count of each word.
    fn last_counts(&self) -> BTreeMap<String, usize> {
        self.counts.iter().map(|count| (count.key.clone(), count.value.parse().unwrap_or(0))).collect()
    }

    /// Whether everything that must come out has come out.
    fn is_complete(&self, expected: &Expected) -> bool {
        let last = self.last_counts();
        let is_counted =
            expected.counts.iter().all(|(word, count)| last.get(word).is_some_and(|found| found >= count));
        let teamwork: BTreeSet<_> = self.teamwork.iter().map(|text| &text.value).collect();
        let paid: BTreeSet<_> = self.paid.iter().map(|text| &text.key).collect();
        is_counted && teamwork.len() == expected.lines && paid.len() == expected.lines
    }

    /// How much has to come out still, for messages.
    fn missing(&self, expected: &Expected) -> String {
        let teamwork: BTreeSet<_> = self.teamwork.iter().map(|text| &text.value).collect();
        let paid: BTreeSet<_> = self.paid.iter().map(|text| &text.key).collect();
        let counted: usize = self.last_counts().values().sum();
        format!(
            "{} counts, {} of the join with a table, {} of the join of two streams",
            (expected.lines * 3).saturating_sub(counted),
            expected.lines - teamwork.len(),
            expected.lines - paid.len()
        )
    }

    /// What holds in either guarantee, once it is complete: nothing came out that is not there for a reason.
    fn check_at_least_once(&self, expected: &Expected) {
        let teamwork: BTreeSet<_> = self.teamwork.iter().map(|text| text.value.clone()).collect();
        assert_eq!(teamwork, (0..expected.lines).map(Expected::team).collect());
        for text in &self.paid {
            assert_eq!(text.value, format!("paid-{}", text.key));
        }
    }

    /// What exactly once adds: each output once, in its order.
    fn check_exactly_once(&self, expected: &Expected) {
        let mut counted = BTreeMap::<&str, usize>::new();
        for text in &self.counts {
            let count = counted.entry(&text.key).or_default();
            *count += 1;
            assert_eq!(text.value, count.to_string(), "{text:?} does not follow the count before");
        }
        for (word, count) in &expected.counts {
            assert_eq!(counted.get(word.as_str()), Some(count), "how often {word} was counted");
        }
        assert_eq!(self.teamwork.len(), expected.lines, "records of the join with a table");
        assert_eq!(self.paid.len(), expected.lines, "records of the join of two streams");
    }

    fn len(&self) -> usize {
        self.counts.len() + self.teamwork.len() + self.paid.len()
    }
}

/// Who assigns tasks: a member of the group, or the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Classic,
    Streams,
}

impl Protocol {
    /// How a dead instance is soon noticed: in the application's configuration, or in the broker's.
    fn application_config(self) -> &'static str {
        match self {
            Self::Classic => "consumer.session.timeout.ms=3000 consumer.heartbeat.interval.ms=500",
            Self::Streams => "group.protocol=streams",
        }
    }

    fn broker_config(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Classic => &[("group.min.session.timeout.ms", "1000")],
            Self::Streams => &[
                ("group.streams.min.session.timeout.ms", "3000"),
                ("group.streams.session.timeout.ms", "3000"),
                ("group.streams.min.heartbeat.interval.ms", "500"),
                ("group.streams.heartbeat.interval.ms", "500"),
                ("group.streams.num.standby.replicas", "1"),
            ],
        }
    }
}

/// On several brokers, every task has a replica on the other instance.
fn start_application(
    framework: &Framework,
    cluster: &Cluster,
    name: &str,
    guarantee: &str,
    protocol: Protocol,
) -> Program {
    let state = framework.scratch().join(name);
    let standby = match protocol {
        Protocol::Classic if cluster.nodes.len() > 1 => "num.standby.replicas=1",
        Protocol::Classic | Protocol::Streams => "",
    };
    let line = format!(
        "Application {} {} processing.guarantee={guarantee} {standby} {}",
        cluster.bootstrap(),
        state.display(),
        protocol.application_config()
    );
    framework.start(name, &line)
}

/// Two instances, one of which is killed and comes back again and again while input goes on, and a broker in between.
fn kills_while_input_goes_on(guarantee: &str, protocol: Protocol, mut cluster: Cluster) {
    let began = Instant::now();
    let framework = Framework::new("streams");
    let brokers = cluster.nodes.len();
    let replicas = i16::try_from(brokers).unwrap_or(1);
    for topic in TOPICS {
        cluster.routes().create_topic(topic, PARTITIONS, replicas, &[]);
    }
    let mut instances =
        ["first", "second"].map(|name| start_application(&framework, &cluster, name, guarantee, protocol));
    for instance in &mut instances {
        instance.await_lines("state RUNNING", 1, PATIENCE);
    }
    let lines = setting(1500, 20_000);
    let (kills, broker_kills) = setting((1, 1), (8, 3));
    let feed = format!("Feed {} {lines} {USERS} {WORDS} {LINES_PER_SECOND}", cluster.bootstrap());
    let mut feed = framework.start("feed", &feed);
    let harms = kills + broker_kills;
    let mut victims = (1..=i32::from(replicas)).cycle();
    for harm in 0..harms {
        let hundreds = (harm + 1) * lines / (harms + 1) / 100;
        feed.await_lines("fed", hundreds, PATIENCE);
        if harm % (harms / broker_kills) == 1 {
            let victim = victims.next().unwrap_or(1);
            for topic in ["lines", "counts", "__consumer_offsets"] {
                cluster.await_in_sync(topic);
            }
            cluster.kill9(victim);
            cluster.launch(victim);
        } else {
            let instance = &mut instances[harm % 2];
            instance.kill9();
            instance.launch();
        }
    }
    feed.await_lines("complete", 1, PATIENCE);
    let expected = Expected::of(lines);
    let (mut so_far, mut moved) = (0, Instant::now());
    loop {
        for instance in &mut instances {
            let ended = instance.ended();
            assert!(ended.is_none(), "an instance ended by itself: {ended:?}");
        }
        if let Some(output) = Output::read(&cluster) {
            if output.is_complete(&expected) {
                break;
            }
            if output.len() > so_far {
                (so_far, moved) = (output.len(), Instant::now());
            }
            let missing = output.missing(&expected);
            assert!(moved.elapsed() < PATIENCE, "nothing more comes out; missing: {missing}");
        }
        thread::sleep(Duration::from_millis(100));
    }
    for instance in &mut instances {
        let status = instance.terminate();
        assert_eq!(instance.count("not closed"), 0, "{status}");
    }
    let output = until("the output", PATIENCE, || Output::read(&cluster));
    output.check_at_least_once(&expected);
    if guarantee == "exactly_once_v2" {
        output.check_exactly_once(&expected);
    }
    let once = lines * 5;
    say(&format!(
        "streams {guarantee}, {protocol:?}, brokers: {brokers}: {lines} lines, {} results of {once}, {kills} kills of an instance, \
         {broker_kills} of a broker, in {:?}",
        output.len(),
        began.elapsed()
    ));
}

#[test]
fn at_least_once_loses_nothing() {
    kills_while_input_goes_on("at_least_once", Protocol::Classic, node(Protocol::Classic.broker_config()));
}

#[test]
fn at_least_once_loses_nothing_where_the_broker_assigns() {
    kills_while_input_goes_on("at_least_once", Protocol::Streams, node(Protocol::Streams.broker_config()));
}

#[test]
fn exactly_once_neither_loses_nor_repeats_where_the_broker_assigns() {
    kills_while_input_goes_on("exactly_once_v2", Protocol::Streams, node(Protocol::Streams.broker_config()));
}

#[test]
fn exactly_once_neither_loses_nor_repeats() {
    kills_while_input_goes_on("exactly_once_v2", Protocol::Classic, node(Protocol::Classic.broker_config()));
}

#[test]
fn exactly_once_over_three_brokers() {
    let layout = Layout::three(Kind::under_test(), Voters::Fixed).quick();
    let config = Protocol::Classic.broker_config().iter();
    let layout = config.fold(layout, |layout, (key, value)| layout.with(key, value));
    kills_while_input_goes_on("exactly_once_v2", Protocol::Classic, Cluster::start(layout));
}
