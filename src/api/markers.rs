//! Where the markers that end transactions go: into the partitions of this broker, or to the brokers that lead them
//! (`TransactionMarkerChannelManager`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::peers::Peers;
use crate::client::Outbox;
use crate::error::ErrorCode;
use crate::group::coordinator::GroupCoordinator;
use crate::log::{LogManager, Marker, Ops, Origin};
use crate::metadata::{Image, Metadata};
use crate::protocol::messages::write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic};
use crate::protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use crate::transaction::markers::{MarkerSink, WrittenMarker};
use crate::types::{CONSUMER_OFFSETS_TOPIC, NodeId, ProducerId, TopicPartition};

/// The versions that brokers use among themselves.
const VERSIONS: std::ops::RangeInclusive<i16> = 1..=2;

/// The partitions of this broker, as far as markers are written to them.
pub(crate) struct OwnPartitions {
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) logs: Arc<LogManager>,
    pub(crate) groups: Arc<GroupCoordinator>,
}

/// The partition's leader, -1 where it has none.
fn leader(image: &Image, partition: &TopicPartition) -> Result<NodeId, ErrorCode> {
    let topic = image.topics.get(&partition.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let found = topic.partition(partition.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(found.leader)
}

impl MarkerSink for OwnPartitions {
    fn begin(&self, partition: &TopicPartition, marker: &Marker) -> Result<WrittenMarker, ErrorCode> {
        let image = self.metadata.image();
        if leader(&image, partition)? != self.metadata.node_id() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if &*partition.topic == CONSUMER_OFFSETS_TOPIC {
            return Ok(Box::pin(self.groups.end_transaction(partition.partition, *marker)?));
        }
        let topic_id = image.topics.get(&partition.topic).map(|topic| topic.id).unwrap_or_default();
        let log = self.logs.get(topic_id, partition.partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
        let pending = log.append_marker(marker, Origin::Internal, Ops::new()).map_err(|error| error.code)?;
        Ok(Box::pin(async move { pending.committed().await.map(drop).map_err(|error| error.code) }))
    }
}

/// A marker for a partition of another broker.
struct Remote {
    partition: TopicPartition,
    marker: Marker,
    written: oneshot::Sender<Result<(), ErrorCode>>,
}

/// All partitions of the cluster, as far as markers are written to them.
pub(crate) struct AllPartitions {
    own: Arc<OwnPartitions>,
    /// Two transactions of a producer can not stand in one request, whose answer names only the producer.
    remote: Arc<Outbox<Remote, (TopicPartition, ProducerId)>>,
}

impl AllPartitions {
    pub(crate) fn new(own: Arc<OwnPartitions>, peers: Peers, request_timeout_ms: i64) -> Self {
        let (peers, metadata) = (Arc::new(peers), Arc::clone(&own.metadata));
        let key = |remote: &Remote| (remote.partition.clone(), remote.marker.producer_id);
        let remote = Outbox::new(key, move |id, remotes| {
            let (peers, metadata) = (Arc::clone(&peers), Arc::clone(&metadata));
            Box::pin(async move { send(&peers, &metadata, id, remotes, request_timeout_ms).await })
        });
        Self { own, remote }
    }
}

impl MarkerSink for AllPartitions {
    fn begin(&self, partition: &TopicPartition, marker: &Marker) -> Result<WrittenMarker, ErrorCode> {
        let metadata = Arc::clone(&self.own.metadata);
        let image = metadata.image();
        let leader_id = leader(&image, partition)?;
        if leader_id == metadata.node_id() {
            return self.own.begin(partition, marker);
        }
        if image.brokers.get(&leader_id).is_none_or(|broker| broker.fenced) {
            return Err(ErrorCode::LeaderNotAvailable);
        }
        let (written, answer) = oneshot::channel();
        let (partition, marker) = (partition.clone(), *marker);
        self.remote.push(leader_id, Remote { partition: partition.clone(), marker, written });
        Ok(Box::pin(async move {
            tokio::select! {
                biased;
                answer = answer => answer.unwrap_or(Err(ErrorCode::NetworkException)),
                // A broker that hangs is not waited for once another one leads.
                () = leads_no_more(&metadata, &partition, leader_id) => Err(ErrorCode::NotLeaderOrFollower),
            }
        }))
    }
}

async fn leads_no_more(metadata: &Metadata, partition: &TopicPartition, leader_id: NodeId) {
    loop {
        let image = metadata.image();
        if leader(&image, partition) != Ok(leader_id) {
            return;
        }
        metadata.wait_for(image.offset + 1).await;
    }
}

async fn send(peers: &Peers, metadata: &Metadata, id: NodeId, remotes: Vec<Remote>, timeout_ms: i64) {
    let Some(peer) = peers.to(&metadata.image(), id) else {
        return answer(remotes, |_| Err(ErrorCode::LeaderNotAvailable));
    };
    match peer.call(request(&remotes), VERSIONS, timeout_ms).await {
        Ok(answered) => {
            let results = results(answered.response);
            answer(remotes, |remote| {
                let key = (remote.marker.producer_id, remote.partition.clone());
                results.get(&key).copied().unwrap_or(Err(ErrorCode::UnknownServerError))
            });
        }
        Err(error) => {
            tracing::warn!(broker = id, markers = remotes.len(), %error, "markers are sent again");
            answer(remotes, |_| Err(ErrorCode::NetworkException));
        }
    }
}

fn answer(remotes: Vec<Remote>, result: impl Fn(&Remote) -> Result<(), ErrorCode>) {
    for remote in remotes {
        let result = result(&remote);
        // Whoever wanted the marker may have given it up.
        let _ = remote.written.send(result);
    }
}

/// The partitions of each marker go together.
fn request(remotes: &[Remote]) -> WriteTxnMarkersRequest {
    let mut markers = HashMap::<Marker, BTreeMap<&Arc<str>, Vec<i32>>>::new();
    for remote in remotes {
        let topics = markers.entry(remote.marker).or_default();
        topics.entry(&remote.partition.topic).or_default().push(remote.partition.partition);
    }
    let markers = markers.into_iter().map(|(marker, topics)| {
        let topics = topics.into_iter().map(|(name, partition_indexes)| WritableTxnMarkerTopic {
            name: name.to_string(),
            partition_indexes,
            ..WritableTxnMarkerTopic::default()
        });
        WritableTxnMarker {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            transaction_result: marker.is_commit,
            topics: topics.collect(),
            coordinator_epoch: marker.coordinator_epoch,
            // Levels are small numbers.
            transaction_version: i8::try_from(marker.transaction_version).unwrap_or_default(),
            ..WritableTxnMarker::default()
        }
    });
    WriteTxnMarkersRequest { markers: markers.collect(), ..WriteTxnMarkersRequest::default() }
}

fn results(
    response: WriteTxnMarkersResponse,
) -> HashMap<(ProducerId, TopicPartition), Result<(), ErrorCode>> {
    let mut results = HashMap::new();
    for marker in response.markers {
        for topic in marker.topics {
            let name: Arc<str> = topic.name.into();
            for partition in topic.partitions {
                let index = partition.partition_index;
                let key = (marker.producer_id, TopicPartition { topic: Arc::clone(&name), partition: index });
                results.insert(key, ErrorCode::try_from_code(partition.error_code).map_or(Ok(()), Err));
            }
        }
    }
    results
}
