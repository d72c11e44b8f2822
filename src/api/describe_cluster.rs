//! DescribeCluster (60): the brokers of the cluster (KIP-700).
//!
//! Version 1 says whether brokers or controllers are asked for; here are brokers (KIP-919). Version 2 can include
//! fenced ones (KIP-1073).

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::{authorized, metadata, nodes};
use crate::error::ErrorCode;
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
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let message = "this is an endpoint of brokers, and controllers were asked for".to_owned();
            return refuse(ErrorCode::MismatchedEndpointType, message);
        }
        other => {
            return refuse(ErrorCode::UnsupportedEndpointType, format!("unknown endpoint type {other}"));
        }
    }
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
    Ok(DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(StrBytes::from_string(context.broker.cluster_id.to_string()))
        .with_controller_id(metadata::controller(context, &alive).into())
        .with_brokers(shown.into_iter().map(broker).collect())
        .with_cluster_authorized_operations(authorized::if_asked(
            request.include_cluster_authorized_operations,
            authorized::CLUSTER,
        )))
}
