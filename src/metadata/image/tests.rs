#![expect(clippy::unwrap_used, reason = "a test")]

use uuid::Uuid;

use super::*;
use crate::metadata::record::{
    BrokerRegistrationChangeRecord, ClearElrRecord, PartitionChangeRecord, PartitionRecord,
    ProducerIdsRecord, RegisterBrokerRecord, RemoveTopicRecord, TopicRecord,
};

fn apply(image: &mut Image, record: impl Into<Record>) {
    image.apply(&record.into()).unwrap();
}

fn topic(image: &mut Image, name: &str, id: u128, partitions: i32) -> Uuid {
    let topic_id = Uuid::from_u128(id);
    apply(image, TopicRecord { name: name.into(), topic_id, ..TopicRecord::default() });
    for partition_id in 0..partitions {
        let (replicas, isr) = (vec![1], vec![1]);
        let (leader, leader_epoch, partition_epoch) = (1, 0, 0);
        let record = PartitionRecord {
            partition_id,
            topic_id,
            replicas,
            isr,
            leader,
            leader_epoch,
            partition_epoch,
            ..PartitionRecord::default()
        };
        apply(image, record);
    }
    topic_id
}

#[test]
fn a_topic_is_found_by_name_and_by_id_until_it_is_removed() {
    let mut image = Image::empty();
    let id = topic(&mut image, "a", 7, 3);
    let before = image.clone();
    assert_eq!(image.topics.get("a").unwrap().partition_count(), 3);
    assert_eq!(image.topics.by_id(id), image.topics.get("a"));
    apply(&mut image, RemoveTopicRecord { topic_id: id, ..RemoveTopicRecord::default() });
    assert!(image.topics.get("a").is_none() && image.topics.by_id(id).is_none());
    assert_eq!(before.topics.len(), 1, "an older image stays as it was");
    let again = Record::from(RemoveTopicRecord { topic_id: id, ..RemoveTopicRecord::default() });
    assert_eq!(image.apply(&again), Err(ImageError::NoTopic(id)));
}

#[test]
fn a_named_leader_begins_an_epoch_and_every_change_counts() {
    let mut image = Image::empty();
    let topic_id = topic(&mut image, "a", 7, 1);
    let change = PartitionChangeRecord { partition_id: 0, topic_id, ..PartitionChangeRecord::default() };
    apply(&mut image, PartitionChangeRecord { leader: -1, ..change.clone() });
    apply(&mut image, PartitionChangeRecord { isr: Some(vec![1, 2]), ..change.clone() });
    apply(&mut image, PartitionChangeRecord { leader: 1, leader_recovery_state: 1, ..change.clone() });
    let partition = image.topics.by_id(topic_id).unwrap().partition(0).unwrap().clone();
    assert_eq!((partition.leader, partition.leader_epoch, partition.partition_epoch), (1, 2, 3));
    assert!(partition.recovering && partition.isr == [1, 2]);
    let missing = Record::from(PartitionChangeRecord { partition_id: 9, ..change });
    assert_eq!(image.apply(&missing), Err(ImageError::NoPartition { topic_id, partition: 9 }));
}

#[test]
fn names_that_differ_by_dots_and_underscores_look_alike() {
    let mut image = Image::empty();
    let id = topic(&mut image, "a.b_c", 1, 0);
    topic(&mut image, "plain", 2, 0);
    assert_eq!(&**image.topics.look_alike("a_b.c").unwrap(), "a.b_c");
    assert!(image.topics.look_alike("a-b-c").is_none() && image.topics.look_alike("plain").is_none());
    apply(&mut image, RemoveTopicRecord { topic_id: id, ..RemoveTopicRecord::default() });
    assert!(image.topics.look_alike("a_b.c").is_none());
}

#[test]
fn configs_belong_to_their_resource_and_go_with_their_topic() {
    let mut image = Image::empty();
    let id = topic(&mut image, "a", 7, 1);
    let set = |kind: i8, name: &str, value: Option<&str>| ConfigRecord {
        resource_type: kind,
        resource_name: name.into(),
        name: "k".into(),
        value: value.map(Into::into),
        ..ConfigRecord::default()
    };
    for record in
        [set(2, "a", Some("1")), set(4, "", Some("2")), set(4, "1", Some("3")), set(99, "?", Some("4"))]
    {
        apply(&mut image, record);
    }
    assert_eq!(image.config(&ConfigResource::topic("a")).unwrap()["k"], "1");
    assert_eq!(image.config(&ConfigResource::cluster()).unwrap()["k"], "2");
    assert_eq!(image.configs().count(), 3);
    apply(&mut image, set(4, "1", None));
    assert!(image.config(&ConfigResource::broker(1)).is_none());
    apply(&mut image, RemoveTopicRecord { topic_id: id, ..RemoveTopicRecord::default() });
    assert!(image.config(&ConfigResource::topic("a")).is_none());
}

#[test]
fn brokers_features_and_producer_ids_follow_the_records() {
    let mut image = Image::empty();
    apply(
        &mut image,
        RegisterBrokerRecord { broker_id: 1, broker_epoch: 5, ..RegisterBrokerRecord::default() },
    );
    assert!(image.active_broker(1).is_none(), "a broker starts fenced");
    let change =
        BrokerRegistrationChangeRecord { broker_id: 1, broker_epoch: 5, fenced: -1, ..Default::default() };
    apply(&mut image, change.clone());
    assert!(image.active_broker(1).is_some());
    let stale = Record::from(BrokerRegistrationChangeRecord { broker_epoch: 4, ..change });
    assert_eq!(image.apply(&stale), Err(ImageError::NoBroker { id: 1, epoch: 4 }));

    let level = |name: &str, feature_level| FeatureLevelRecord {
        name: name.into(),
        feature_level,
        ..Default::default()
    };
    apply(&mut image, level(METADATA_VERSION, 30));
    apply(&mut image, level("group.version", 1));
    apply(&mut image, level(KRAFT_VERSION, 1));
    assert_eq!(image.features().collect::<Vec<_>>(), [("group.version", 1), (METADATA_VERSION, 30)]);
    apply(&mut image, level("group.version", 0));
    assert_eq!((image.feature("group.version"), image.metadata_version()), (0, Some(30)));

    apply(
        &mut image,
        ProducerIdsRecord { broker_id: 1, next_producer_id: 3_000, ..ProducerIdsRecord::default() },
    );
    assert_eq!(image.next_producer_id, 3_000);
}

#[test]
fn the_eligible_leaders_of_one_topic_or_of_all_are_cleared() {
    let mut image = Image::empty();
    let ids = [topic(&mut image, "a", 1, 1), topic(&mut image, "b", 2, 1)];
    for topic_id in ids {
        let elr = Some(vec![2]);
        apply(
            &mut image,
            PartitionChangeRecord {
                partition_id: 0,
                topic_id,
                eligible_leader_replicas: elr,
                ..Default::default()
            },
        );
    }
    let elrs = |image: &Image| ids.map(|id| image.topics.by_id(id).unwrap().partition(0).unwrap().elr.len());
    apply(&mut image, ClearElrRecord { topic_name: "a".into(), ..ClearElrRecord::default() });
    assert_eq!(elrs(&image), [0, 1]);
    apply(&mut image, ClearElrRecord::default());
    assert_eq!(elrs(&image), [0, 0]);
}
