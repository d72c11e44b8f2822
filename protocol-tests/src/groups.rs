//! What tests of groups have in common.

use kafka_protocol::messages::{FindCoordinatorRequest, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::server::{Client, Server};

/// A text as messages have it.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The id of a group as messages have it.
pub fn group(group_id: &str) -> GroupId {
    GroupId(text(group_id))
}

/// Waits until the group's coordinator is there.
pub async fn coordinator(server: &Server) -> Client {
    let mut client = server.connect().await;
    let request = FindCoordinatorRequest::default().with_key(text("g"));
    while client.call(3, &request).await.error_code != 0 {
        assert!(!server.is_klamm(), "the first request finds the coordinator");
    }
    client
}
