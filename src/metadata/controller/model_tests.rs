//! Whatever is decided, the log alone gives the same image again.

#![expect(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;

use super::tests::{Model, registration};
use super::{brokers, configs, features, producer_ids, topics};
use crate::config::dynamic::ConfigOp;
use crate::metadata::command::{
    ConfigChange, ConfigReplacement, FeatureUpdate, NewPartitions, NewTopic, PartitionQuota, UpgradeType,
};
use crate::metadata::image::ConfigResource;
use crate::metadata::loader::Loader;
use crate::testing::properties;
use crate::types::NodeId;

/// The brokers of the model.
const BROKERS: [NodeId; 3] = [1, 2, 3];

#[derive(Clone, Debug)]
enum Command {
    Create { name: usize, partitions: i32, replicas: i16, retention_ms: Option<i64> },
    Delete { name: usize },
    Grow { name: usize, count: i32 },
    Alter { name: usize, key: usize, value: Option<i64> },
    Replace { name: usize, value: i64 },
    Restart { broker: usize, life: u128 },
    Allocate,
    Feature { level: i16 },
}

fn command() -> impl Strategy<Value = Command> {
    let name = 0..6_usize;
    prop_oneof![
        4 => (name.clone(), -1..5_i32, -1..5_i16, proptest::option::of(-2..5_i64)).prop_map(
            |(name, partitions, replicas, retention_ms)| Command::Create { name, partitions, replicas, retention_ms }
        ),
        2 => name.clone().prop_map(|name| Command::Delete { name }),
        2 => (name.clone(), 0..9_i32).prop_map(|(name, count)| Command::Grow { name, count }),
        3 => (name.clone(), 0..3_usize, proptest::option::of(-3..9_i64))
            .prop_map(|(name, key, value)| Command::Alter { name, key, value }),
        1 => (name, 0..9_i64).prop_map(|(name, value)| Command::Replace { name, value }),
        2 => (0..3_usize, 1..4_u128).prop_map(|(broker, life)| Command::Restart { broker, life }),
        1 => Just(Command::Allocate),
        1 => (20..32_i16).prop_map(|level| Command::Feature { level }),
    ]
}

fn name_of(index: usize) -> String {
    ["a", "b", "a.b", "a_b", "bad name", "__consumer_offsets"][index].to_owned()
}

fn run(model: &mut Model, command: &Command) {
    match command.clone() {
        Command::Create { name, partitions, replicas, retention_ms } => {
            let configs = retention_ms.map(|ms| ("retention.ms".to_owned(), Some(ms.to_string())));
            let topic = NewTopic {
                partitions,
                replication_factor: replicas,
                configs: configs.into_iter().collect(),
                ..NewTopic::with_defaults(name_of(name))
            };
            drop(model.run(|context| topics::create(context, &[topic], false, &PartitionQuota::NONE)));
        }
        Command::Delete { name } => {
            let id = model.image.topics.get(&name_of(name)).map(|topic| topic.id);
            drop(model.run(|context| {
                topics::delete(context, &id.into_iter().collect::<Vec<_>>(), &PartitionQuota::NONE)
            }));
        }
        Command::Grow { name, count } => {
            let wanted = NewPartitions { topic: name_of(name), count, assignments: None };
            drop(
                model.run(|context| {
                    topics::create_partitions(context, &[wanted], false, &PartitionQuota::NONE)
                }),
            );
        }
        Command::Alter { name, key, value } => {
            let key = ["retention.ms", "segment.bytes", "cleanup.policy"][key].to_owned();
            let op = match value {
                Some(_) if key == "cleanup.policy" => ConfigOp::Append("compact".to_owned()),
                Some(value) => ConfigOp::Set((value << 20).to_string()),
                None => ConfigOp::Delete,
            };
            let resource =
                if name == 0 { ConfigResource::cluster() } else { ConfigResource::topic(name_of(name)) };
            let change = ConfigChange { resource, changes: vec![(key, op)] };
            drop(model.run(|context| configs::alter_incrementally(context, &[change], false)));
        }
        Command::Replace { name, value } => {
            let values = [("retention.bytes".to_owned(), value.to_string())].into();
            let replacement = ConfigReplacement { resource: ConfigResource::topic(name_of(name)), values };
            drop(model.run(|context| configs::replace(context, &[replacement], false)));
        }
        Command::Restart { broker, life } => {
            let id = BROKERS[broker];
            let epoch = model.run(|context| brokers::register(context, &registration(id, life)));
            if let Ok(epoch) = epoch {
                drop(model.run(|context| brokers::unfence(context, id, epoch)));
            }
        }
        Command::Allocate => {
            let epoch = model.image.brokers.get(&1).map_or(-1, |broker| broker.epoch);
            drop(model.run(|context| producer_ids::allocate(context, 1, epoch)));
        }
        Command::Feature { level } => {
            let name = "metadata.version".to_owned();
            let update = FeatureUpdate { name, level, upgrade_type: UpgradeType::SafeDowngrade };
            drop(model.run(|context| features::update(context, &[update], false)));
        }
    }
}

proptest! {
    #![proptest_config(properties(200))]

    #[test]
    fn the_log_gives_the_image_again(commands in prop::collection::vec(command(), 0..60)) {
        let mut model = Model::with_brokers(&BROKERS);
        for command in &commands {
            run(&mut model, command);
        }
        let mut loader = Loader::new();
        for (offset, record) in (0..).zip(&model.log) {
            loader.replay(offset, 0, record.encode(record.version_at(30)).unwrap()).unwrap();
        }
        prop_assert!(!loader.in_transaction());
        let image = loader.image();
        prop_assert_eq!(image, &model.image);
        for topic in image.topics.iter() {
            prop_assert!(topic.partitions().map(|(number, _)| number).eq(0..topic.partition_count()));
            for (_, partition) in topic.partitions() {
                let led = partition.leader == -1 || partition.isr.contains(&partition.leader);
                prop_assert!(led && !partition.isr.is_empty());
                prop_assert!(partition.isr.iter().all(|id| partition.replicas.contains(id)));
            }
        }
    }
}
