//! Nodes that talk to one another.

#![expect(clippy::unwrap_used, reason = "a test")]

use super::super::voters::Voters;
use super::InitialVoters;
use super::message::{AddVoterRequest, Event, Request, Response, RoleName, UpgradeRequest};
use super::world::{World, voter, voters};
use crate::error::ErrorCode;
use crate::types::NodeId;

fn settled(count: NodeId) -> (World, NodeId) {
    let mut world = World::of(count);
    assert!(world.run_until(10_000, World::agrees), "a leader is elected:\n{}", world.trace.join("\n"));
    let leader = world.leader().unwrap();
    (world, leader)
}

fn other(world: &World, leader: NodeId) -> NodeId {
    *world.nodes.keys().find(|id| **id != leader).unwrap()
}

#[test]
fn the_only_voter_leads_at_once() {
    let world = World::of(1);
    assert_eq!((world.leader(), world.core(1).epoch(), world.nodes[&1].committed), (Some(1), 1, 3));
    assert!(world.core(1).deadline().is_none(), "nothing is to be done");
}

#[test]
fn voters_elect_one_and_follow_it() {
    for count in [2, 3, 5] {
        let (mut world, leader) = settled(count);
        world.append(leader, "a");
        world.append(leader, "b");
        assert!(world.run_until(1_000, World::agrees));
        for node in world.nodes.values() {
            assert_eq!(node.disk.values(node.committed), ["a", "b"]);
        }
        let epoch = world.core(leader).epoch();
        world.run(60_000);
        assert_eq!((world.leader(), world.core(leader).epoch()), (Some(leader), epoch), "it stays");
    }
}

#[test]
fn another_leads_when_the_leader_is_gone() {
    let (mut world, leader) = settled(3);
    world.append(leader, "a");
    assert!(world.run_until(1_000, World::agrees));
    world.kill(leader);
    assert!(world.run_until(10_000, |world| world.agrees()));
    let next = world.leader().unwrap();
    assert_ne!(next, leader);
    world.append(next, "b");
    world.start(leader);
    assert!(world.run_until(10_000, World::agrees));
    for node in world.nodes.values() {
        assert_eq!(node.disk.values(node.committed), ["a", "b"]);
    }
}

#[test]
fn what_only_the_old_leader_has_is_cut() {
    let (mut world, leader) = settled(3);
    let others: Vec<NodeId> = world.nodes.keys().copied().filter(|id| *id != leader).collect();
    for id in &others {
        world.cut.extend([(leader, *id), (*id, leader)]);
    }
    world.append(leader, "lost");
    assert!(world.run_until(20_000, |world| world.leader().is_some_and(|id| id != leader)));
    world.run(5_000);
    assert_ne!(world.core(leader).role_name(), RoleName::Leader, "it does not lead what it can not reach");
    let next = world.leader().unwrap();
    world.append(next, "kept");
    world.cut.clear();
    assert!(world.run_until(20_000, World::agrees));
    for node in world.nodes.values() {
        assert_eq!(node.disk.values(node.committed), ["kept"]);
    }
}

#[test]
fn who_is_cut_off_does_not_disturb_the_others() {
    let (mut world, leader) = settled(3);
    let lonely = other(&world, leader);
    let epoch = world.core(leader).epoch();
    for id in 1..=3 {
        world.cut.extend([(lonely, id), (id, lonely)]);
    }
    world.run(30_000);
    world.cut.clear();
    assert!(world.run_until(10_000, World::agrees));
    assert_eq!((world.leader(), world.core(leader).epoch()), (Some(leader), epoch), "nobody voted for it");
}

#[test]
fn who_does_not_know_pre_votes_is_asked_for_a_vote() {
    let mut world = World::of(3);
    world.no_pre_vote = vec![1, 2, 3];
    assert!(world.run_until(20_000, World::agrees));
}

