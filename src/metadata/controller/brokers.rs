//! Brokers and controllers: registration, heartbeats, fencing, controlled shutdown.

use uuid::Uuid;

use super::leaders::{self, Event};
use super::partition_change::DIRECTORIES;
use super::{Context, Decision};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::{Heartbeat, HeartbeatReply, Registration};
use crate::metadata::image::{BrokerImage, Endpoint, FeatureRange, METADATA_VERSION, PartitionImage};
use crate::metadata::record::{
    BrokerRegistrationChangeRecord, Record, RegisterBrokerRecord, RegisterControllerRecord,
    UnregisterBrokerRecord,
};
use crate::types::NodeId;

/// The largest of the directory ids that stand for something else (`DirectoryId.reserved`).
const RESERVED_DIRECTORY_MAX: u128 = 100;
/// The `metadata.version` (3.7-IV0) from which controllers register.
const CONTROLLERS_REGISTER: i16 = 15;
/// The `metadata.version` (4.3-IV0) from which directories can be cordoned.
const CORDONS: i16 = 30;

/// Takes a broker in, fenced. A new incarnation loses what the older one led: its log may have lost records that others
/// have seen, which a new leader epoch tells them. Where the only node lost nothing, it goes on leading what nobody
/// else can lead (Kafka's does not), so that a restart writes nothing about partitions. The reply is the broker's
/// epoch.
pub fn register(context: &mut Context<'_>, registration: &Registration) -> Decision<Result<i64, ApiError>> {
    if let Err(error) = check(context, registration) {
        return Decision::reply(Err(error));
    }
    let image = context.image;
    let id = registration.broker_id;
    let existing = image.brokers.get(&id);
    let same_life = existing.filter(|broker| broker.incarnation_id == registration.incarnation_id);
    let mut records = Vec::new();
    if same_life.is_none() {
        let last = registration.previous_broker_epoch;
        let kept = registration.kept_everything || existing.is_some_and(|broker| broker.epoch == last);
        let elr = image.feature(super::features::ELR_VERSION) > 0;
        let event = if elr && !kept { Event::LostData(id) } else { Event::Gone(id) };
        let goes_on = |partition: &PartitionImage| registration.kept_everything && partition.replicas == [id];
        records.extend(leaders::updates(context, event, goes_on));
    }
    // Kafka takes the offset of the first record of the decision, which need not be the registration's.
    let broker_epoch = same_life.map_or(context.next_offset, |broker| broker.epoch);
    let has_directories = metadata_version(context) >= DIRECTORIES;
    let record = RegisterBrokerRecord {
        broker_id: id,
        incarnation_id: registration.incarnation_id,
        broker_epoch,
        end_points: registration.endpoints.iter().map(Into::into).collect(),
        features: registration.features.iter().map(Into::into).collect(),
        rack: registration.rack.as_deref().map(str::to_owned),
        fenced: same_life.is_none_or(|broker| broker.fenced),
        in_controlled_shutdown: same_life.is_some_and(|broker| broker.in_controlled_shutdown),
        log_dirs: if has_directories { registration.log_dirs.clone() } else { Vec::new() },
        ..RegisterBrokerRecord::default()
    };
    let offset = context.offset_after(records.len());
    context.soft.heartbeats.registered(id, broker_epoch, offset);
    records.push(record.into());
    Decision { records, reply: Ok(broker_epoch) }
}

fn metadata_version(context: &Context<'_>) -> i16 {
    context.image.metadata_version().unwrap_or_default()
}

