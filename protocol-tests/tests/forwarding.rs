//! Requests for the active controller that go through another broker (KIP-590).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, EnvelopeRequest, EnvelopeResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use klamm::protocol::header::{decode_response_header, encode_request_header};
use klamm::protocol::messages::{
    Body as _, CreateTopicsRequest, CreateTopicsResponse, MetadataRequest, Request,
};
use protocol_tests::server::{Client, PATIENCE, PATIENCE_MS, Server, unique};

const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const PRINCIPAL_DESERIALIZATION_FAILURE: i16 = 97;
/// `User:ANONYMOUS` as `DefaultKafkaPrincipalBuilder` writes it.
const ANONYMOUS: &[u8] = b"\0\0\x05User\x0aANONYMOUS\0\0";

fn create(name: &str) -> CreateTopicsRequest {
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_string(name.to_owned())))
        .with_num_partitions(1)
        .with_replication_factor(1);
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(PATIENCE_MS)
}

fn envelope<R: Request>(request: &R, version: i16) -> EnvelopeRequest {
    let mut frame = BytesMut::new();
    encode_request_header(&mut frame, R::KEY, version, 77, "inner");
    request.encode(&mut frame, version).unwrap();
    EnvelopeRequest::default()
        .with_request_data(frame.freeze())
        .with_request_principal(Some(Bytes::from_static(ANONYMOUS)))
        .with_client_host_address(Bytes::from_static(&[10, 0, 0, 1]))
}

async fn send(client: &mut Client, envelope: &EnvelopeRequest) -> EnvelopeResponse {
    client.call(0, envelope).await
}

#[tokio::test]
async fn a_controller_answers_what_is_in_an_envelope() {
    let server = Server::with(&[]).await;
    let mut client = server.connect().await;
    let name = unique("forwarded");
    let answer = send(&mut client, &envelope(&create(&name), 7)).await;
    assert_eq!(answer.error_code, 0);
    let mut response = answer.response_data.unwrap();
    assert_eq!(decode_response_header(&mut response, CreateTopicsRequest::KEY, 7), Ok(77));
    let created = CreateTopicsResponse::decode(&mut response, 7).unwrap();
    assert_eq!((created.topics.len(), created.topics[0].error_code), (1, 0));

    let foreign = envelope(&create(&name), 7).with_request_principal(Some(Bytes::from_static(b"\0\x09x")));
    assert_eq!(send(&mut client, &foreign).await.error_code, PRINCIPAL_DESERIALIZATION_FAILURE);
    let nowhere = envelope(&create(&name), 7).with_client_host_address(Bytes::from_static(b"where"));
    assert_eq!(send(&mut client, &nowhere).await.error_code, INVALID_REQUEST);
    let own = envelope(&MetadataRequest::default(), 12);
    assert_eq!(send(&mut client, &own).await.error_code, INVALID_REQUEST);
    let mut garbage = BytesMut::new();
    garbage.put_slice(b"\0\x13");
    let broken = envelope(&create(&name), 7).with_request_data(garbage.freeze());
    assert_eq!(send(&mut client, &broken).await.error_code, UNSUPPORTED_VERSION);
    server.stop().await;
}

#[tokio::test]
async fn a_broker_forwards_to_the_controller_and_knows_what_it_created() {
    let controller = Server::with(&[]).await;
    let joins = ("controller.quorum.bootstrap.servers", controller.address());
    let broker = Server::with(&[("process.roles", "broker"), ("node.id", "2"), joins]).await;
    let mut client = broker.connect().await;
    let created: CreateTopicsResponse = client.call(7, &create(&unique("forwarded"))).await;
    assert_eq!((created.topics[0].error_code, created.topics[0].num_partitions), (0, 1));
    let twice: CreateTopicsResponse = client.call(7, &create(&created.topics[0].name)).await;
    assert_eq!(twice.topics[0].error_code, 36, "the controller's own answer comes back");

    // A topic that is created on its first use is created by the controller too.
    let name = unique("first-use");
    let topic = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(name.clone()))));
    let asked =
        MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
    let end = Instant::now() + PATIENCE;
    while client.call(12, &asked).await.topics[0].error_code != 0 {
        assert!(Instant::now() < end, "it is not created");
    }

    let described: DescribeClusterResponse = client.call(2, &DescribeClusterRequest::default()).await;
    let mut ids: Vec<i32> = described.brokers.iter().map(|broker| broker.broker_id.0).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    let mut client = controller.connect().await;
    let of_controllers = DescribeClusterRequest::default().with_endpoint_type(2);
    let described: DescribeClusterResponse = client.call(2, &of_controllers).await;
    let controllers: Vec<i32> = described.brokers.iter().map(|node| node.broker_id.0).collect();
    assert_eq!((described.endpoint_type, controllers, described.controller_id.0), (2, vec![1], 1));
    broker.stop().await;
    controller.stop().await;
}
