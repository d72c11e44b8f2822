//! Requests to the share coordinators of other brokers: one for each group, with everything of one kind that is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::{
    delete_share_group_state_request as delete, initialize_share_group_state_request as initialize,
    read_share_group_state_request as read, read_share_group_state_response,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Question;
use crate::client::{ClientError, Peer};
use crate::error::{ApiError, ErrorCode};
use crate::protocol::messages::read_share_group_state_summary as summary;
use crate::protocol::messages::write_share_group_state as write;
use crate::protocol::messages::{
    DeleteShareGroupStateRequest, InitializeShareGroupStateRequest, ReadShareGroupStateRequest,
    ReadShareGroupStateSummaryRequest, Request, WriteShareGroupStateRequest,
};
use crate::share::state::command::{Answer, Ask, Reply};
use crate::share::types::{PartitionState, StateBatch, StateSummary, StateUpdate};

/// How many kinds of requests there are.
pub(super) const KINDS: usize = 5;

/// The kind of request that asks this.
pub(super) fn kind(ask: &Ask) -> usize {
    match ask {
        Ask::Initialize { .. } => 0,
        Ask::Read { .. } => 1,
        Ask::Write(_) => 2,
        Ask::Delete => 3,
        Ask::ReadSummary { .. } => 4,
    }
}

/// The answers of a response, by topic and partition.
type Replies = HashMap<(Uuid, i32), Reply>;

/// Asks a broker all these, which are of one kind, and answers whoever waits.
pub(super) async fn ask(peer: Option<Arc<Peer>>, questions: Vec<Question>, timeout_ms: i64) {
    let Some(peer) = peer else {
        return answer_all(questions, ErrorCode::CoordinatorNotAvailable);
    };
    let mut by_group = BTreeMap::<Arc<str>, Vec<Question>>::new();
    for question in questions {
        by_group.entry(Arc::clone(&question.of.group_id)).or_default().push(question);
    }
    let asked = by_group.into_iter().map(|(group_id, questions)| {
        let peer = &peer;
        async move {
            match call(peer, &group_id, &questions, timeout_ms).await {
                Ok(replies) => answer(questions, replies),
                Err(error) => {
                    tracing::debug!(%error, group = %group_id, "a share coordinator does not answer");
                    answer_all(questions, told(&error));
                }
            }
        }
    });
    join_all(asked).await;
}

fn told(error: &ClientError) -> ErrorCode {
    match error {
        ClientError::TimedOut(_) => ErrorCode::RequestTimedOut,
        ClientError::Unreachable { .. } | ClientError::Disconnected { .. } => ErrorCode::NetworkException,
        ClientError::Unsupported { .. } => ErrorCode::UnsupportedVersion,
        ClientError::Malformed(_) | ClientError::Unencodable(_) => ErrorCode::UnknownServerError,
    }
}

fn answer(questions: Vec<Question>, mut replies: Replies) {
    for question in questions {
        let reply = replies.remove(&(question.of.topic_id, question.of.partition));
        // A caller that has given up does not need its answer.
        let _ = question.answer.send(reply.unwrap_or_else(|| Err(ErrorCode::UnknownServerError.into())));
    }
}

fn answer_all(questions: Vec<Question>, code: ErrorCode) {
    for question in questions {
        // A caller that has given up does not need its answer.
        let _ = question.answer.send(Err(code.into()));
    }
}

async fn call(
    peer: &Peer,
    group_id: &str,
    questions: &[Question],
    timeout_ms: i64,
) -> Result<Replies, ClientError> {
    match questions.first().map(|question| &question.ask) {
        None => Ok(Replies::new()),
        Some(Ask::Initialize { .. }) => {
            let response = send(peer, initialize_request(group_id, questions), timeout_ms).await?;
            let results = response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions));
            Ok(replies(results, |result| {
                let failed = failure(result.error_code, result.error_message.as_deref());
                (result.partition, failed.map_or(Ok(Answer::Done), Err))
            }))
        }
        Some(Ask::Read { .. }) => {
            let response = send(peer, read_request(group_id, questions), timeout_ms).await?;
            let results = response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions));
            Ok(replies(results, |result| (result.partition, state(result))))
        }
        Some(Ask::Write(_)) => {
            let response = send(peer, write_request(group_id, questions), timeout_ms).await?;
            let results = response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions));
            Ok(replies(results, |result| {
                let failed = failure(result.error_code, result.error_message.as_deref());
                (result.partition, failed.map_or(Ok(Answer::Done), Err))
            }))
        }
        Some(Ask::Delete) => {
            let response = send(peer, delete_request(group_id, questions), timeout_ms).await?;
            let results = response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions));
            Ok(replies(results, |result| {
                let failed = failure(result.error_code, result.error_message.as_deref());
                (result.partition, failed.map_or(Ok(Answer::Done), Err))
            }))
        }
        Some(Ask::ReadSummary { .. }) => {
            let response = send(peer, summary_request(group_id, questions), timeout_ms).await?;
            let results = response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions));
            Ok(replies(results, |result| (result.partition, in_short(&result))))
        }
    }
}

/// Every version that there is.
async fn send<R: Request + Send + 'static>(
    peer: &Peer,
    request: R,
    timeout_ms: i64,
) -> Result<R::Response, ClientError> {
    Ok(peer.call(request, R::VERSIONS, timeout_ms).await?.response)
}

fn replies<P>(topics: impl Iterator<Item = (Uuid, Vec<P>)>, reply: impl Fn(P) -> (i32, Reply)) -> Replies {
    let mut replies = Replies::new();
    for (topic_id, partitions) in topics {
        for partition in partitions {
            let (index, reply) = reply(partition);
            replies.insert((topic_id, index), reply);
        }
    }
    replies
}

