//! Share groups of a cluster that is told not to have any (`share.version` 0), over the wire. The same holds of Apache
//! Kafka (`KLAMM_TEST_BOOTSTRAP`); it is a test of its own, as it switches share groups off for everybody.

use std::time::{Duration, Instant};

use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequest, ShareGroupDescribeRequest,
    ShareGroupHeartbeatRequest, UpdateFeaturesRequest,
};
use klamm::error::ErrorCode;
use klamm::protocol::messages::describe_share_group_offsets::DescribeShareGroupOffsetsRequestGroup;
use klamm::protocol::messages::share_fetch::{ShareFetchPartition, ShareFetchTopic};
use klamm::protocol::messages::{
    DescribeShareGroupOffsetsRequest, ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareFetchRequest,
    ShareFetchResponse,
};
use protocol_tests::groups::{coordinator, group, text};
use protocol_tests::server::{Client, PATIENCE, PATIENCE_MS, Server, Topic, unique};
use uuid::Uuid;

const STEP: Duration = Duration::from_millis(50);

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;

/// A new member's first heartbeat.
fn join(group_id: &str, topic: &Topic) -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest::default()
        .with_group_id(group(group_id))
        .with_member_id(text(&Uuid::new_v4().to_string()))
        .with_subscribed_topic_names(Some(vec![topic.wire_name()]))
}

/// Sets `share.version`, and waits until brokers know it: then a member that joins gets this code.
async fn set_share_version(client: &mut Client, level: i16, join: &ShareGroupHeartbeatRequest, code: i16) {
    let update = FeatureUpdateKey::default()
        .with_feature(text("share.version"))
        .with_max_version_level(level)
        .with_upgrade_type(if level > 0 { UPGRADE } else { SAFE_DOWNGRADE });
    let request =
        UpdateFeaturesRequest::default().with_timeout_ms(PATIENCE_MS).with_feature_updates(vec![update]);
    let answer = client.call(2, &request).await;
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = client.call(1, join).await;
        if answer.error_code == code {
            return;
        }
        assert!(Instant::now() < end, "share.version {level}: {answer:?}");
        tokio::time::sleep(STEP).await;
    }
}

fn fetch(group_id: &str, member_id: &str, epoch: i32, topic: &Topic) -> ShareFetchRequest {
    let topic = ShareFetchTopic {
        topic_id: topic.id,
        partitions: vec![ShareFetchPartition::default()],
        ..ShareFetchTopic::default()
    };
    ShareFetchRequest {
        group_id: Some(group_id.to_owned()),
        member_id: Some(member_id.to_owned()),
        share_session_epoch: epoch,
        max_records: 10,
        batch_size: 10,
        topics: vec![topic],
        ..ShareFetchRequest::default()
    }
}

fn acknowledge(group_id: &str, member_id: &str, epoch: i32) -> ShareAcknowledgeRequest {
    ShareAcknowledgeRequest {
        group_id: Some(group_id.to_owned()),
        member_id: Some(member_id.to_owned()),
        share_session_epoch: epoch,
        ..ShareAcknowledgeRequest::default()
    }
}

#[tokio::test]
async fn without_share_groups_their_requests_are_refused_and_sessions_end() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(1, &[]).await;
    let (group_id, member_id) = (unique("share"), Uuid::new_v4().to_string());
    let join = join(&group_id, &topic);
    assert_eq!(client.call(1, &join).await.error_code, 0);
    let answer: ShareFetchResponse = client.call(2, &fetch(&group_id, &member_id, 0, &topic)).await;
    assert_eq!(answer.error_code, 0);

    let refused = ErrorCode::UnsupportedVersion.code();
    set_share_version(&mut client, 0, &join, refused).await;
    assert_eq!(client.call(1, &join).await.error_message, None);
    let answer: ShareFetchResponse = client.call(2, &fetch(&group_id, &member_id, 1, &topic)).await;
    assert_eq!((answer.error_code, answer.responses.len()), (refused, 0));
    let answer: ShareAcknowledgeResponse = client.call(2, &acknowledge(&group_id, &member_id, 1)).await;
    assert_eq!((answer.error_code, answer.responses.len()), (refused, 0));
    let ids = vec![group(&group_id), group("another")];
    let answer = client.call(1, &ShareGroupDescribeRequest::default().with_group_ids(ids)).await;
    let codes: Vec<_> = answer.groups.iter().map(|group| (&*group.group_id.0, group.error_code)).collect();
    assert_eq!(codes, [(&*group_id, refused), ("another", refused)]);
    let named = |group_id: &str| DescribeShareGroupOffsetsRequestGroup {
        group_id: group_id.to_owned(),
        ..DescribeShareGroupOffsetsRequestGroup::default()
    };
    let request = DescribeShareGroupOffsetsRequest {
        groups: vec![named(&group_id), named("another")],
        ..DescribeShareGroupOffsetsRequest::default()
    };
    let answer = client.call(1, &request).await;
    let codes: Vec<_> = answer.groups.iter().map(|it| (it.error_code, it.error_message.clone())).collect();
    assert_eq!(codes, [(refused, None), (refused, None)]);
    let request = AlterShareGroupOffsetsRequest::default().with_group_id(group(&group_id));
    let altered = client.call(0, &request).await;
    assert_eq!((altered.error_code, altered.responses.len()), (refused, 0));
    let deleted = DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(topic.wire_name());
    let request =
        DeleteShareGroupOffsetsRequest::default().with_group_id(group(&group_id)).with_topics(vec![deleted]);
    let answer = client.call(0, &request).await;
    assert_eq!((answer.error_code, answer.responses.len()), (refused, 0));
    assert_eq!(answer.error_message, altered.error_message);
    assert!(answer.error_message.is_some_and(|message| !message.is_empty()));

    // The session ended; the group goes on.
    set_share_version(&mut client, 1, &join, 0).await;
    let answer: ShareFetchResponse = client.call(2, &fetch(&group_id, &member_id, 1, &topic)).await;
    assert_eq!(answer.error_code, ErrorCode::ShareSessionNotFound.code());
    let answer: ShareFetchResponse = client.call(2, &fetch(&group_id, &member_id, 0, &topic)).await;
    assert_eq!(answer.error_code, 0);
    server.stop().await;
}
