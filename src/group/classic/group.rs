//! The state of one classic group.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use imbl::{OrdMap, OrdSet};

use crate::error::ErrorCode;
use crate::group::command::{CommitOffsets, GroupDescription, JoinedMember, MemberDescription, Protocol};
use crate::group::record::{GroupMetadata, MemberMetadata};
use crate::shard::Token;
use crate::types::TimestampMs;

/// The protocol type of Kafka's consumers; others are Connect's and Schema Registry's.
const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Where a group stands (`ClassicGroupState`). A group that is not there is `Dead`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl GroupState {
    /// The name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// A member of a group. Its protocols, assignment and timeouts are persisted when the group becomes stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// Has not seen the answer to its first join yet.
    pub is_new: bool,
    pub awaiting_join: Option<Token>,
    pub awaiting_sync: Option<Token>,
}

impl Member {
    /// The subscription under a protocol.
    pub fn metadata(&self, protocol_name: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|p| *p.name == *protocol_name)
            .map_or_else(Bytes::new, |p| p.metadata.clone())
    }

    /// Whether silence is fine: a held request is a sign of life, except for a first join.
    pub fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    fn vote(&self, candidates: &[&Arc<str>]) -> Option<&Arc<str>> {
        self.protocols.iter().map(|p| &p.name).find(|name| candidates.contains(name))
    }
}

/// A change of a group that is not persisted: after a restart the group is as its last record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Was sent away with a member id (KIP-394).
    MemberPending { member_id: Arc<str> },
    /// Joined, and waits for the answer. The first member sets the protocol type.
    MemberAdded { member: Box<Member>, protocol_type: Arc<str> },
    /// Joined again; `awaiting_join` waits for the answer.
    MemberUpdated {
        member_id: Arc<str>,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
        awaiting_join: Option<Token>,
    },
    /// A static member came back under a new member id (KIP-345).
    MemberReplaced { group_instance_id: Arc<str>, old_member_id: Arc<str>, new_member_id: Arc<str> },
    /// Left, timed out, or gave up its pending member id.
    MemberRemoved { member_id: Arc<str> },
    /// The leader did not come back in time, this member did.
    LeaderElected { member_id: Arc<str> },
    /// Members have to join again. `initial_delay` is set for the first members of an empty group.
    RebalancePrepared { at_ms: TimestampMs, initial_delay: Option<InitialDelay> },
    /// How long the first members wait for more of them.
    InitialDelayChanged { initial_delay: Option<InitialDelay> },
    /// All joins are answered; everybody has to sync.
    GenerationStarted { at_ms: TimestampMs, protocol_name: Arc<str> },
    /// A join was answered before the generation started.
    JoinAnswered { member_id: Arc<str> },
    /// Sent its sync; `awaiting_sync` waits for the leader's.
    SyncReceived { member_id: Arc<str>, awaiting_sync: Option<Token> },
    /// A held sync was answered.
    SyncAnswered { member_id: Arc<str> },
}

/// The first rebalance of a group waits for a while, and for longer when more members come
/// (`group.initial.rebalance.delay.ms`, KIP-134).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialDelay {
    /// What is being waited for now.
    pub delay_ms: i32,
    /// By how much the wait may still be extended.
    pub remaining_ms: i32,
    /// Whether somebody joined since the wait began.
    pub new_member_added: bool,
}

/// A classic group. Cheap to copy: members are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicGroup {
    pub group_id: Arc<str>,
    pub state: GroupState,
    pub previous_state: GroupState,
    /// When the state was entered; `None` in records of old brokers.
    pub state_since_ms: Option<TimestampMs>,
    /// `None` for a simple group: one that only commits offsets.
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub generation_id: i32,
    pub leader: Option<Arc<str>>,
    pub members: OrdMap<Arc<str>, Arc<Member>>,
    /// Group instance id → member id.
    pub static_members: OrdMap<Arc<str>, Arc<str>>,
    /// Member ids that were given out and have not joined yet.
    pub pending_members: OrdSet<Arc<str>>,
    /// Members whose sync is missing in this generation.
    pub pending_sync: OrdSet<Arc<str>>,
    pub initial_delay: Option<InitialDelay>,
    /// `None` where it is not known: no consumers, or a subscription that can not be read.
    pub subscribed_topics: Option<OrdSet<Arc<str>>>,
    /// Protocol → how many members support it.
    supported_protocols: OrdMap<Arc<str>, usize>,
    awaiting_join_count: usize,
}

