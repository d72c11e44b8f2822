//! A cluster of several brokers, decision by decision.

#![expect(clippy::unwrap_used, reason = "a test")]

use uuid::Uuid;

use super::features::ELR_VERSION;
use super::tests::{Model, registration};
use super::{
    SoftState, brokers, configs, elections, features, next_deadline_ms, partitions, reassignments, tick,
    topics,
};
use crate::config::dynamic::ConfigOp;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::{
    ConfigChange, ElectionType, FeatureUpdate, Heartbeat, HeartbeatReply, IsrChange, NewTopic,
    PartitionQuota, Placed, Reassignment, Registration, UpgradeType,
};
use crate::metadata::image::{ConfigResource, LOST, METADATA_VERSION, PartitionImage, UNASSIGNED};
use crate::types::NodeId;

const SESSION_MS: i64 = 9_000;

fn beat(model: &Model, broker_id: NodeId) -> Heartbeat {
    Heartbeat {
        broker_id,
        broker_epoch: model.image.brokers[&broker_id].epoch,
        metadata_offset: model.image.offset,
        want_fence: false,
        want_shut_down: false,
        offline_log_dirs: Vec::new(),
        cordoned_log_dirs: None,
    }
}

fn send(model: &mut Model, heartbeat: &Heartbeat) -> HeartbeatReply {
    model.run(|context| brokers::heartbeat(context, heartbeat)).unwrap()
}

/// A topic `t` whose partition 0 has these replicas.
fn with_topic(model: &mut Model, replicas: &[NodeId], min_isr: i32) -> Uuid {
    let topic = NewTopic {
        assignments: vec![(0, replicas.to_vec())],
        configs: vec![("min.insync.replicas".to_owned(), Some(min_isr.to_string()))],
        ..NewTopic::with_defaults("t")
    };
    model
        .run(|context| topics::create(context, &[topic], false, &PartitionQuota::NONE))
        .remove(0)
        .unwrap()
        .topic_id
}

fn partition(model: &Model) -> PartitionImage {
    model.image.topics.get("t").unwrap().partition(0).unwrap().clone()
}

/// The leader asks for this ISR, with the epochs that brokers have.
fn alter(model: &mut Model, isr: &[NodeId]) -> Result<(), ErrorCode> {
    let now = partition(model);
    let epoch = |id: &NodeId| model.image.brokers.get(id).map_or(-1, |broker| broker.epoch);
    let change = IsrChange {
        topic_id: model.image.topics.get("t").unwrap().id,
        partition: 0,
        leader_epoch: now.leader_epoch,
        partition_epoch: now.partition_epoch,
        isr: isr.iter().map(|id| (*id, epoch(id))).collect(),
        recovering: false,
    };
    let leader_epoch = epoch(&now.leader);
    let altered = model.run(|context| partitions::alter(context, now.leader, leader_epoch, &[change]));
    altered.unwrap().remove(0).map(drop).map_err(|error| error.code)
}

fn fence(model: &mut Model, id: NodeId) {
    let heartbeat = Heartbeat { want_fence: true, ..beat(model, id) };
    assert!(send(model, &heartbeat).is_fenced);
}

fn set(model: &mut Model, resource: ConfigResource, key: &str, op: ConfigOp) -> Result<(), ApiError> {
    let change = ConfigChange { resource, changes: vec![(key.to_owned(), op)] };
    model.run(|context| configs::alter_incrementally(context, &[change], false)).remove(0)
}

fn upgrade(model: &mut Model, name: &str, level: i16) -> Result<(), ApiError> {
    let update = FeatureUpdate { name: name.to_owned(), level, upgrade_type: UpgradeType::Upgrade };
    model.run(|context| features::update(context, &[update], false))
}

fn run_until(model: &mut Model, end_ms: i64) {
    while let Some(due_ms) = next_deadline_ms(&model.image, &model.soft).filter(|due_ms| *due_ms <= end_ms) {
        model.now_ms = model.now_ms.max(due_ms);
        model.run(tick);
    }
    model.now_ms = end_ms;
}

