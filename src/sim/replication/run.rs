//! One run: brokers, controller, producers and consumers in storms and in calm weather.

mod weather;

use std::collections::BTreeMap;

use super::broker::{Broker, FetchAnswer, LAG_TIME_MAX_MS, Replica, Role, Rules, Waiting, lifecycle};
use super::controller::{Ask, Controller, Told};
use super::history::History;
use super::mutants::Mutant;
use crate::error::ErrorCode;
use crate::log::{Brokers, IsrAccepted, IsrProposal, ReplicaFetch, Terms};
use crate::metadata::command::{Heartbeat, IsrChange};
use crate::metadata::image::{Image, PartitionImage};
use crate::replication::follower::{FetchFrom, FollowerLog as _, Want};
use crate::replication::lifecycle::{BrokerState, Communication, Refusal};
use crate::sim::network::{Network, Weather};
use crate::sim::random::Random;
use crate::sim::runner::{Counts, Violation, World};
use crate::sim::timeline::Timeline;
use crate::sim::trace::Trace;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// The address of the controller on the network.
const CONTROLLER: NodeId = 0;
/// Where clients are on the network.
const CLIENTS: NodeId = 100;
/// How long anybody waits for an answer.
const TIMEOUT_MS: i64 = 1_000;
/// How long calm weather lasts at most.
const CALM_MS_MAX: i64 = 120_000;

/// A cluster and its clients.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sim) struct ReplicationRun {
    /// After so many steps the last calm begins.
    pub(in crate::sim) steps: u64,
    /// What is wrong, if anything is.
    pub(in crate::sim) mutant: Option<Mutant>,
}

/// What a seed decides about its run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    brokers: NodeId,
    partitions: usize,
    replicas: usize,
    min_isr: i32,
    weather: Weather,
    pause_ms: i64,
    commit_ms: i64,
    follower_ms: i64,
    kills: u64,
    /// One disk at a time loses what was not synced.
    power_losses: u64,
    shutdowns: u64,
    cuts: u64,
    freezes: u64,
    failovers: u64,
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let mut of = |choices: &[u64]| random.pick(choices).copied().unwrap_or(0);
        let number = |number: u64| i64::try_from(number).unwrap_or(0);
        let per_million = |number: u64| u32::try_from(number).unwrap_or(0);
        let brokers = NodeId::try_from(of(&[2, 3, 3, 3, 4])).unwrap_or(3);
        let replicas = usize::try_from(brokers.min(3)).unwrap_or(3);
        let min_isr = i32::try_from(of(&[1, 2, 2])).unwrap_or(1);
        // A kill counts as a lost disk for the controller, which then does not know who has everything.
        let power_losses = if min_isr >= 2 { of(&[0, 2, 6]) } else { 0 };
        Self {
            brokers,
            partitions: usize::try_from(of(&[1, 2])).unwrap_or(1),
            replicas,
            min_isr,
            weather: Weather {
                drop: per_million(of(&[0, 10_000, 100_000])),
                duplicate: 0,
                straggle: per_million(of(&[0, 10_000, 100_000])),
                delay_ms: number(of(&[1, 10, 100])),
            },
            pause_ms: number(of(&[50, 300, 2_000])),
            commit_ms: number(of(&[1, 20, 300])),
            follower_ms: number(of(&[5, 50, 300])),
            kills: if power_losses == 0 { of(&[0, 1, 4]) } else { 0 },
            power_losses,
            shutdowns: of(&[0, 1, 3]),
            cuts: of(&[0, 2, 8]),
            freezes: of(&[0, 1, 6]),
            failovers: of(&[0, 1, 3]),
        }
    }
}

/// Whom a controller's answer is for.
#[derive(Clone, Debug)]
struct Asker {
    id: NodeId,
    life: u32,
    altered: Option<(usize, IsrProposal)>,
}

