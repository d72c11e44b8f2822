//! Requests to other nodes in Kafka's messages, and their answers.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::error::ParseResponseErrorCode as _;
use kafka_protocol::messages::begin_quorum_epoch_request as begin;
use kafka_protocol::messages::end_quorum_epoch_request as end;
use kafka_protocol::messages::fetch_request as fetch;
use kafka_protocol::messages::fetch_snapshot_request as fetch_snapshot;
use kafka_protocol::messages::fetch_snapshot_response::{LeaderIdAndEpoch, PartitionSnapshot};
use kafka_protocol::messages::update_raft_voter_request as update;
use kafka_protocol::messages::vote_request as vote;
use kafka_protocol::protocol::StrBytes;

use super::control::KRAFT_VERSION_FEATURE;
use super::core::message::{
    AddVoterRequest, BeginRequest, EndRequest, FetchRequest, FetchSnapshotRequest, Fetched, FetchedSnapshot,
    Header, Outcome, Progress, Request, Response, SnapshotId, Unreachable, VoteRequest,
};
use super::disk::batches_of;
use super::election::ReplicaKey;
use super::voters::{VersionRange, Voter, VoterEndpoint};
use crate::client::{ClientError, Peer};
use crate::error::ErrorCode;
use crate::protocol::messages::{self, add_raft_voter};
use crate::types::{CLUSTER_METADATA_TOPIC, CLUSTER_METADATA_TOPIC_ID, LeaderEpoch, NodeId};

/// What is needed to send a request beside the request.
pub(super) struct Call {
    pub(super) cluster_id: Arc<str>,
    /// The name of the listener by which addresses in answers are meant.
    pub(super) listener: String,
    pub(super) timeout_ms: i64,
}

type Answered = Result<Response, Unreachable>;

impl Call {
    /// Sends a request of the core, and gives the answer as the core reads it. Versions are those of Apache Kafka since
    /// 3.9, which brought voters that change.
    pub(super) async fn send(&self, peer: &Peer, request: Request) -> Answered {
        match request {
            Request::Vote(request) => self.vote(peer, request).await,
            Request::Begin(request) => self.begin(peer, request).await,
            Request::End(request) => self.end(peer, request).await,
            Request::Fetch(request) => self.fetch(peer, request).await,
            Request::FetchSnapshot(request) => self.fetch_snapshot(peer, request).await,
            Request::AddVoter(request) => self.add_voter(peer, request).await,
            Request::RemoveVoter(key) => self.remove_voter(peer, key).await,
            Request::UpdateVoter(epoch, voter) => self.update_voter(peer, epoch, &voter).await,
            Request::KraftVersions => self.kraft_versions(peer).await,
            // These are not sent.
            Request::UpgradeKraftVersion(_) | Request::Describe => Err(Unreachable::UnsupportedVersion),
        }
    }

    async fn call<R>(
        &self,
        peer: &Peer,
        request: R,
        versions: RangeInclusive<i16>,
    ) -> Result<R::Response, Unreachable>
    where
        R: messages::Request + Send + 'static,
    {
        match peer.call(request, versions, self.timeout_ms).await {
            Ok(answered) => Ok(answered.response),
            Err(ClientError::Unsupported { .. }) => Err(Unreachable::UnsupportedVersion),
            Err(problem) => {
                tracing::debug!(%problem, "no answer from another node of the quorum");
                Err(Unreachable::Disconnected)
            }
        }
    }

    fn cluster(&self) -> Option<StrBytes> {
        Some(text(&self.cluster_id))
    }

