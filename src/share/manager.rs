//! The share partitions whose topic partitions this broker leads (Kafka's `SharePartitionManager`).
//!
//! A share partition is loaded when a member first fetches it, and forgotten when this broker no longer leads it, its
//! topic is deleted, or somebody else has its state. When the last member of a group has left this broker, those of the
//! group are forgotten too; what is known of them is with the share coordinator.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::leader::{LedSharePartition, ShareGroupConfigs, ShareGroupSettings, Shared, StateKeeper};
use super::partition::Acknowledgement;
use super::sessions::{SessionTicket, ShareMember, ShareSessions, TopicIdPartition};
use super::types::SharePartition;
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode};
use crate::log::Partition;
use crate::metrics::Sheet;

/// Share fetches that read from the disk at the same time.
const STORE_READS_MAX: usize = 2;

/// What a manager is made with.
pub struct ShareOptions {
    /// Where the state is kept.
    pub keeper: Arc<dyn StateKeeper>,
    /// The configurations of groups.
    pub configs: Arc<dyn ShareGroupConfigs>,
    /// Tells the time.
    pub clock: Clock,
    /// No more sessions than this.
    pub sessions_max: usize,
    /// Cancelled when the broker stops.
    pub stopping: CancellationToken,
}

/// The share partitions of a broker, and the sessions of the members that fetch from them.
pub struct SharePartitionManager {
    pub(super) shared: Arc<Shared>,
    sessions: ShareSessions,
    partitions: Mutex<HashMap<SharePartition, Arc<LedSharePartition>>>,
    pub(super) store_reads: Semaphore,
}

impl SharePartitionManager {
    /// A manager that knows of nothing yet.
    pub fn new(options: ShareOptions) -> Arc<Self> {
        let ShareOptions { keeper, configs, clock, sessions_max, stopping } = options;
        let metrics = Arc::default();
        Arc::new(Self {
            shared: Arc::new(Shared { keeper, configs, clock, metrics, stopping }),
            sessions: ShareSessions::new(sessions_max),
            partitions: Mutex::default(),
            store_reads: Semaphore::new(STORE_READS_MAX),
        })
    }

    /// The sessions of members.
    pub fn sessions(&self) -> &ShareSessions {
        &self.sessions
    }

    /// The configuration of a group.
    pub fn settings(&self, group_id: &str) -> ShareGroupSettings {
        self.shared.configs.of(group_id)
    }

    /// Takes what a member says of records that it holds in one partition; what is returned tells when it is written.
    ///
    /// # Errors
    /// Those of the share partition; `UNKNOWN_TOPIC_OR_PARTITION` where nothing was fetched from it.
    pub fn acknowledge(
        &self,
        member: &ShareMember,
        (topic_id, partition): TopicIdPartition,
        acknowledgements: &[Acknowledgement],
    ) -> Result<PendingAcknowledgement, ApiError> {
        let key = SharePartition { group_id: Arc::clone(&member.group_id), topic_id, partition };
        let led = self.partitions.lock().get(&key).cloned();
        let led = led.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if !led.is_led() {
            self.forget(&led, ErrorCode::NotLeaderOrFollower);
            return Err(ErrorCode::NotLeaderOrFollower.into());
        }
        let limits = self.settings(&member.group_id).limits;
        let written = led.acknowledge(&member.member_id, acknowledgements, &limits)?;
        for one in acknowledgements {
            self.shared.metrics.acknowledged(&one.types, one.last - one.first + 1);
        }
        Ok(PendingAcknowledgement(written))
    }

    /// A member leaves: its session ends, and others get what it held.
    ///
    /// # Errors
    /// `SHARE_SESSION_NOT_FOUND`.
    pub fn release_session(&self, member: &ShareMember) -> Result<(), ErrorCode> {
        let partitions = self.sessions.remove(member).ok_or(ErrorCode::ShareSessionNotFound)?;
        self.release(member, &partitions);
        Ok(())
    }

    /// The connection is closed over which a session began.
    pub fn disconnected(&self, ticket: &SessionTicket) {
        if let Some(partitions) = self.sessions.disconnected(ticket) {
            self.release(&ticket.member, &partitions);
        }
    }