#[test]
fn a_broker_is_unfenced_once_it_has_seen_itself() {
    let mut model = Model::with_brokers(&[1]);
    let epoch = model.run(|context| brokers::register(context, &registration(2, 1))).unwrap();
    let behind = Heartbeat { metadata_offset: model.image.offset - 1, ..beat(&model, 2) };
    let reply = send(&mut model, &behind);
    assert_eq!(reply, HeartbeatReply { is_caught_up: false, is_fenced: true, should_shut_down: false });
    let waiting = Heartbeat { want_fence: true, ..beat(&model, 2) };
    assert!(send(&mut model, &waiting).is_fenced, "it does not want to yet");
    let ready = beat(&model, 2);
    let reply = send(&mut model, &ready);
    assert_eq!(reply, HeartbeatReply { is_caught_up: true, is_fenced: false, should_shut_down: false });
    assert!(model.image.active_broker(2).is_some());
    let stale = Heartbeat { broker_epoch: epoch - 1, ..ready };
    let refused = model.run(|context| brokers::heartbeat(context, &stale)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch);
}

#[test]
fn another_life_waits_until_the_session_of_the_last_one_ends() {
    let mut model = Model::with_brokers(&[1, 2]);
    let heartbeat = beat(&model, 2);
    send(&mut model, &heartbeat);
    let again = |model: &mut Model| model.run(|context| brokers::register(context, &registration(2, 2)));
    model.now_ms = SESSION_MS;
    assert_eq!(again(&mut model).unwrap_err().code, ErrorCode::DuplicateBrokerRegistration);
    let same = model.run(|context| brokers::register(context, &registration(2, 1))).unwrap();
    assert_eq!(same, heartbeat.broker_epoch, "the same life may register again");
    model.now_ms += 1;
    assert!(again(&mut model).unwrap() > same);
}

#[test]
fn a_broker_whose_connection_closed_may_come_again_and_is_fenced_where_nobody_listens() {
    let mut model = Model::with_brokers(&[1, 2]);
    with_topic(&mut model, &[2, 1], 1);
    let heartbeat = beat(&model, 2);
    send(&mut model, &heartbeat);
    let epoch = heartbeat.broker_epoch;
    model.run(|context| brokers::gone(context, 2, epoch));
    assert_eq!(partition(&model).leader, 2, "its connection is there");
    assert!(model.run(|context| brokers::disconnected(context, 2, epoch)));
    send(&mut model, &heartbeat);
    model.run(|context| brokers::gone(context, 2, epoch));
    assert_eq!(partition(&model).leader, 2, "it came back");
    assert!(model.run(|context| brokers::disconnected(context, 2, epoch)));
    model.run(|context| brokers::gone(context, 2, epoch));
    assert!(model.image.brokers[&2].fenced);
    assert_eq!(partition(&model).leader, 1);
    assert!(!model.run(|context| brokers::disconnected(context, 2, epoch)));
    assert!(model.run(|context| brokers::register(context, &registration(2, 2))).is_ok());
}

#[test]
fn silent_brokers_are_fenced_one_after_the_other() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    with_topic(&mut model, &[2, 3, 1], 1);
    for id in [1, 2, 3] {
        let heartbeat = beat(&model, id);
        send(&mut model, &heartbeat);
    }
    model.now_ms = 4_000;
    let heartbeat = beat(&model, 1);
    send(&mut model, &heartbeat);
    run_until(&mut model, SESSION_MS);
    assert_eq!(partition(&model).leader, 2, "it is not time yet");
    run_until(&mut model, SESSION_MS + 1);
    assert!(model.image.brokers[&2].fenced && model.image.brokers[&3].fenced);
    assert_eq!((partition(&model).leader, partition(&model).isr), (1, vec![1]));
    assert!(model.image.active_broker(1).is_some());
}

#[test]
fn a_new_controller_fences_who_is_gone_and_lets_a_new_life_in() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    with_topic(&mut model, &[2, 3, 1], 1);
    model.now_ms = 100_000;
    model.soft = SoftState::activate(&model.image, &model.settings, model.now_ms);
    let epoch = model.image.brokers[&2].epoch;
    model.run(|context| brokers::gone(context, 2, epoch));
    assert!(model.image.brokers[&2].fenced, "nobody listens");
    assert_eq!(partition(&model).leader, 3);
    assert!(model.run(|context| brokers::register(context, &registration(3, 2))).is_ok());
    let heartbeat = beat(&model, 3);
    send(&mut model, &heartbeat);
    run_until(&mut model, 100_000 + SESSION_MS + 1);
    assert!(model.image.brokers[&1].fenced, "it was not heard of since");
}

