//! Random histories: whatever clients do, a group does not contradict itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::classic::{ClassicGroup, GroupState};
use super::cluster::ClusterView;
use super::command::{
    Command, CommitOffsets, CommittedPartition, CommittedTopic, DeleteOffsets, DeletedTopic, Heartbeat,
    JoinGroup, LeaveGroup, LeavingMember, Protocol, Reply, SyncGroup,
};
use super::core::{Event, GroupCore, Timer};
use super::kind::Group;
use super::settings::GroupSettings;
use crate::error::ErrorCode;
use crate::shard::timers::Timers;
use crate::shard::{Core, Decision, Token};
use crate::testing::properties;

const GROUPS: [&str; 2] = ["g", "h"];

/// What one of a few clients does next.
#[derive(Clone, Debug)]
enum Step {
    Join { who: usize, group: usize, protocols: u8, is_static: bool, with_id: bool, two_steps: bool },
    Sync { who: usize, group: usize, assigns: bool },
    Heartbeat { who: usize, group: usize },
    Leave { who: usize, group: usize, by_instance: bool },
    Commit { who: usize, group: usize, as_member: bool },
    DeleteGroup { group: usize },
    DeleteOffsets { group: usize },
    DeleteTopic,
    Advance { by_ms: i64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (who, group) = (0..4usize, 0..GROUPS.len());
    prop_oneof![
        6 => (who.clone(), group.clone(), 1..8u8, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(who, group, protocols, is_static, with_id, two_steps)| {
                Step::Join { who, group, protocols, is_static, with_id, two_steps }
            }
        ),
        5 => (who.clone(), group.clone(), any::<bool>())
            .prop_map(|(who, group, assigns)| Step::Sync { who, group, assigns }),
        2 => (who.clone(), group.clone()).prop_map(|(who, group)| Step::Heartbeat { who, group }),
        1 => (who.clone(), group.clone(), any::<bool>())
            .prop_map(|(who, group, by_instance)| Step::Leave { who, group, by_instance }),
        2 => (who, group.clone(), any::<bool>())
            .prop_map(|(who, group, as_member)| Step::Commit { who, group, as_member }),
        1 => group.clone().prop_map(|group| Step::DeleteGroup { group }),
        1 => group.prop_map(|group| Step::DeleteOffsets { group }),
        1 => Just(Step::DeleteTopic),
        3 => prop_oneof![Just(0), Just(3_000), Just(10_000), Just(61_000), 0..200_000i64]
            .prop_map(|by_ms| Step::Advance { by_ms }),
        1 => Just(Step::Restart),
    ]
}

/// Plays the shell.
struct World {
    settings: Arc<GroupSettings>,
    core: GroupCore,
    /// What the records alone give.
    written: GroupCore,
    timers: Timers<Timer>,
    now_ms: i64,
    held: BTreeMap<Token, (usize, usize)>,
    tokens: u64,
    /// Who is who in which group: member id and generation.
    known: BTreeMap<(usize, usize), (Arc<str>, i32)>,
    generations: BTreeMap<Arc<str>, i32>,
}

impl World {
    fn new(max_size: usize) -> Self {
        let settings = GroupSettings {
            initial_rebalance_delay_ms: 3_000,
            max_size,
            offsets_retention_ms: 500_000,
            offsets_retention_check_interval_ms: 50_000,
            ..GroupSettings::default()
        };
        let settings = Arc::new(settings);
        let new_core = || GroupCore::new(settings.clone(), Arc::new(ClusterView::empty()));
        let (core, written) = (new_core(), new_core());
        let mut world = Self {
            settings,
            core,
            written,
            timers: Timers::default(),
            now_ms: 0,
            held: BTreeMap::new(),
            tokens: 0,
            known: BTreeMap::new(),
            generations: BTreeMap::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.timers = Timers::default();
        let decision = self.core.start(self.now_ms);
        self.carry_out(decision);
    }

    fn carry_out(&mut self, decision: Decision<GroupCore>) {
        for event in decision.events {
            self.core.replay(&event);
            if let Event::Record(_) = &event {
                self.written.replay(&event);
            }
        }
        for change in decision.timers {
            self.timers.change(change);
        }
        for (token, reply) in decision.replies {
            let caller = self.held.remove(&token).expect("each caller is answered once");
            let Reply::Join(join) = reply else { continue };
            match join {
                Ok(joined) => {
                    self.known.insert(caller, (joined.member_id, joined.generation_id));
                }
                Err(refused) if refused.code == ErrorCode::MemberIdRequired => {
                    self.known.insert(caller, (refused.member_id, -1));
                }
                Err(_) => {}
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let mut generations = BTreeMap::new();
        for group in self.core.groups.values() {
            let Group::Classic(group) = group else { unreachable!("nobody uses the consumer protocol") };
            group.check();
            let before = self.generations.get(&group.group_id).copied().unwrap_or(0);
            assert!(group.generation_id >= before, "a generation was taken back");
            generations.insert(group.group_id.clone(), group.generation_id);
        }
        self.generations = generations;
        let ids = |core: &GroupCore| core.groups.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(ids(&self.core), ids(&self.written), "a restart would find other groups");
        assert_eq!(self.core.offsets, self.written.offsets, "a restart would find other offsets");
        for (group_id, group) in &self.core.groups {
            let Group::Classic(group) = group else { continue };
            let settled = matches!(group.state, GroupState::Stable | GroupState::Empty);
            if let Some(Group::Classic(written)) = self.written.groups.get(group_id).filter(|_| settled) {
                assert_eq!(lasting(group), lasting(written), "a restart would find another group");
            }
        }
    }

    fn call(&mut self, caller: (usize, usize), command: Command) {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.held.insert(token, caller);
        let decision = self.core.decide(self.now_ms, token, command);
        self.carry_out(decision);
    }

    fn advance(&mut self, by_ms: i64) {
        let until_ms = self.now_ms + by_ms;
        while let Some(deadline_ms) = self.timers.next_deadline().filter(|at| *at <= until_ms) {
            self.now_ms = self.now_ms.max(deadline_ms);
            let timer = self.timers.pop_due(self.now_ms).expect("it is due");
            let decision = self.core.expire(self.now_ms, &timer);
            self.carry_out(decision);
        }
        self.now_ms = until_ms;
    }

    fn restart(&mut self) {
        self.held.clear();
        self.core = self.written.clone();
        self.generations.clear();
        self.start();
    }

    fn member(&self, who: usize, group: usize) -> (Arc<str>, i32) {
        self.known.get(&(who, group)).cloned().unwrap_or_else(|| (Arc::default(), -1))
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { who, group, .. } => {
                let request = self.join_request(step);
                self.call((who, group), Command::Join(request));
            }
            Step::Sync { who, group, assigns } => {
                let request = self.sync_request(who, group, assigns);
                self.call((who, group), Command::Sync(request));
            }
            Step::Heartbeat { who, group } => {
                let (member_id, generation_id) = self.member(who, group);
                let group_id = GROUPS[group].into();
                let request = Heartbeat { group_id, generation_id, member_id, group_instance_id: None };
                self.call((who, group), Command::Heartbeat(request));
            }
            Step::Leave { who, group, by_instance } => {
                let (member_id, _) = self.member(who, group);
                let leaving = LeavingMember {
                    member_id: if by_instance { Arc::default() } else { member_id },
                    group_instance_id: by_instance.then(|| instance(who)),
                    reason: None,
                };
                let request = LeaveGroup { group_id: GROUPS[group].into(), members: vec![leaving] };
                self.call((who, group), Command::Leave(request));
            }
            Step::Commit { who, group, as_member } => {
                let request = self.commit_request(who, group, as_member);
                self.call((who, group), Command::CommitOffsets(request));
            }
            Step::DeleteGroup { group } => {
                self.call((9, group), Command::DeleteGroups { group_ids: vec![GROUPS[group].into()] });
            }
            Step::DeleteOffsets { group } => {
                let topics = vec![("t".into(), vec![0, 1]), ("u".into(), vec![0])];
                let request = DeleteOffsets { group_id: GROUPS[group].into(), topics };
                self.call((9, group), Command::DeleteOffsets(request));
            }
            Step::DeleteTopic => {
                let topics = vec![DeletedTopic { topic: "t".into(), topic_id: Uuid::from_u128(1) }];
                self.call((9, 0), Command::TopicsDeleted { topics });
            }
            Step::Advance { by_ms } => self.advance(by_ms),
            Step::Restart => self.restart(),
        }
    }

    fn join_request(&self, step: &Step) -> JoinGroup {
        let Step::Join { who, group, protocols, is_static, with_id, two_steps } = *step else {
            return JoinGroup::default();
        };
        let names = ["range", "sticky", "roundrobin"].into_iter().enumerate();
        let protocol = |name: &str| Protocol { name: name.into(), metadata: Bytes::from(vec![protocols]) };
        JoinGroup {
            group_id: GROUPS[group].into(),
            member_id: if with_id { self.member(who, group).0 } else { Arc::default() },
            group_instance_id: is_static.then(|| instance(who)),
            client_id: format!("client{who}").into(),
            client_host: "/127.0.0.1".into(),
            protocol_type: "consumer".into(),
            protocols: names
                .filter(|(i, _)| protocols & (1 << i) != 0)
                .map(|(_, name)| protocol(name))
                .collect(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: if who == 0 { 5_000 } else { 60_000 },
            member_id_required: two_steps,
            can_skip_assignment: two_steps,
            fresh_id: Uuid::from_u128(u128::from(self.tokens)),
            reason: None,
        }
    }

    fn sync_request(&self, who: usize, group: usize, assigns: bool) -> SyncGroup {
        let (member_id, generation_id) = self.member(who, group);
        let everybody = self.known.iter().filter(|((_, g), _)| *g == group && assigns);
        let assignments =
            everybody.map(|((who, _), (id, _))| (id.clone(), Bytes::from(vec![b'0'; *who]))).collect();
        SyncGroup {
            group_id: GROUPS[group].into(),
            generation_id,
            member_id,
            assignments,
            ..SyncGroup::default()
        }
    }

    fn commit_request(&self, who: usize, group: usize, as_member: bool) -> CommitOffsets {
        let (member_id, generation_id) = self.member(who, group);
        let partition =
            CommittedPartition { partition: 0, offset: self.now_ms, leader_epoch: -1, metadata: None };
        CommitOffsets {
            group_id: GROUPS[group].into(),
            generation_id: if as_member { generation_id } else { -1 },
            member_id: if as_member { member_id } else { Arc::default() },
            group_instance_id: None,
            retention_time_ms: None,
            unknown_group: ErrorCode::GroupIdNotFound,
            topics: vec![CommittedTopic {
                topic: if who == 0 { "t".into() } else { "u".into() },
                topic_id: Uuid::from_u128(1),
                partitions: vec![partition],
            }],
        }
    }
}

fn instance(who: usize) -> Arc<str> {
    format!("instance{who}").into()
}

/// What a restart keeps.
fn lasting(group: &ClassicGroup) -> impl PartialEq + std::fmt::Debug {
    let members: Vec<_> = group
        .members
        .values()
        .map(|m| {
            (m.member_id.clone(), m.group_instance_id.clone(), m.assignment.clone(), m.session_timeout_ms)
        })
        .collect();
    (
        group.generation_id,
        group.protocol_type.clone(),
        group.protocol_name.clone(),
        group.leader.clone(),
        group.state_since_ms,
        members,
    )
}

proptest! {
    #![proptest_config(properties(256))]

    #[test]
    fn whatever_clients_do(steps in prop::collection::vec(step(), 1..120), max_size in 1..6usize) {
        let mut world = World::new(max_size);
        for step in &steps {
            world.take(step);
        }
        // Left alone, every group comes to rest: nobody is held for ever, nobody stays a member.
        world.advance(1_000_000);
        assert!(world.held.is_empty(), "somebody was never answered: {:?}", world.held);
        assert!(world.core.groups.values().all(Group::is_empty));
        assert_eq!(world.settings.max_size, max_size);
        world.advance(1_000_000);
        assert!(world.core.groups.is_empty(), "an empty group without offsets stayed");
        assert_eq!(world.core.offsets.count(), 0);
    }
}