    fn release(&self, member: &ShareMember, partitions: &[TopicIdPartition]) {
        let limits = self.settings(&member.group_id).limits;
        for (topic_id, partition) in partitions.iter().copied() {
            let key = SharePartition { group_id: Arc::clone(&member.group_id), topic_id, partition };
            let led = self.partitions.lock().get(&key).cloned();
            if let Some(led) = led {
                led.release(&member.member_id, &limits);
            }
        }
    }

    /// Forgets everything, where the cluster does not allow share groups any more.
    pub fn clear(&self) {
        self.sessions.clear();
        self.forget_where(|_| true);
    }

    /// Forgets share partitions that this broker does not lead any more, or whose group has left it.
    pub fn forget_others(&self) {
        if self.partitions.lock().is_empty() {
            self.shared.metrics.keep_groups(|_| false);
            return;
        }
        let groups = self.sessions.groups();
        // A fetch that begins, or waits, has it too.
        let is_left = |led: &Arc<LedSharePartition>| {
            !groups.contains(&led.key.group_id) && Arc::strong_count(led) == 1 && led.is_idle()
        };
        self.forget_where(|led| !led.is_led() || led.is_over() || is_left(led));
        let left: HashSet<Arc<str>> =
            self.partitions.lock().keys().map(|key| Arc::clone(&key.group_id)).collect();
        self.shared.metrics.keep_groups(|group_id| left.contains(group_id));
    }

    fn forget_where(&self, is_over: impl Fn(&Arc<LedSharePartition>) -> bool) {
        let mut forgotten = Vec::new();
        self.partitions.lock().retain(|_, led| {
            let forget = is_over(led);
            if forget {
                forgotten.push(Arc::clone(led));
            }
            !forget
        });
        for led in forgotten {
            led.fence(ErrorCode::NotLeaderOrFollower.into());
        }
    }

    /// The share partition of a partition that this broker leads, which is loaded if it is not yet.
    pub(super) fn led(&self, group_id: &Arc<str>, log: &Arc<Partition>) -> Arc<LedSharePartition> {
        let key = SharePartition {
            group_id: Arc::clone(group_id),
            topic_id: log.topic_id(),
            partition: log.index(),
        };
        let mut partitions = self.partitions.lock();
        match partitions.get(&key).filter(|led| !led.is_over()) {
            Some(led) => Arc::clone(led),
            None => {
                let led = LedSharePartition::load(key.clone(), Arc::clone(log), &self.shared);
                partitions.insert(key, Arc::clone(&led));
                led
            }
        }
    }

    /// Forgets a share partition that can not be used.
    pub(super) fn forget(&self, led: &Arc<LedSharePartition>, code: ErrorCode) {
        let mut partitions = self.partitions.lock();
        if partitions.get(&led.key).is_some_and(|known| Arc::ptr_eq(known, led)) {
            partitions.remove(&led.key);
        }
        drop(partitions);
        led.fence(code.into());
    }

    /// Puts the metrics of sessions, groups and share partitions on a sheet.
    pub fn put_metrics(&self, sheet: &Sheet) {
        let counts = self.sessions.counts();
        self.shared.metrics.put_on(sheet, (counts.sessions, counts.partitions, counts.evicted));
        // Fetches need the lock.
        let led: Vec<_> = self.partitions.lock().values().cloned().collect();
        for led in led {
            let labels = [&*led.key.group_id, &**led.log.topic(), &led.key.partition.to_string()];
            led.counts.put_on(sheet, &labels, led.in_flight());
        }
    }

    /// How many share partitions there are of a topic.
    pub fn partitions_of(&self, topic_id: Uuid) -> usize {
        self.partitions.lock().keys().filter(|key| key.topic_id == topic_id).count()
    }
}

/// An acknowledgement that is on its way to the share coordinator.
#[derive(Debug)]
pub struct PendingAcknowledgement(Option<oneshot::Receiver<Result<(), ApiError>>>);

impl PendingAcknowledgement {
    /// Waits until it is written.
    ///
    /// # Errors
    /// Where it could not be: the member holds the records as before.
    pub async fn written(self) -> Result<(), ApiError> {
        match self.0 {
            None => Ok(()),
            // Nobody writes any more: the partition went to another broker.
            Some(written) => written.await.unwrap_or_else(|_| Err(ErrorCode::NotLeaderOrFollower.into())),
        }
    }
}