#[derive(Clone, Debug)]
enum Planned {
    ToController(Asker, Ask),
    FromController(Asker, Told),
    Silence {
        id: NodeId,
        life: u32,
        what: Silent,
    },
    Commit,
    ControllerTick,
    Metadata {
        id: NodeId,
        life: u32,
        up_to: Offset,
    },
    Fetch {
        leader: NodeId,
        partition: usize,
        life: u32,
        fetch: ReplicaFetch,
    },
    Fetched {
        id: NodeId,
        life: u32,
        leader: NodeId,
        partition: usize,
        fetch: ReplicaFetch,
        answer: FetchAnswer,
    },
    Produce {
        to: NodeId,
        client: usize,
        value: u64,
    },
    Produced {
        from: NodeId,
        client: usize,
        value: u64,
        answer: Result<Offset, ErrorCode>,
    },
    BrokerTick {
        id: NodeId,
        life: u32,
    },
    FollowerTick {
        id: NodeId,
        life: u32,
    },
    Sync {
        id: NodeId,
        life: u32,
    },
    Client {
        client: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Silent {
    Registration,
    Heartbeat,
}

impl Planned {
    fn node(&self) -> Option<NodeId> {
        match self {
            Self::FromController(asker, _) => Some(asker.id),
            Self::Silence { id, .. }
            | Self::Metadata { id, .. }
            | Self::Fetched { id, .. }
            | Self::BrokerTick { id, .. }
            | Self::FollowerTick { id, .. }
            | Self::Sync { id, .. } => Some(*id),
            Self::Fetch { leader, .. } => Some(*leader),
            Self::Produce { to, .. } => Some(*to),
            Self::ToController(..)
            | Self::Commit
            | Self::ControllerTick
            | Self::Produced { .. }
            | Self::Client { .. } => None,
        }
    }
}

/// A producer with one record on its way, which also reads.
#[derive(Clone, Copy, Debug)]
struct Client {
    partition: usize,
    value: u64,
    since_ms: i64,
    position: Offset,
}

struct Run {
    plan: Plan,
    rules: Rules,
    timeline: Timeline<Planned>,
    network: Network,
    random: Random,
    controller: Controller<Asker>,
    commit_planned: bool,
    controller_down_until_ms: i64,
    brokers: BTreeMap<NodeId, Broker>,
    histories: Vec<History>,
    clients: Vec<Client>,
    values: u64,
    counts: Counts,
    /// The leader epochs whose leaders were looked at.
    led: Vec<LeaderEpoch>,
    storm: bool,
    /// A leader was elected that may lack records, as the last hope: nothing is promised from here on.
    unclean: bool,
}

impl World for ReplicationRun {
    fn name(&self) -> &'static str {
        "replication"
    }

    fn run(&self, seed: u64, trace: &mut Trace) -> Result<Counts, Violation> {
        let mut random = Random::new(seed ^ 0x5eed);
        let plan = Plan::draw(&mut random);
        trace.note(0, format_args!("{plan:?}"));
        let mut run = Run::new(plan, self.mutant, random);
        run.calm(trace)?;
        while run.counts.steps < self.steps && !run.unclean {
            run.storm(trace)?;
            run.calm(trace)?;
        }
        run.counts.leaders = run.led.iter().map(|epoch| u64::from(epoch.unsigned_abs())).sum();
        run.counts.commits = run.histories.iter().map(|history| history.committed().unsigned_abs()).sum();
        Ok(run.counts)
    }
}

impl Run {
    fn new(plan: Plan, mutant: Option<Mutant>, mut random: Random) -> Self {
        let ids: Vec<NodeId> = (1..=plan.brokers).collect();
        let assignments: Vec<(i32, Vec<NodeId>)> = (0..plan.partitions)
            .map(|number| {
                let replicas = ids.iter().cycle().skip(number).take(plan.replicas).copied().collect();
                (i32::try_from(number).unwrap_or(0), replicas)
            })
            .collect();
        let controller = Controller::new(random.split(), plan.min_isr, &assignments);
        let timeline = Timeline::new();
        let now_ms = timeline.now_ms();
        let broker = |id: NodeId| Broker {
            id,
            up: false,
            life: 0,
            lifecycle: lifecycle(now_ms),
            image: Image::empty(),
            brokers: Brokers::default(),
            replicas: (0..plan.partitions).map(Replica::new).collect(),
            frozen_until_ms: 0,
            previous_epoch: -1,
            lost: false,
            planned_tick_ms: i64::MAX,
        };
        let client = |partition| Client { partition, value: 0, since_ms: 0, position: 0 };
        let mut run = Self {
            plan,
            rules: Rules { min_isr: plan.min_isr, mutant },
            timeline,
            network: Network::default(),
            random,
            controller,
            commit_planned: false,
            controller_down_until_ms: 0,
            brokers: ids.iter().map(|id| (*id, broker(*id))).collect(),
            histories: vec![History::default(); plan.partitions],
            clients: (0..plan.partitions).chain(0..plan.partitions).map(client).collect(),
            values: 0,
            counts: Counts::default(),
            led: vec![0; plan.partitions],
            storm: false,
            unclean: false,
        };
        run.controller.fail_over(now_ms);
        run.timeline.after(0, Planned::ControllerTick);
        for client in 0..run.clients.len() {
            run.timeline.after(0, Planned::Client { client });
        }
        run
    }

