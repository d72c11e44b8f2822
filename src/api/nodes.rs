//! The brokers of the cluster, as a client is told to reach them.

use std::sync::Arc;

use super::context::Context;
use crate::metadata::image::{BrokerImage, Image};
use crate::types::NodeId;

/// A broker and where the client that asks reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<Arc<str>>,
    pub(crate) fenced: bool,
}

/// Every registered broker that has the listener of this connection, in the order of their ids.
pub(crate) fn registered(context: &Context, image: &Image) -> Vec<Node> {
    image.brokers.values().filter_map(|broker| node(context, broker)).collect()
}

/// The brokers that clients may use.
pub(crate) fn alive(context: &Context, image: &Image) -> Vec<Node> {
    let mut nodes = registered(context, image);
    nodes.retain(|node| !node.fenced);
    nodes
}

/// One broker that clients may use.
pub(crate) fn alive_node(context: &Context, image: &Image, id: NodeId) -> Option<Node> {
    node(context, image.brokers.get(&id)?).filter(|node| !node.fenced)
}

/// This broker is told as this client reached it; others as they registered.
fn node(context: &Context, broker: &BrokerImage) -> Option<Node> {
    let (host, port) = if broker.id == context.broker.node_id {
        context.connection.advertised()
    } else {
        let endpoint = broker.endpoint(&context.connection.listener.name)?;
        (endpoint.host.to_string(), endpoint.port)
    };
    Some(Node { id: broker.id, host, port, rack: broker.rack.clone(), fenced: broker.fenced })
}
