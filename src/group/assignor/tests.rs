//! What Kafka's assignors make of the same groups: `golden/assignment.txt`, written by `golden/Assignments.java`, and
//! `golden/simple.txt`, written by `golden/SimpleAssignments.java`.

use super::*;

const GOLDEN: &str = include_str!("golden/assignment.txt");
const GOLDEN_SIMPLE: &str = include_str!("golden/simple.txt");

fn topic(number: &str) -> Uuid {
    Uuid::from_u128(number.parse().expect("a number"))
}

fn partitions<'a>(words: impl Iterator<Item = &'a str>) -> Partitions {
    let one = |word: &str| {
        let (number, list) = word.split_once(':').expect("a topic with partitions");
        (topic(number), list.split(',').map(|text| text.parse().expect("a partition")).collect())
    };
    words.map(one).collect()
}

fn without_empty(partitions: &Partitions) -> Partitions {
    assert!(partitions.values().all(|list| !list.is_empty()), "an empty set");
    partitions.clone()
}

#[test]
fn assignments_are_those_of_kafka() {
    let mut spec = GroupSpec::default();
    let (mut groups, mut compared) = (0, 0);
    for line in GOLDEN.lines() {
        let mut words = line.split(' ');
        match words.next() {
            Some("topics") => {
                groups += 1;
                let one = |word: &str| {
                    let (number, count) = word.split_once(':').expect("a topic with a number");
                    (topic(number), count.parse().expect("a number"))
                };
                spec = GroupSpec { partitions: words.map(one).collect(), ..GroupSpec::default() };
            }
            Some("member") => {
                let id: Arc<str> = words.next().expect("an id").into();
                let instance_id = words.next().filter(|word| *word != "-").map(Into::into);
                let topics = Arc::new(words.next().expect("topics").split(',').map(topic).collect());
                let assignment = Arc::new(partitions(words));
                spec.members.insert(id, MemberSpec { instance_id, topics, assignment });
                let mut subscriptions = spec.members.values().map(|member| &member.topics);
                let first = subscriptions.next();
                spec.homogeneous = subscriptions.all(|topics| Some(topics) == first);
            }
            Some(name) => {
                let assignor = Assignor::by_name(name).expect("an assignor");
                let id = words.next().expect("a member");
                let assigned = assignor.assign(&spec);
                let mine = assigned.get(id).map(without_empty).unwrap_or_default();
                assert_eq!(mine, partitions(words), "{name} for {id} in group {groups}");
                compared += 1;
            }
            None => {}
        }
    }
    assert!(groups >= 400 && compared >= 3_000, "{groups} groups, {compared} assignments");
}

#[test]
fn share_assignments_are_those_of_kafka() {
    let (mut spec, mut assignable) = (GroupSpec::default(), Partitions::new());
    let mut compared = 0;
    for line in GOLDEN_SIMPLE.lines() {
        let mut words = line.split(' ');
        match words.next() {
            Some("topics") => {
                let one = |word: &str| {
                    let (number, count) = word.split_once(':').expect("a topic with a number");
                    (topic(number), count.parse().expect("a number"))
                };
                spec = GroupSpec { partitions: words.map(one).collect(), ..GroupSpec::default() };
            }
            Some("assignable") => assignable = partitions(words),
            Some("member") => {
                let id: Arc<str> = words.next().expect("an id").into();
                let topics = Arc::new(words.next().expect("topics").split(',').map(topic).collect());
                let assignment = Arc::new(partitions(words));
                spec.members.insert(id, MemberSpec { instance_id: None, topics, assignment });
                let mut subscriptions = spec.members.values().map(|member| &member.topics);
                let first = subscriptions.next();
                spec.homogeneous = subscriptions.all(|topics| Some(topics) == first);
            }
            Some(_) => {
                let id = words.next().expect("a member");
                let assigned = simple::assign(&spec, &assignable);
                let mine = assigned.get(id).map(without_empty).unwrap_or_default();
                assert_eq!(mine, partitions(words), "for {id} of {spec:#?}, {assignable:?}");
                compared += 1;
            }
            None => {}
        }
    }
    assert!(compared >= 3_000, "{compared} assignments");
}

#[test]
fn nobody_gets_nothing_and_a_group_without_members_too() {
    for assignor in [Assignor::Uniform, Assignor::Range] {
        assert!(assignor.assign(&GroupSpec { homogeneous: true, ..GroupSpec::default() }).is_empty());
        let mut spec = GroupSpec { homogeneous: true, ..GroupSpec::default() };
        let member = MemberSpec { instance_id: None, topics: Arc::default(), assignment: Arc::default() };
        spec.members.insert("a".into(), member);
        assert!(assignor.assign(&spec).values().all(Partitions::is_empty));
        assert_eq!(Assignor::by_name(assignor.name()), Some(assignor));
    }
    assert_eq!(Assignor::by_name("sticky"), None);
}
