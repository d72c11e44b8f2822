//! What a node with an empty directory must know of the cluster that it joins: its id, its controllers, and a node id
//! that is free.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::Arc;

use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_quorum_response::Node;
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeQuorumRequest, InitProducerIdRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Settings, StartError};
use crate::client::{Address, ClientError, Peer, PeerOptions};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::config::cluster::Controllers;
use crate::config::key::ConfigError;
use crate::error::ErrorCode;
use crate::storage::MetaProperties;
use crate::types::CLUSTER_METADATA_TOPIC;

/// How long one node has for one answer.
const ANSWER_MS: i64 = 3_000;
/// How many nodes may choose an id at the same moment, without two that choose the same one.
const AT_ONCE: i64 = 8;
/// How long it takes from one round over all that may know to the next.
const ROUND_MS: i64 = 250;
/// `DescribeClusterRequest.EndpointType`: the request may go to a broker or to a controller, which ask for their own.
const ENDPOINT_TYPES: [i8; 2] = [1, 2];

/// What the nodes of a cluster tell of it.
struct Cluster {
    id: String,
    controllers: Vec<(String, u16)>,
    node_ids: BTreeSet<i32>,
    /// A number that the node that was asked gives to nobody else, if it has any to give.
    ticket: Option<i64>,
}

impl Cluster {
    /// A node id that is free. Who has another ticket chooses among others, so that nodes that join at the same moment
    /// do not take each other's place: the registration of one is not there yet when the other one looks.
    fn free_id(&self) -> Option<i32> {
        let remainder = |number: i64| number.rem_euclid(AT_ONCE);
        let mine = self.ticket.map(remainder);
        let is_mine = |id: &i32| mine.is_none_or(|mine| remainder(i64::from(*id) - 2) == mine);
        (1..i32::MAX).find(|id| is_mine(id) && !self.node_ids.contains(id))
    }
}

/// The settings with what the directory says, and for an empty one what the cluster says.
pub(super) async fn resolve(
    settings: Settings,
    owner: Option<&MetaProperties>,
    clock: &Clock,
) -> Result<Settings, StartError> {
    let formatted = owner.and_then(|owner| owner.initial_controllers.clone());
    if let Some(controllers) = formatted.filter(|controllers| !controllers.is_empty()) {
        return Ok(Settings { controllers: Controllers::Formatted(controllers), ..settings });
    }
    let is_chosen = settings.config.layers.get("node.id").is_none();
    let Controllers::KnownBy(servers) = &settings.controllers else { return Ok(settings) };
    if let Some(owner) = owner {
        if !is_chosen {
            return Ok(settings);
        }
        let config = with_node_id(&settings.config, owner.node_id)?;
        return Ok(Settings { config: Arc::unwrap_or_clone(config), ..settings });
    }
    let found = find(servers, is_chosen, &settings.config, clock).await?;
    let config = if is_chosen {
        let free = found.free_id().unwrap_or(settings.config.node_id);
        Arc::unwrap_or_clone(with_node_id(&settings.config, free)?)
    } else {
        settings.config
    };
    tracing::info!(cluster = found.id, node = config.node_id, "joining");
    Ok(Settings {
        config,
        cluster_id: settings.cluster_id.or(Some(found.id)),
        controllers: Controllers::KnownBy(found.controllers),
        ..settings
    })
}

fn with_node_id(config: &BrokerConfig, id: i32) -> Result<Arc<BrokerConfig>, StartError> {
    let mut values = config.layers.statics.as_ref().clone();
    values.insert("node.id".to_owned(), id.to_string());
    let config = BrokerConfig::from_static(values);
    config.map(Arc::new).map_err(|error: ConfigError| StartError::Join(error.0))
}

/// Asks one after the other until one answers.
async fn find(
    servers: &[(String, u16)],
    with_ticket: bool,
    config: &BrokerConfig,
    clock: &Clock,
) -> Result<Cluster, StartError> {
    let deadline_ms = clock.steady_ms() + i64::from(config.initial_broker_registration_timeout_ms);
    let mut said = false;
    loop {
        let mut problem = "there is no server to ask".to_owned();
        for (host, port) in servers {
            let address = Address { host: host.as_str().into(), port: *port };
            let options =
                PeerOptions { connect_timeout_ms: ANSWER_MS, ..PeerOptions::new("join", clock.clone()) };
            let peer = Peer::new(address.clone(), options);
            match ask(&peer).await {
                Ok(found) if !with_ticket => return Ok(found),
                Ok(found) => match ticket(&peer).await {
                    Ok(ticket) => return Ok(Cluster { ticket, ..found }),
                    Err(error) => problem = error,
                },
                Err(error) => problem = error,
            }
        }
        if clock.steady_ms() >= deadline_ms {
            return Err(StartError::Join(problem));
        }
        if !said {
            tracing::warn!("waiting for the cluster: {problem}");
            said = true;
        }
        clock.sleep_until(clock.steady_ms() + ROUND_MS).await;
    }
}

