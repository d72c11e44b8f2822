//! TxnOffsetCommit (28): a producer remembers how far a group has come, as part of its transaction.
//!
//! - The offsets count when the transaction is committed. Until then OffsetFetch can be asked not to tell others
//!   (`require_stable`).
//! - Since version 5 the first commit adds the group's offsets to the transaction (KIP-890); before, AddOffsetsToTxn has
//!   to have done it.
//! - Version 3 brings member, generation and instance, which are checked where they are given.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};

use super::context::{Context, Disconnect};
use super::text;
use super::transactional::{self, Supports};
use crate::error::ErrorCode;
use crate::group::command::{
    CommitOffsets, CommitTransactionalOffsets, CommittedPartition, CommittedTopic, TopicOutcome,
    TransactionalCommit,
};
use crate::metadata::Image;
use crate::protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use crate::transaction::command::Producer;
use crate::types::{CONSUMER_OFFSETS_TOPIC, TopicPartition};

/// The first versions that know TRANSACTION_ABORTABLE, and that add the group's offsets by themselves.
const ABORTABLE_FROM: i16 = 4;
const EPOCH_BUMP_FROM: i16 = 5;
/// The first version that retries when the coordinator is loading; older clients end (KAFKA-7296).
const LOADING_FROM: i16 = 2;

pub(super) async fn handle(
    context: &Context,
    request: TxnOffsetCommitRequest,
    version: i16,
) -> Result<TxnOffsetCommitResponse, Disconnect> {
    let image = context.broker.metadata.image();
    let topics: Vec<_> = request.topics.iter().filter_map(|topic| existing(&image, topic)).collect();
    let outcomes = if topics.is_empty() {
        Ok(HashMap::new())
    } else {
        commit(context, &request, topics, version).await.map(by_partition)
    };
    let error = |topic: &str, index: i32| {
        let exists = image.topics.get(topic).is_some_and(|topic| topic.partition(index).is_some());
        let error = match &outcomes {
            _ if !exists => Some(ErrorCode::UnknownTopicOrPartition),
            Ok(outcomes) => outcomes.get(&(text::shared(topic), index)).copied().flatten(),
            Err(code) => Some(*code),
        };
        let is_loading = error == Some(ErrorCode::CoordinatorLoadInProgress);
        if is_loading && version < LOADING_FROM { Some(ErrorCode::CoordinatorNotAvailable) } else { error }
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(text::wire_error(error(&topic.name, index)))
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    Ok(TxnOffsetCommitResponse::default().with_topics(topics.collect()))
}

async fn commit(
    context: &Context,
    request: &TxnOffsetCommitRequest,
    topics: Vec<CommittedTopic>,
    version: i16,
) -> Result<Vec<TopicOutcome>, ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let supports = Supports::of(version, ABORTABLE_FROM, EPOCH_BUMP_FROM);
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let mut commit = CommitTransactionalOffsets {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        supports_epoch_bump: supports.epoch_bump(),
        verified_at: None,
        offsets: CommitOffsets {
            group_id: text::shared(&request.group_id),
            generation_id: request.generation_id,
            member_id: text::shared(&request.member_id),
            group_instance_id: text::shared_optional(request.group_instance_id.as_ref()),
            retention_time_ms: None,
            unknown_group: ErrorCode::GroupIdNotFound,
            topics,
        },
    };
    let broker = &context.broker;
    if !broker.verifies_transactions() && !supports.epoch_bump() {
        commit.verified_at = Some(u64::MAX);
    }
    loop {
        match broker.groups.commit_transactional_offsets(commit.clone()).await? {
            TransactionalCommit::Done(outcomes) => return Ok(outcomes),
            TransactionalCommit::AskCoordinator(number) if commit.verified_at.is_none() => {
                let partition = broker.groups.partition_for(&request.group_id);
                let partitions = vec![TopicPartition { topic: CONSUMER_OFFSETS_TOPIC.into(), partition }];
                let id = text::shared(&request.transactional_id);
                let refused = transactional::verify(broker, id, producer, partitions, supports).await;
                if let Some((_, code)) = refused.first() {
                    return Err(*code);
                }
                commit.verified_at = Some(number);
            }
            TransactionalCommit::AskCoordinator(_) => return Err(ErrorCode::InvalidTxnState),
        }
    }
}

fn existing(image: &Image, topic: &TxnOffsetCommitRequestTopic) -> Option<CommittedTopic> {
    let found = image.topics.get(&topic.name)?;
    let committed = |asked: &TxnOffsetCommitRequestPartition| {
        found.partition(asked.partition_index).map(|_| CommittedPartition {
            partition: asked.partition_index,
            offset: asked.committed_offset,
            leader_epoch: asked.committed_leader_epoch,
            metadata: asked.committed_metadata.as_ref().map(ToString::to_string),
        })
    };
    let partitions: Vec<_> = topic.partitions.iter().filter_map(committed).collect();
    (!partitions.is_empty()).then(|| CommittedTopic {
        topic: found.name.clone(),
        topic_id: found.id,
        partitions,
    })
}

fn by_partition(outcomes: Vec<TopicOutcome>) -> HashMap<(Arc<str>, i32), Option<ErrorCode>> {
    let of_topic = |outcome: TopicOutcome| {
        let topic = outcome.topic;
        outcome.partitions.into_iter().map(move |(index, error)| ((Arc::clone(&topic), index), error))
    };
    outcomes.into_iter().flat_map(of_topic).collect()
}