    fn step(&mut self, trace: &mut Trace) -> Result<(), Violation> {
        let Some(planned) = self.timeline.next() else { return Ok(()) };
        self.counts.steps += 1;
        let now_ms = self.timeline.now_ms();
        if let Some(broker) = planned.node().and_then(|id| self.brokers.get(&id))
            && broker.up
            && broker.frozen_until_ms > now_ms
        {
            let until_ms = broker.frozen_until_ms;
            self.timeline.at(until_ms, planned);
            return Ok(());
        }
        if !matches!(planned, Planned::ControllerTick | Planned::Client { .. } | Planned::FollowerTick { .. })
        {
            trace.note(now_ms, format_args!("{planned:?}"));
        }
        match planned {
            Planned::ToController(asker, ask) => self.ask_controller(asker, ask),
            Planned::FromController(asker, told) => return self.told(&asker, told),
            Planned::Silence { id, life, what } => self.silence(id, life, what),
            Planned::Commit => {
                let before = self.controller.committed().offset;
                self.commit();
                for record in self.controller.records(before, self.controller.committed().offset) {
                    trace.note(now_ms, format_args!("committed: {record:?}"));
                }
            }
            Planned::ControllerTick => {
                if now_ms >= self.controller_down_until_ms {
                    self.controller.tick(now_ms);
                    self.plan_commit();
                }
                self.timeline.after(100, Planned::ControllerTick);
            }
            Planned::Metadata { id, life, up_to } => return self.metadata(id, life, up_to),
            Planned::Fetch { leader, partition, life, fetch } => {
                return self.serve(leader, partition, life, fetch);
            }
            Planned::Fetched { id, life, leader, partition, fetch, answer } => {
                if self.network.reaches(leader, id) {
                    return self.fetched(id, life, partition, fetch, answer);
                }
            }
            Planned::Produce { to, client, value } => return self.produce(to, client, value),
            Planned::Produced { from, client, value, answer } => {
                if self.network.reaches(from, CLIENTS) {
                    return self.produced(client, value, answer);
                }
            }
            Planned::BrokerTick { id, life } => self.broker_tick(id, life),
            Planned::FollowerTick { id, life } => return self.follower_tick(id, life),
            Planned::Sync { id, life } => {
                if self.lives(id, life)
                    && let Some(broker) = self.brokers.get_mut(&id)
                {
                    broker.replicas.iter_mut().for_each(|replica| replica.disk.sync());
                    let delay_ms = self.random.between(100, 5_000);
                    self.timeline.after(delay_ms, Planned::Sync { id, life });
                }
            }
            Planned::Client { client } => return self.client(client),
        }
        Ok(())
    }

    fn lives(&self, id: NodeId, life: u32) -> bool {
        self.brokers.get(&id).is_some_and(|broker| broker.up && broker.life == life)
    }

    fn send(&mut self, from: NodeId, to: NodeId, planned: Planned) {
        let delays = self.network.send(&mut self.random, from, to);
        if let Some(delay_ms) = delays[0] {
            self.timeline.after(delay_ms, planned);
        }
    }

    fn ask_controller(&mut self, asker: Asker, ask: Ask) {
        let now_ms = self.timeline.now_ms();
        if now_ms < self.controller_down_until_ms || !self.network.reaches(asker.id, CONTROLLER) {
            return;
        }
        self.controller.ask(now_ms, asker.id, ask, asker);
        self.plan_commit();
    }

    fn plan_commit(&mut self) {
        if !self.commit_planned {
            self.commit_planned = true;
            let delay_ms = self.random.between(0, self.plan.commit_ms);
            self.timeline.after(delay_ms, Planned::Commit);
        }
    }

