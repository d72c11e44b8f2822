//! Features: at which level the whole cluster works.

use super::bootstrap::{self, FeatureLevels};
use super::configs;
use super::{Context, Decision, Settings};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::{FeatureUpdate, UpgradeType};
use crate::metadata::image::{FeatureRange, Image, KRAFT_VERSION, METADATA_VERSION, TRANSACTION_VERSION};
use crate::metadata::record::{AbortTransactionRecord, FeatureLevelRecord, Record};

/// The lowest `metadata.version` that there still is: 3.3-IV3.
pub const METADATA_VERSION_MIN: i16 = 7;
/// The `metadata.version` of Kafka 4.3: 4.3-IV0. New clusters are finalised at it.
pub const METADATA_VERSION_LATEST: i16 = 30;
/// The `kraft.version` of new clusters: the voters stand in the log (KIP-853).
pub const KRAFT_VERSION_LATEST: i16 = 1;

/// The feature that lets groups use the consumer protocol (KIP-848).
pub const GROUP_VERSION: &str = "group.version";
/// Its level in new clusters.
pub const GROUP_VERSION_LATEST: i16 = 1;
/// The `transaction.version` of new clusters: a new epoch for each transaction (KIP-890).
pub const TRANSACTION_VERSION_LATEST: i16 = 2;

/// The feature that lets groups be share groups (KIP-932).
pub const SHARE_VERSION: &str = "share.version";
/// Its level in new clusters.
pub const SHARE_VERSION_LATEST: i16 = 1;

/// The feature that lets groups use the streams protocol (KIP-1071).
pub const STREAMS_VERSION: &str = "streams.version";
/// Its level in new clusters.
pub const STREAMS_VERSION_LATEST: i16 = 1;

/// The feature that keeps eligible leader replicas (KIP-966).
pub const ELR_VERSION: &str = "eligible.leader.replicas.version";
/// Its level in new clusters.
pub const ELR_VERSION_LATEST: i16 = 1;

/// The levels of `metadata.version` at which a record or a field was added, so that going below one of them would
/// lose something (`MetadataVersion.didMetadataChange`).
const METADATA_CHANGED_AT: [i16; 9] = [7, 8, 11, 13, 14, 15, 17, 23, 30];

/// The `metadata.version` (4.0-IV1) whose records have eligible leader replicas.
pub(super) const ELR_SINCE: i16 = 23;

/// What this version of klamm supports. A feature stands here once all of it is served.
pub fn supported() -> Vec<FeatureRange> {
    let range = |name: &str, min, max| FeatureRange { name: name.into(), min, max };
    vec![
        range(ELR_VERSION, 0, ELR_VERSION_LATEST),
        range(GROUP_VERSION, 0, GROUP_VERSION_LATEST),
        range(KRAFT_VERSION, 0, KRAFT_VERSION_LATEST),
        range(METADATA_VERSION, METADATA_VERSION_MIN, METADATA_VERSION_LATEST),
        range(SHARE_VERSION, 0, SHARE_VERSION_LATEST),
        range(STREAMS_VERSION, 0, STREAMS_VERSION_LATEST),
        range(TRANSACTION_VERSION, 0, TRANSACTION_VERSION_LATEST),
    ]
}

/// The records with which a controller begins to lead: on an empty log those that make the cluster, with these features
/// and its `min.insync.replicas`; after a crash in the middle of a transaction its end, otherwise none
/// (`ActivationRecordsGenerator`).
pub fn activate(image: &Image, in_transaction: bool, levels: &FeatureLevels, min_isr: i32) -> Vec<Record> {
    let mut records = Vec::new();
    if in_transaction {
        let reason = Some("Controller failover".to_owned());
        records.push(AbortTransactionRecord { reason, ..AbortTransactionRecord::default() }.into());
    }
    if image.metadata_version().is_none() {
        records.extend(bootstrap::records(levels, min_isr));
    }
    records
}

