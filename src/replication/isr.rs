//! Asks the controller to change who is in sync (`AlterPartitionManager`): one request at a time, with everything that
//! is asked for by then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kafka_protocol::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};

use super::fetcher::Environment;
use crate::client::ControllerChannel;
use crate::error::ErrorCode;
use crate::log::{IsrAccepted, IsrOutcome, IsrProposal, Partition};
use crate::protocol::messages::*;
use crate::types::TopicIdPartition;

/// The pause before the controller is asked again that refused the whole request.
const RETRY_MS: i64 = 50;

/// What is asked for one partition.
struct Asked {
    log: Arc<Partition>,
    proposal: IsrProposal,
}

/// Never ends; dropping it stops it.
pub(super) async fn run(environment: Arc<Environment>, channel: Arc<ControllerChannel>) {
    let clock = &environment.clock;
    // Followers that fall behind are looked for this often, so that none stays in sync for much longer than it may.
    let sweep_interval_ms = (environment.config.replica_lag_time_max_ms / 2).max(1);
    let mut sweep_ms = clock.steady_ms() + sweep_interval_ms;
    let mut asked: BTreeMap<TopicIdPartition, Asked> = BTreeMap::new();
    let mut retry_ms = i64::MAX;
    loop {
        let candidates = tokio::select! {
            joins = environment.logs.isr_joins() => joins,
            () = clock.sleep_until(sweep_ms) => {
                sweep_ms = clock.steady_ms() + sweep_interval_ms;
                environment.logs.all()
            }
            () = clock.sleep_until(retry_ms) => Vec::new(),
        };
        collect(&mut asked, candidates);
        retry_ms = i64::MAX;
        while !asked.is_empty() {
            let again = ask(&environment, &channel, &mut asked).await;
            if again {
                retry_ms = clock.steady_ms() + RETRY_MS;
                break;
            }
        }
    }
}

fn collect(asked: &mut BTreeMap<TopicIdPartition, Asked>, candidates: Vec<Arc<Partition>>) {
    for log in candidates {
        if let Some(proposal) = log.isr_proposal() {
            let key = TopicIdPartition { topic_id: log.topic_id(), partition: log.index() };
            asked.insert(key, Asked { log, proposal });
        }
    }
}

/// Asks for everything; whether something is left that has to be asked for again.
async fn ask(
    environment: &Environment,
    channel: &ControllerChannel,
    asked: &mut BTreeMap<TopicIdPartition, Asked>,
) -> bool {
    let request = request(environment, asked);
    let timeout_ms = environment.config.controller_socket_timeout_ms.into();
    let answer = match channel.call(request, 3..=3, timeout_ms).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(%error, "the controller does not answer who is in sync");
            return true;
        }
    };
    if let Some(code) = ErrorCode::try_from_code(answer.error_code) {
        tracing::warn!(%code, "the controller refuses to change who is in sync");
        return true;
    }
    let mut next = Vec::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            let key = TopicIdPartition { topic_id: topic.topic_id, partition: partition.partition_index };
            let Some(Asked { log, proposal }) = asked.remove(&key) else { continue };
            let accepted = IsrAccepted {
                leader_epoch: partition.leader_epoch,
                partition_epoch: partition.partition_epoch,
                isr: partition.isr.iter().map(|id| id.0).collect(),
            };
            let answer = ErrorCode::try_from_code(partition.error_code).map_or(Ok(accepted), Err);
            match &answer {
                Ok(accepted) => {
                    tracing::info!(partition = log.name(), isr = ?accepted.isr, "in sync are others than before");
                }
                Err(code) => tracing::info!(partition = log.name(), %code, "in sync are the same as before"),
            }
            match log.isr_answered(&proposal, answer) {
                IsrOutcome::Retry => {
                    asked.insert(key, Asked { log, proposal });
                }
                // Something else may have come up meanwhile.
                IsrOutcome::Changed => next.push(log),
                IsrOutcome::Refused | IsrOutcome::Stale => {}
            }
        }
    }
    let again = !asked.is_empty();
    collect(asked, next);
    again
}

fn request(environment: &Environment, asked: &BTreeMap<TopicIdPartition, Asked>) -> AlterPartitionRequest {
    let broker_epoch = environment.broker_epoch.load(Ordering::Relaxed);
    let mut request = AlterPartitionRequest::default()
        .with_broker_id(environment.node_id.into())
        .with_broker_epoch(broker_epoch);
    for (key, Asked { proposal, .. }) in asked {
        let member = |member: &crate::log::IsrMember| {
            let is_this = member.id == environment.node_id;
            BrokerState::default().with_broker_id(member.id.into()).with_broker_epoch(if is_this {
                broker_epoch
            } else {
                member.broker_epoch
            })
        };
        let partition = PartitionData::default()
            .with_partition_index(key.partition)
            .with_leader_epoch(proposal.leader_epoch)
            .with_partition_epoch(proposal.partition_epoch)
            .with_new_isr_with_epochs(proposal.isr.iter().map(member).collect());
        match request.topics.last_mut() {
            Some(topic) if topic.topic_id == key.topic_id => topic.partitions.push(partition),
            _ => request
                .topics
                .push(TopicData::default().with_topic_id(key.topic_id).with_partitions(vec![partition])),
        }
    }
    request
}
