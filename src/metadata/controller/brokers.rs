//! Brokers: registration, fencing, and what follows for the partitions that they lead.

use uuid::Uuid;

use super::{Context, Decision};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::Registration;
use crate::metadata::image::{
    ConfigResource, FeatureRange, Image, METADATA_VERSION, NO_LEADER, PartitionImage, TopicImage,
};
use crate::metadata::record::{
    BrokerRegistrationChangeRecord, PartitionChangeRecord, Record, RegisterBrokerRecord,
    RegisterControllerRecord,
};
use crate::types::NodeId;

/// The largest of the directory ids that stand for something else (`DirectoryId.reserved`).
const RESERVED_DIRECTORY_MAX: u128 = 100;

/// Takes a broker in, fenced. A new incarnation loses what the older one led: its log may have lost records that others
/// have seen, which a new leader epoch tells them. Where nothing was lost, it goes on leading what nobody else can lead
/// (Kafka's does not), so that a restart writes nothing about partitions. The reply is the broker's epoch.
pub fn register(context: &Context<'_>, registration: &Registration) -> Decision<Result<i64, ApiError>> {
    let image = context.image;
    if let Err(error) = check(context, registration) {
        return Decision::reply(Err(error));
    }
    let id = registration.broker_id;
    let existing = image.brokers.get(&id);
    let same_life = existing.filter(|broker| broker.incarnation_id == registration.incarnation_id);
    let mut records = Vec::new();
    if same_life.is_none() {
        let goes_on = |partition: &PartitionImage| registration.kept_everything && partition.replicas == [id];
        records.extend(leader_updates(image, Change::Gone(id), goes_on));
    }
    // Kafka takes the offset of the first record of the decision, which need not be the registration's.
    let broker_epoch = same_life.map_or(context.next_offset, |broker| broker.epoch);
    let record = RegisterBrokerRecord {
        broker_id: id,
        incarnation_id: registration.incarnation_id,
        broker_epoch,
        end_points: registration.endpoints.iter().map(Into::into).collect(),
        features: registration.features.iter().map(Into::into).collect(),
        rack: registration.rack.as_deref().map(str::to_owned),
        fenced: same_life.is_none_or(|broker| broker.fenced),
        in_controlled_shutdown: same_life.is_some_and(|broker| broker.in_controlled_shutdown),
        log_dirs: registration.log_dirs.clone(),
        ..RegisterBrokerRecord::default()
    };
    records.push(record.into());
    Decision { records, reply: Ok(broker_epoch) }
}

fn check(context: &Context<'_>, registration: &Registration) -> Result<(), ApiError> {
    let Context { image, settings, .. } = context;
    let invalid = |text: String| Err(ApiError::with(ErrorCode::InvalidRegistration, text));
    if *registration.cluster_id != *settings.cluster_id {
        let text = format!("the cluster id is {}, not {}", settings.cluster_id, registration.cluster_id);
        return Err(ApiError::with(ErrorCode::InconsistentClusterId, text));
    }
    let directories = &registration.log_dirs;
    if directories.is_empty() {
        return invalid("a broker needs a directory".to_owned());
    }
    for (at, directory) in directories.iter().enumerate() {
        if directory.as_u128() <= RESERVED_DIRECTORY_MAX {
            return invalid(format!("the directory id {directory} is reserved"));
        }
        if directories[..at].contains(directory) {
            return invalid(format!("the directory id {directory} is there twice"));
        }
        let other = |broker: &&_| owns(broker, *directory) && broker.id != registration.broker_id;
        if let Some(broker) = image.brokers.values().map(|broker| &**broker).find(other) {
            return invalid(format!("the directory id {directory} belongs to broker {}", broker.id));
        }
    }
    let range = |name: &str| registration.features.iter().find(|range| &*range.name == name);
    if range(METADATA_VERSION).is_none() {
        return invalid(format!("the broker does not say which {METADATA_VERSION} it supports"));
    }
    let unsupported = |name: &str, level| !range(name).map_or(level == 0, |range| range.contains(level));
    if let Some((name, level)) = image.features().find(|(name, level)| unsupported(name, *level)) {
        let text = format!("the broker does not support level {level} of {name}, at which the cluster works");
        return Err(ApiError::with(ErrorCode::UnsupportedVersion, text));
    }
    Ok(())
}

fn owns(broker: &crate::metadata::image::BrokerImage, directory: Uuid) -> bool {
    broker.log_dirs.contains(&directory)
}