    fn commit(&mut self) {
        self.commit_planned = false;
        if self.timeline.now_ms() < self.controller_down_until_ms {
            return;
        }
        let before = self.controller.committed().offset;
        for (asker, told) in self.controller.commit() {
            self.send(CONTROLLER, asker.id, Planned::FromController(asker, told));
        }
        let up_to = self.controller.committed().offset;
        if up_to > before {
            let targets: Vec<_> = self
                .brokers
                .values()
                .filter(|broker| broker.up)
                .map(|broker| (broker.id, broker.life))
                .collect();
            for (id, life) in targets {
                self.send(CONTROLLER, id, Planned::Metadata { id, life, up_to });
            }
        }
    }

    fn fail_over(&mut self) {
        let now_ms = self.timeline.now_ms();
        self.controller.fail_over(now_ms);
        self.controller_down_until_ms = now_ms + self.random.between(0, 3_000);
    }

    fn told(&mut self, asker: &Asker, told: Told) -> Result<(), Violation> {
        let now_ms = self.timeline.now_ms();
        if !self.lives(asker.id, asker.life) || !self.network.reaches(CONTROLLER, asker.id) {
            return Ok(());
        }
        let Some(broker) = self.brokers.get_mut(&asker.id) else { return Ok(()) };
        let answered = |result: Result<_, ErrorCode>| result.map_err(Refusal::Error);
        match told {
            Told::Registered(answer) => {
                // The controller knows now that the disk may have lost something.
                broker.lost &= answer.is_err();
                broker.lifecycle.registered(now_ms, answer.map_err(Refusal::Error));
            }
            Told::Heartbeat(answer) => broker.lifecycle.heartbeat_answered(now_ms, answered(answer)),
            Told::Altered(answer) => {
                let Some((partition, proposal)) = &asker.altered else { return Ok(()) };
                // What concerns the whole request is tried again.
                if let Ok(answer) = answer {
                    let terms = terms(now_ms, self.rules, &broker.brokers);
                    let replica = &mut broker.replicas[*partition];
                    replica.isr_answered(proposal, answer);
                    replica.advance(&terms, self.rules.mutant, &mut self.histories[*partition])?;
                    self.counts.isr_changes += 1;
                }
                return self.after(asker.id, *partition);
            }
        }
        self.plan_broker_tick(asker.id);
        Ok(())
    }

    fn silence(&mut self, id: NodeId, life: u32, what: Silent) {
        if !self.lives(id, life) {
            return;
        }
        let now_ms = self.timeline.now_ms();
        let Some(broker) =
            self.brokers.get_mut(&id).filter(|broker| broker.lifecycle.deadline_ms().is_none())
        else {
            return;
        };
        match what {
            Silent::Registration => broker.lifecycle.registered(now_ms, Err(Refusal::Unanswered)),
            Silent::Heartbeat => broker.lifecycle.heartbeat_answered(now_ms, Err(Refusal::Unanswered)),
        }
        self.plan_broker_tick(id);
    }

    fn start(&mut self, id: NodeId) {
        let now_ms = self.timeline.now_ms();
        let Some(broker) = self.brokers.get_mut(&id).filter(|broker| !broker.up) else { return };
        broker.up = true;
        broker.life += 1;
        broker.lifecycle = lifecycle(now_ms);
        broker.image = Image::empty();
        broker.brokers = Brokers::default();
        broker.frozen_until_ms = 0;
        broker.planned_tick_ms = i64::MAX;
        broker.replicas.iter_mut().for_each(Replica::restart);
        let life = broker.life;
        self.plan_broker_tick(id);
        self.timeline.after(0, Planned::FollowerTick { id, life });
        self.timeline.after(100, Planned::Sync { id, life });
    }

    /// Ends a process; with the power, what was not synced goes too.
    fn stop(&mut self, id: NodeId, power: bool, clean: bool, trace: &mut Trace) {
        let now_ms = self.timeline.now_ms();
        let Some(broker) = self.brokers.get_mut(&id).filter(|broker| broker.up) else { return };
        trace.note(now_ms, format_args!("b{id} stops, power {power} clean {clean}"));
        broker.up = false;
        broker.previous_epoch = if clean { broker.lifecycle.broker_epoch() } else { -1 };
        for replica in &mut broker.replicas {
            if clean {
                replica.disk.sync();
            } else if power {
                let before = replica.disk.live().log.end();
                replica.disk.crash(&mut self.random);
                broker.lost |= replica.disk.live().log.end() < before;
            }
        }
        self.counts.crashes += u64::from(!clean);
    }