async fn ask(peer: &Peer) -> Result<Cluster, String> {
    let shown = |error: ClientError| error.to_string();
    let mut cluster = Err(format!("{} does not know its cluster", peer.address()));
    for endpoint_type in ENDPOINT_TYPES {
        let request = DescribeClusterRequest::default().with_endpoint_type(endpoint_type);
        let answer = peer.call(request, 1..=2, ANSWER_MS).await.map_err(shown)?.response;
        if answer.error_code == 0 {
            let ids = answer.brokers.iter().map(|broker| broker.broker_id.0).collect::<BTreeSet<_>>();
            cluster = Ok((answer.cluster_id.to_string(), ids));
            break;
        }
    }
    let (id, mut node_ids) = cluster?;
    let partition = PartitionData::default().with_partition_index(0);
    let topic = TopicData::default()
        .with_topic_name(TopicName(StrBytes::from_static_str(CLUSTER_METADATA_TOPIC)))
        .with_partitions(vec![partition]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    let answer = peer.call(request, 2..=2, ANSWER_MS).await.map_err(shown)?.response;
    let described = answer.topics.first().and_then(|topic| topic.partitions.first());
    let described =
        described.filter(|one| one.error_code == 0 && answer.error_code == 0 && one.leader_id.0 >= 0);
    let described = described.ok_or_else(|| format!("{} knows no active controller", peer.address()))?;
    let replicas = described.current_voters.iter().chain(&described.observers);
    node_ids.extend(replicas.map(|replica| replica.replica_id.0));
    let endpoint = |node: &Node| node.listeners.first().map(|one| (one.host.to_string(), one.port));
    let controllers: Vec<_> = answer.nodes.iter().filter_map(endpoint).collect();
    if controllers.is_empty() {
        return Err(format!("{} does not say where controllers are", peer.address()));
    }
    Ok(Cluster { id, controllers, node_ids, ticket: None })
}

/// Producer ids are given to nobody twice, which tells apart who asks: one is taken for that. A node that is a
/// controller only has none.
async fn ticket(peer: &Peer) -> Result<Option<i64>, String> {
    let request = InitProducerIdRequest::default().with_transaction_timeout_ms(i32::MAX);
    let request = request.with_transactional_id(None).with_producer_id((-1).into()).with_producer_epoch(-1);
    match peer.call(request, 2..=4, ANSWER_MS).await {
        Ok(answer) => match ErrorCode::try_from_code(answer.response.error_code) {
            None => Ok(Some(answer.response.producer_id.0)),
            Some(code) => Err(format!("{} gives out no producer id: {code}", peer.address())),
        },
        Err(ClientError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// The address by which other machines reach this one: the one that the way to `towards` begins with, or to the rest
/// of the world. Nothing is sent.
pub(super) fn own_host(controllers: &Controllers, node_id: i32) -> Option<String> {
    // A reserved address (RFC 5737): only the way to it is asked for.
    let world = ("192.0.2.1".to_owned(), 9);
    let towards = match controllers {
        Controllers::ThisNode => None,
        Controllers::Fixed(voters) => {
            let other = voters.iter().find(|voter| voter.id != node_id);
            other.map(|voter| (voter.host.clone(), voter.port))
        }
        Controllers::Formatted(controllers) => {
            let other = controllers.iter().map(|one| &one.address).find(|one| one.id != node_id);
            other.map(|one| (one.host.clone(), one.port))
        }
        Controllers::KnownBy(servers) => servers.first().cloned(),
    };
    let way = |(host, port): (String, u16)| {
        let any = if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect((host, port)).ok()?;
        Some(socket.local_addr().ok()?.ip().to_canonical().to_string())
    };
    towards.and_then(way).or_else(|| way(world))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins_at_the_same_moment_chooses_another_id() {
        let cluster = |ticket, node_ids: &[i32]| Cluster {
            id: String::new(),
            controllers: Vec::new(),
            node_ids: node_ids.iter().copied().collect(),
            ticket,
        };
        let chosen: BTreeSet<i32> =
            (0..8).filter_map(|ticket| cluster(Some(1_000 + ticket), &[1]).free_id()).collect();
        assert_eq!(chosen, (2..10).collect());
        assert_eq!(cluster(None, &[1, 2, 4]).free_id(), Some(3));
        assert_eq!(cluster(Some(0), &[1, 2]).free_id(), Some(10));
        assert_eq!(cluster(Some(7), &[]).free_id(), Some(1));
    }

    #[test]
    fn the_way_to_the_cluster_says_which_address_is_ours() {
        let near = Controllers::KnownBy(vec![("127.0.0.1".to_owned(), 9)]);
        assert_eq!(own_host(&near, 1).as_deref(), Some("127.0.0.1"));
    }
}