    async fn vote(&self, peer: &Peer, request: VoteRequest) -> Answered {
        let VoteRequest { epoch, candidate, voter, last_epoch, end_offset, pre_vote } = request;
        let voter = voter.unwrap_or(NOBODY);
        let partition = vote::PartitionData::default()
            .with_replica_epoch(epoch)
            .with_replica_id(candidate.id.into())
            .with_replica_directory_id(candidate.directory_id)
            .with_voter_directory_id(voter.directory_id)
            .with_last_offset_epoch(last_epoch)
            .with_last_offset(end_offset)
            .with_pre_vote(pre_vote);
        let topic = vote::TopicData::default().with_topic_name(topic_name()).with_partitions(vec![partition]);
        let request = messages::VoteRequest::default()
            .with_cluster_id(self.cluster())
            .with_voter_id(voter.id.into())
            .with_topics(vec![topic]);
        let versions = if pre_vote { 2..=2 } else { 1..=2 };
        let response = self.call(peer, request, versions).await?;
        let endpoints = response.node_endpoints.iter().map(|node| (node.node_id.0, &node.host, node.port));
        let partition = response.topics.first().and_then(|topic| topic.partitions.first());
        let (code, leader, epoch, granted) =
            partition.map_or((response.error_code, -1, -1, false), |partition| {
                (partition.error_code, partition.leader_id.0, partition.leader_epoch, partition.vote_granted)
            });
        let header = self.header(response.error_code, code, leader, epoch, endpoints);
        if header.error == Some(ErrorCode::UnsupportedVersion) {
            return Err(Unreachable::UnsupportedVersion);
        }
        Ok(Response::Vote(header, granted))
    }

    async fn begin(&self, peer: &Peer, request: BeginRequest) -> Answered {
        let BeginRequest { epoch, leader, endpoints, voter } = request;
        let voter = voter.unwrap_or(NOBODY);
        let partition = begin::PartitionData::default()
            .with_voter_directory_id(voter.directory_id)
            .with_leader_id(leader.into())
            .with_leader_epoch(epoch);
        let topic =
            begin::TopicData::default().with_topic_name(topic_name()).with_partitions(vec![partition]);
        let endpoint = |endpoint: &VoterEndpoint| {
            begin::LeaderEndpoint::default()
                .with_name(text(&endpoint.listener))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
        };
        let request = messages::BeginQuorumEpochRequest::default()
            .with_cluster_id(self.cluster())
            .with_voter_id(voter.id.into())
            .with_topics(vec![topic])
            .with_leader_endpoints(endpoints.iter().map(endpoint).collect());
        let response = self.call(peer, request, 1..=1).await?;
        let endpoints = response.node_endpoints.iter().map(|node| (node.node_id.0, &node.host, node.port));
        let partition = response.topics.first().and_then(|topic| topic.partitions.first());
        let (code, leader, epoch) = partition.map_or((response.error_code, -1, -1), |partition| {
            (partition.error_code, partition.leader_id.0, partition.leader_epoch)
        });
        Ok(Response::Begin(self.header(response.error_code, code, leader, epoch, endpoints)))
    }

    async fn end(&self, peer: &Peer, request: EndRequest) -> Answered {
        let EndRequest { epoch, leader, endpoints, preferred } = request;
        let candidate = |key: &ReplicaKey| {
            end::ReplicaInfo::default()
                .with_candidate_id(key.id.into())
                .with_candidate_directory_id(key.directory_id)
        };
        let partition = end::PartitionData::default()
            .with_leader_id(leader.into())
            .with_leader_epoch(epoch)
            .with_preferred_candidates(preferred.iter().map(candidate).collect());
        let topic = end::TopicData::default().with_topic_name(topic_name()).with_partitions(vec![partition]);
        let endpoint = |endpoint: &VoterEndpoint| {
            end::LeaderEndpoint::default()
                .with_name(text(&endpoint.listener))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
        };
        let request = messages::EndQuorumEpochRequest::default()
            .with_cluster_id(self.cluster())
            .with_topics(vec![topic])
            .with_leader_endpoints(endpoints.iter().map(endpoint).collect());
        let response = self.call(peer, request, 1..=1).await?;
        let endpoints = response.node_endpoints.iter().map(|node| (node.node_id.0, &node.host, node.port));
        let partition = response.topics.first().and_then(|topic| topic.partitions.first());
        let (code, leader, epoch) = partition.map_or((response.error_code, -1, -1), |partition| {
            (partition.error_code, partition.leader_id.0, partition.leader_epoch)
        });
        Ok(Response::End(self.header(response.error_code, code, leader, epoch, endpoints)))
    }