/// Lets a registered broker lead: it leads the partitions that have no leader and that it has in sync.
pub fn unfence(context: &Context<'_>, id: NodeId, broker_epoch: i64) -> Decision<Result<(), ApiError>> {
    match context.image.brokers.get(&id) {
        Some(broker) if broker.epoch == broker_epoch => {}
        Some(_) | None => return Decision::reply(Err(ErrorCode::StaleBrokerEpoch.into())),
    }
    let change =
        BrokerRegistrationChangeRecord { broker_id: id, broker_epoch, fenced: -1, ..Default::default() };
    let mut records = vec![change.into()];
    records.extend(leader_updates(context.image, Change::Back(id), |_| false));
    Decision { records, reply: Ok(()) }
}

/// Takes a controller in.
pub fn register_controller(
    context: &Context<'_>,
    incarnation_id: Uuid,
    endpoints: &[crate::metadata::image::Endpoint],
    features: &[FeatureRange],
) -> Decision<()> {
    let record = RegisterControllerRecord {
        controller_id: context.settings.node_id,
        incarnation_id,
        zk_migration_ready: false,
        end_points: endpoints.iter().map(Into::into).collect(),
        features: features.iter().map(Into::into).collect(),
        ..RegisterControllerRecord::default()
    };
    Decision { records: vec![record.into()], reply: () }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The broker can lead nothing any more.
    Gone(NodeId),
    /// The broker can lead again.
    Back(NodeId),
}

/// What a broker that goes or comes back means for partitions
/// (`ReplicationControlManager.generateLeaderAndIsrUpdates`).
fn leader_updates(image: &Image, change: Change, spared: impl Fn(&PartitionImage) -> bool) -> Vec<Record> {
    let mut records = Vec::new();
    for topic in image.topics.iter() {
        for (number, partition) in topic.partitions() {
            let concerned = match change {
                Change::Gone(id) => partition.isr.contains(&id),
                Change::Back(_) => partition.leader == NO_LEADER,
            };
            if concerned && !spared(partition) {
                records.extend(partition_update(image, topic, number, partition, change).map(Record::from));
            }
        }
    }
    records
}

/// The change of one partition (`PartitionChangeBuilder`, without eligible leader replicas: that feature is not
/// finalised at any level).
fn partition_update(
    image: &Image,
    topic: &TopicImage,
    number: i32,
    partition: &PartitionImage,
    change: Change,
) -> Option<PartitionChangeRecord> {
    let can_lead = |id: NodeId| {
        change != Change::Gone(id) && (change == Change::Back(id) || image.active_broker(id).is_some())
    };
    let mut isr: Vec<NodeId> =
        partition.isr.iter().copied().filter(|id| change != Change::Gone(*id)).collect();
    // The last replica in sync stays in sync: it alone has everything that was committed.
    if isr.is_empty() {
        isr.clone_from(&partition.isr);
    }
    let mut record = PartitionChangeRecord {
        partition_id: number,
        topic_id: topic.id,
        ..PartitionChangeRecord::default()
    };
    let in_sync = |id: &NodeId| isr.contains(id) && can_lead(*id);
    let clean =
        Some(partition.leader).filter(in_sync).or_else(|| partition.replicas.iter().copied().find(in_sync));
    let unclean = || {
        let allowed = unclean_election(image, &topic.name);
        partition.replicas.iter().copied().find(|id| allowed && can_lead(*id))
    };
    match clean {
        Some(leader) if leader == partition.leader => {}
        Some(leader) => record.leader = leader,
        None => match unclean() {
            Some(leader) => {
                record.leader = leader;
                isr = vec![leader];
                if !partition.recovering {
                    record.leader_recovery_state = 1;
                }
            }
            None if partition.leader == NO_LEADER => {}
            None => record.leader = NO_LEADER,
        },
    }
    if isr != partition.isr {
        record.isr = Some(isr);
    }
    let nothing = PartitionChangeRecord { partition_id: number, topic_id: topic.id, ..Default::default() };
    (record != nothing).then_some(record)
}

/// Whether a replica that is not in sync may lead (`unclean.leader.election.enable` of the topic or the cluster).
fn unclean_election(image: &Image, topic: &str) -> bool {
    let set =
        |resource| image.config(&resource).and_then(|values| values.get("unclean.leader.election.enable"));
    let value = set(ConfigResource::topic(topic)).or_else(|| set(ConfigResource::cluster()));
    value.is_some_and(|value| value == "true")
}