#[test]
fn a_leader_that_stops_makes_room_for_the_best() {
    let (mut world, leader) = settled(3);
    let behind = other(&world, leader);
    let best = (1..=3).find(|id| ![leader, behind].contains(id)).unwrap();
    world.cut.extend([(leader, behind), (behind, leader)]);
    world.append(leader, "a");
    world.run(100);
    world.cut.clear();
    let before_ms = world.now_ms;
    world.step(leader, Event::Shutdown);
    assert!(world.run_until(5_000, |world| world.leader() == Some(best)));
    assert!(world.now_ms - before_ms < 100, "nobody waited for a timeout");
    assert!(world.core(leader).can_stop());
}

#[test]
fn an_observer_follows_and_becomes_a_voter() {
    let (mut world, leader) = settled(1);
    world.append(leader, "a");
    world.add(2, InitialVoters::Unknown);
    world.nodes.get_mut(&2).unwrap().config.bootstrap = vec![("h".to_owned(), 1)];
    world.start(2);
    assert!(world.run_until(5_000, World::agrees));
    assert_eq!(world.core(2).role_name(), RoleName::Observer);
    assert_eq!(world.core(2).membership().voters(), &voters(&[1]));
    let add = |id| Request::AddVoter(AddVoterRequest { voter: voter(id), ack_when_committed: true });
    let token = world.ask(1, add(2));
    let second = world.ask(1, add(3));
    assert!(world.run_until(5_000, |world| world.answer(token).is_some() && world.agrees()));
    assert_eq!(world.answer(token), Some(&Response::AddVoter(Ok(()))));
    let Some(Response::AddVoter(Err((code, _)))) = world.answer(second) else { panic!("one at a time") };
    assert_eq!(*code, ErrorCode::RequestTimedOut);
    assert_eq!(world.core(2).role_name(), RoleName::Follower);
    // Who leads is removed: it leads until that is committed.
    let token = world.ask(1, Request::RemoveVoter(voter(1).key));
    assert!(world.run_until(10_000, |world| world.leader() == Some(2) && world.agrees()));
    assert_eq!(world.answer(token), Some(&Response::RemoveVoter(Ok(()))));
    assert_eq!(world.core(1).role_name(), RoleName::Observer);
}

#[test]
fn a_controller_joins_by_itself_and_replaces_its_older_self() {
    let (mut world, leader) = settled(3);
    let wiped = other(&world, leader);
    world.kill(wiped);
    let node = world.nodes.get_mut(&wiped).unwrap();
    node.disk = super::world::Disk::default();
    node.committed = 0;
    node.config.local.key.directory_id = uuid::Uuid::from_u128(77);
    node.config.initial_voters = InitialVoters::Unknown;
    node.config.auto_join = true;
    node.config.bootstrap = (1..=3).map(|id| ("h".to_owned(), id)).collect();
    world.start(wiped);
    let joined = |world: &World| world.agrees() && world.core(wiped).role_name() == RoleName::Follower;
    assert!(world.run_until(30_000, joined), "{}", world.trace.join("\n"));
    assert_eq!(world.core(leader).membership().voters().0.len(), 3);
}

#[test]
fn fixed_voters_get_into_the_log_with_the_upgrade() {
    let addresses = |id: NodeId| (id, "h".to_owned(), u16::try_from(id).unwrap());
    let fixed = Voters::fixed("C", (1..=3).map(addresses));
    let nodes: Vec<_> = (1..=3).map(|id| (id, InitialVoters::Fixed(fixed.clone()))).collect();
    let mut world = World::with(&nodes);
    assert!(world.run_until(10_000, World::agrees));
    let leader = world.leader().unwrap();
    assert_eq!(world.core(leader).membership().voters_offset(), None);
    let token = world.ask(leader, Request::RemoveVoter(voter(1).key));
    assert!(matches!(
        world.answer(token),
        Some(Response::RemoveVoter(Err((ErrorCode::UnsupportedVersion, _))))
    ));
    let upgrade = |world: &World| {
        let epoch = world.core(leader).epoch();
        Request::UpgradeKraftVersion(UpgradeRequest { epoch, level: 1, validate_only: false })
    };
    let request = upgrade(&world);
    let token = world.ask(leader, request);
    assert!(
        matches!(world.answer(token), Some(Response::UpgradeKraftVersion(Err(_)))),
        "voters are not known"
    );
    world.run(5_000);
    let request = upgrade(&world);
    let token = world.ask(leader, request);
    assert_eq!(world.answer(token), Some(&Response::UpgradeKraftVersion(Ok(()))));
    assert!(world.run_until(5_000, World::agrees));
    for id in 1..=3 {
        let membership = world.core(id).membership();
        assert_eq!((membership.level(), membership.voters()), (1, &voters(&[1, 2, 3])));
    }
}

