//! Committed offsets (`OffsetMetadataManager`).

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::classic::GroupState;
use super::command::{
    CommitOffsets, CommittedOffset, CommittedPartition, DeleteOffsets, DeletedTopic, FetchOffsets,
    FetchTopic, FetchedPartition, FetchedTopic, Reply, TopicOutcome,
};
use super::core::{Event, GroupCore};
use super::kind::{ExpirationCondition, Group};
use super::record::Record;
use super::transactions::OffsetKey;
use crate::error::ErrorCode;
use crate::shard::{Decision, Token};
use crate::types::TimestampMs;

type ByPartition = BTreeMap<i32, CommittedOffset>;
type ByTopic = BTreeMap<Arc<str>, ByPartition>;

/// The committed offsets of a shard's groups. There are no empty maps in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    by_group: BTreeMap<Arc<str>, ByTopic>,
}

/// What [`Offsets::expire`] found.
#[derive(Debug)]
pub(super) struct Expired {
    pub tombstones: Vec<Event>,
    /// Whether no offset of the group is left after them.
    pub nothing_left: bool,
}

impl Offsets {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_group.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum()
    }

    /// The committed offset of a partition.
    pub fn get(&self, group_id: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.by_group.get(group_id)?.get(topic)?.get(&partition)
    }

    pub(super) fn put(
        &mut self,
        group_id: &Arc<str>,
        topic: &Arc<str>,
        partition: i32,
        offset: CommittedOffset,
    ) {
        let topics = self.by_group.entry(group_id.clone()).or_default();
        topics.entry(topic.clone()).or_default().insert(partition, offset);
    }

    pub(super) fn remove(&mut self, group_id: &str, topic: &str, partition: i32) {
        let Some(topics) = self.by_group.get_mut(group_id) else { return };
        let Some(partitions) = topics.get_mut(topic) else { return };
        partitions.remove(&partition);
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.by_group.remove(group_id);
        }
    }

    /// What OffsetFetch gives: -1 where nothing is committed, or only for an older topic of that name.
    pub(super) fn fetch(&self, request: FetchOffsets) -> Vec<FetchedTopic> {
        let committed = self.by_group.get(&request.group_id);
        match request.topics {
            Some(topics) => topics.into_iter().map(|topic| fetch_topic(committed, topic)).collect(),
            None => {
                committed.into_iter().flatten().map(|(topic, offsets)| fetch_all(topic, offsets)).collect()
            }
        }
    }

    /// Tombstones for everything that a group has committed.
    pub(super) fn delete_all(&self, group_id: &Arc<str>) -> Vec<Event> {
        let topics = self.by_group.get(group_id).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| tombstones(group_id, topic, partitions.keys())).collect()
    }

    /// Tombstones for a topic that is gone, in all groups.
    pub(super) fn delete_topic(&self, deleted: &DeletedTopic) -> Vec<Event> {
        let mut events = Vec::new();
        for (group_id, topics) in &self.by_group {
            let Some(partitions) = topics.get(&deleted.topic) else { continue };
            let gone =
                |offset: &CommittedOffset| offset.topic_id.is_nil() || offset.topic_id == deleted.topic_id;
            let gone = partitions.iter().filter(|(_, offset)| gone(offset)).map(|(partition, _)| partition);
            events.extend(tombstones(group_id, &deleted.topic, gone));
        }
        events
    }

    /// Tombstones for a group's offsets that nobody has used for long (KIP-211): not those of topics that it is
    /// subscribed to; while it has members, counted from the commit; when it is empty, from when it became so.
    pub(super) fn expire(
        &self,
        group_id: &Arc<str>,
        group: &Group,
        now_ms: TimestampMs,
        retention_ms: i64,
    ) -> Expired {
        let Some(topics) = self.by_group.get(group_id) else {
            return Expired { tombstones: Vec::new(), nothing_left: true };
        };
        let Some(condition) = group.expiration_condition() else {
            return Expired { tombstones: Vec::new(), nothing_left: false };
        };
        let mut expired = Expired { tombstones: Vec::new(), nothing_left: true };
        for (topic, partitions) in topics {
            let subscribed = group.is_subscribed_to(topic);
            for (partition, offset) in partitions {
                if !subscribed && condition.is_expired(offset, now_ms, retention_ms) {
                    expired.tombstones.push(tombstone(group_id, topic, *partition));
                } else {
                    expired.nothing_left = false;
                }
            }
        }
        expired
    }
}