fn check(context: &Context<'_>, registration: &Registration) -> Result<(), ApiError> {
    let Context { image, settings, now_ms, soft, .. } = context;
    if *registration.cluster_id != *settings.cluster_id {
        let text = format!("the cluster id is {}, not {}", settings.cluster_id, registration.cluster_id);
        return Err(ApiError::with(ErrorCode::InconsistentClusterId, text));
    }
    if let Some(broker) = image.brokers.get(&registration.broker_id)
        && broker.incarnation_id != registration.incarnation_id
        && soft.heartbeats.has_session(broker, *now_ms)
    {
        let text = format!(
            "another broker is registered as {}; if that was this one before it restarted, its session ends soon",
            broker.id
        );
        return Err(ApiError::with(ErrorCode::DuplicateBrokerRegistration, text));
    }
    if metadata_version(context) >= DIRECTORIES {
        check_directories(context, registration)?;
    }
    let range = |name: &str| registration.features.iter().find(|range| &*range.name == name);
    let unsupported = |name: &str, level| !range(name).map_or(level == 0, |range| range.contains(level));
    if range(METADATA_VERSION).is_none() {
        let text = format!("the broker does not say which {METADATA_VERSION} it supports");
        return Err(ApiError::with(ErrorCode::InvalidRegistration, text));
    }
    let finalised = image.features().find(|(name, level)| unsupported(name, *level));
    let unfinalised = || {
        let excludes_zero = |range: &&FeatureRange| image.feature(&range.name) == 0 && !range.contains(0);
        registration.features.iter().find(excludes_zero).map(|range| (&*range.name, 0))
    };
    if let Some((name, level)) = finalised.or_else(unfinalised) {
        let text = format!("the broker does not support level {level} of {name}, at which the cluster works");
        return Err(ApiError::with(ErrorCode::UnsupportedVersion, text));
    }
    Ok(())
}

fn check_directories(context: &Context<'_>, registration: &Registration) -> Result<(), ApiError> {
    let invalid = |text: String| Err(ApiError::with(ErrorCode::InvalidRegistration, text));
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
        let other = |broker: &&BrokerImage| {
            broker.log_dirs.contains(directory) && broker.id != registration.broker_id
        };
        if let Some(broker) = context.image.brokers.values().map(|broker| &**broker).find(other) {
            return invalid(format!("the directory id {directory} belongs to broker {}", broker.id));
        }
    }
    Ok(())
}

/// Whether the request comes from the life of the broker that is registered.
///
/// # Errors
/// STALE_BROKER_EPOCH.
pub(super) fn check_epoch<'a>(
    context: &Context<'a>,
    id: NodeId,
    broker_epoch: i64,
) -> Result<&'a BrokerImage, ApiError> {
    match context.image.brokers.get(&id) {
        Some(broker) if broker.epoch == broker_epoch => Ok(broker),
        Some(broker) => {
            let text = format!(
                "the epoch of broker {id} is {} by now, and not {broker_epoch} any more",
                broker.epoch
            );
            Err(ApiError::with(ErrorCode::StaleBrokerEpoch, text))
        }
        None => Err(ApiError::with(ErrorCode::StaleBrokerEpoch, format!("broker {id} is not registered"))),
    }
}

/// Lets a registered broker lead: it leads the partitions that have no leader and that it has in sync.
pub fn unfence(context: &Context<'_>, id: NodeId, broker_epoch: i64) -> Decision<Result<(), ApiError>> {
    if let Err(error) = check_epoch(context, id, broker_epoch) {
        return Decision::reply(Err(error));
    }
    Decision { records: unfenced(context, id, broker_epoch), reply: Ok(()) }
}

fn unfenced(context: &Context<'_>, broker_id: NodeId, broker_epoch: i64) -> Vec<Record> {
    let change = BrokerRegistrationChangeRecord { broker_id, broker_epoch, fenced: -1, ..Default::default() };
    let mut records = vec![change.into()];
    records.extend(leaders::updates(context, Event::Back(broker_id), |_| false));
    records
}

/// The connection of a broker's heartbeats has closed; whether it may lead, and so has to be looked for.
pub fn disconnected(context: &mut Context<'_>, id: NodeId, broker_epoch: i64) -> Decision<bool> {
    context.soft.heartbeats.disconnected(id, broker_epoch);
    let broker = context.image.brokers.get(&id).filter(|broker| broker.epoch == broker_epoch);
    Decision::reply(broker.is_some_and(|broker| !broker.fenced))
}

