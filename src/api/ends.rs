//! Where partitions end, whoever leads them (`NetworkPartitionMetadataClient`).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

use super::context::BrokerHandles;
use super::{resolve, text};
use crate::error::ErrorCode;
use crate::log::{Isolation, OffsetQuery};
use crate::metadata::Image;
use crate::protocol::messages::ListOffsetsRequest;
use crate::types::{NodeId, Offset, TopicPartition};

/// The versions that brokers ask with: since 5 every error is told.
const VERSIONS: std::ops::RangeInclusive<i16> = 5..=11;
/// The special time of the end.
const LATEST: i64 = -1;
/// Asks as consumers do.
const CONSUMER: BrokerId = BrokerId(-1);

/// The end that consumers see, of each partition.
pub(super) type Ends = BTreeMap<TopicPartition, Result<Offset, ErrorCode>>;

/// Finds the ends of these partitions: here, and with other brokers, each of which is asked once.
pub(super) async fn ends(broker: &BrokerHandles, partitions: Vec<TopicPartition>) -> Ends {
    let image = broker.metadata.image();
    let mut by_leader = BTreeMap::<NodeId, Vec<TopicPartition>>::new();
    let mut ends = Ends::new();
    for of in partitions {
        let leader = image.topics.get(&of.topic).and_then(|topic| topic.partition(of.partition));
        match leader.map(|partition| partition.leader) {
            None => {
                ends.insert(of, Err(ErrorCode::UnknownTopicOrPartition));
            }
            Some(leader) if leader == broker.node_id => {
                let end = own_end(broker, &image, &of);
                ends.insert(of, end);
            }
            Some(leader) => by_leader.entry(leader).or_default().push(of),
        }
    }
    let asked = by_leader.into_iter().map(|(leader, partitions)| ask(broker, &image, leader, partitions));
    ends.extend(join_all(asked).await.into_iter().flatten());
    ends
}

fn own_end(broker: &BrokerHandles, image: &Image, of: &TopicPartition) -> Result<Offset, ErrorCode> {
    let partition = resolve::named_partition(broker, image, &of.topic, of.partition)?;
    let query = OffsetQuery::Latest(Isolation::ReadUncommitted);
    let found = partition.offset_for(query).map_err(|error| error.code)?;
    found.map(|found| found.offset).ok_or(ErrorCode::OffsetNotAvailable)
}

async fn ask(broker: &BrokerHandles, image: &Image, leader: NodeId, partitions: Vec<TopicPartition>) -> Ends {
    let failed = |code: ErrorCode| partitions.iter().map(|of| (of.clone(), Err(code))).collect();
    let Some(peer) = broker.offset_peers.to(image, leader) else {
        return failed(ErrorCode::LeaderNotAvailable);
    };
    let mut topics = BTreeMap::<&Arc<str>, Vec<ListOffsetsPartition>>::new();
    for of in &partitions {
        let asked = ListOffsetsPartition::default().with_partition_index(of.partition).with_timestamp(LATEST);
        topics.entry(&of.topic).or_default().push(asked);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        ListOffsetsTopic::default().with_name(text::wire(topic).into()).with_partitions(partitions)
    });
    let request = ListOffsetsRequest::default().with_replica_id(CONSUMER).with_topics(topics.collect());
    let timeout_ms = i64::from(broker.metadata.broker_config().request_timeout_ms);
    let answered = match peer.call(request, VERSIONS, timeout_ms).await {
        Ok(answered) => answered.response,
        Err(error) => {
            tracing::warn!(broker = leader, %error, "the ends of partitions are not known");
            return failed(ErrorCode::NetworkException);
        }
    };
    let mut ends: Ends = failed(ErrorCode::UnknownServerError);
    for topic in answered.topics {
        let name = text::shared(&topic.name);
        for found in topic.partitions {
            let of = TopicPartition { topic: Arc::clone(&name), partition: found.partition_index };
            let end = ErrorCode::try_from_code(found.error_code).map_or(Ok(found.offset), Err);
            ends.entry(of).and_modify(|known| *known = end);
        }
    }
    ends
}
