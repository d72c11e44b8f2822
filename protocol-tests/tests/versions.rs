//! Every version of every API that is advertised, asked with requests that Kafka's own classes wrote with all their
//! fields set: each is answered, and the answer is what that version says.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test; the counts are part of the result")]

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use klamm::protocol::header::response_header_size;
use protocol_tests::golden::{self, Kind};
use protocol_tests::served::SERVED;
use protocol_tests::server::{Client, Server};

const PRODUCE: i16 = 0;

fn frame(key: i16, version: i16, header_version: i16, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(42);
    frame.put_i16(-1);
    if header_version >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    frame
}

/// A Produce request with acks=0 is answered by silence, or by the end of the connection.
fn wants_no_answer(key: i16, version: i16, body: &Bytes) -> bool {
    let mut body = body.clone();
    key == PRODUCE && {
        let request = <klamm::protocol::messages::ProduceRequest as klamm::protocol::messages::Body>::decode(
            &mut body, version,
        );
        request.unwrap().acks == 0
    }
}

async fn ask(client: &mut Client, key: i16, version: i16, request: &golden::Sample) {
    let name = klamm::protocol::guard::api_name(key).unwrap();
    client.send_frame(&frame(key, version, request.number, &request.bytes)).await;
    let Some(mut answer) = client.receive_frame().await else {
        panic!("{name} version {version}: closed instead of answered: {:?}", request.bytes)
    };
    assert_eq!(answer.get_i32(), 42, "{name} version {version}");
    answer.advance(response_header_size(key, version) - 4);
    let served = SERVED.iter().find(|served| served.key == key).unwrap();
    let decoded = (served.recode_response)(&mut answer, version);
    assert!(decoded.is_ok(), "{name} version {version}: {decoded:?}");
    assert!(answer.is_empty(), "{name} version {version}: {} bytes too many", answer.len());
}

#[tokio::test]
async fn every_version_of_every_api_is_answered() {
    let server = Server::start().await;
    let (mut versions, mut requests) = (0, 0);
    for api in klamm::api::advertised() {
        let mut client = server.connect().await;
        let samples = golden::load("messages", api.name);
        for version in api.served_from..=api.max {
            let of_version = |sample: &&golden::Sample| {
                sample.kind == Kind::Request
                    && sample.version == version
                    && !wants_no_answer(api.key, version, &sample.bytes)
            };
            let mut asked = 0;
            for request in samples.iter().filter(of_version) {
                ask(&mut client, api.key, version, request).await;
                asked += 1;
            }
            assert!(asked > 0, "no sample of {} version {version}", api.name);
            versions += 1;
            requests += asked;
        }
    }
    println!("{requests} requests in {versions} versions were answered");
    server.stop().await;
}

#[tokio::test]
async fn what_is_advertised_is_what_apache_kafka_advertises() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let request = klamm::protocol::messages::ApiVersionsRequest::default();
    let answer = client.call(0, &request).await;
    let shown: Vec<_> =
        answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    // Those of the APIs that are served here: of Apache Kafka's brokers, or of its controllers where only they have it,
    // as one listener serves both.
    let mut kafka: Vec<_> = include_str!("../golden/advertised.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let range = if fields[2] == "-" { fields[3] } else { fields[2] };
            let (min, max) = range.split_once('-').unwrap();
            (fields[0].parse().unwrap(), min.parse().unwrap(), max.parse().unwrap())
        })
        .filter(|(key, _, _): &(i16, i16, i16)| shown.iter().any(|(served, _, _)| served == key))
        .collect();
    // Which Apache Kafka serves only with a plugin for what clients measure (KIP-714).
    kafka.extend([(71, 0, 0), (72, 0, 0)]);
    kafka.sort_unstable();
    assert_eq!(shown, kafka);
    server.stop().await;
}
