//! The versions that are advertised, against those of Apache Kafka 4.3.1.
//!
//! With `KLAMM_TEST_BOOTSTRAP` set to a running Apache Kafka (and `KLAMM_TEST_CONTROLLER` to the listener of its
//! controller) the recorded table itself is held against it.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use klamm::api::advertised;
use klamm::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol_tests::server::{Client, Server};

type Ranges = BTreeMap<i16, (i16, i16)>;

/// What was recorded from Apache Kafka, for brokers and for controllers.
fn recorded() -> (Ranges, Ranges) {
    let (mut broker, mut controller) = (Ranges::new(), Ranges::new());
    let text = include_str!("../golden/advertised.txt");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for (ranges, word) in [(&mut broker, words[2]), (&mut controller, words[3])] {
            if let Some((min, max)) = word.split_once('-').filter(|(min, _)| !min.is_empty()) {
                ranges.insert(words[0].parse().unwrap(), (min.parse().unwrap(), max.parse().unwrap()));
            }
        }
    }
    (broker, controller)
}

async fn told(client: &mut Client) -> Ranges {
    let request = ApiVersionsRequest::default()
        .with_client_software_name("protocol-tests".into())
        .with_client_software_version("1".into());
    let answer: ApiVersionsResponse = client.call(4, &request).await;
    assert_eq!(answer.error_code, 0);
    answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect()
}

#[tokio::test]
async fn the_versions_of_every_api_are_those_of_apache_kafka() {
    let (broker, controller) = recorded();
    let server = Server::start().await;
    let ranges = told(&mut server.connect().await).await;
    if server.is_klamm() {
        // Both roles behind one listener: what is served anywhere is told.
        let ours: Ranges = advertised().iter().map(|api| (api.key, (api.min, api.max))).collect();
        assert_eq!(ranges, ours);
        let kafka: Ranges = controller.into_iter().chain(broker).collect();
        for (key, range) in ours.iter().filter(|(key, _)| kafka.contains_key(key)) {
            assert_eq!(range, &kafka[key], "versions of API {key}");
        }
    } else {
        assert_eq!(ranges, broker, "a broker of Apache Kafka");
        if let Ok(address) = std::env::var("KLAMM_TEST_CONTROLLER") {
            assert_eq!(told(&mut Client::connect(&address).await).await, controller, "a controller of it");
        }
    }
    server.stop().await;
}