impl ClassicGroup {
    /// A group without members, protocol type and generation: what commits without membership create.
    pub fn simple(group_id: Arc<str>, at_ms: TimestampMs) -> Self {
        Self {
            group_id,
            state: GroupState::Empty,
            previous_state: GroupState::Dead,
            state_since_ms: Some(at_ms),
            protocol_type: None,
            protocol_name: None,
            generation_id: 0,
            leader: None,
            members: OrdMap::new(),
            static_members: OrdMap::new(),
            pending_members: OrdSet::new(),
            pending_sync: OrdSet::new(),
            initial_delay: None,
            subscribed_topics: None,
            supported_protocols: OrdMap::new(),
            awaiting_join_count: 0,
        }
    }

    /// A stable group of Kafka's consumers, who have their assignments from elsewhere.
    pub fn of_consumers(
        group_id: Arc<str>,
        generation_id: i32,
        at_ms: TimestampMs,
        members: Vec<Member>,
    ) -> Self {
        let mut group = Self::simple(group_id, at_ms);
        group.protocol_type = Some(CONSUMER_PROTOCOL_TYPE.into());
        group.generation_id = generation_id;
        group.state = GroupState::Stable;
        members.into_iter().for_each(|member| group.insert(member));
        group.protocol_name = group.select_protocol();
        group.subscribed_topics = group.parse_subscribed_topics();
        group
    }

    /// Whether this is the member that assigns.
    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The leader's member id, or nobody's.
    pub fn leader_or_nobody(&self) -> Arc<str> {
        self.leader.clone().unwrap_or_default()
    }

    /// Members whose join is held.
    pub fn awaiting_join_count(&self) -> usize {
        self.awaiting_join_count
    }

    /// Whether nobody has to be waited for any longer.
    pub fn all_members_joined(&self) -> bool {
        self.members.len() == self.awaiting_join_count && self.pending_members.is_empty()
    }

