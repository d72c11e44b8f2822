//! What the share group APIs have in common: whether share groups are enabled, and the steps that go to the group
//! coordinator and to the share coordinator one after the other (`GroupCoordinatorService`).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tracing::warn;
use uuid::Uuid;

use super::context::{BrokerHandles, Context};
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::Partitions;
use crate::group::share::command::{InitializeState, ShareCommand, ShareReply};
use crate::metadata::controller::features::SHARE_VERSION;
use crate::share::types::SharePartition;

/// How many share partitions of one request the share coordinators are asked about at a time.
pub(super) const ASKED_AT_ONCE: usize = 64;

/// Partitions of topics for which something failed, and what.
pub(super) type Failed = BTreeMap<(Uuid, i32), ApiError>;

/// Whether there may be share groups.
pub(super) fn check_enabled(context: &Context) -> Result<(), ApiError> {
    if context.broker.metadata.image().feature(SHARE_VERSION) >= 1 {
        Ok(())
    } else {
        Err(ErrorCode::UnsupportedVersion.into())
    }
}

/// Has the states of these share partitions begun, and tells the group coordinator what became of it: all of it is
/// initialised, or nothing of it, as in `handlePersisterInitializeResponse`.
pub(super) async fn initialize(
    broker: &BrokerHandles,
    group_id: &Arc<str>,
    initialize: InitializeState,
) -> Failed {
    let failed = begin(broker, group_id, &initialize).await;
    let partitions = initialize.partitions();
    let group_id = Arc::clone(group_id);
    let told = match failed.values().next() {
        None => {
            broker.groups.share(ShareCommand::Initialized { group_id: group_id.clone(), partitions }).await
        }
        Some(error) => {
            warn!(group = &*group_id, %error, "the states of share partitions are not initialised");
            broker.groups.share(ShareCommand::NotInitialized { group_id: group_id.clone(), partitions }).await
        }
    };
    if let Err(code) = told {
        // One of the next heartbeats asks for them again.
        warn!(group = &*group_id, %code, "what became of the states of share partitions is not written down");
    }
    failed
}

/// Has the states of these share partitions begun. What failed.
pub(super) async fn begin(
    broker: &BrokerHandles,
    group_id: &Arc<str>,
    initialize: &InitializeState,
) -> Failed {
    let mut partitions = Vec::new();
    for (topic_id, offsets) in &initialize.start_offsets {
        partitions.extend(offsets.iter().map(|(partition, at)| (*topic_id, *partition, *at)));
    }
    let epoch = initialize.state_epoch;
    let begun = stream::iter(partitions)
        .map(|(topic_id, partition, start_offset)| async move {
            let of = SharePartition { group_id: Arc::clone(group_id), topic_id, partition };
            ((topic_id, partition), broker.persister.initialize(of, epoch, start_offset).await)
        })
        .buffer_unordered(ASKED_AT_ONCE);
    begun.filter_map(|(key, result)| async move { Some((key, result.err()?)) }).collect().await
}

/// Has the states of these share partitions deleted. What failed.
pub(super) async fn delete(broker: &BrokerHandles, group_id: &Arc<str>, states: &Partitions) -> Failed {
    let mut partitions = Vec::new();
    for (topic_id, indexes) in states {
        partitions.extend(indexes.iter().map(|partition| (*topic_id, *partition)));
    }
    let deleted = stream::iter(partitions)
        .map(|(topic_id, partition)| async move {
            let of = SharePartition { group_id: Arc::clone(group_id), topic_id, partition };
            ((topic_id, partition), broker.persister.delete(of).await)
        })
        .buffer_unordered(ASKED_AT_ONCE);
    deleted.filter_map(|(key, result)| async move { Some((key, result.err()?)) }).collect().await
}

/// Deletes what share groups among these have with the share coordinators, before they are deleted themselves: those
/// that can not be, and why.
pub(super) async fn delete_states(
    broker: &BrokerHandles,
    group_ids: &[Arc<str>],
) -> BTreeMap<Arc<str>, ErrorCode> {
    let mut refused = BTreeMap::new();
    for group_id in group_ids {
        let command = ShareCommand::DeleteState { group_id: Arc::clone(group_id) };
        let states = match broker.groups.share(command).await {
            Ok(ShareReply::DeleteState(states)) => states,
            Ok(_) => Err(ErrorCode::UnknownServerError),
            Err(code) => Err(code),
        };
        let error = match states {
            Ok(states) => delete(broker, group_id, &states).await.into_values().next(),
            Err(code) => Some(code.into()),
        };
        if let Some(error) = error {
            refused.insert(Arc::clone(group_id), error.code);
        }
    }
    refused
}