/// Nobody listens any more where the broker was: its process has ended. It is fenced at once, unless it was heard of in
/// the meantime, instead of when its session ends.
pub fn gone(context: &mut Context<'_>, id: NodeId, broker_epoch: i64) -> Decision<()> {
    let broker = context.image.brokers.get(&id).filter(|broker| broker.epoch == broker_epoch);
    match broker {
        Some(broker) if !broker.fenced && context.soft.heartbeats.is_unsure(id, broker_epoch) => {
            fence(context, id)
        }
        Some(_) | None => Decision::reply(()),
    }
}

/// Takes what it leads from a broker, and lets it lead no more.
pub(super) fn fence(context: &Context<'_>, id: NodeId) -> Decision<()> {
    let Some(broker) = context.image.brokers.get(&id) else { return Decision::reply(()) };
    Decision { records: fenced(context, broker), reply: () }
}

fn fenced(context: &Context<'_>, broker: &BrokerImage) -> Vec<Record> {
    let mut records = leaders::updates(context, Event::Gone(broker.id), |_| false);
    if !broker.fenced {
        let change = BrokerRegistrationChangeRecord {
            broker_id: broker.id,
            broker_epoch: broker.epoch,
            fenced: 1,
            ..Default::default()
        };
        records.push(change.into());
    }
    records
}

/// What a broker may do (`BrokerControlState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fenced,
    Unfenced,
    ShuttingDown,
    ShutDown,
}

/// Takes a heartbeat: the broker is alive, wants to lead, to be fenced or to stop, and tells of its directories.
pub fn heartbeat(
    context: &mut Context<'_>,
    heartbeat: &Heartbeat,
) -> Decision<Result<HeartbeatReply, ApiError>> {
    let (id, epoch) = (heartbeat.broker_id, heartbeat.broker_epoch);
    let broker = match check_epoch(context, id, epoch) {
        Ok(broker) => broker,
        Err(error) => return Decision::reply(Err(error)),
    };
    let Context { image, now_ms, .. } = *context;
    context.soft.heartbeats.heard(image, id, epoch, now_ms);
    let registered_at = context.soft.heartbeats.registered_at(image, id, epoch);
    let is_caught_up = heartbeat.metadata_offset >= registered_at;
    let current = match (broker.fenced, broker.in_controlled_shutdown) {
        (true, _) => State::Fenced,
        (false, true) => State::ShuttingDown,
        (false, false) => State::Unfenced,
    };
    let next = next_state(context, heartbeat, current, is_caught_up);
    let mut records = match next {
        _ if next == current => Vec::new(),
        State::Fenced | State::ShutDown => fenced(context, broker),
        State::Unfenced => unfenced(context, id, epoch),
        State::ShuttingDown => shutting_down(context, broker),
    };
    records.extend(directories(context, broker, heartbeat));
    context.soft.heartbeats.reached(image, id, epoch, heartbeat.metadata_offset);
    if next == State::ShuttingDown {
        let last = context.offset_after(records.len()) - 1;
        context.soft.heartbeats.shuts_down_at(image, id, epoch, last);
    }
    let reply = HeartbeatReply {
        is_caught_up,
        is_fenced: matches!(next, State::Fenced | State::ShutDown),
        should_shut_down: next == State::ShutDown,
    };
    Decision { records, reply: Ok(reply) }
}

/// `BrokerHeartbeatManager.calculateNextBrokerState`.
fn next_state(context: &Context<'_>, heartbeat: &Heartbeat, current: State, is_caught_up: bool) -> State {
    let id = heartbeat.broker_id;
    let leads = || {
        let mut partitions = context.image.topics.iter().flat_map(|topic| topic.partitions());
        partitions.any(|(_, partition)| partition.leader == id)
    };
    match current {
        State::Fenced if heartbeat.want_shut_down => State::ShutDown,
        State::Fenced if !heartbeat.want_fence && is_caught_up => State::Unfenced,
        State::Fenced => State::Fenced,
        State::Unfenced => match (heartbeat.want_fence, heartbeat.want_shut_down) {
            (true, true) => State::ShutDown,
            (true, false) => State::Fenced,
            (false, true) if leads() => State::ShuttingDown,
            (false, true) => State::ShutDown,
            (false, false) => State::Unfenced,
        },
        State::ShuttingDown if leads() || !context.soft.heartbeats.may_stop(context.image, id) => {
            State::ShuttingDown
        }
        State::ShuttingDown | State::ShutDown => State::ShutDown,
    }
}

