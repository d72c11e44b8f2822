//! Who fetches, and what that means: followers read to the end of what the leader has and tell how far they are;
//! consumers may be sent to a replica in their rack (KIP-392).

use std::sync::Arc;

use crate::api::context::{BrokerHandles, Context};
use crate::api::fetch_session::{FetchContext, Instead, Resolved, Target};
use crate::api::resolve;
use crate::error::ErrorCode;
use crate::log::{ANY_BROKER_EPOCH, Partition, ReadUpTo, ReplicaFetch};
use crate::metadata::{Image, TopicImage};
use crate::protocol::messages::FetchRequest;
use crate::types::NodeId;

/// The replica id of consumers (`FetchRequest.CONSUMER_REPLICA_ID`).
const CONSUMER: i32 = -1;
/// The first version that tells the fetcher's broker epoch.
const REPLICA_STATE_FROM: i16 = 15;
/// The first version whose consumers can be sent to another replica.
const RACK_FROM: i16 = 11;
/// What a reader of committed records asks for.
const READ_COMMITTED: i8 = 1;

/// Who fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A consumer; whether it may read from a replica that does not lead.
    Consumer { from_any: bool, isolation: ReadUpTo },
    /// Another broker.
    Follower { id: NodeId, broker_epoch: i64 },
    /// A tool that looks at the log as it is.
    Debugger,
}

impl Reader {
    pub(super) fn of(request: &FetchRequest, version: i16) -> Self {
        let (id, broker_epoch) = if version >= REPLICA_STATE_FROM {
            (request.replica_state.replica_id.0, request.replica_state.replica_epoch)
        } else {
            (request.replica_id.0, ANY_BROKER_EPOCH)
        };
        match id {
            0.. => Self::Follower { id, broker_epoch },
            CONSUMER => {
                let committed = request.isolation_level == READ_COMMITTED;
                let isolation = if committed { ReadUpTo::LastStable } else { ReadUpTo::HighWatermark };
                Self::Consumer { from_any: version >= RACK_FROM, isolation }
            }
            _ => Self::Debugger,
        }
    }

    /// How far it may read.
    pub(super) fn upto(self) -> ReadUpTo {
        match self {
            Self::Consumer { isolation, .. } => isolation,
            Self::Follower { .. } | Self::Debugger => ReadUpTo::LogEnd,
        }
    }

    pub(super) fn is_follower(self) -> bool {
        matches!(self, Self::Follower { .. })
    }

    /// The log that it reads from.
    pub(super) fn resolve(self, broker: &BrokerHandles, topic: &Arc<TopicImage>, index: i32) -> Resolved {
        match self {
            Self::Consumer { from_any: false, .. } | Self::Follower { .. } => {
                resolve::partition(broker, topic, index)
            }
            Self::Consumer { from_any: true, .. } | Self::Debugger => resolve::replica(broker, topic, index),
        }
    }
}

/// What is done once for each partition of a request, before it is read.
pub(super) fn prepare(
    context: &Context,
    image: &Image,
    fetch: &mut FetchContext,
    (reader, rack): (Reader, &str),
) {
    match reader {
        Reader::Follower { id, broker_epoch } => {
            for target in &mut fetch.targets {
                note_follower(&context.broker, target, id, broker_epoch);
            }
        }
        Reader::Consumer { .. } => {
            if !rack.is_empty() && context.broker.metadata.broker_config().selects_replicas_by_rack() {
                for target in &mut fetch.targets {
                    let preferred = target.partition.as_ref().ok().and_then(|partition| {
                        preferred_replica(image, partition, target.wanted.fetch_offset, rack)
                    });
                    target.instead = preferred.map(Instead::Prefer);
                }
            }
        }
        Reader::Debugger => {}
    }
}

fn note_follower(broker: &BrokerHandles, target: &mut Target, replica: NodeId, broker_epoch: i64) {
    let Ok(partition) = &target.partition else { return };
    let wanted = &target.wanted;
    let noted = partition.replica_fetch(&ReplicaFetch {
        replica,
        broker_epoch,
        offset: wanted.fetch_offset,
        log_start: wanted.log_start,
        current_leader_epoch: wanted.current_leader_epoch,
        last_fetched_epoch: wanted.last_fetched_epoch,
    });
    match noted {
        Ok(diverging) => {
            let throttled = || broker.replicas.holds_back(partition, replica).then_some(Instead::Throttled);
            let diverging = diverging.map(|(epoch, end)| Instead::Diverging(epoch, end));
            target.instead = diverging.or_else(throttled);
        }
        Err(code) => {
            let code = if partition.is_deleted() { ErrorCode::UnknownTopicOrPartition } else { code };
            target.partition = Err(code);
        }
    }
}

/// The replica in sync in this rack that is the most caught up, if the leader, which this broker has to be, is in
/// another one (Kafka's `RackAwareReplicaSelector`).
fn preferred_replica(image: &Image, partition: &Partition, offset: i64, rack: &str) -> Option<NodeId> {
    let is_near = |id: &NodeId| {
        image.brokers.get(id).is_some_and(|broker| !broker.fenced && broker.rack.as_deref() == Some(rack))
    };
    let preferred = partition.leading(|leadership, _| {
        if is_near(&leadership.node_id()) {
            return None;
        }
        let near = leadership.isr().iter().filter(|id| is_near(id));
        let holds = near.filter_map(|id| {
            let (start, end) = leadership.follower_range(*id)?;
            (start..=end).contains(&offset).then(|| (end, leadership.caught_up_ms(*id), *id))
        });
        holds.max_by_key(|(end, caught_up_ms, _)| (*end, *caught_up_ms)).map(|(_, _, id)| id)
    });
    preferred.flatten()
}