    fn plan_broker_tick(&mut self, id: NodeId) {
        let Some(broker) = self.brokers.get_mut(&id).filter(|broker| broker.up) else { return };
        if let Some(due_ms) = broker.lifecycle.deadline_ms() {
            self.timeline.at(due_ms, Planned::BrokerTick { id, life: broker.life });
        }
    }

    fn broker_tick(&mut self, id: NodeId, life: u32) {
        if !self.lives(id, life) {
            return;
        }
        let now_ms = self.timeline.now_ms();
        let Some(broker) = self.brokers.get_mut(&id) else { return };
        let offset = broker.image.offset;
        if broker.lifecycle.state() == BrokerState::Recovery {
            broker.lifecycle.set_ready_to_unfence(now_ms);
        }
        let (asked, what) = match broker.lifecycle.next(now_ms, offset) {
            None => return,
            Some(Communication::Register) => {
                (Ask::Register { life, previous_epoch: broker.previous_epoch }, Silent::Registration)
            }
            Some(Communication::Heartbeat(heartbeat)) => {
                let heartbeat = Heartbeat {
                    broker_id: id,
                    broker_epoch: heartbeat.broker_epoch,
                    metadata_offset: heartbeat.current_metadata_offset,
                    want_fence: heartbeat.want_fence,
                    want_shut_down: heartbeat.want_shut_down,
                    offline_log_dirs: Vec::new(),
                    cordoned_log_dirs: None,
                };
                (Ask::Heartbeat(heartbeat), Silent::Heartbeat)
            }
        };
        let asker = Asker { id, life, altered: None };
        self.send(id, CONTROLLER, Planned::ToController(asker, asked));
        self.timeline.after(TIMEOUT_MS, Planned::Silence { id, life, what });
        self.catch_up(id, life);
    }

    /// A broker fetches the metadata log again and again.
    fn catch_up(&mut self, id: NodeId, life: u32) {
        let up_to = self.controller.committed().offset;
        self.send(CONTROLLER, id, Planned::Metadata { id, life, up_to });
    }

    fn metadata(&mut self, id: NodeId, life: u32, up_to: Offset) -> Result<(), Violation> {
        let now_ms = self.timeline.now_ms();
        if !self.lives(id, life) || !self.network.reaches(CONTROLLER, id) {
            return Ok(());
        }
        let Some(broker) = self.brokers.get_mut(&id) else { return Ok(()) };
        let (before, was_registered) = (broker.image.clone(), broker.is_registered());
        for record in self.controller.records(before.offset, up_to) {
            if broker.image.apply(record).is_err() {
                return Err(format!("MetadataLogMatching: {record:?} does not fit the image of b{id}"));
            }
            broker.image.offset += 1;
        }
        broker.brokers = Broker::standings(&broker.image);
        let terms = terms(now_ms, self.rules, &broker.brokers);
        let (old, new) = (before.topics.get("t"), broker.image.topics.get("t"));
        let mut refused: Vec<Waiting> = Vec::new();
        let early = self.rules.mutant == Some(Mutant::ActsBeforeRegistration);
        let begins = broker.is_registered() && !was_registered;
        if let Some(topic) = new.filter(|_| (broker.is_registered() || early) && (begins || old != new)) {
            // All partitions of a topic of which something changed.
            for (replica, (_, partition)) in broker.replicas.iter_mut().zip(topic.partitions()) {
                if partition.replicas.contains(&id) {
                    refused.extend(replica.assign(id, partition, &terms, self.rules.mutant));
                }
            }
        }
        for (replica, history) in broker.replicas.iter_mut().zip(&mut self.histories) {
            replica.advance(&terms, self.rules.mutant, history)?;
        }
        for Waiting { client, value, .. } in refused {
            let answer = Err(ErrorCode::NotLeaderOrFollower);
            self.send(id, CLIENTS, Planned::Produced { from: id, client, value, answer });
        }
        for partition in 0..self.histories.len() {
            self.after(id, partition)?;
        }
        Ok(())
    }