fn shutting_down(context: &Context<'_>, broker: &BrokerImage) -> Vec<Record> {
    let change = BrokerRegistrationChangeRecord {
        broker_id: broker.id,
        broker_epoch: broker.epoch,
        in_controlled_shutdown: 1,
        ..Default::default()
    };
    let mut records = vec![change.into()];
    records.extend(leaders::updates(context, Event::Gone(broker.id), |_| false));
    records
}

/// What a heartbeat says of the broker's directories.
fn directories(context: &Context<'_>, broker: &BrokerImage, heartbeat: &Heartbeat) -> Vec<Record> {
    let mut records = Vec::new();
    let change = BrokerRegistrationChangeRecord {
        broker_id: broker.id,
        broker_epoch: broker.epoch,
        ..Default::default()
    };
    let failed = |directory: &&Uuid| heartbeat.offline_log_dirs.contains(directory);
    let offline: Vec<Uuid> = broker.log_dirs.iter().filter(failed).copied().collect();
    if metadata_version(context) >= DIRECTORIES && !offline.is_empty() {
        let concerned = |partition: &PartitionImage| {
            partition.directory(broker.id).is_some_and(|directory| offline.contains(&directory))
        };
        records.extend(leaders::updates(context, Event::Gone(broker.id), |partition| !concerned(partition)));
        let log_dirs = broker.log_dirs.iter().filter(|directory| !failed(directory)).copied().collect();
        records.push(BrokerRegistrationChangeRecord { log_dirs, ..change.clone() }.into());
    }
    if metadata_version(context) >= CORDONS
        && let Some(cordoned) = &heartbeat.cordoned_log_dirs
    {
        let sorted = |directories: &[Uuid]| {
            let mut directories = directories.to_vec();
            directories.sort_unstable();
            directories.dedup();
            directories
        };
        if broker.cordoned_log_dirs.as_deref().map(sorted) != Some(sorted(cordoned)) {
            let cordoned_log_dirs = Some(cordoned.clone());
            records.push(BrokerRegistrationChangeRecord { cordoned_log_dirs, ..change }.into());
        }
    }
    records
}

/// Forgets a broker that is gone for good (kafka-cluster.sh unregister).
pub fn unregister(context: &Context<'_>, id: NodeId) -> Decision<Result<(), ApiError>> {
    let Some(broker) = context.image.brokers.get(&id) else {
        let text = format!("Broker {id} is not registered.");
        return Decision::reply(Err(ApiError::with(ErrorCode::BrokerIdNotRegistered, text)));
    };
    let mut records = leaders::updates(context, Event::Gone(id), |_| false);
    let record = UnregisterBrokerRecord { broker_id: id, broker_epoch: broker.epoch, ..Default::default() };
    records.push(record.into());
    Decision { records, reply: Ok(()) }
}

/// Takes a controller in.
pub fn register_controller(
    context: &Context<'_>,
    controller_id: NodeId,
    incarnation_id: Uuid,
    endpoints: &[Endpoint],
    features: &[FeatureRange],
) -> Decision<Result<(), ApiError>> {
    if metadata_version(context) < CONTROLLERS_REGISTER {
        let text = "the metadata.version is too old to register controllers";
        return Decision::reply(Err(ApiError::with(ErrorCode::UnsupportedVersion, text)));
    }
    let record = RegisterControllerRecord {
        controller_id,
        incarnation_id,
        zk_migration_ready: false,
        end_points: endpoints.iter().map(Into::into).collect(),
        features: features.iter().map(Into::into).collect(),
        ..RegisterControllerRecord::default()
    };
    Decision { records: vec![record.into()], reply: Ok(()) }
}
