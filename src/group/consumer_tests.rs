//! Random histories of consumer groups: members of both protocols join, leave, fall silent, give up partitions late;
//! topics come, grow and go; the broker restarts. Nothing is ever with two members, and who is left alone gets all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use uuid::Uuid;

use super::assignor::Partitions;
use super::cluster::{ClusterView, GroupTimes, Topic};
use super::command::{Command, ConsumerHeartbeat, Heartbeat, JoinGroup, Protocol, Reply, SyncGroup};
use super::core::{Event, GroupCore, Timer};
use super::kind::Group;
use super::settings::GroupSettings;
use crate::error::ErrorCode;
use crate::shard::timers::Timers;
use crate::shard::{Core, Decision, Token};
use crate::testing::properties;

const TOPICS: [&str; 3] = ["a", "b", "c"];
const SESSION_MS: i32 = 10_000;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A heartbeat, which joins where the member is not known. `busy` members say nothing of what they have.
    Beat {
        who: usize,
        busy: bool,
    },
    /// A member wants other topics: names by the bits, or a regular expression.
    Subscribe {
        who: usize,
        topics: u8,
        expression: bool,
    },
    Leave {
        who: usize,
        for_a_while: bool,
    },
    /// A client forgets who it was and starts anew, with the other protocol perhaps.
    Restart {
        who: usize,
        classic: bool,
    },
    /// A classic client does what it is told.
    Classic {
        who: usize,
    },
    Topic {
        which: usize,
        partitions: i32,
    },
    TopicGone {
        which: usize,
    },
    Advance {
        by_ms: i64,
    },
    BrokerRestart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..4usize;
    prop_oneof![
        8 => (who.clone(), any::<bool>()).prop_map(|(who, busy)| Step::Beat { who, busy }),
        4 => who.clone().prop_map(|who| Step::Classic { who }),
        2 => (who.clone(), 0..8u8, any::<bool>())
            .prop_map(|(who, topics, expression)| Step::Subscribe { who, topics, expression }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, for_a_while)| Step::Leave { who, for_a_while }),
        1 => (who, any::<bool>()).prop_map(|(who, classic)| Step::Restart { who, classic }),
        1 => (0..3usize, 1..7i32).prop_map(|(which, partitions)| Step::Topic { which, partitions }),
        1 => (0..3usize).prop_map(|which| Step::TopicGone { which }),
        2 => prop_oneof![Just(0), Just(1_000), Just(11_000), 0..30_000i64]
            .prop_map(|by_ms| Step::Advance { by_ms }),
        1 => Just(Step::BrokerRestart),
    ]
}

/// A client, as it sees itself.
#[derive(Clone, Debug, Default)]
struct Client {
    life: usize,
    is_classic: bool,
    topics: u8,
    expression: bool,
    epoch: i32,
    owned: Partitions,
    member_id: Arc<str>,
}

/// Plays the shell.
struct World {
    settings: Arc<GroupSettings>,
    cluster: ClusterView,
    core: GroupCore,
    /// What the records alone give.
    written: GroupCore,
    timers: Timers<Timer>,
    now_ms: i64,
    tokens: u64,
    held: BTreeMap<Token, usize>,
    clients: Vec<Client>,
    /// The first two clients are static members.
    answers: BTreeMap<usize, Reply>,
}