    /// What follows for a leader when anything changed: producers hear, the controller is asked, what must hold holds.
    fn after(&mut self, id: NodeId, partition: usize) -> Result<(), Violation> {
        let rules = self.rules;
        let Some(broker) = self.brokers.get_mut(&id) else { return Ok(()) };
        let done = broker.replicas[partition].answered(rules);
        for (Waiting { client, value, offset }, answer) in done {
            self.send(
                id,
                CLIENTS,
                Planned::Produced { from: id, client, value, answer: answer.map(|()| offset) },
            );
        }
        self.ask_for_isr(id, partition);
        self.check(partition)
    }

    fn ask_for_isr(&mut self, id: NodeId, partition: usize) {
        let now_ms = self.timeline.now_ms();
        let rules = self.rules;
        let Some(broker) = self.brokers.get_mut(&id) else { return };
        let (life, broker_epoch) = (broker.life, broker.epoch());
        let Some(topic) = broker.image.topics.get("t") else { return };
        let topic_id = topic.id;
        let terms = terms(now_ms, rules, &broker.brokers);
        let replica = &mut broker.replicas[partition];
        let end = replica.disk.live().log.end();
        let Role::Leader(leadership) = &mut replica.role else { return };
        let proposal = match &replica.proposal {
            Some((_, until_ms)) if *until_ms > now_ms => return,
            // There was no answer: the same is asked again.
            Some((proposal, _)) => proposal.clone(),
            None => match leadership.proposal(replica.high_watermark, end, &terms) {
                Some(proposal) => proposal,
                None => return,
            },
        };
        match rules.mutant {
            Some(Mutant::ShrinksBeforeAnswer) if !proposal.is_expansion => {
                let isr = proposal.isr.iter().map(|member| member.id).collect();
                let IsrProposal { leader_epoch, partition_epoch, .. } = proposal;
                leadership.answered(&proposal, Ok(IsrAccepted { leader_epoch, partition_epoch, isr }));
            }
            Some(Mutant::ForgetsJoining) if proposal.is_expansion => {
                leadership.answered(&proposal, Err(ErrorCode::OperationNotAttempted));
            }
            Some(_) | None => {}
        }
        replica.proposal = Some((proposal.clone(), now_ms + TIMEOUT_MS));
        let member = |member: &crate::log::IsrMember| {
            (member.id, if member.id == id { broker_epoch } else { member.broker_epoch })
        };
        let change = IsrChange {
            topic_id,
            partition: i32::try_from(partition).unwrap_or(0),
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: proposal.isr.iter().map(member).collect(),
            recovering: false,
        };
        let asker = Asker { id, life, altered: Some((partition, proposal)) };
        self.send(id, CONTROLLER, Planned::ToController(asker, Ask::AlterPartition { broker_epoch, change }));
    }

    fn follower_tick(&mut self, id: NodeId, life: u32) -> Result<(), Violation> {
        if !self.lives(id, life) {
            return Ok(());
        }
        let now_ms = self.timeline.now_ms();
        let Some(broker) = self.brokers.get_mut(&id) else { return Ok(()) };
        let broker_epoch = broker.epoch();
        let mut fetches = Vec::new();
        for replica in &mut broker.replicas {
            let log_start = replica.disk.live().log_start();
            let Role::Follower(following) = &mut replica.role else { continue };
            if following.asked_until_ms > now_ms {
                continue;
            }
            if let Some(Want::Fetch(FetchFrom { offset, last_fetched_epoch, current_leader_epoch })) =
                following.core.wants(now_ms)
            {
                following.asked_until_ms = now_ms + TIMEOUT_MS;
                let fetch = ReplicaFetch {
                    replica: id,
                    broker_epoch,
                    offset,
                    log_start,
                    current_leader_epoch,
                    last_fetched_epoch,
                };
                fetches.push((replica.number, following.leader, fetch));
            } else if let Some(Want::LeaderOffsets(_)) = following.core.wants(now_ms) {
                return Err(format!("NoIllegalState: b{id} is out of its leader's range"));
            }
        }
        for (partition, leader, fetch) in fetches {
            self.send(id, leader, Planned::Fetch { leader, partition, life, fetch });
        }
        let delay_ms = self.random.between(1, self.plan.follower_ms);
        self.timeline.after(delay_ms, Planned::FollowerTick { id, life });
        // The leader looks now and then who has fallen behind.
        for partition in 0..self.histories.len() {
            self.sweep(id, partition)?;
        }
        Ok(())
    }