    async fn fetch(&self, peer: &Peer, request: FetchRequest) -> Answered {
        let FetchRequest { epoch, replica, offset, last_epoch, high_watermark, bytes_max, wait_max_ms } =
            request;
        let partition = fetch::FetchPartition::default()
            .with_current_leader_epoch(epoch)
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(last_epoch)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(0)
            .with_replica_directory_id(replica.directory_id)
            .with_high_watermark(high_watermark);
        let topic = fetch::FetchTopic::default()
            .with_topic_id(CLUSTER_METADATA_TOPIC_ID)
            .with_partitions(vec![partition]);
        let request = messages::FetchRequest::default()
            .with_cluster_id(self.cluster())
            .with_replica_state(fetch::ReplicaState::default().with_replica_id(replica.id.into()))
            .with_max_wait_ms(i32::try_from(wait_max_ms).unwrap_or(i32::MAX))
            .with_max_bytes(i32::try_from(bytes_max).unwrap_or(i32::MAX))
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response = self.call(peer, request, 17..=18).await?;
        let endpoints = response
            .node_endpoints
            .iter()
            .map(|node| (node.node_id.0, &node.host, u16::try_from(node.port).unwrap_or_default()));
        let partition = response.responses.first().and_then(|topic| topic.partitions.first());
        let Some(partition) = partition else {
            let header = self.header(response.error_code, response.error_code, -1, -1, endpoints);
            return Ok(Response::Fetch(header, fetched(Progress::Records(Vec::new()), -1, -1)));
        };
        let leader = &partition.current_leader;
        let header = self.header(
            response.error_code,
            partition.error_code,
            leader.leader_id.0,
            leader.leader_epoch,
            endpoints,
        );
        let (diverging, snapshot) = (&partition.diverging_epoch, &partition.snapshot_id);
        let progress = if diverging.epoch >= 0 {
            Progress::Diverging { epoch: diverging.epoch, end_offset: diverging.end_offset }
        } else if snapshot.epoch >= 0 || snapshot.end_offset >= 0 {
            Progress::Snapshot(SnapshotId { epoch: snapshot.epoch, end_offset: snapshot.end_offset })
        } else {
            Progress::Records(partition.records.as_ref().map(batches_of).unwrap_or_default())
        };
        let fetched = fetched(progress, partition.high_watermark, partition.log_start_offset);
        Ok(Response::Fetch(header, fetched))
    }

    async fn fetch_snapshot(&self, peer: &Peer, request: FetchSnapshotRequest) -> Answered {
        let FetchSnapshotRequest { epoch, replica, id, position, bytes_max } = request;
        let snapshot =
            fetch_snapshot::SnapshotId::default().with_end_offset(id.end_offset).with_epoch(id.epoch);
        let partition = fetch_snapshot::PartitionSnapshot::default()
            .with_current_leader_epoch(epoch)
            .with_snapshot_id(snapshot)
            .with_position(i64::try_from(position).unwrap_or(i64::MAX))
            .with_replica_directory_id(replica.directory_id);
        let topic =
            fetch_snapshot::TopicSnapshot::default().with_name(topic_name()).with_partitions(vec![partition]);
        let request = messages::FetchSnapshotRequest::default()
            .with_cluster_id(self.cluster())
            .with_replica_id(replica.id.into())
            .with_max_bytes(i32::try_from(bytes_max).unwrap_or(i32::MAX))
            .with_topics(vec![topic]);
        let response = self.call(peer, request, 1..=1).await?;
        let endpoints = response.node_endpoints.iter().map(|node| (node.node_id.0, &node.host, node.port));
        let nobody = LeaderIdAndEpoch::default().with_leader_id((-1).into()).with_leader_epoch(-1);
        let empty = PartitionSnapshot::default().with_current_leader(nobody);
        let partition = response.topics.first().and_then(|topic| topic.partitions.first()).unwrap_or(&empty);
        let leader = &partition.current_leader;
        let header = self.header(
            response.error_code,
            partition.error_code,
            leader.leader_id.0,
            leader.leader_epoch,
            endpoints,
        );
        let piece = FetchedSnapshot {
            id: SnapshotId {
                epoch: partition.snapshot_id.epoch,
                end_offset: partition.snapshot_id.end_offset,
            },
            size: u64::try_from(partition.size).unwrap_or(0),
            position: u64::try_from(partition.position).unwrap_or(u64::MAX),
            bytes: partition.unaligned_records.clone(),
            bytes_max,
        };
        Ok(Response::FetchSnapshot(header, piece))
    }