impl World {
    fn new() -> Self {
        let settings = GroupSettings {
            initial_rebalance_delay_ms: 0,
            min_session_timeout_ms: 1,
            consumer_max_size: 8,
            ..GroupSettings::default()
        };
        let settings = Arc::new(settings);
        let mut cluster = ClusterView::empty();
        cluster.times = GroupTimes {
            session_timeout_ms: SESSION_MS,
            heartbeat_interval_ms: 1,
            assignment_interval_ms: 500,
        };
        let core = GroupCore::new(settings.clone(), Arc::new(cluster.clone()));
        let client = Client { topics: 1, ..Client::default() };
        let mut world = Self {
            settings,
            cluster,
            written: core.clone(),
            core,
            timers: Timers::default(),
            now_ms: 1,
            tokens: 0,
            held: BTreeMap::new(),
            clients: vec![client; 4],
            answers: BTreeMap::new(),
        };
        let decision = world.core.start(world.now_ms);
        world.carry_out(decision);
        world
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
            let who = self.held.remove(&token).expect("each caller is answered once");
            self.answers.insert(who, reply);
        }
        for group in self.core.groups.values() {
            match group {
                Group::Classic(group) => group.check(),
                Group::Consumer(group) => group.check(),
                Group::Share(_) => panic!("nobody makes a share group here"),
                Group::Streams(group) => group.check(),
            }
        }
        self.compare_with_written();
    }

    /// A restart would find the same consumer groups, but for what it does not keep.
    fn compare_with_written(&self) {
        for (group_id, group) in &self.core.groups {
            let (Group::Consumer(group), Some(written)) = (group, self.written.groups.get(group_id)) else {
                continue;
            };
            let Group::Consumer(written) = written else { panic!("a restart would find another type") };
            assert_eq!((&group.members, &group.target), (&written.members, &written.target));
            let epochs = |group: &super::consumer::ConsumerGroup| (group.epoch, group.target.epoch);
            assert_eq!(epochs(group), epochs(written));
        }
    }

    fn call(&mut self, who: usize, command: Command) -> Option<Reply> {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.held.insert(token, who);
        let decision = self.core.decide(self.now_ms, token, command);
        self.carry_out(decision);
        self.answers.remove(&who)
    }

    fn advance(&mut self, by_ms: i64) {
        let until_ms = self.now_ms + by_ms;
        while let Some(deadline_ms) = self.timers.next_deadline().filter(|at| *at <= until_ms) {
            self.now_ms = self.now_ms.max(deadline_ms);
            let Some(timer) = self.timers.pop_due(self.now_ms) else { break };
            let decision = self.core.expire(self.now_ms, &timer);
            self.carry_out(decision);
        }
        self.now_ms = until_ms;
    }

    fn change_cluster(&mut self, change: impl FnOnce(&mut ClusterView, i64)) {
        self.cluster.version += 1;
        self.cluster.topics_version = self.cluster.version;
        let version = self.cluster.version;
        change(&mut self.cluster, version);
        let cluster = Arc::new(self.cluster.clone());
        self.call(9, Command::ClusterChanged { cluster });
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Beat { who, busy } if !self.clients[who].is_classic => self.beat(who, busy),
            Step::Classic { who } | Step::Beat { who, .. } if self.clients[who].is_classic => {
                self.classic(who)
            }
            Step::Beat { .. } | Step::Classic { .. } => {}
            Step::Subscribe { who, topics, expression } => {
                let client = &mut self.clients[who];
                (client.topics, client.expression) = (topics, expression);
                if !client.is_classic && client.epoch > 0 {
                    let request = self.heartbeat(who, self.clients[who].epoch, true);
                    self.learn(who, request);
                }
            }
            Step::Leave { who, for_a_while } if !self.clients[who].is_classic => {
                let epoch = if for_a_while && who < 2 { -2 } else { -1 };
                let mut request = self.heartbeat(who, epoch, false);
                request.owned = None;
                self.call(who, Command::ConsumerHeartbeat(Box::new(request)));
                self.start_anew(who, false);
            }
            Step::Leave { .. } => {}
            Step::Restart { who, classic } => self.start_anew(who, classic),
            Step::Topic { which, partitions } => self.change_cluster(|cluster, version| {
                let known = cluster.topic(TOPICS[which]).map_or(0, |topic| topic.partitions);
                if known == 0 {
                    cluster.new_topics_version = version;
                }
                let id = Uuid::from_u128(u128::try_from(which).expect("small") + 1);
                cluster.put(Topic::new(TOPICS[which], id, known.max(partitions)));
            }),
            Step::TopicGone { which } => self.change_cluster(|cluster, _| {
                if let Some(id) = cluster.topic(TOPICS[which]).map(|topic| topic.id) {
                    cluster.remove(id);
                }
            }),
            Step::Advance { by_ms } => self.advance(by_ms),
            Step::BrokerRestart => {
                self.held.clear();
                self.core = self.written.clone();
                self.core.replay(&Event::Cluster(Arc::new(self.cluster.clone())));
                self.timers = Timers::default();
                let decision = self.core.start(self.now_ms);
                self.carry_out(decision);
            }
        }
    }

    fn start_anew(&mut self, who: usize, is_classic: bool) {
        let Client { life, topics, expression, .. } = self.clients[who];
        self.clients[who] = Client { life: life + 1, is_classic, topics, expression, ..Client::default() };
    }

    fn names(&self, who: usize) -> BTreeSet<Arc<str>> {
        let bits = self.clients[who].topics;
        (0..3).filter(|bit| bits & (1 << bit) != 0).map(|bit| TOPICS[bit].into()).collect()
    }

    fn heartbeat(&self, who: usize, epoch: i32, subscribes: bool) -> ConsumerHeartbeat {
        let client = &self.clients[who];
        let (names, expression) = if client.expression {
            (
                BTreeSet::new(),
                format!("[{}x]", self.names(who).iter().map(|name| &**name).collect::<String>()),
            )
        } else {
            (self.names(who), String::new())
        };
        ConsumerHeartbeat {
            group_id: "g".into(),
            member_id: format!("m{who}-{}", client.life).into(),
            member_epoch: epoch,
            instance_id: (who < 2).then(|| format!("i{who}").into()),
            rebalance_timeout_ms: if epoch == 0 { 20_000 } else { -1 },
            topics: (subscribes || epoch == 0).then_some(names),
            expression: (subscribes || epoch == 0).then(|| expression.into()),
            assignor: (who == 3).then(|| "range".into()),
            owned: Some(if epoch == 0 { Partitions::new() } else { client.owned.clone() }),
            ..ConsumerHeartbeat::default()
        }
    }

    fn beat(&mut self, who: usize, busy: bool) {
        let mut request = self.heartbeat(who, self.clients[who].epoch, false);
        if busy && request.member_epoch > 0 {
            request.owned = None;
        }
        self.learn(who, request);
    }

    fn learn(&mut self, who: usize, request: ConsumerHeartbeat) {
        let client = &mut self.clients[who];
        if request.member_epoch == 0 {
            client.owned.clear();
        }
        let reply = self.call(who, Command::ConsumerHeartbeat(Box::new(request)));
        let client = &mut self.clients[who];
        match reply {
            Some(Reply::ConsumerHeartbeat(Ok(answer))) => {
                client.epoch = answer.member_epoch;
                if let Some(assignment) = answer.assignment {
                    client.owned = assignment;
                }
            }
            // Whoever has the instance id is still there; for all else a client begins anew.
            Some(Reply::ConsumerHeartbeat(Err(error))) if error.code == ErrorCode::UnreleasedInstanceId => {}
            Some(Reply::ConsumerHeartbeat(Err(_))) => (client.epoch, client.owned) = (0, Partitions::new()),
            other => panic!("{other:?}"),
        }
    }

    fn subscription(&self, who: usize) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        let names = self.names(who);
        bytes.put_i32(i32::try_from(names.len()).expect("few"));
        for name in names {
            bytes.put_i16(1);
            bytes.put_slice(name.as_bytes());
        }
        bytes.put_i32(-1);
        bytes.freeze()
    }

    /// Heartbeat, and join and sync where it is told to; as leader it assigns nothing.
    fn classic(&mut self, who: usize) {
        let client = self.clients[who].clone();
        let request = Heartbeat {
            group_id: "g".into(),
            generation_id: client.epoch,
            member_id: client.member_id.clone(),
            group_instance_id: None,
        };
        if !client.member_id.is_empty()
            && let Some(Reply::Heartbeat(Ok(()))) = self.call(who, Command::Heartbeat(request))
        {
            return;
        }
        let request = JoinGroup {
            group_id: "g".into(),
            member_id: client.member_id,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: self.subscription(who) }],
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: 20_000,
            fresh_id: Uuid::from_u128(u128::from(self.tokens)),
            client_id: format!("c{who}").into(),
            ..JoinGroup::default()
        };
        match self.call(who, Command::Join(request)) {
            Some(Reply::Join(Ok(joined))) => {
                self.clients[who].member_id = joined.member_id.clone();
                self.clients[who].epoch = joined.generation_id;
                let request = SyncGroup {
                    group_id: "g".into(),
                    generation_id: joined.generation_id,
                    member_id: joined.member_id,
                    ..SyncGroup::default()
                };
                self.call(who, Command::Sync(request));
            }
            Some(Reply::Join(Err(_))) => self.clients[who].member_id = Arc::default(),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(properties(64))]

    #[test]
    fn whatever_members_do(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        // Everybody falls silent; then one member comes, and has all of what it asks for in a while.
        world.advance(2_000_000);
        for topic in 0..3 {
            world.take(&Step::Topic { which: topic, partitions: 3 });
        }
        world.start_anew(2, false);
        world.clients[2].topics = 7;
        for _ in 0..12 {
            world.beat(2, false);
            world.advance(1_000);
        }
        let expected: usize = TOPICS
            .iter()
            .filter_map(|name| world.cluster.topic(name))
            .map(|topic| usize::try_from(topic.partitions).expect("few"))
            .sum();
        let owned: usize = world.clients[2].owned.values().map(BTreeSet::len).sum();
        prop_assert_eq!(owned, expected);
        prop_assert!(world.settings.consumer_max_size == 8 && world.held.is_empty());
    }
}
