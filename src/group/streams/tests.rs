//! What Kafka's classes make of the same groups and records: `golden/assignment.txt` and the bytes below, both written
//! by `golden/Streams.java`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::member::MemberState;
use super::record::{Body, CurrentAssignment, Endpoint, GroupEpoch, MemberMetadata, Own, StreamsRecord};
use super::sticky::{MemberSpec, SubtopologySpec, assign};
use super::tasks::{AssignedTasks, TaskIds, Tasks};
use super::topology::{CopartitionGroup, Subtopology, TopicInfo, Topology};
use crate::group::modern::record::TargetEpoch;
use crate::group::record::Record;

const ASSIGNMENTS: &str = include_str!("golden/assignment.txt");

fn tasks<'a>(words: impl Iterator<Item = &'a str>) -> TaskIds {
    let one = |word: &str| {
        let (id, list) = word.split_once(':').expect("tasks of a subtopology");
        (id.into(), list.split(',').map(|text| text.parse().expect("a task")).collect())
    };
    words.map(one).collect()
}

/// `<active tasks> | <standby tasks>`
fn both(text: &str) -> Tasks {
    let (active, standby) = text.split_once('|').expect("two kinds of tasks");
    let words = |text: &'_ str| tasks(text.split_whitespace());
    Tasks { active: words(active), standby: words(standby), ..Tasks::default() }
}

#[derive(Default)]
struct Group {
    members: BTreeMap<Arc<str>, MemberSpec>,
    subtopologies: Vec<SubtopologySpec>,
    standbys: usize,
    expected: BTreeMap<Arc<str>, Tasks>,
}

impl Group {
    fn check(&self, number: usize) {
        let assigned = assign(&self.members, &self.subtopologies, self.standbys);
        assert_eq!(assigned, self.expected, "group {number}");
    }
}

#[test]
fn assignments_are_those_of_kafka() {
    let (mut group, mut groups, mut compared) = (Group::default(), 0, 0);
    for line in ASSIGNMENTS.lines() {
        let (word, rest) = line.split_once(' ').expect("a word");
        let mut words = rest.split(' ');
        match word {
            "topology" => {
                group.check(groups);
                groups += 1;
                let standbys = words.next().expect("a number").parse().expect("a number");
                let subtopology = |word: &str| {
                    let mut parts = word.split(':');
                    let id = parts.next().expect("an id").into();
                    let tasks = parts.next().expect("a number").parse().expect("a number");
                    SubtopologySpec { id, tasks, is_stateful: parts.next() == Some("stateful") }
                };
                group =
                    Group { standbys, subtopologies: words.map(subtopology).collect(), ..Group::default() };
            }
            "member" => {
                let id = words.next().expect("an id").into();
                let process_id = words.next().expect("a process").into();
                let previous = Arc::new(both(&words.collect::<Vec<_>>().join(" ")));
                group.members.insert(id, MemberSpec { process_id, previous });
            }
            _ => {
                compared += 1;
                let id = words.next().expect("an id").into();
                group.expected.insert(id, both(&words.collect::<Vec<_>>().join(" ")));
            }
        }
    }
    group.check(groups);
    assert!(groups >= 250 && compared >= 1_500, "{groups} groups, {compared} assignments");
    assert!(assign(&BTreeMap::new(), &group.subtopologies, 1).is_empty());
}

fn hex(text: &str) -> Bytes {
    let digits: Vec<char> = text.chars().collect();
    let byte = |two: &[char]| u8::from_str_radix(&two.iter().collect::<String>(), 16).expect("a byte");
    digits.chunks(2).map(byte).collect()
}

const EPOCH: [&str; 2] = [
    "0011000167",
    "000000000007000000000000002a02000400000003011902156e756d2e7374616e6462792e7265706c69636173023100",
];
const EARLY_EPOCH: [&str; 2] = ["0011000167", "000000000002000000000000000000"];
const MEMBER: [&str; 2] = [
    "001300016700016d",
    "000000027202630b2f3132372e302e302e310000ea60000000030270010268c35000030261023100026202320000",
];
const PLAIN_MEMBER: [&str; 2] = ["001300016700016d", "000000000101ffffffffffffffff01ff0100"];
const TARGET_EPOCH: [&str; 2] = ["0014000167", "0000000000060100080000018bcfe56800"];
const TARGET: [&str; 2] = [
    "001500016700016d",
    "000003023003000000000000000200023102000000010002023102000000000002023002000000050000",
];
const CURRENT: [&str; 2] = [
    "001600016700016d",
    "0000000000050000000402030230030000000000000002010009030000000300000004023102000000010100050200000005020231020000\
     00000002023002000000050002023002000000010100050200000002020231030000000200000003000100",
];
const TOPOLOGY: [&str; 2] = [
    "0017000167",
    "0000000000030302300303696e056d6f72650101020472657001020300000001010100000231010204782e2a02046c6f6700000000000202\
     0f636c65616e75702e706f6c69637908636f6d7061637400000102047265700000000400000100010000",
];

fn ids(text: &str) -> TaskIds {
    tasks(text.split_whitespace())
}