/// Finalises features at other levels: all of them or, where one is refused, none.
pub fn update(
    context: &Context<'_>,
    updates: &[FeatureUpdate],
    validate_only: bool,
) -> Decision<Result<(), ApiError>> {
    let mut records = Vec::new();
    let proposed = |name: &str| {
        let update = updates.iter().rev().find(|update| update.name == name);
        update.map_or_else(|| context.image.feature(name), |update| update.level)
    };
    for update in updates {
        match update_one(context, update, &proposed) {
            Ok(record) => records.extend(record),
            Err(error) => return Decision::reply(Err(error)),
        }
    }
    if updates.iter().any(|update| update.name == ELR_VERSION && update.level > 0) {
        records = [configs::before_eligible_replicas(context), records].concat();
    }
    if validate_only {
        records.clear();
    }
    Decision { records, reply: Ok(()) }
}

fn update_one(
    context: &Context<'_>,
    update: &FeatureUpdate,
    proposed: &impl Fn(&str) -> i16,
) -> Result<Option<Record>, ApiError> {
    let FeatureUpdate { name, level, upgrade_type } = update;
    let invalid = |why: &str| {
        let text = format!("The update of {name} to level {level} is not possible: {why}");
        Err(ApiError::with(ErrorCode::InvalidUpdateVersion, text))
    };
    let current = match name.as_str() {
        KRAFT_VERSION => KRAFT_VERSION_LATEST,
        name => context.image.feature(name),
    };
    if *upgrade_type == UpgradeType::Unknown {
        return invalid("the controller does not know this type of upgrade.");
    }
    if *level < 0 {
        return invalid("a level is at least 0.");
    }
    if let Some(reason) = not_supported(context, name, *level) {
        return invalid(&reason);
    }
    let upgrade = *upgrade_type == UpgradeType::Upgrade;
    if *level < current && upgrade {
        return invalid("it would be a downgrade, which has to be asked for as safe or unsafe.");
    }
    if *level > current && !upgrade {
        return invalid("a downgrade can not go to a higher level.");
    }
    match name.as_str() {
        METADATA_VERSION => {
            let loses = |&changed: &i16| *level < changed && changed <= current;
            if METADATA_CHANGED_AT.iter().any(loses) {
                let why = if *upgrade_type == UpgradeType::UnsafeDowngrade {
                    "unsafe downgrades are not supported."
                } else {
                    "it might lose metadata."
                };
                let text = format!("metadata.version can not go down from {current} to {level}: {why}");
                return Err(ApiError::with(ErrorCode::InvalidUpdateVersion, text));
            }
            Ok(Some(level_record(METADATA_VERSION, *level)))
        }
        KRAFT_VERSION if *level < current => invalid("this feature does not go down."),
        KRAFT_VERSION => Ok(None),
        ELR_VERSION if *level > 0 && proposed(METADATA_VERSION) < ELR_SINCE => {
            invalid(&format!("it needs {METADATA_VERSION} {ELR_SINCE} or later."))
        }
        name => Ok(Some(level_record(name, *level))),
    }
}

/// Why a node of the cluster could not work at this level (`FeatureControlManager.reasonNotSupported`).
fn not_supported(context: &Context<'_>, name: &str, level: i16) -> Option<String> {
    let Context { image, settings: Settings { node_id, features, .. }, .. } = context;
    let own = || reason(&format!("controller {node_id}"), features, name, level);
    let brokers = || {
        image
            .brokers
            .values()
            .find_map(|broker| reason(&format!("broker {}", broker.id), &broker.features, name, level))
    };
    // Before 3.7 controllers did not say what they support.
    let controllers = || {
        let others = image.controllers.values().filter(|controller| controller.id != *node_id);
        let mut reasons = others.filter_map(|controller| {
            reason(&format!("controller {}", controller.id), &controller.features, name, level)
        });
        reasons.next()
    };
    own().or_else(brokers).or_else(controllers)
}

fn reason(node: &str, features: &[FeatureRange], name: &str, level: i16) -> Option<String> {
    let range = features.iter().find(|range| &*range.name == name);
    let (min, max) = range.map_or((0, 0), |range| (range.min, range.max));
    match (min..=max).contains(&level) {
        true => None,
        false if max == 0 => Some(format!("{node} does not support it.")),
        false if min == max => Some(format!("{node} supports level {min} only.")),
        false => Some(format!("{node} supports the levels {min} to {max} only.")),
    }
}

pub(super) fn level_record(name: &str, feature_level: i16) -> Record {
    FeatureLevelRecord { name: name.to_owned(), feature_level, ..FeatureLevelRecord::default() }.into()
}