impl ExpirationCondition {
    fn is_expired(self, offset: &CommittedOffset, now_ms: TimestampMs, retention_ms: i64) -> bool {
        if offset.expire_timestamp_ms != -1 {
            return now_ms >= offset.expire_timestamp_ms;
        }
        let since_ms = match self {
            Self::SinceCommit => offset.commit_timestamp_ms,
            Self::SinceEmpty(since_ms) => since_ms,
        };
        now_ms - since_ms >= retention_ms
    }
}

fn tombstone(group_id: &Arc<str>, topic: &Arc<str>, partition: i32) -> Event {
    Event::Record(Record::Offset { group_id: group_id.clone(), topic: topic.clone(), partition, value: None })
}

fn tombstones<'a>(
    group_id: &Arc<str>,
    topic: &Arc<str>,
    partitions: impl Iterator<Item = &'a i32>,
) -> Vec<Event> {
    partitions.map(|partition| tombstone(group_id, topic, *partition)).collect()
}

impl GroupCore {
    /// Removes a committed offset, and what open transactions would commit in its place.
    pub(super) fn delete_offset(&self, key: &OffsetKey) -> Vec<Event> {
        let mut events = self.transactional.drop_one(key);
        let is_known = self.offsets.get(&key.group_id, &key.topic, key.partition).is_some();
        if is_known || !events.is_empty() {
            events.push(tombstone(&key.group_id, &key.topic, key.partition));
        }
        events
    }

    /// Removes what a deleted group has committed.
    pub(super) fn delete_all_offsets(&self, group_id: &Arc<str>) -> Vec<Event> {
        let pending = self.transactional.keys_of_group(group_id);
        let mut events: Vec<_> = pending.iter().flat_map(|key| self.delete_pending(key)).collect();
        events.extend(self.offsets.delete_all(group_id));
        events
    }

    /// Removes what was committed of a deleted topic, in all groups.
    pub(super) fn delete_topic_offsets(&self, deleted: &DeletedTopic) -> Vec<Event> {
        let pending = self.transactional.keys_of_topic(deleted);
        let mut events: Vec<_> = pending.iter().flat_map(|key| self.delete_pending(key)).collect();
        events.extend(self.offsets.delete_topic(deleted));
        events
    }

    /// One tombstone is enough where the offset is committed too.
    fn delete_pending(&self, key: &OffsetKey) -> Vec<Event> {
        let mut events = self.transactional.drop_one(key);
        if self.offsets.get(&key.group_id, &key.topic, key.partition).is_none() {
            events.push(tombstone(&key.group_id, &key.topic, key.partition));
        }
        events
    }

    /// Forgets a group's old offsets, but for those that an open transaction may change.
    pub(super) fn expire_group_offsets(
        &self,
        now_ms: TimestampMs,
        group_id: &Arc<str>,
        group: &Group,
    ) -> Expired {
        let retention_ms = self.settings.offsets_retention_ms;
        let mut expired = self.offsets.expire(group_id, group, now_ms, retention_ms);
        if self.transactional.has_group(group_id) {
            expired.nothing_left = false;
            expired.tombstones.retain(|event| {
                let Event::Record(Record::Offset { group_id, topic, partition, .. }) = event else {
                    return true;
                };
                let (group_id, topic) = (group_id.clone(), topic.clone());
                !self.transactional.is_pending(&OffsetKey { group_id, topic, partition: *partition })
            });
        }
        expired
    }
}

fn fetch_topic(committed: Option<&ByTopic>, asked: FetchTopic) -> FetchedTopic {
    let offsets = committed.and_then(|topics| topics.get(&asked.topic));
    let same = |found: Uuid| found.is_nil() || asked.topic_id.is_nil() || found == asked.topic_id;
    let fetch = |partition: i32| {
        let offset =
            offsets.and_then(|offsets| offsets.get(&partition)).filter(|offset| same(offset.topic_id));
        offset.map_or_else(|| not_committed(partition), |offset| committed_partition(partition, offset))
    };
    let partitions = asked.partitions.into_iter().map(fetch).collect();
    FetchedTopic { topic: asked.topic, topic_id: asked.topic_id, partitions }
}

fn fetch_all(topic: &Arc<str>, offsets: &ByPartition) -> FetchedTopic {
    let topic_id = offsets.values().map(|offset| offset.topic_id).find(|id| !id.is_nil()).unwrap_or_default();
    let partitions =
        offsets.iter().map(|(partition, offset)| committed_partition(*partition, offset)).collect();
    FetchedTopic { topic: topic.clone(), topic_id, partitions }
}

fn committed_partition(partition: i32, offset: &CommittedOffset) -> FetchedPartition {
    FetchedPartition {
        partition,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        is_unstable: false,
    }
}

