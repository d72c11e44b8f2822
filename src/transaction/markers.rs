//! How the markers that end a transaction get into its partitions (`TransactionMarkerChannelManager`).

use futures_util::future::{BoxFuture, try_join_all};

use super::command::EndedTransaction;
use crate::clock::Clock;
use crate::error::ErrorCode;
use crate::log::Marker;
use crate::types::TopicPartition;

/// Resolves when a marker is stored.
pub type WrittenMarker = BoxFuture<'static, Result<(), ErrorCode>>;

/// Where markers go.
pub trait MarkerSink: Send + Sync + 'static {
    /// Has a marker written to a partition. When this returns, the marker stands in the partition's line, before
    /// whatever comes later.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION` where there is no such partition; others of the partition, or of the group
    /// coordinator whose partition it is.
    fn begin(&self, partition: &TopicPartition, marker: &Marker) -> Result<WrittenMarker, ErrorCode>;
}

/// How long a partition that could not take a marker is left alone.
const RETRY_MS: i64 = 100;

/// How an attempt to write the markers of a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All of them are stored, or their partitions are gone.
    All,
    /// Somebody else goes on, or the partitions know better.
    GivenUp,
}

/// Writes the markers of a transaction, for as long as it takes. `begin` is asked for each marker; it answers `None`
/// when somebody else has taken over.
pub(super) async fn write(
    ended: &EndedTransaction,
    coordinator_epoch: i32,
    clock: &Clock,
    begin: impl Fn(&TopicPartition, &Marker) -> Option<Result<WrittenMarker, ErrorCode>>,
) -> Written {
    let marker = Marker {
        producer_id: ended.producer.id,
        producer_epoch: ended.producer.epoch,
        coordinator_epoch,
        is_commit: ended.is_commit,
        transaction_version: ended.transaction_version,
    };
    // Each partition goes its own way: what one waits for holds up no other.
    let written =
        ended.partitions.iter().map(|partition| write_one(ended, partition, &marker, clock, &begin));
    match try_join_all(written).await {
        Ok(_) => Written::All,
        Err(GivenUp) => Written::GivenUp,
    }
}

struct GivenUp;

async fn write_one(
    ended: &EndedTransaction,
    partition: &TopicPartition,
    marker: &Marker,
    clock: &Clock,
    begin: &impl Fn(&TopicPartition, &Marker) -> Option<Result<WrittenMarker, ErrorCode>>,
) -> Result<(), GivenUp> {
    loop {
        let written = match begin(partition, marker) {
            Some(Ok(writing)) => writing.await,
            Some(Err(code)) => Err(code),
            None => return Err(GivenUp),
        };
        let id = &ended.transactional_id;
        match written {
            // A topic that is gone needs no marker.
            Ok(()) | Err(ErrorCode::UnknownTopicOrPartition) => return Ok(()),
            Err(code @ (ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced)) => {
                tracing::error!(transactional_id = %id, %partition, %code, "a transaction can not be ended");
                return Err(GivenUp);
            }
            Err(code) => {
                tracing::info!(transactional_id = %id, %partition, %code, "a marker is written again");
            }
        }
        clock.sleep_until(clock.steady_ms().saturating_add(RETRY_MS)).await;
    }
}
