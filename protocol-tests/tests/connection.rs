//! Frames, headers and versions: what a connection answers, and when it is closed.
#![expect(clippy::unwrap_used, reason = "a test")]

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, FetchRequest};
use kafka_protocol::protocol::StrBytes;
use klamm::clock::Clock;
use protocol_tests::server::{PATIENCE_MS, Server, batch, produce_request, request_frame};

fn software(name: &'static str) -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(name))
        .with_client_software_version(StrBytes::from_static_str("1.0"))
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0_with_its_own_versions() {
    let server = Server::start().await;
    let newest = klamm::api::advertised().iter().find(|api| api.key == 18).unwrap().max;
    for version in [99, -1, newest + 1] {
        let mut client = server.connect().await;
        let mut frame = Vec::from(18_i16.to_be_bytes());
        frame.extend(i16::to_be_bytes(version));
        // The header is read as version 2, and the body not at all.
        frame.extend(*b"\0\0\0\x01\0\x01x\0\x01\x02\x03");
        client.send_frame(&frame).await;
        let answer = client.receive_frame().await.unwrap();
        assert_eq!(&answer[..], b"\0\0\0\x01\0\x23\0\0\0\x01\0\x12\0\0\0\x04", "version {version}");
        let again: ApiVersionsResponse = client.call(newest, &software("test")).await;
        assert_eq!(again.error_code, 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn software_names_are_checked_from_version_3() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for (version, name, code) in
        [(0, "", 0), (2, "", 0), (3, "", 42), (3, "-a", 42), (4, "a b", 42), (4, "a-b", 0)]
    {
        let request = if version < 3 { ApiVersionsRequest::default() } else { software(name) };
        let answer: ApiVersionsResponse = client.call(version, &request).await;
        assert_eq!(answer.error_code, code, "version {version}, {name:?}");
        assert_eq!(answer.api_keys.is_empty(), code != 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_request_closes_the_connection() {
    let server = Server::start().await;
    let bad: &[(&str, &[u8])] = &[
        ("an empty frame", b"\0\0\0\0"),
        ("a negative length", b"\xff\xff\xff\xff"),
        ("a frame above the limit", b"\x7f\xff\xff\xff"),
        ("a frame without a whole header", b"\0\0\0\x03\0\x12\0"),
        ("a client id that is cut off", b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\0\x05"),
        ("an unknown key", b"\0\0\0\x0a\0\xc8\0\0\0\0\0\x01\xff\xff"),
        ("a key that is gone", b"\0\0\0\x0a\0\x04\0\0\0\0\0\x01\xff\xff"),
        ("a key of controllers", b"\0\0\0\x0b\0\x34\0\0\0\0\0\x01\xff\xff\0"),
        ("Fetch version 3", b"\0\0\0\x0a\0\x01\0\x03\0\0\0\x01\xff\xff"),
        ("Produce version 2", b"\0\0\0\x0a\0\0\0\x02\0\0\0\x01\xff\xff"),
        ("Metadata version 99", b"\0\0\0\x0a\0\x03\0\x63\0\0\0\x01\xff\xff"),
        ("ApiVersions 99 with an old header", b"\0\0\0\x0a\0\x12\0\x63\0\0\0\x01\xff\xff"),
    ];
    for (what, bytes) in bad {
        let mut client = server.connect().await;
        client.send_raw(bytes).await;
        assert!(client.is_closed().await, "{what}");
    }
    server.stop().await;
}

#[tokio::test]
async fn bytes_after_a_request_are_ignored_and_the_client_id_may_be_null() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let mut frame = request_frame(0, 5, &ApiVersionsRequest::default()).to_vec();
    frame.extend(b"more");
    client.send_frame(&frame).await;
    assert_eq!(&client.receive_frame().await.unwrap()[..6], b"\0\0\0\x05\0\0");
    client.send_frame(b"\0\x12\0\0\0\0\0\x06\xff\xff").await;
    assert_eq!(&client.receive_frame().await.unwrap()[..6], b"\0\0\0\x06\0\0");
    server.stop().await;
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_their_order() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let mut stream = Vec::new();
    for correlation_id in 0..200 {
        let frame = request_frame(0, correlation_id, &ApiVersionsRequest::default());
        stream.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        stream.extend(frame);
    }
    client.send_raw(&stream).await;
    for correlation_id in 0..200_i32 {
        let answer = client.receive_frame().await.unwrap();
        assert_eq!(answer[..4], correlation_id.to_be_bytes());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_frame_above_the_configured_limit_closes_the_connection() {
    let server = Server::with(&[("socket.request.max.bytes", "1000")]).await;
    let mut client = server.connect().await;
    let mut frame = request_frame(0, 1, &ApiVersionsRequest::default()).to_vec();
    frame.resize(1000, 0);
    client.send_frame(&frame).await;
    assert!(client.receive_frame().await.is_some());
    client.send_raw(&1001_u32.to_be_bytes()).await;
    assert!(client.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn requests_beyond_the_memory_for_them_wait_for_those_before_them() {
    let limits = [("socket.request.max.bytes", "2000"), ("queued.max.request.bytes", "2000")];
    let server = Server::with(&limits).await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let value = "x".repeat(1500);
    let mut stream = Vec::new();
    for number in 0..50 {
        let frame = request_frame(9, number, &produce_request(9, &topic, 0, Some(batch(&[&value]))));
        stream.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        stream.extend(frame);
    }
    client.send_raw(&stream).await;
    for number in 0..50_i32 {
        assert_eq!(client.receive_frame().await.unwrap()[..4], number.to_be_bytes());
    }
    server.stop().await;
}

#[tokio::test]
async fn an_address_has_as_many_connections_as_it_may() {
    let server = Server::with(&[("max.connections.per.ip", "2")]).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for client in [&mut first, &mut second] {
        let _: ApiVersionsResponse = client.call(0, &ApiVersionsRequest::default()).await;
    }
    assert!(server.connect().await.is_closed().await);
    drop(first);
    // The place is free once the broker has seen the end of the first one.
    loop {
        let mut third = server.connect().await;
        third.send(0, 1, &ApiVersionsRequest::default()).await;
        if third.receive_frame().await.is_some() {
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_when_its_time_is_over() {
    let clock = Clock::virtual_at(Clock::system().now_ms());
    let server = Server::with_clock(&[("connections.max.idle.ms", "1000")], clock.clone()).await;
    let mut client = server.connect().await;
    for _ in 0..5 {
        clock.advance(900);
        let _: ApiVersionsResponse = client.call(0, &ApiVersionsRequest::default()).await;
    }
    clock.advance(1001);
    assert!(client.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn a_broker_that_stops_answers_what_it_has_taken() {
    let server = Server::with(&[]).await;
    let (mut producer, mut consumer) = (server.connect().await, server.connect().await);
    let topic = producer.create_topic(1, &[]).await;
    for number in 0..20 {
        producer.send(9, number, &produce_request(9, &topic, 0, Some(batch(&["a"])))).await;
    }
    // The first answer tells that the broker is at work on the others.
    producer.receive_frame().await.unwrap();
    let wanted = FetchPartition::default().with_fetch_offset(1_000_000).with_partition_max_bytes(1000);
    let wanted = FetchTopic::default()
        .with_topic(topic.wire_name())
        .with_partitions(vec![wanted.with_fetch_offset(20).with_current_leader_epoch(-1)]);
    let wait = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_session_epoch(-1)
        .with_min_bytes(1)
        .with_max_bytes(1000)
        .with_max_wait_ms(2 * PATIENCE_MS)
        .with_topics(vec![wanted]);
    let _: ApiVersionsResponse = consumer.call(0, &ApiVersionsRequest::default()).await;
    consumer.send(12, 5, &wait).await;
    let waiting = async {
        // Whether the broker had read the request before it stopped is a matter of microseconds.
        if let Some(answer) = consumer.receive_frame().await {
            assert_eq!(answer[..4], [0, 0, 0, 5]);
            assert!(consumer.is_closed().await);
        }
    };
    let acknowledged = async {
        let mut last = 0;
        while let Some(answer) = producer.receive_frame().await {
            last = i32::from_be_bytes(answer[..4].try_into().unwrap());
        }
        last
    };
    let (last, (), ()) = tokio::join!(acknowledged, waiting, server.stop());
    assert!(last > 0);
}