fn failure(code: i16, message: Option<&str>) -> Option<ApiError> {
    let code = ErrorCode::try_from_code(code)?;
    Some(ApiError { code, message: message.map(str::to_owned) })
}

fn state(result: read_share_group_state_response::PartitionResult) -> Reply {
    if let Some(error) = failure(result.error_code, result.error_message.as_deref()) {
        return Err(error);
    }
    let batches = result.state_batches.iter().map(|batch| StateBatch {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
    });
    Ok(Answer::State(PartitionState {
        state_epoch: result.state_epoch,
        start_offset: result.start_offset,
        batches: batches.collect(),
    }))
}

fn in_short(result: &summary::ReadStateSummaryPartitionResult) -> Reply {
    if let Some(error) = failure(result.error_code, result.error_message.as_deref()) {
        return Err(error);
    }
    Ok(Answer::Summary(StateSummary {
        state_epoch: result.state_epoch,
        leader_epoch: result.leader_epoch,
        start_offset: result.start_offset,
        delivery_complete_count: result.delivery_complete_count,
    }))
}

/// What is asked, by topic.
fn by_topic<P>(questions: &[Question], partition: impl Fn(i32, &Ask) -> Option<P>) -> BTreeMap<Uuid, Vec<P>> {
    let mut topics = BTreeMap::<Uuid, Vec<P>>::new();
    for question in questions {
        let asked = partition(question.of.partition, &question.ask);
        topics.entry(question.of.topic_id).or_default().extend(asked);
    }
    topics
}

fn wire_group(group_id: &str) -> StrBytes {
    StrBytes::from_string(group_id.to_owned())
}

fn initialize_request(group_id: &str, questions: &[Question]) -> InitializeShareGroupStateRequest {
    let topics = by_topic(questions, |partition, ask| match ask {
        Ask::Initialize { state_epoch, start_offset } => Some(
            initialize::PartitionData::default()
                .with_partition(partition)
                .with_state_epoch(*state_epoch)
                .with_start_offset(*start_offset),
        ),
        Ask::Read { .. } | Ask::Write(_) | Ask::Delete | Ask::ReadSummary { .. } => None,
    });
    let topics = topics.into_iter().map(|(topic_id, partitions)| {
        initialize::InitializeStateData::default().with_topic_id(topic_id).with_partitions(partitions)
    });
    InitializeShareGroupStateRequest::default()
        .with_group_id(wire_group(group_id))
        .with_topics(topics.collect())
}

fn read_request(group_id: &str, questions: &[Question]) -> ReadShareGroupStateRequest {
    let topics = by_topic(questions, |partition, ask| match ask {
        Ask::Read { leader_epoch } => {
            Some(read::PartitionData::default().with_partition(partition).with_leader_epoch(*leader_epoch))
        }
        Ask::Initialize { .. } | Ask::Write(_) | Ask::Delete | Ask::ReadSummary { .. } => None,
    });
    let topics = topics.into_iter().map(|(topic_id, partitions)| {
        read::ReadStateData::default().with_topic_id(topic_id).with_partitions(partitions)
    });
    ReadShareGroupStateRequest::default().with_group_id(wire_group(group_id)).with_topics(topics.collect())
}

fn write_request(group_id: &str, questions: &[Question]) -> WriteShareGroupStateRequest {
    let topics = by_topic(questions, |partition, ask| match ask {
        Ask::Write(update) => Some(written(partition, update)),
        Ask::Initialize { .. } | Ask::Read { .. } | Ask::Delete | Ask::ReadSummary { .. } => None,
    });
    let topics = topics.into_iter().map(|(topic_id, partitions)| write::WriteStateData {
        topic_id,
        partitions,
        ..Default::default()
    });
    let (group_id, topics) = (group_id.to_owned(), topics.collect());
    WriteShareGroupStateRequest { group_id, topics, ..Default::default() }
}

fn written(partition: i32, update: &StateUpdate) -> write::WriteStatePartition {
    let batches = update.batches.iter().map(|batch| write::WriteStateBatch {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
        ..Default::default()
    });
    write::WriteStatePartition {
        partition,
        state_epoch: update.state_epoch,
        leader_epoch: update.leader_epoch,
        start_offset: update.start_offset,
        delivery_complete_count: update.delivery_complete_count,
        state_batches: batches.collect(),
        ..Default::default()
    }
}

fn delete_request(group_id: &str, questions: &[Question]) -> DeleteShareGroupStateRequest {
    let topics =
        by_topic(questions, |partition, _| Some(delete::PartitionData::default().with_partition(partition)));
    let topics = topics.into_iter().map(|(topic_id, partitions)| {
        delete::DeleteStateData::default().with_topic_id(topic_id).with_partitions(partitions)
    });
    DeleteShareGroupStateRequest::default().with_group_id(wire_group(group_id)).with_topics(topics.collect())
}

fn summary_request(group_id: &str, questions: &[Question]) -> ReadShareGroupStateSummaryRequest {
    let topics = by_topic(questions, |partition, ask| match ask {
        Ask::ReadSummary { leader_epoch } => Some(summary::ReadStateSummaryPartition {
            partition,
            leader_epoch: *leader_epoch,
            ..Default::default()
        }),
        Ask::Initialize { .. } | Ask::Read { .. } | Ask::Write(_) | Ask::Delete => None,
    });
    let topics = topics.into_iter().map(|(topic_id, partitions)| summary::ReadStateSummaryData {
        topic_id,
        partitions,
        ..Default::default()
    });
    let (group_id, topics) = (group_id.to_owned(), topics.collect());
    ReadShareGroupStateSummaryRequest { group_id, topics, ..Default::default() }
}