fn not_committed(partition: i32) -> FetchedPartition {
    FetchedPartition { partition, offset: -1, leader_epoch: -1, metadata: Arc::default(), is_unstable: false }
}

impl GroupCore {
    pub(super) fn commit_offsets(
        &self,
        now_ms: TimestampMs,
        token: Token,
        request: CommitOffsets,
    ) -> Decision<Self> {
        if let Err(code) = self.validate_commit(&request) {
            return Decision::reply(token, Reply::CommitOffsets(Err(code)));
        }
        let mut decision = self.commit_keeps_session(now_ms, &request);
        let expire_timestamp_ms =
            request.retention_time_ms.map_or(-1, |retention_ms| now_ms.saturating_add(retention_ms));
        let mut outcomes = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for committed in topic.partitions {
                let partition = committed.partition;
                let too_large = self.is_metadata_too_large(&committed);
                partitions.push((partition, too_large.then_some(ErrorCode::OffsetMetadataTooLarge)));
                if too_large {
                    continue;
                }
                let value = CommittedOffset::new(committed, now_ms, expire_timestamp_ms, topic.topic_id);
                let (group_id, topic) = (request.group_id.clone(), topic.topic.clone());
                let key = OffsetKey { group_id: group_id.clone(), topic: topic.clone(), partition };
                let value = Some(value);
                decision.events.extend(self.transactional.supersede(&key));
                decision.events.push(Event::Record(Record::Offset { group_id, topic, partition, value }));
            }
            outcomes.push(TopicOutcome { topic: topic.topic, topic_id: topic.topic_id, partitions });
        }
        decision.replies.push((token, Reply::CommitOffsets(Ok(outcomes))));
        decision
    }

    /// Kafka counts the characters of its strings: UTF-16.
    pub(super) fn is_metadata_too_large(&self, committed: &CommittedPartition) -> bool {
        let length = committed.metadata.as_ref().map_or(0, |metadata| metadata.encode_utf16().count());
        length > self.settings.offset_metadata_max_bytes
    }

    fn validate_commit(&self, request: &CommitOffsets) -> Result<(), ErrorCode> {
        let Some(group) = self.groups.get(&request.group_id) else {
            return if request.generation_id < 0 { Ok(()) } else { Err(request.unknown_group) };
        };
        group.validate_commit(request)
    }

    /// A commit is a sign of life, except while the group completes a rebalance.
    fn commit_keeps_session(&self, now_ms: TimestampMs, request: &CommitOffsets) -> Decision<Self> {
        match self.groups.get(&request.group_id) {
            Some(Group::Classic(group))
                if matches!(group.state, GroupState::Stable | GroupState::PreparingRebalance) =>
            {
                self.with_classic(now_ms, &request.group_id, |draft| draft.touch(&request.member_id))
            }
            Some(_) | None => Decision::default(),
        }
    }

    /// OffsetFetch.
    pub(super) fn fetch_offsets(&self, request: FetchOffsets) -> Result<Vec<FetchedTopic>, ErrorCode> {
        if let Some(group) = self.groups.get(&request.group_id) {
            group.validate_fetch(request.member.as_ref())?;
        }
        let (group_id, require_stable) = (Arc::clone(&request.group_id), request.require_stable);
        let mut topics = self.offsets.fetch(request);
        if require_stable {
            self.transactional.mark_unstable(&group_id, &mut topics);
        }
        Ok(topics)
    }

    pub(super) fn delete_offsets(&self, token: Token, request: DeleteOffsets) -> Decision<Self> {
        let refuse = |code| Decision::reply(token, Reply::DeleteOffsets(Err(code)));
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let Some(group) = self.groups.get(&request.group_id) else {
            return refuse(ErrorCode::GroupIdNotFound);
        };
        if let Err(code) = group.validate_offset_delete() {
            return refuse(code);
        }
        let mut decision = Decision::default();
        let mut outcomes = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in request.topics {
            let subscribed = group.is_subscribed_to(&topic);
            if !subscribed {
                for partition in &partitions {
                    let (group_id, topic) = (request.group_id.clone(), topic.clone());
                    let key = OffsetKey { group_id, topic, partition: *partition };
                    decision.events.extend(self.delete_offset(&key));
                }
            }
            let error = subscribed.then_some(ErrorCode::GroupSubscribedToTopic);
            let partitions = partitions.into_iter().map(|partition| (partition, error)).collect();
            outcomes.push(TopicOutcome { topic, topic_id: Uuid::nil(), partitions });
        }
        decision.replies.push((token, Reply::DeleteOffsets(Ok(outcomes))));
        decision
    }
}