fn current() -> CurrentAssignment {
    let epochs = |all: &[(&str, &[(i32, i32)])]| {
        all.iter().map(|(id, tasks)| ((*id).into(), tasks.iter().copied().collect())).collect()
    };
    let assigned = AssignedTasks {
        active: epochs(&[("0", &[(0, 3), (2, 4)]), ("1", &[(1, 5)])]),
        standby: ids("1:0"),
        warmup: ids("0:5"),
    };
    let revoking =
        AssignedTasks { active: epochs(&[("0", &[(1, 2)])]), standby: ids("1:2,3"), warmup: TaskIds::new() };
    CurrentAssignment {
        epoch: 5,
        previous_epoch: 4,
        state: MemberState::UnrevokedTasks,
        assigned: Arc::new(assigned),
        revoking: Arc::new(revoking),
    }
}

fn topology() -> Topology {
    let first = Subtopology {
        source_topics: vec!["in".into(), "more".into()],
        repartition_sink_topics: vec!["rep".into()],
        copartition_groups: vec![CopartitionGroup {
            source_topics: vec![0, 1],
            ..CopartitionGroup::default()
        }],
        ..Subtopology::default()
    };
    let second = Subtopology {
        source_topic_regex: vec!["x.*".into()],
        changelog_topics: vec![TopicInfo {
            name: "log".into(),
            partitions: 0,
            replication_factor: 2,
            configs: vec![("cleanup.policy".into(), "compact".into())],
        }],
        repartition_source_topics: vec![TopicInfo {
            name: "rep".into(),
            partitions: 4,
            ..TopicInfo::default()
        }],
        ..Subtopology::default()
    };
    Topology { epoch: 3, subtopologies: [("0".into(), first), ("1".into(), second)].into() }
}

fn bodies() -> Vec<(Body, [&'static str; 2])> {
    let pairs = |all: &[(&str, &str)]| -> BTreeMap<Arc<str>, Arc<str>> {
        all.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    };
    let epoch = GroupEpoch {
        epoch: 7,
        metadata_hash: 42,
        validated_topology_epoch: 3,
        assignment_configs: pairs(&[("num.standby.replicas", "1")]),
    };
    let early = GroupEpoch {
        epoch: 2,
        metadata_hash: 0,
        validated_topology_epoch: -1,
        assignment_configs: pairs(&[]),
    };
    let member = MemberMetadata {
        rack_id: Some("r".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        topology_epoch: 3,
        process_id: "p".into(),
        user_endpoint: Some(Endpoint { host: "h".into(), port: 50_000 }),
        client_tags: pairs(&[("a", "1"), ("b", "2")]),
        ..MemberMetadata::default()
    };
    let plain = MemberMetadata { rebalance_timeout_ms: -1, topology_epoch: -1, ..MemberMetadata::default() };
    let target = Tasks { active: ids("0:0,2 1:1"), standby: ids("1:0"), warmup: ids("0:5") };
    let target_epoch = TargetEpoch { epoch: 6, assigned_at_ms: 1_700_000_000_000 };
    let member_id = || "m".into();
    vec![
        (Body::Epoch(Some(epoch)), EPOCH),
        (Body::Epoch(Some(early)), EARLY_EPOCH),
        (Body::Member { member_id: member_id(), value: Some(member) }, MEMBER),
        (Body::Member { member_id: member_id(), value: Some(plain) }, PLAIN_MEMBER),
        (Body::TargetEpoch(Some(target_epoch)), TARGET_EPOCH),
        (Body::Target { member_id: member_id(), value: Some(Arc::new(target)) }, TARGET),
        (Body::Current { member_id: member_id(), value: Some(current()) }, CURRENT),
        (Body::Own(Own::Topology(Some(Arc::new(topology())))), TOPOLOGY),
    ]
}

#[test]
fn records_are_written_as_kafka_writes_them_and_come_back() {
    for (body, [key, value]) in bodies() {
        let record = Record::Streams(StreamsRecord { group_id: "g".into(), body });
        let (key, value) = (hex(key), hex(value));
        assert_eq!(record.encode(), Ok((key.clone(), Some(value.clone()))), "{record:?}");
        assert_eq!(Record::decode(key.clone(), Some(value.clone())), Ok(Some(record)));
        for end in 0..value.len() {
            assert!(Record::decode(key.clone(), Some(value.slice(..end))).is_err());
        }
        let gone = Record::decode(key.clone(), None);
        let Ok(Some(Record::Streams(gone))) = gone else { panic!("{gone:?}") };
        assert!(gone.is_tombstone());
        assert_eq!(gone.encode(), Ok((key, None)));
    }
}

#[test]
fn tasks_without_epochs_count_from_the_members_own() {
    // As brokers before 4.3 wrote it: no epochs of tasks.
    let value = "000000000005000000040102023003000000000000000200010101010100";
    let decoded = Record::decode(hex(CURRENT[0]), Some(hex(value)));
    let Ok(Some(Record::Streams(StreamsRecord { body: Body::Current { value: Some(current), .. }, .. }))) =
        decoded
    else {
        panic!("{decoded:?}")
    };
    assert_eq!((current.epoch, current.state), (5, MemberState::Stable));
    assert_eq!(current.assigned.active.get("0"), Some(&[(0, 5), (2, 5)].into()));
}