#[test]
fn a_controller_that_was_suspended_gives_brokers_time() {
    let mut model = Model::with_brokers(&[1, 2]);
    let heartbeat = beat(&model, 2);
    send(&mut model, &heartbeat);
    model.soft.heartbeats.in_process(1, model.image.brokers[&1].epoch);
    model.now_ms = 60_000;
    model.run(tick);
    assert!(model.image.active_broker(2).is_some());
    run_until(&mut model, 60_000 + SESSION_MS / 2 + 1);
    assert!(model.image.brokers[&2].fenced, "it had half a session");
    model.now_ms = 600_000;
    model.run(tick);
    assert!(model.image.active_broker(1).is_some(), "who runs in this process is never silent");
}

#[test]
fn a_broker_stops_once_its_leaderships_are_elsewhere_and_everybody_knows() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    with_topic(&mut model, &[2, 3], 1);
    for id in [1, 3] {
        let heartbeat = beat(&model, id);
        send(&mut model, &heartbeat);
    }
    let want = |model: &Model| Heartbeat { want_shut_down: true, ..beat(model, 2) };
    let heartbeat = want(&model);
    let reply = send(&mut model, &heartbeat);
    assert!(!reply.is_fenced && !reply.should_shut_down);
    assert!(model.image.brokers[&2].in_controlled_shutdown);
    assert_eq!((partition(&model).leader, partition(&model).isr), (3, vec![3]));
    let heartbeat = want(&model);
    assert!(!send(&mut model, &heartbeat).should_shut_down, "nobody has seen it");
    for id in [1, 3] {
        let heartbeat = beat(&model, id);
        send(&mut model, &heartbeat);
    }
    let heartbeat = want(&model);
    let reply = send(&mut model, &heartbeat);
    assert!(reply.should_shut_down && reply.is_fenced && model.image.brokers[&2].fenced);
}

#[test]
fn a_broker_without_leaderships_or_the_last_one_stops_at_once() {
    let mut model = Model::with_brokers(&[1, 2]);
    with_topic(&mut model, &[1, 2], 1);
    let heartbeat = Heartbeat { want_shut_down: true, ..beat(&model, 2) };
    assert!(send(&mut model, &heartbeat).should_shut_down);
    let heartbeat = Heartbeat { want_shut_down: true, ..beat(&model, 1) };
    assert!(!send(&mut model, &heartbeat).should_shut_down);
    let heartbeat = Heartbeat { want_shut_down: true, ..beat(&model, 1) };
    assert!(send(&mut model, &heartbeat).should_shut_down, "there is nobody to wait for");
    assert_eq!(partition(&model).leader, -1);
}

