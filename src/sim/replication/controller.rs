//! The active controller, and the metadata log behind it.

use std::sync::Arc;

use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::error::ErrorCode;
use crate::log::IsrAccepted;
use crate::metadata::command::{
    AlteredPartition, Heartbeat, IsrChange, NewTopic, PartitionQuota, Registration,
};
use crate::metadata::controller::{
    Context, Decision, Settings, SoftState, bootstrap, brokers, features, next_deadline_ms, partitions, tick,
    topics,
};
use crate::metadata::image::{Endpoint, Image};
use crate::metadata::record::Record;
use crate::replication::lifecycle::HeartbeatReply;
use crate::sim::random::Random;
use crate::types::{NodeId, Offset};

/// What a broker asks.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Register { life: u32, previous_epoch: i64 },
    Heartbeat(Heartbeat),
    AlterPartition { broker_epoch: i64, change: IsrChange },
}

/// What it is told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Registered(Result<i64, ErrorCode>),
    Heartbeat(Result<HeartbeatReply, ErrorCode>),
    /// The error of all, or of the partition, or its new state.
    Altered(Result<Result<IsrAccepted, ErrorCode>, ErrorCode>),
}

/// An answer that waits until what it rests on is committed.
struct Pending<T> {
    end: Offset,
    told: Told,
    who: T,
}

/// The controller that is active now. What an older one had decided and not committed is gone.
pub(super) struct Controller<T> {
    settings: Settings,
    log: Vec<Record>,
    head: Image,
    committed: Image,
    soft: SoftState,
    random: Random,
    pending: Vec<Pending<T>>,
}

impl<T> Controller<T> {
    /// A controller of brokers that are not registered yet, and of one topic.
    pub(super) fn new(random: Random, min_isr: i32, assignments: &[(i32, Vec<NodeId>)]) -> Self {
        let config = BrokerConfig { broker_session_timeout_ms: 3_000, ..BrokerConfig::default() };
        let settings = Settings {
            node_id: 1,
            cluster_id: "c".into(),
            features: features::supported(),
            config: Arc::new(config),
        };
        let soft = SoftState::activate(&Image::empty(), &settings, 0);
        let mut controller = Self {
            settings,
            log: Vec::new(),
            head: Image::empty(),
            committed: Image::empty(),
            soft,
            random,
            pending: Vec::new(),
        };
        let bootstrap = features::activate(&controller.head, false, &bootstrap::latest(), min_isr);
        controller.write(bootstrap);
        // A topic is made of registered brokers.
        for (_, replicas) in assignments {
            for id in replicas {
                let epoch =
                    controller.decide(0, |context| brokers::register(context, &registration(*id, 0, -1)));
                let epoch = epoch.unwrap_or(-1);
                drop(controller.decide(0, |context| brokers::unfence(context, *id, epoch)));
            }
        }
        let topic = NewTopic {
            assignments: assignments.to_vec(),
            configs: vec![("min.insync.replicas".to_owned(), Some(min_isr.to_string()))],
            ..NewTopic::with_defaults("t")
        };
        let created =
            controller.decide(0, |context| topics::create(context, &[topic], false, &PartitionQuota::NONE));
        assert!(created.iter().all(Result::is_ok), "{created:?}");
        controller.committed = controller.head.clone();
        controller
    }

    /// What is decided.
    pub(super) fn head(&self) -> &Image {
        &self.head
    }

    /// What is committed.
    pub(super) fn committed(&self) -> &Image {
        &self.committed
    }

    /// The committed records after an offset, up to another.
    pub(super) fn records(&self, after: Offset, up_to: Offset) -> &[Record] {
        let place = |offset: Offset| usize::try_from(offset + 1).unwrap_or(0).min(self.log.len());
        self.log.get(place(after)..place(up_to)).unwrap_or_default()
    }