    async fn add_voter(&self, peer: &Peer, request: AddVoterRequest) -> Answered {
        let AddVoterRequest { voter, ack_when_committed } = request;
        let listener = |endpoint: &VoterEndpoint| add_raft_voter::AddRaftVoterListener {
            name: endpoint.listener.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            ..add_raft_voter::AddRaftVoterListener::default()
        };
        let request = messages::AddRaftVoterRequest {
            cluster_id: Some(self.cluster_id.to_string()),
            timeout_ms: i32::try_from(self.timeout_ms).unwrap_or(i32::MAX),
            voter_id: voter.key.id,
            voter_directory_id: voter.key.directory_id,
            listeners: voter.endpoints.iter().map(listener).collect(),
            ack_when_committed,
            ..messages::AddRaftVoterRequest::default()
        };
        let response = self.call(peer, request, 0..=1).await?;
        Ok(Response::AddVoter(outcome(response.error_code, response.error_message.as_deref())))
    }

    async fn remove_voter(&self, peer: &Peer, key: ReplicaKey) -> Answered {
        let request = messages::RemoveRaftVoterRequest::default()
            .with_cluster_id(self.cluster())
            .with_voter_id(key.id)
            .with_voter_directory_id(key.directory_id);
        let response = self.call(peer, request, 0..=0).await?;
        Ok(Response::RemoveVoter(outcome(response.error_code, response.error_message.as_deref())))
    }

    async fn update_voter(&self, peer: &Peer, epoch: LeaderEpoch, voter: &Voter) -> Answered {
        let listener = |endpoint: &VoterEndpoint| {
            update::Listener::default()
                .with_name(text(&endpoint.listener))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
        };
        let range = update::KRaftVersionFeature::default()
            .with_min_supported_version(voter.kraft_versions.min)
            .with_max_supported_version(voter.kraft_versions.max);
        let request = messages::UpdateRaftVoterRequest::default()
            .with_cluster_id(self.cluster())
            .with_current_leader_epoch(epoch)
            .with_voter_id(voter.key.id)
            .with_voter_directory_id(voter.key.directory_id)
            .with_listeners(voter.endpoints.iter().map(listener).collect())
            .with_k_raft_version_feature(range);
        let response = self.call(peer, request, 0..=0).await?;
        let leader = &response.current_leader;
        let port = u16::try_from(leader.port).unwrap_or_default();
        let known = (!leader.host.is_empty()).then_some((leader.leader_id.0, &leader.host, port));
        let header =
            self.header(0, response.error_code, leader.leader_id.0, leader.leader_epoch, known.into_iter());
        Ok(Response::UpdateVoter(header))
    }

    async fn kraft_versions(&self, peer: &Peer) -> Answered {
        let request = messages::ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let response = self.call(peer, request, 3..=4).await?;
        if let Some(code) = response.error_code.err() {
            return Ok(Response::KraftVersions(Err(code)));
        }
        let named = |name: &StrBytes| name.as_str() == KRAFT_VERSION_FEATURE;
        let range = response.supported_features.iter().find(|feature| named(&feature.name));
        let range = range.map(|feature| VersionRange { min: feature.min_version, max: feature.max_version });
        Ok(Response::KraftVersions(Ok(range)))
    }

    fn header<'a>(
        &self,
        top_level: i16,
        code: i16,
        leader: NodeId,
        epoch: LeaderEpoch,
        endpoints: impl Iterator<Item = (NodeId, &'a StrBytes, u16)>,
    ) -> Header {
        let error = top_level.err().or(code.err());
        let of_leader = endpoints.filter(|(id, ..)| *id == leader);
        let endpoint = |(_, host, port): (NodeId, &StrBytes, u16)| VoterEndpoint {
            listener: self.listener.clone(),
            host: host.to_string(),
            port,
        };
        let endpoints = of_leader.map(endpoint).collect();
        Header { error, epoch, leader: (leader >= 0).then_some(leader), endpoints }
    }
}

/// Where a request names nobody.
const NOBODY: ReplicaKey = ReplicaKey { id: -1, directory_id: uuid::Uuid::nil() };

fn fetched(progress: Progress, high_watermark: i64, log_start: i64) -> Fetched {
    let high_watermark = (high_watermark >= 0).then_some(high_watermark);
    Fetched { high_watermark, log_start, progress }
}

fn outcome(code: i16, message: Option<&str>) -> Outcome {
    code.err().map_or(Ok(()), |code| Err((code, message.map(str::to_owned))))
}

fn topic_name() -> kafka_protocol::messages::TopicName {
    StrBytes::from_static_str(CLUSTER_METADATA_TOPIC).into()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
