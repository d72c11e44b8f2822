//! Metadata (3): brokers and topics, and creates topics that a client is about to use.
//!
//! - No list of topics means all of them; an empty list means none, but all in version 0.
//! - With `auto.create.topics.enable` a topic that does not exist is there when this is answered, unlike in Apache
//!   Kafka, where the client is told UNKNOWN_TOPIC_OR_PARTITION once and asks again. Clients know both, and this saves
//!   them a round and a warning.
//! - The address of this broker is the one by which the client reached it, unless one is configured.
//! - `controller_id` is a broker that clients send administration to; every broker accepts it.
//! - Version 0 tells unavailable replicas by an error; versions up to 5 know LEADER_NOT_AVAILABLE only where a leader
//!   lacks the listener.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::context::{Context, Disconnect};
use super::nodes::{self, Node};
use super::{authorized, auto_create, resolve};
use crate::error::ErrorCode;
use crate::metadata::{Image, PartitionImage, TopicImage};
use crate::protocol::messages::{MetadataRequest, MetadataResponse};
use crate::types::{NodeId, is_internal_topic};

/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 12;
/// The first version that lets a client forbid the creation of topics.
const AUTO_CREATION_FLAG_FROM: i16 = 4;

pub(super) async fn handle(
    context: &Context,
    request: MetadataRequest,
    version: i16,
) -> Result<MetadataResponse, Disconnect> {
    let allowed = version < AUTO_CREATION_FLAG_FROM || request.allow_auto_topic_creation;
    let asked = Asked::of(&request, version);
    if let Asked::Names(names) = &asked
        && allowed
    {
        create_missing(context, names).await;
    }
    let image = context.broker.metadata.image();
    let nodes = nodes::alive(context, &image);
    let view = View { image: &image, nodes: &nodes, version };
    let mut topics = view.topics(asked);
    if request.include_topic_authorized_operations {
        for topic in &mut topics {
            topic.topic_authorized_operations = authorized::TOPIC;
        }
    }
    let mut response = MetadataResponse::default()
        .with_controller_id(controller(context, &nodes).into())
        .with_cluster_id(Some(StrBytes::from_string(context.broker.cluster_id.to_string())))
        .with_topics(topics)
        .with_brokers(nodes.into_iter().map(broker).collect());
    // A version after 10 has its own API for this (DescribeCluster).
    if (8..=10).contains(&version) {
        response.cluster_authorized_operations =
            authorized::if_asked(request.include_cluster_authorized_operations, authorized::CLUSTER);
    }
    Ok(response)
}

/// The broker that a client is told to send administration to.
pub(super) fn controller(context: &Context, nodes: &[Node]) -> NodeId {
    let this = nodes.iter().find(|node| node.id == context.broker.node_id);
    this.or(nodes.first()).map_or(-1, |node| node.id)
}

/// Which topics a request asks for.
enum Asked {
    All,
    Names(BTreeSet<StrBytes>),
    Ids(Vec<Uuid>),
    /// Something that the version does not have.
    Invalid(Vec<(Option<TopicName>, Uuid)>),
}

impl Asked {
    fn of(request: &MetadataRequest, version: i16) -> Self {
        let Some(topics) = &request.topics else { return Self::All };
        if topics.is_empty() && version == 0 {
            return Self::All;
        }
        if version < TOPIC_IDS_FROM
            && topics.iter().any(|topic| topic.name.is_none() || !topic.topic_id.is_nil())
        {
            return Self::Invalid(topics.iter().map(|topic| (topic.name.clone(), topic.topic_id)).collect());
        }
        let mut ids: Vec<_> = topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil()).collect();
        if ids.is_empty() {
            Self::Names(
                topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.0.clone()).collect(),
            )
        } else {
            ids.sort_unstable();
            ids.dedup();
            Self::Ids(ids)
        }
    }
}