    fn decide<R>(&mut self, now_ms: i64, decide: impl FnOnce(&mut Context<'_>) -> Decision<R>) -> R {
        let next_offset = Offset::try_from(self.log.len()).unwrap_or(Offset::MAX);
        let Self { head, settings, random, soft, .. } = self;
        let decision = decide(&mut Context { image: head, next_offset, settings, random, now_ms, soft });
        self.write(decision.records);
        decision.reply
    }

    fn write(&mut self, records: Vec<Record>) {
        for record in records {
            let applied = self.head.apply(&record);
            assert!(applied.is_ok(), "a decision does not fit: {applied:?} {record:?}");
            self.head.offset += 1;
            self.log.push(record);
        }
    }

    /// Decides what a broker asks; it is told when that is committed.
    pub(super) fn ask(&mut self, now_ms: i64, from: NodeId, ask: Ask, who: T) {
        let told = match ask {
            Ask::Register { life, previous_epoch } => {
                let registration = registration(from, life, previous_epoch);
                let answer = self.decide(now_ms, |context| brokers::register(context, &registration));
                Told::Registered(answer.map_err(|error| error.code))
            }
            Ask::Heartbeat(heartbeat) => {
                let answer = self.decide(now_ms, |context| brokers::heartbeat(context, &heartbeat));
                let reply = |reply: crate::metadata::command::HeartbeatReply| HeartbeatReply {
                    is_caught_up: reply.is_caught_up,
                    is_fenced: reply.is_fenced,
                    should_shut_down: reply.should_shut_down,
                };
                Told::Heartbeat(answer.map(reply).map_err(|error| error.code))
            }
            Ask::AlterPartition { broker_epoch, change } => {
                let changes = [change];
                let answer =
                    self.decide(now_ms, |context| partitions::alter(context, from, broker_epoch, &changes));
                Told::Altered(answer.map_err(|error| error.code).map(|mut results| {
                    let altered = results.remove(0).map_err(|error| error.code)?;
                    let AlteredPartition { leader_epoch, partition_epoch, isr, .. } = altered;
                    Ok(IsrAccepted { leader_epoch, partition_epoch, isr })
                }))
            }
        };
        self.pending.push(Pending { end: self.head.offset, told, who });
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now_ms: i64) {
        for _ in 0..20 {
            if next_deadline_ms(&self.head, &self.soft).is_none_or(|due_ms| due_ms > now_ms) {
                return;
            }
            self.decide(now_ms, tick);
        }
    }

    /// Everything that was decided is committed; gives who is told what.
    pub(super) fn commit(&mut self) -> Vec<(T, Told)> {
        self.committed = self.head.clone();
        let committed = self.committed.offset;
        let (done, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.end <= committed);
        self.pending = open;
        done.into_iter().map(|pending| (pending.who, pending.told)).collect()
    }

    /// Another controller takes over, from what is committed.
    pub(super) fn fail_over(&mut self, now_ms: i64) {
        self.pending.clear();
        self.log.truncate(usize::try_from(self.committed.offset + 1).unwrap_or(0));
        self.head = self.committed.clone();
        self.soft = SoftState::activate(&self.head, &self.settings, now_ms);
    }
}

/// What tells one life of a broker from another.
pub(super) fn incarnation(id: NodeId, life: u32) -> Uuid {
    Uuid::from_u128((u128::from(id.unsigned_abs()) << 64) + 1_000 + u128::from(life))
}

fn registration(broker_id: NodeId, life: u32, previous_broker_epoch: i64) -> Registration {
    let id = u128::from(broker_id.unsigned_abs());
    Registration {
        broker_id,
        cluster_id: "c".to_owned(),
        incarnation_id: incarnation(broker_id, life),
        endpoints: vec![Endpoint { listener: "P".into(), host: "h".into(), port: 1, security_protocol: 0 }],
        features: features::supported(),
        rack: None,
        log_dirs: vec![Uuid::from_u128(1_000_000 + id)],
        previous_broker_epoch,
        kept_everything: false,
    }
}