    fn sweep(&mut self, id: NodeId, partition: usize) -> Result<(), Violation> {
        let now_ms = self.timeline.now_ms();
        let rules = self.rules;
        let Some(broker) = self.brokers.get_mut(&id) else { return Ok(()) };
        if !matches!(broker.replicas[partition].role, Role::Leader(_)) {
            return Ok(());
        }
        let terms = terms(now_ms, rules, &broker.brokers);
        broker.replicas[partition].advance(&terms, rules.mutant, &mut self.histories[partition])?;
        self.after(id, partition)
    }

    fn serve(
        &mut self,
        leader: NodeId,
        partition: usize,
        life: u32,
        fetch: ReplicaFetch,
    ) -> Result<(), Violation> {
        let now_ms = self.timeline.now_ms();
        let (rules, id) = (self.rules, fetch.replica);
        if !self.network.reaches(id, leader) {
            return Ok(());
        }
        let Some(broker) = self.brokers.get_mut(&leader).filter(|broker| broker.up) else { return Ok(()) };
        let terms = terms(now_ms, rules, &broker.brokers);
        let (answer, _) =
            broker.replicas[partition].serve(&fetch, &terms, rules.mutant, &mut self.histories[partition])?;
        self.send(leader, id, Planned::Fetched { id, life, leader, partition, fetch, answer });
        self.after(leader, partition)
    }

    fn fetched(
        &mut self,
        id: NodeId,
        life: u32,
        partition: usize,
        fetch: ReplicaFetch,
        answer: FetchAnswer,
    ) -> Result<(), Violation> {
        let now_ms = self.timeline.now_ms();
        let rules = self.rules;
        if !self.lives(id, life) {
            return Ok(());
        }
        let Some(broker) = self.brokers.get_mut(&id) else { return Ok(()) };
        let terms = terms(now_ms, rules, &broker.brokers);
        let ReplicaFetch { offset, last_fetched_epoch, current_leader_epoch, .. } = fetch;
        let asked = FetchFrom { offset, last_fetched_epoch, current_leader_epoch };
        let history = &mut self.histories[partition];
        let replica = &mut broker.replicas[partition];
        self.counts.truncated +=
            replica.fetched(current_leader_epoch, asked, answer, &terms, rules.mutant, history)?;
        self.check(partition)
    }

    fn client(&mut self, client: usize) -> Result<(), Violation> {
        let now_ms = self.timeline.now_ms();
        let Client { partition, value, since_ms, .. } = self.clients[client];
        if value == 0 || now_ms > since_ms + TIMEOUT_MS {
            if value == 0 {
                self.values += 1;
                self.clients[client].value = self.values;
            }
            self.clients[client].since_ms = now_ms;
            let value = self.clients[client].value;
            // It knows a leader from somebody's metadata, which may be old.
            let informed = self.random.index(self.brokers.len());
            let known =
                self.brokers.values().nth(informed).and_then(|broker| leader_of(&broker.image, partition));
            if let Some(to) = known {
                self.send(CLIENTS, to, Planned::Produce { to, client, value });
            }
        }
        self.consume(client)?;
        let longest = if self.storm { self.plan.pause_ms } else { 500 };
        let delay_ms = self.random.between(5, longest.max(6));
        self.timeline.after(delay_ms, Planned::Client { client });
        Ok(())
    }

    /// Reads what comes next from any replica, or something from the middle.
    fn consume(&mut self, client: usize) -> Result<(), Violation> {
        let Client { partition, position, .. } = self.clients[client];
        let from = if self.random.chance(200_000) { self.random.between(0, position) } else { position };
        let place = self.random.index(self.brokers.len());
        let Some(broker) = self.brokers.values().nth(place).filter(|broker| broker.up) else { return Ok(()) };
        let replica = &broker.replicas[partition];
        if matches!(replica.role, Role::Offline) {
            return Ok(());
        }
        let log = &replica.disk.live().log;
        let up_to = if self.rules.mutant == Some(Mutant::ReadsUncommitted) {
            log.end()
        } else {
            replica.high_watermark
        };
        for (offset, entry) in log.range(from, up_to.min(from + 5)) {
            self.histories[partition].read(offset, entry.content)?;
            self.counts.consumed += 1;
            self.clients[client].position = position.max(offset + 1);
        }
        Ok(())
    }