#[test]
fn a_reassignment_ends_when_what_it_adds_is_in_sync() {
    let mut model = Model::with_brokers(&[1, 2, 3, 4]);
    with_topic(&mut model, &[1, 2], 1);
    let reassign = |model: &mut Model, replicas: Option<&[NodeId]>, allow: bool| {
        let replicas = replicas.map(<[NodeId]>::to_vec);
        let wanted = Reassignment { topic: "t".to_owned(), partition: 0, replicas };
        let results = model.run(|context| reassignments::alter(context, &[wanted], allow));
        results.into_iter().next().unwrap().map_err(|error| error.code)
    };
    assert_eq!(reassign(&mut model, None, true), Err(ErrorCode::NoReassignmentInProgress));
    assert_eq!(reassign(&mut model, Some(&[]), true), Err(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(reassign(&mut model, Some(&[9]), true), Err(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(reassign(&mut model, Some(&[3]), false), Err(ErrorCode::InvalidReplicationFactor));
    assert_eq!(reassign(&mut model, Some(&[3, 4]), false), Ok(()));
    let now = partition(&model);
    assert_eq!(
        (now.replicas, now.adding_replicas, now.removing_replicas),
        (vec![3, 4, 1, 2], vec![3, 4], vec![1, 2])
    );
    assert_eq!((now.leader, now.isr), (1, vec![1, 2]));
    assert_eq!(reassign(&mut model, Some(&[3]), false), Err(ErrorCode::InvalidReplicationFactor));
    assert_eq!(alter(&mut model, &[1, 2, 3]), Ok(()));
    assert!(partition(&model).is_reassigning());
    assert_eq!(alter(&mut model, &[1, 2, 3, 4]), Err(ErrorCode::NewLeaderElected));
    let now = partition(&model);
    assert_eq!((now.replicas.as_slice(), now.isr.as_slice(), now.leader), (&[3, 4][..], &[3, 4][..], 3));
    assert!(!now.is_reassigning());
    let directory = |id| model.image.brokers[&id].log_dirs[0];
    assert_eq!(now.directories, [directory(3), directory(4)]);

    assert_eq!(reassign(&mut model, Some(&[3, 4, 1]), true), Ok(()));
    assert_eq!(reassign(&mut model, Some(&[4, 3, 2]), true), Ok(()), "another one takes its place");
    let now = partition(&model);
    assert_eq!((now.replicas.as_slice(), now.adding_replicas.as_slice()), (&[4, 3, 2][..], &[2][..]));
    assert_eq!(now.leader, 3);
    assert_eq!(reassign(&mut model, None, true), Ok(()));
    let now = partition(&model);
    assert_eq!((now.replicas.as_slice(), now.is_reassigning()), (&[4, 3][..], false));
    assert_eq!(reassign(&mut model, Some(&[3]), true), Ok(()), "less needs nobody to catch up");
    assert_eq!((partition(&model).replicas, partition(&model).isr), (vec![3], vec![3]));
}

#[test]
fn isr_changes_are_checked() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    let topic_id = with_topic(&mut model, &[1, 2, 3], 1);
    fence(&mut model, 3);
    let now = partition(&model);
    assert_eq!((now.leader, now.isr), (1, vec![1, 2]));
    let (epoch, second) = (model.image.brokers[&1].epoch, model.image.brokers[&2].epoch);
    let good = IsrChange {
        topic_id,
        partition: 0,
        leader_epoch: now.leader_epoch,
        partition_epoch: now.partition_epoch,
        isr: vec![(1, epoch)],
        recovering: false,
    };
    let change = |change: &dyn Fn(&mut IsrChange)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let cases = [
        (change(&|c| c.topic_id = Uuid::from_u128(9)), ErrorCode::UnknownTopicId),
        (change(&|c| c.partition = 1), ErrorCode::UnknownTopicOrPartition),
        (change(&|c| c.leader_epoch += 1), ErrorCode::NotController),
        (change(&|c| c.partition_epoch += 1), ErrorCode::NotController),
        (change(&|c| c.leader_epoch -= 1), ErrorCode::FencedLeaderEpoch),
        (change(&|c| c.partition_epoch -= 1), ErrorCode::InvalidUpdateVersion),
        (change(&|c| c.isr = vec![(2, second)]), ErrorCode::InvalidRequest),
        (change(&|c| c.isr = vec![(1, epoch), (1, epoch)]), ErrorCode::InvalidRequest),
        (change(&|c| c.isr.push((9, -1))), ErrorCode::InvalidRequest),
        (change(&|c| c.recovering = true), ErrorCode::InvalidRequest),
        (change(&|c| c.isr.push((3, -1))), ErrorCode::IneligibleReplica),
        (change(&|c| c.isr.push((2, second + 1))), ErrorCode::IneligibleReplica),
    ];
    for (change, expected) in cases {
        let altered =
            model.run(|context| partitions::alter(context, 1, epoch, std::slice::from_ref(&change)));
        assert_eq!(altered.unwrap()[0].as_ref().unwrap_err().code, expected, "{change:?}");
    }
    let other = model.run(|context| partitions::alter(context, 2, second, std::slice::from_ref(&good)));
    assert_eq!(other.unwrap()[0].as_ref().unwrap_err().code, ErrorCode::InvalidRequest);
    let stale = model.run(|context| partitions::alter(context, 1, epoch + 1, std::slice::from_ref(&good)));
    assert_eq!(stale.unwrap_err().code, ErrorCode::StaleBrokerEpoch);
    let altered =
        model.run(|context| partitions::alter(context, 1, epoch, &[good])).unwrap().remove(0).unwrap();
    assert_eq!(
        (altered.isr, altered.leader_epoch, altered.partition_epoch),
        (vec![1], 0, now.partition_epoch + 1)
    );
}

#[test]
fn elections_are_held_where_they_are_needed_and_possible() {
    let mut model = Model::with_brokers(&[1, 2]);
    with_topic(&mut model, &[1, 2], 1);
    let elect = |model: &mut Model, kind, number| {
        let wanted = [("t".to_owned(), number)];
        let results = model.run(|context| elections::elect(context, kind, &wanted));
        results.into_iter().next().unwrap().map_err(|error| error.code)
    };
    use ElectionType::{Preferred, Unclean};
    assert_eq!(elect(&mut model, Preferred, 0), Err(ErrorCode::ElectionNotNeeded));
    assert_eq!(elect(&mut model, Unclean, 0), Err(ErrorCode::ElectionNotNeeded));
    assert_eq!(elect(&mut model, Preferred, 1), Err(ErrorCode::UnknownTopicOrPartition));
    fence(&mut model, 1);
    assert_eq!(partition(&model).leader, 2);
    assert_eq!(elect(&mut model, Preferred, 0), Err(ErrorCode::PreferredLeaderNotAvailable));
    let heartbeat = beat(&model, 1);
    send(&mut model, &heartbeat);
    assert_eq!(partition(&model).leader, 2, "it is not in sync");
    assert_eq!(alter(&mut model, &[1, 2]), Ok(()));
    assert_eq!(elect(&mut model, Preferred, 0), Ok(()));
    assert_eq!(partition(&model).leader, 1);

    assert_eq!(alter(&mut model, &[1]), Ok(()));
    fence(&mut model, 1);
    let now = partition(&model);
    assert_eq!((now.leader, now.isr, now.elr), (-1, vec![], vec![1]));
    assert_eq!(elect(&mut model, Unclean, 0), Ok(()));
    let now = partition(&model);
    assert_eq!((now.leader, now.isr, now.elr, now.recovering), (2, vec![2], vec![], true));
}

#[test]
fn leaderships_go_back_to_preferred_replicas() {
    let mut model = Model::with_brokers(&[1, 2]);
    with_topic(&mut model, &[1, 2], 1);
    fence(&mut model, 1);
    let heartbeat = beat(&model, 1);
    send(&mut model, &heartbeat);
    assert_eq!(alter(&mut model, &[1, 2]), Ok(()));
    for id in [1, 2] {
        model.soft.heartbeats.in_process(id, model.image.brokers[&id].epoch);
    }
    run_until(&mut model, 299_999);
    assert_eq!(partition(&model).leader, 2);
    run_until(&mut model, 300_000);
    assert_eq!(partition(&model).leader, 1);
}

#[test]
fn unclean_elections_happen_as_soon_as_they_are_allowed() {
    let mut model = Model::with_brokers(&[1, 2]);
    with_topic(&mut model, &[1, 2], 1);
    assert_eq!(alter(&mut model, &[1]), Ok(()));
    fence(&mut model, 1);
    assert_eq!(partition(&model).leader, -1);
    let allow = ConfigOp::Set("true".to_owned());
    set(&mut model, ConfigResource::topic("t"), "unclean.leader.election.enable", allow).unwrap();
    run_until(&mut model, 0);
    assert_eq!((partition(&model).leader, partition(&model).recovering), (2, true));
    assert_eq!(alter(&mut model, &[2]), Ok(()), "the leader has recovered");
    assert!(!partition(&model).recovering);
}

#[test]
fn eligible_replicas_stay_until_the_isr_is_large_enough() {
    let mut model = Model::with_brokers(&[1, 2, 3]);
    with_topic(&mut model, &[1, 2, 3], 2);
    fence(&mut model, 3);
    assert_eq!((partition(&model).isr, partition(&model).elr), (vec![1, 2], vec![]));
    fence(&mut model, 2);
    assert_eq!((partition(&model).isr, partition(&model).elr), (vec![1], vec![2]));
    fence(&mut model, 1);
    let now = partition(&model);
    assert_eq!((now.leader, now.isr, now.elr, now.last_known_elr), (-1, vec![], vec![1, 2], vec![1]));
    let heartbeat = beat(&model, 3);
    send(&mut model, &heartbeat);
    assert_eq!(partition(&model).leader, -1, "it may lack something");
    let heartbeat = beat(&model, 2);
    send(&mut model, &heartbeat);
    let now = partition(&model);
    assert_eq!((now.leader, now.isr, now.elr, now.recovering), (2, vec![2], vec![1], false));
    assert!(now.last_known_elr.is_empty());
    let lost = model.run(|context| brokers::register(context, &registration(1, 2)));
    assert!(lost.is_ok());
    assert!(partition(&model).elr.is_empty(), "a machine that failed may have lost what it had");
    assert_eq!(alter(&mut model, &[2, 3]), Ok(()));
    assert_eq!((partition(&model).isr, partition(&model).elr), (vec![2, 3], vec![]));
}

#[test]
fn with_eligible_replicas_there_is_one_min_isr() {
    let mut model = Model::with_brokers(&[1, 2]);
    let key = "min.insync.replicas";
    let two = || ConfigOp::Set("2".to_owned());
    let refused = [(ConfigResource::broker(1), two()), (ConfigResource::cluster(), ConfigOp::Delete)];
    for (resource, op) in refused.clone() {
        assert_eq!(set(&mut model, resource, key, op).unwrap_err().code, ErrorCode::InvalidConfig);
    }
    with_topic(&mut model, &[1, 2], 2);
    fence(&mut model, 2);
    assert_eq!(partition(&model).elr, [2]);
    set(&mut model, ConfigResource::topic("t"), key, two()).unwrap();
    assert_eq!(partition(&model).elr, [2], "nothing changed");
    set(&mut model, ConfigResource::topic("t"), key, ConfigOp::Set("1".to_owned())).unwrap();
    assert!(partition(&model).elr.is_empty());

    model.feature(ELR_VERSION, 0);
    for (resource, op) in refused {
        set(&mut model, resource, key, op).unwrap();
    }
    model.feature(METADATA_VERSION, 22);
    assert_eq!(upgrade(&mut model, ELR_VERSION, 1).unwrap_err().code, ErrorCode::InvalidUpdateVersion);
    model.feature(METADATA_VERSION, 23);
    upgrade(&mut model, ELR_VERSION, 1).unwrap();
    assert!(model.image.config(&ConfigResource::broker(1)).is_none());
    assert_eq!(model.image.config(&ConfigResource::cluster()).unwrap()[key], "1");
}

#[test]
fn directories_fail_are_cordoned_and_get_replicas() {
    let mut model = Model::with_brokers(&[1]);
    let directories = [Uuid::from_u128(201), Uuid::from_u128(202)];
    let two = Registration { log_dirs: directories.to_vec(), ..registration(2, 1) };
    model.run(|context| brokers::register(context, &two)).unwrap();
    let heartbeat = beat(&model, 2);
    send(&mut model, &heartbeat);
    let topic_id = with_topic(&mut model, &[2, 1], 1);
    assert_eq!(partition(&model).directories[0], UNASSIGNED);
    let epoch = model.image.brokers[&2].epoch;
    let assign = |model: &mut Model, directory, partition| {
        let placed = Placed { directory, topic_id, partition };
        let reply = model.run(|context| partitions::assign_directories(context, 2, epoch, &[placed]));
        reply.unwrap().remove(0).map_err(|error| error.code)
    };
    assert_eq!(assign(&mut model, directories[0], 0), Ok(()));
    assert_eq!(assign(&mut model, directories[0], 1), Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!((partition(&model).directories[0], partition(&model).leader), (directories[0], 2));

    let cordoned = Heartbeat { cordoned_log_dirs: Some(directories.to_vec()), ..beat(&model, 2) };
    send(&mut model, &cordoned);
    let placed = NewTopic { partitions: 1, replication_factor: 2, ..NewTopic::with_defaults("u") };
    let refused = model
        .run(|context| topics::create(context, &[placed], false, &PartitionQuota::NONE))
        .remove(0)
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidReplicationFactor);

    let failed = Heartbeat { offline_log_dirs: vec![directories[0]], ..beat(&model, 2) };
    send(&mut model, &failed);
    assert_eq!(model.image.brokers[&2].log_dirs, [directories[1]]);
    assert_eq!((partition(&model).leader, partition(&model).isr), (1, vec![1]));
    let wanted = [("t".to_owned(), 0)];
    let elected = model.run(|context| elections::elect(context, ElectionType::Preferred, &wanted));
    assert_eq!(elected[0].as_ref().unwrap_err().code, ErrorCode::PreferredLeaderNotAvailable);
    assert_eq!(assign(&mut model, directories[1], 0), Ok(()));
    assert_eq!(alter(&mut model, &[2, 1]), Ok(()));
    assert_eq!(assign(&mut model, LOST, 0), Ok(()), "a directory that is gone");
    assert_eq!(partition(&model).isr, [1]);
}

#[test]
fn a_broker_that_is_unregistered_leads_nothing() {
    let mut model = Model::with_brokers(&[1, 2]);
    with_topic(&mut model, &[2, 1], 1);
    model.run(|context| brokers::unregister(context, 2)).unwrap();
    assert!(model.image.brokers.get(&2).is_none());
    assert_eq!((partition(&model).leader, partition(&model).isr), (1, vec![1]));
    let again = model.run(|context| brokers::unregister(context, 2)).unwrap_err();
    assert_eq!(again.code, ErrorCode::BrokerIdNotRegistered);
    assert_eq!(next_deadline_ms(&model.image, &model.soft), None, "nobody is left to wait for");
}