    /// The longest rebalance timeout of the members.
    pub fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// Whether the members are Kafka's consumers.
    pub fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether offsets of the topic are in use. Where subscriptions are not known, a consumer group uses everything.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed_topics.as_ref().map_or(self.uses_consumer_protocol(), |topics| topics.contains(topic))
    }

    /// Whether a member with these protocols can be in the group: one of them is everybody's.
    pub fn supports_protocols(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.support(&protocol.name) == self.members.len())
    }

    fn support(&self, protocol_name: &str) -> usize {
        self.supported_protocols.get(protocol_name).copied().unwrap_or(0)
    }

    /// The protocol that most members prefer among those that all support.
    pub fn select_protocol(&self) -> Option<Arc<str>> {
        let everybody = self.members.len();
        let candidates: Vec<&Arc<str>> = self
            .supported_protocols
            .iter()
            .filter(|(_, count)| **count == everybody)
            .map(|(name, _)| name)
            .collect();
        let mut votes: Vec<(usize, &Arc<str>)> = candidates.iter().map(|name| (0, *name)).collect();
        for member in self.members.values() {
            let vote = member.vote(&candidates);
            if let Some(counted) = votes.iter_mut().find(|(_, name)| Some(*name) == vote) {
                counted.0 += 1;
            }
        }
        let most = votes.iter().map(|(count, _)| *count).max()?;
        votes.into_iter().find(|(count, _)| *count == most).map(|(_, name)| name.clone())
    }

    /// Whether the caller is who it says (`validateMember`): a static member's id is the last one it was given.
    pub fn validate_member(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<&Arc<Member>, ErrorCode> {
        if let Some(instance) = group_instance_id {
            let current = self.static_members.get(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if **current != *member_id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)
    }

    /// Whether the caller may commit offsets: a member of this generation, or anybody while the group is empty.
    pub fn validate_commit(&self, request: &CommitOffsets) -> Result<(), ErrorCode> {
        let empty = self.state == GroupState::Empty;
        if request.generation_id < 0 && empty {
            return Ok(());
        }
        if request.generation_id >= 0 || !request.member_id.is_empty() || request.group_instance_id.is_some()
        {
            self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
            if request.generation_id != self.generation_id {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.state == GroupState::CompletingRebalance {
            // The member knows the new generation, but not what is its own in it.
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether the caller may commit offsets as part of a transaction. Older producers do not say who they are.
    pub fn validate_transactional_commit(&self, request: &CommitOffsets) -> Result<(), ErrorCode> {
        let is_member = request.generation_id >= 0
            || !request.member_id.is_empty()
            || request.group_instance_id.is_some();
        if !is_member || (request.generation_id < 0 && self.state == GroupState::Empty) {
            return Ok(());
        }
        self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(())
    }

    /// Everybody, as the leader needs it.
    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol_name = self.protocol_name.clone().unwrap_or_default();
        let joined = |member: &Arc<Member>| JoinedMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(&protocol_name),
        };
        self.members.values().map(joined).collect()
    }

    /// What DescribeGroups says. Subscriptions are shown while they are the agreed ones.
    pub fn describe(&self) -> GroupDescription {
        let protocol_name = self.protocol_name.clone().filter(|_| self.state == GroupState::Stable);
        let describe = |member: &Arc<Member>| MemberDescription {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol_name.as_ref().map_or_else(Bytes::new, |name| member.metadata(name)),
            assignment: member.assignment.clone(),
        };
        GroupDescription {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol_name.clone().unwrap_or_default(),
            members: self.members.values().map(describe).collect(),
        }
    }

    /// The record that makes the group last. `assignment` gives what each member has.
    pub fn to_record(&self, at_ms: TimestampMs, assignment: impl Fn(&Member) -> Bytes) -> GroupMetadata {
        let protocol_name = self.protocol_name.clone().unwrap_or_default();
        let metadata = |member: &Arc<Member>| MemberMetadata {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(&protocol_name),
            assignment: assignment(member),
        };
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation_id: self.generation_id,
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_since_ms: at_ms,
            members: self.members.values().map(metadata).collect(),
        }
    }

    /// The group after a record: what the record does not say, it keeps of `before`.
    pub fn from_record(group_id: &Arc<str>, before: Option<&Self>, record: &GroupMetadata) -> Self {
        let mut group = Self::simple(group_id.clone(), record.state_since_ms);
        group.state_since_ms = Some(record.state_since_ms).filter(|at_ms| *at_ms != -1);
        group.protocol_type = Some(record.protocol_type.clone()).filter(|text| !text.is_empty());
        group.protocol_name.clone_from(&record.protocol_name);
        group.generation_id = record.generation_id;
        group.leader.clone_from(&record.leader);
        for member in &record.members {
            let known = before.and_then(|group| group.members.get(&member.member_id));
            group.insert(member.to_member(known, record.protocol_name.as_ref()));
        }
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
        }
        if let Some(before) = before {
            let changed = before.state != group.state;
            group.previous_state = if changed { before.state } else { before.previous_state };
            group.pending_members = before.pending_members.clone();
            group.pending_sync = before.pending_sync.clone();
        }
        group.subscribed_topics = group.parse_subscribed_topics();
        group
    }

    /// Changes the group.
    pub fn replay(&mut self, change: &Change) {
        match change {
            Change::MemberPending { member_id } => {
                self.pending_members.insert(member_id.clone());
            }
            Change::MemberAdded { member, protocol_type } => {
                if self.members.is_empty() {
                    self.protocol_type = Some(protocol_type.clone());
                }
                self.add(member);
            }
            Change::MemberUpdated {
                member_id,
                protocols,
                rebalance_timeout_ms,
                session_timeout_ms,
                awaiting_join,
            } => self.update(member_id, |member| {
                member.protocols.clone_from(protocols);
                member.rebalance_timeout_ms = *rebalance_timeout_ms;
                member.session_timeout_ms = *session_timeout_ms;
                member.awaiting_join = *awaiting_join;
            }),
            Change::MemberReplaced { group_instance_id, old_member_id, new_member_id } => {
                self.replace(group_instance_id, old_member_id, new_member_id);
            }
            Change::MemberRemoved { member_id } => self.remove(member_id),
            Change::LeaderElected { member_id } => self.leader = Some(member_id.clone()),
            Change::RebalancePrepared { at_ms, initial_delay } => {
                if self.state == GroupState::CompletingRebalance {
                    self.update_all(|member| member.assignment = Bytes::new());
                }
                self.pending_sync.clear();
                self.initial_delay = *initial_delay;
                self.enter(GroupState::PreparingRebalance, *at_ms);
            }
            Change::InitialDelayChanged { initial_delay } => self.initial_delay = *initial_delay,
            Change::GenerationStarted { at_ms, protocol_name } => {
                self.generation_id += 1;
                self.protocol_name = Some(protocol_name.clone());
                self.subscribed_topics = self.parse_subscribed_topics();
                self.initial_delay = None;
                self.pending_sync = self.members.keys().cloned().collect();
                self.update_all(|member| (member.is_new, member.awaiting_join) = (false, None));
                self.awaiting_join_count = 0;
                self.enter(GroupState::CompletingRebalance, *at_ms);
            }
            Change::JoinAnswered { member_id } => {
                self.update(member_id, |member| member.awaiting_join = None)
            }
            Change::SyncReceived { member_id, awaiting_sync } => {
                self.pending_sync.remove(member_id);
                self.update(member_id, |member| member.awaiting_sync = *awaiting_sync);
            }
            Change::SyncAnswered { member_id } => {
                self.update(member_id, |member| member.awaiting_sync = None)
            }
        }
    }

    fn enter(&mut self, state: GroupState, at_ms: TimestampMs) {
        self.previous_state = self.state;
        self.state = state;
        self.state_since_ms = Some(at_ms);
    }

    fn add(&mut self, member: &Member) {
        self.pending_members.remove(&member.member_id);
        self.insert(member.clone());
        if let Some(delay) = &mut self.initial_delay {
            delay.new_member_added = true;
        }
    }

    fn insert(&mut self, member: Member) {
        if self.leader.is_none() {
            self.leader = Some(member.member_id.clone());
        }
        if let Some(instance) = &member.group_instance_id {
            self.static_members.insert(instance.clone(), member.member_id.clone());
        }
        self.count(&member);
        self.members.insert(member.member_id.clone(), Arc::new(member));
    }

    fn count(&mut self, member: &Member) {
        for protocol in &member.protocols {
            *self.supported_protocols.entry(protocol.name.clone()).or_default() += 1;
        }
        self.awaiting_join_count += usize::from(member.awaiting_join.is_some());
    }

    fn uncount(&mut self, member: &Member) {
        for protocol in &member.protocols {
            let left = self.support(&protocol.name).saturating_sub(1);
            if left == 0 {
                self.supported_protocols.remove(&protocol.name);
            } else {
                self.supported_protocols.insert(protocol.name.clone(), left);
            }
        }
        self.awaiting_join_count -= usize::from(member.awaiting_join.is_some());
    }

    fn update(&mut self, member_id: &Arc<str>, change: impl FnOnce(&mut Member)) {
        let Some(member) = self.members.get(member_id) else { return };
        let before = member.clone();
        let mut after = (*before).clone();
        change(&mut after);
        self.uncount(&before);
        self.count(&after);
        self.members.insert(member_id.clone(), Arc::new(after));
    }

    /// For changes that touch neither protocols nor held joins, unless the caller counts them.
    fn update_all(&mut self, change: impl Fn(&mut Member)) {
        let changed = |(member_id, member): (&Arc<str>, &Arc<Member>)| {
            let mut member = (**member).clone();
            change(&mut member);
            (member_id.clone(), Arc::new(member))
        };
        self.members = self.members.iter().map(changed).collect();
    }

    fn replace(&mut self, group_instance_id: &Arc<str>, old_member_id: &Arc<str>, new_member_id: &Arc<str>) {
        let Some(old) = self.members.remove(old_member_id) else { return };
        self.uncount(&old);
        let member = Member {
            member_id: new_member_id.clone(),
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
            ..(*old).clone()
        };
        self.count(&member);
        self.members.insert(new_member_id.clone(), Arc::new(member));
        self.static_members.insert(group_instance_id.clone(), new_member_id.clone());
        if self.is_leader(old_member_id) {
            self.leader = Some(new_member_id.clone());
        }
        if self.pending_sync.remove(old_member_id).is_some() {
            self.pending_sync.insert(new_member_id.clone());
        }
    }

    fn remove(&mut self, member_id: &Arc<str>) {
        if let Some(member) = self.members.remove(member_id) {
            self.uncount(&member);
            if let Some(instance) = &member.group_instance_id {
                self.static_members.remove(instance);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_members.remove(member_id);
        self.pending_sync.remove(member_id);
    }

    fn parse_subscribed_topics(&self) -> Option<OrdSet<Arc<str>>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(OrdSet::new());
        }
        let protocol_name = self.protocol_name.as_ref()?;
        let mut topics = OrdSet::new();
        for member in self.members.values() {
            topics.extend(parse_subscription(member.metadata(protocol_name))?);
        }
        Some(topics)
    }
}

/// The topics of a consumer's subscription. Only the part that all versions share is read, because third-party
/// clients write what follows in their own ways.
fn parse_subscription(mut metadata: Bytes) -> Option<Vec<Arc<str>>> {
    let version = metadata.try_get_i16().ok()?;
    let count = usize::try_from(metadata.try_get_i32().ok()?).ok()?;
    if version < 0 || count > metadata.remaining() / 2 {
        return None;
    }
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        if length > metadata.remaining() {
            return None;
        }
        topics.push(std::str::from_utf8(&metadata.split_to(length)).ok()?.into());
    }
    Some(topics)
}