/// Creates the topics that are not there, where that is wanted and their names are legal.
async fn create_missing(context: &Context, names: &BTreeSet<StrBytes>) {
    let metadata = &context.broker.metadata;
    let image = metadata.image();
    let missing = names.iter().map(|name| &**name).filter(|name| image.topics.get(name).is_none());
    let missing: Vec<_> = missing.filter(|name| resolve::invalid_topic_name(name).is_none()).collect();
    if !missing.is_empty() && metadata.broker_config().auto_create_topics_enable {
        // What could not be created is answered as what is not there; the reason is logged.
        auto_create::create_for(context, missing).await;
    }
}

/// The cluster as one response shows it.
struct View<'a> {
    image: &'a Image,
    nodes: &'a [Node],
    version: i16,
}

impl View<'_> {
    fn topics(&self, asked: Asked) -> Vec<MetadataResponseTopic> {
        match asked {
            Asked::All => self.image.topics.iter().map(|topic| self.topic(topic)).collect(),
            Asked::Names(names) => names.into_iter().map(|name| self.named(name)).collect(),
            Asked::Ids(ids) => ids.into_iter().map(|id| self.identified(id)).collect(),
            Asked::Invalid(topics) => topics
                .into_iter()
                .map(|(name, id)| {
                    missing_topic(ErrorCode::InvalidRequest, Some(name.unwrap_or_default()), id)
                })
                .collect(),
        }
    }

    fn named(&self, name: StrBytes) -> MetadataResponseTopic {
        if let Some(topic) = self.image.topics.get(&name) {
            return self.topic(topic);
        }
        let code = match resolve::invalid_topic_name(&name) {
            Some(_) => ErrorCode::InvalidTopicException,
            None => ErrorCode::UnknownTopicOrPartition,
        };
        let internal = is_internal_topic(&name);
        missing_topic(code, Some(TopicName(name)), Uuid::nil()).with_is_internal(internal)
    }

    fn identified(&self, id: Uuid) -> MetadataResponseTopic {
        match self.image.topics.by_id(id) {
            Some(topic) => self.topic(topic),
            None => missing_topic(ErrorCode::UnknownTopicId, None, id),
        }
    }

    fn topic(&self, topic: &Arc<TopicImage>) -> MetadataResponseTopic {
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
            .with_topic_id(topic.id)
            .with_is_internal(is_internal_topic(&topic.name))
            .with_partitions(
                topic.partitions().map(|(index, partition)| self.partition(index, partition)).collect(),
            )
    }

    fn partition(&self, index: i32, partition: &PartitionImage) -> MetadataResponsePartition {
        let is_alive = |id: &NodeId| self.nodes.iter().any(|node| node.id == *id);
        // Version 0 leaves out who is not there, and says so by an error.
        let shown = |ids: &[NodeId]| -> Vec<NodeId> {
            ids.iter().copied().filter(|id| self.version > 0 || is_alive(id)).collect()
        };
        let (replicas, isr) = (shown(&partition.replicas), shown(&partition.isr));
        let leader_alive = is_alive(&partition.leader);
        let code = if !leader_alive {
            let registered = self.image.brokers.contains_key(&partition.leader);
            Some(if registered && self.version >= 6 {
                ErrorCode::ListenerNotFound
            } else {
                ErrorCode::LeaderNotAvailable
            })
        } else if replicas.len() < partition.replicas.len() || isr.len() < partition.isr.len() {
            Some(ErrorCode::ReplicaNotAvailable)
        } else {
            None
        };
        let offline = partition.replicas.iter().copied().filter(|id| !is_alive(id)).collect();
        let ids = |ids: Vec<NodeId>| ids.into_iter().map(Into::into).collect();
        MetadataResponsePartition::default()
            .with_error_code(code.map_or(0, |code| code.code()))
            .with_partition_index(index)
            .with_leader_id(if leader_alive { partition.leader } else { -1 }.into())
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(ids(replicas))
            .with_isr_nodes(ids(isr))
            .with_offline_replicas(ids(offline))
    }
}

fn missing_topic(code: ErrorCode, name: Option<TopicName>, id: Uuid) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(code.code()).with_name(name).with_topic_id(id)
}

fn broker(node: Node) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(node.id.into())
        .with_host(StrBytes::from_string(node.host))
        .with_port(node.port.into())
        .with_rack(node.rack.map(|rack| StrBytes::from_string(rack.to_string())))
}