    fn produce(&mut self, to: NodeId, client: usize, value: u64) -> Result<(), Violation> {
        let now_ms = self.timeline.now_ms();
        let rules = self.rules;
        if !self.network.reaches(CLIENTS, to) {
            return Ok(());
        }
        let partition = self.clients[client].partition;
        let Some(broker) = self.brokers.get_mut(&to).filter(|broker| broker.up) else { return Ok(()) };
        let terms = terms(now_ms, rules, &broker.brokers);
        let replica = &mut broker.replicas[partition];
        let from = replica.disk.live().log.end();
        if let Err(code) = replica.produce(client, value, rules) {
            self.send(to, CLIENTS, Planned::Produced { from: to, client, value, answer: Err(code) });
            return Ok(());
        }
        let history = &mut self.histories[partition];
        history.appended(replica.disk.live(), from)?;
        replica.advance(&terms, rules.mutant, history)?;
        self.after(to, partition)
    }

    fn produced(
        &mut self,
        client: usize,
        value: u64,
        answer: Result<Offset, ErrorCode>,
    ) -> Result<(), Violation> {
        if let Ok(offset) = answer {
            self.histories[self.clients[client].partition].acknowledge(value, offset)?;
            self.counts.acknowledged += 1;
            if self.clients[client].value == value {
                self.clients[client].value = 0;
            }
        }
        Ok(())
    }

    fn check(&mut self, partition: usize) -> Result<(), Violation> {
        let image = self.controller.committed();
        let Some(registered) = partition_of(image, partition) else { return Ok(()) };
        let PartitionImage { leader, leader_epoch, isr, elr, replicas, .. } = registered;
        let strange = isr.iter().any(|id| elr.contains(id))
            || isr.iter().chain(elr).any(|id| !replicas.contains(id))
            || (*leader >= 0 && !isr.contains(leader));
        if strange {
            return Err(format!("ValidControllerIsrAndElr: {registered:?}"));
        }
        if registered.recovering && self.plan.power_losses > 0 {
            self.unclean = true;
            return Ok(());
        }
        let history = &self.histories[partition];
        for id in isr.iter().chain(elr) {
            let Some(broker) = self.brokers.get(id) else { continue };
            let store = broker.replicas[partition].disk.live();
            if !broker.lost && !history.is_complete(store) {
                let (end, committed) = (store.log.end(), history.committed());
                return Err(format!(
                    "LeaderCandidateCompleteness: b{id} is in {isr:?} or {elr:?}, its log ends at {end}, and {committed} are committed"
                ));
            }
        }
        if let Some(broker) = self.brokers.get(leader)
            && let Some((epoch, maximal)) = broker.replicas[partition].maximal_isr()
        {
            self.led[partition] = self.led[partition].max(epoch);
            if broker.up && epoch == *leader_epoch && isr.iter().any(|id| !maximal.contains(id)) {
                return Err(format!(
                    "ReplicationQuorumSuperset: b{leader} waits for {maximal:?} and in sync are {isr:?}"
                ));
            }
        }
        for broker in self.brokers.values().filter(|broker| broker.up) {
            let replica = &broker.replicas[partition];
            if replica.high_watermark > history.committed()
                || replica.high_watermark > replica.disk.live().log.end()
            {
                return Err(format!(
                    "ValidFetcherState: b{} believes that {} are committed",
                    broker.id, replica.high_watermark
                ));
            }
        }
        Ok(())
    }
}

fn terms(now_ms: i64, rules: Rules, brokers: &Brokers) -> Terms<'_> {
    Terms { now_ms, lag_time_max_ms: LAG_TIME_MAX_MS, min_insync_replicas: rules.min_isr, brokers }
}

fn partition_of(image: &Image, partition: usize) -> Option<&PartitionImage> {
    image.topics.get("t")?.partition(i32::try_from(partition).unwrap_or(0))
}

fn leader_of(image: &Image, partition: usize) -> Option<NodeId> {
    partition_of(image, partition).map(|partition| partition.leader).filter(|leader| *leader >= 0)
}