#[test]
fn who_is_far_behind_takes_the_snapshot() {
    let (mut world, leader) = settled(3);
    let behind = other(&world, leader);
    world.kill(behind);
    for value in ["a", "b", "c"] {
        world.append(leader, value);
        world.run(100);
        world.snapshot(leader);
    }
    world.append(leader, "d");
    world.run(100);
    assert!(world.core(leader).log().start > 0, "the log of the older snapshots is gone");
    world.nodes.get_mut(&behind).unwrap().disk = super::world::Disk::default();
    world.nodes.get_mut(&behind).unwrap().committed = 0;
    world.start(behind);
    assert!(world.run_until(20_000, World::agrees));
    let node = &world.nodes[&behind];
    assert_eq!(node.disk.values(node.committed), ["a", "b", "c", "d"]);
    assert_eq!(world.core(behind).membership().voters(), &voters(&[1, 2, 3]));
    // It starts from the snapshot.
    world.kill(behind);
    world.start(behind);
    assert!(world.run_until(20_000, World::agrees));
}

#[test]
fn a_leader_that_can_not_give_its_snapshot_is_asked_what_else_it_has() {
    let (mut world, leader) = settled(3);
    let behind = other(&world, leader);
    world.kill(behind);
    for value in ["a", "b"] {
        world.append(leader, value);
        world.run(100);
        world.snapshot(leader);
    }
    assert!(world.core(leader).log().start > 0, "the log of the older snapshot is gone");
    world.nodes.get_mut(&behind).unwrap().disk = super::world::Disk::default();
    world.nodes.get_mut(&behind).unwrap().committed = 0;
    world.snapshots_fail = true;
    world.start(behind);
    let asked = |world: &World, what: &str| {
        let line = format!("{behind}: send {what}");
        world.trace.iter().filter(|one| one.starts_with(&line)).count()
    };
    world.run(2_000);
    let (snapshots, fetches) = (asked(&world, "fetch snapshot"), asked(&world, "fetch epoch"));
    assert!((2..=2_000 / 20).contains(&snapshots), "asked {snapshots} times in 2 s");
    assert!(fetches >= snapshots, "{fetches} fetches, {snapshots} for snapshots");
    world.snapshots_fail = false;
    assert!(world.run_until(20_000, World::agrees), "{}", world.trace.join("\n"));
    let node = &world.nodes[&behind];
    assert_eq!(node.disk.values(node.committed), ["a", "b"]);
}

#[test]
fn an_uncommitted_voter_is_forgotten_with_the_records_that_are_cut() {
    let (mut world, leader) = settled(3);
    world.add(4, InitialVoters::Unknown);
    world.nodes.get_mut(&4).unwrap().config.bootstrap = (1..=3).map(|id| ("h".to_owned(), id)).collect();
    world.start(4);
    assert!(world.run_until(5_000, World::agrees));
    for id in (1..=3).filter(|id| *id != leader) {
        world.cut.extend([(leader, id), (id, leader)]);
    }
    world.ask(leader, Request::AddVoter(AddVoterRequest { voter: voter(4), ack_when_committed: true }));
    assert!(world.run_until(5_000, |world| world.core(leader).membership().voters().0.len() == 4));
    assert!(world.run_until(20_000, |world| world.leader().is_some_and(|id| id != leader)));
    world.cut.clear();
    assert!(world.run_until(20_000, World::agrees), "{}", world.trace.join("\n"));
    for id in 1..=4 {
        assert_eq!(world.core(id).membership().voters(), &voters(&[1, 2, 3]));
    }
}
