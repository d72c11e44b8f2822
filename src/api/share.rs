//! What ShareFetch and ShareAcknowledge have in common: who may ask, and what becomes of acknowledgements.

use futures_util::future::join_all;
use uuid::Uuid;

use super::context::Context;
use super::nodes;
use super::resolve::{self, TopicRef};
use super::share_groups::check_enabled;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Image;
use crate::protocol::messages::share_fetch::{
    ShareAcknowledgementBatch, ShareLeaderIdAndEpoch, ShareNodeEndpoint,
};
use crate::share::partition::Acknowledgement;
use crate::share::sessions::{ShareMember, TopicIdPartition};

/// As long as a UUID is as a text.
const MEMBER_ID_CHARS_MAX: usize = 36;
/// The first version in which records can be held for longer (KIP-1222).
const RENEW_FROM: i16 = 2;
const RENEW: i8 = 4;

/// Who asks, where it may.
///
/// # Errors
/// `UNSUPPORTED_VERSION` where there are no share groups, `INVALID_REQUEST` for a group or a member that can not be.
pub(super) fn member(
    context: &Context,
    group_id: Option<&str>,
    member_id: Option<&str>,
) -> Result<ShareMember, ErrorCode> {
    if let Err(disabled) = check_enabled(context) {
        context.broker.shares.clear();
        return Err(disabled.code);
    }
    let may_be = |id: &&str| !id.is_empty() && id.chars().count() <= MEMBER_ID_CHARS_MAX;
    match (group_id, member_id.filter(may_be)) {
        (Some(group_id), Some(member_id)) => {
            Ok(ShareMember { group_id: group_id.into(), member_id: member_id.into() })
        }
        _ => Err(ErrorCode::InvalidRequest),
    }
}

/// What a request says of the records of one partition.
pub(super) struct Acknowledged {
    pub(super) partition: TopicIdPartition,
    pub(super) batches: Vec<ShareAcknowledgementBatch>,
}

/// Takes all of it, and waits until it is written.
pub(super) async fn acknowledge(
    context: &Context,
    member: &ShareMember,
    all: Vec<Acknowledged>,
    (version, is_renew): (i16, bool),
) -> Vec<(TopicIdPartition, Result<(), ApiError>)> {
    let image = context.broker.metadata.image();
    let acknowledges = all.iter().any(|one| !one.batches.is_empty());
    let mut answers = Vec::with_capacity(all.len());
    let mut pending = Vec::new();
    for one in all {
        let outcome = check(context, &image, &one, version, is_renew);
        match outcome {
            Ok(()) if one.batches.is_empty() => {
                // Where nothing is acknowledged, Kafka says nothing of it.
                if acknowledges {
                    answers.push((one.partition, Ok(())));
                }
            }
            Ok(()) => {
                let batches: Vec<_> = one.batches.into_iter().map(acknowledgement).collect();
                count(context, &image, one.partition.0, false);
                match context.broker.shares.acknowledge(member, one.partition, &batches) {
                    Ok(writing) => pending.push(async move { (one.partition, writing.written().await) }),
                    Err(error) => answers.push((one.partition, Err(error))),
                }
            }
            Err(code) => answers.push((one.partition, Err(code.into()))),
        }
    }
    answers.extend(join_all(pending).await);
    for ((topic_id, _), outcome) in &answers {
        if outcome.is_err() {
            count(context, &image, *topic_id, true);
        }
    }
    answers
}

fn count(context: &Context, image: &Image, topic_id: Uuid, failed: bool) {
    let Some(topic) = image.topics.by_id(topic_id) else { return };
    let metrics = &context.broker.metrics;
    for counts in [&*metrics.topic(&topic.name), metrics.all_topics()] {
        let count = if failed {
            &counts.failed_share_acknowledgement_requests
        } else {
            &counts.share_acknowledgement_requests
        };
        count.increment(1);
    }
}

fn acknowledgement(batch: ShareAcknowledgementBatch) -> Acknowledgement {
    Acknowledgement { first: batch.first_offset, last: batch.last_offset, types: batch.acknowledge_types }
}

fn check(
    context: &Context,
    image: &Image,
    one: &Acknowledged,
    version: i16,
    is_renew: bool,
) -> Result<(), ErrorCode> {
    let (topic_id, partition) = one.partition;
    let topic = resolve::topic(image, TopicRef::Id(topic_id))?;
    let kind_max = if version >= RENEW_FROM { RENEW } else { RENEW - 1 };
    let mut before = -1;
    for batch in &one.batches {
        let types = &batch.acknowledge_types;
        let records = batch.last_offset.checked_sub(batch.first_offset);
        let fits = types.len() == 1
            || records.is_some_and(|records| usize::try_from(records).is_ok_and(|it| it + 1 == types.len()));
        let known = types.iter().all(|kind| (0..=kind_max).contains(kind) && (*kind != RENEW || is_renew));
        if batch.first_offset > batch.last_offset || batch.first_offset < before || !fits || !known {
            return Err(ErrorCode::InvalidRequest);
        }
        before = batch.last_offset;
    }
    if one.batches.is_empty() {
        return Ok(());
    }
    resolve::partition(&context.broker, topic, partition).map(drop)
}

/// Who leads a partition that is not led here, for the answer; the broker is added to those that it tells of.
pub(super) fn leader(
    context: &Context,
    image: &Image,
    (topic_id, partition): TopicIdPartition,
    code: i16,
    nodes: &mut Vec<ShareNodeEndpoint>,
) -> ShareLeaderIdAndEpoch {
    let moved = [ErrorCode::NotLeaderOrFollower.code(), ErrorCode::FencedLeaderEpoch.code()];
    let topic = image.topics.by_id(topic_id).filter(|_| moved.contains(&code));
    let Some(leader) = topic.and_then(|topic| resolve::current_leader(topic, partition)) else {
        return ShareLeaderIdAndEpoch::default();
    };
    if !nodes.iter().any(|node| node.node_id == leader.id)
        && let Some(node) = nodes::alive_node(context, image, leader.id)
    {
        nodes.push(ShareNodeEndpoint {
            node_id: node.id,
            host: node.host,
            port: node.port.into(),
            rack: node.rack.map(|rack| rack.to_string()),
            ..ShareNodeEndpoint::default()
        });
    }
    ShareLeaderIdAndEpoch {
        leader_id: leader.id,
        leader_epoch: leader.epoch,
        ..ShareLeaderIdAndEpoch::default()
    }
}

/// The lock duration as the answers tell it.
pub(super) fn lock_timeout_ms(context: &Context, member: &ShareMember) -> i32 {
    let limits = context.broker.shares.settings(&member.group_id).limits;
    i32::try_from(limits.lock_duration_ms).unwrap_or(i32::MAX)
}
