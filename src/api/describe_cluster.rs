//! DescribeCluster (60): the brokers of the cluster, or its controllers (KIP-700).
//!
//! Version 1 says whether brokers or controllers are asked for (KIP-919): a listener of controllers answers with
//! controllers only, one of brokers with brokers. Version 2 can include fenced brokers (KIP-1073).

use std::sync::Arc;

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::{authorized, metadata, nodes};
use crate::error::ErrorCode;
use crate::metadata::image::ControllerImage;
use crate::protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

/// The kinds of endpoints (`EndpointType`).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(
    context: &Context,
    request: DescribeClusterRequest,
    version: i16,
) -> Result<DescribeClusterResponse, Disconnect> {
    let refuse = |code: ErrorCode, message: String| {
        let code = if version == 0 { ErrorCode::InvalidRequest } else { code };
        let message = Some(StrBytes::from_string(message));
        Ok(DescribeClusterResponse::default().with_error_code(code.code()).with_error_message(message))
    };
    let kind = context.connection.listener.kind;
    let mismatch = |what: &str, asked: &str| {
        let message = format!("this is an endpoint of {what}, and {asked} were asked for");
        refuse(ErrorCode::MismatchedEndpointType, message)
    };
    match request.endpoint_type {
        BROKERS if kind.serves_broker() => Ok(brokers(context, &request)),
        BROKERS => mismatch("controllers", "brokers"),
        CONTROLLERS if kind.serves_controller() => Ok(controllers(context, &request)),
        CONTROLLERS => mismatch("brokers", "controllers"),
        other => refuse(ErrorCode::UnsupportedEndpointType, format!("unknown endpoint type {other}")),
    }
}

fn brokers(context: &Context, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let image = context.broker.metadata.image();
    let alive = nodes::alive(context, &image);
    let shown =
        if request.include_fenced_brokers { nodes::registered(context, &image) } else { alive.clone() };
    let broker = |node: nodes::Node| {
        DescribeClusterBroker::default()
            .with_broker_id(node.id.into())
            .with_host(StrBytes::from_string(node.host))
            .with_port(node.port.into())
            .with_rack(node.rack.map(|rack| StrBytes::from_string(rack.to_string())))
            .with_is_fenced(node.fenced)
    };
    response(context, request, BROKERS)
        .with_controller_id(metadata::controller(context, &alive).into())
        .with_brokers(shown.into_iter().map(broker).collect())
}

/// The registered controllers that have the listener of this connection, and which of them is active.
fn controllers(context: &Context, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let image = context.broker.metadata.image();
    let listener = &context.connection.listener.name;
    let node = |controller: &Arc<ControllerImage>| {
        let endpoint = controller.endpoints.iter().find(|endpoint| *endpoint.listener == **listener)?;
        Some(
            DescribeClusterBroker::default()
                .with_broker_id(controller.id.into())
                .with_host(StrBytes::from_string(endpoint.host.to_string()))
                .with_port(endpoint.port.into()),
        )
    };
    let nodes: Vec<_> = image.controllers.values().filter_map(node).collect();
    let leader = context.broker.metadata.leader();
    let active = leader.filter(|leader| nodes.iter().any(|node| node.broker_id.0 == *leader));
    response(context, request, CONTROLLERS)
        .with_controller_id(active.unwrap_or(-1).into())
        .with_brokers(nodes)
}

fn response(
    context: &Context,
    request: &DescribeClusterRequest,
    endpoint_type: i8,
) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_endpoint_type(endpoint_type)
        .with_cluster_id(StrBytes::from_string(context.broker.cluster_id.to_string()))
        .with_cluster_authorized_operations(authorized::if_asked(
            request.include_cluster_authorized_operations,
            authorized::CLUSTER,
        ))
}
