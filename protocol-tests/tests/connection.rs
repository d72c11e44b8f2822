//! Frames, headers and versions: what a connection answers, and when it is closed.
#![expect(clippy::unwrap_used, reason = "a test")]

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use protocol_tests::server::{Server, request_frame};

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
