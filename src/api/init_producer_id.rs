//! InitProducerId (22): gives an idempotent producer its id.
//!
//! - Ids are taken from blocks of 1000 that the controller hands out, and are never given twice.
//! - As in Kafka, a producer without a transactional id gets a new id with epoch 0 whatever it had before; it raises
//!   its epoch by itself (KIP-360).
//! - With a transactional id it fences whoever had the id before, ends what was left open, and gives the next epoch;
//!   a producer that goes on after an error says who it was (KIP-360).
//! - Versions 0 to 3 do not know PRODUCER_FENCED and are told INVALID_PRODUCER_EPOCH.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::add_partitions_to_txn::fenced_code;
use super::context::{Context, Disconnect};
use super::text;
use crate::client::ControllerChannel;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Metadata;
use crate::protocol::messages::{AllocateProducerIdsRequest, InitProducerIdRequest, InitProducerIdResponse};
use crate::transaction::command::{InitProducerId, Producer};
use crate::transaction::state::{NO_EPOCH, NO_PRODUCER_ID};
use crate::types::ProducerId;

/// The first version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 4;

/// How long a producer waits for a block of ids, at most; it asks again by itself.
const BLOCK_WAIT_MS: i64 = 2_000;
/// The next block is fetched when so many ids are left: a tenth of what the controller gives.
const PREFETCH_IDS: i64 = 100;

/// The ids that this broker may give out (`RPCProducerIdManager`).
pub(crate) struct ProducerIds {
    metadata: Arc<Metadata>,
    controller: Arc<ControllerChannel>,
    blocks: Mutex<Blocks>,
    /// Held by who fetches a block.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Blocks {
    current: Range<ProducerId>,
    next: Range<ProducerId>,
}

impl Blocks {
    fn is_empty(&self) -> bool {
        self.current.is_empty() && self.next.is_empty()
    }

    /// Whether the block in use is the last one.
    fn is_low(&self) -> bool {
        self.next.is_empty()
    }

    /// The next id, and whether it is time for another block.
    fn take(&mut self) -> Option<(ProducerId, bool)> {
        if self.current.is_empty() {
            self.current = std::mem::take(&mut self.next);
        }
        let id = self.current.next()?;
        let left = self.current.end - id;
        Some((id, left == PREFETCH_IDS && self.next.is_empty()))
    }
}

impl ProducerIds {
    pub(crate) fn new(metadata: &Arc<Metadata>, controller: &Arc<ControllerChannel>) -> Arc<Self> {
        Arc::new(Self {
            metadata: Arc::clone(metadata),
            controller: Arc::clone(controller),
            blocks: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// An id that nobody had before.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while the controller gives no block: older clients would end at another code.
    pub(crate) async fn next(self: &Arc<Self>) -> Result<ProducerId, ErrorCode> {
        loop {
            let taken = self.blocks.lock().take();
            match taken {
                Some((id, is_time)) => {
                    if is_time {
                        let this = Arc::clone(self);
                        tokio::spawn(async move { this.fetch(Blocks::is_low).await });
                    }
                    return Ok(id);
                }
                None => self.fetch(Blocks::is_empty).await?,
            }
        }
    }

    /// Fetches a block, if it is still needed when it is our turn.
    async fn fetch(&self, needed: fn(&Blocks) -> bool) -> Result<(), ErrorCode> {
        let _turn = self.fetching.lock().await;
        if !needed(&self.blocks.lock()) {
            return Ok(());
        }
        let block = self.allocate().await.map_err(|error| {
            tracing::warn!(%error, "the controller gives no producer ids");
            ErrorCode::CoordinatorLoadInProgress
        })?;
        self.blocks.lock().next = block;
        Ok(())
    }

    /// Asks the controller, wherever it is.
    async fn allocate(&self) -> Result<Range<ProducerId>, ApiError> {
        match self.metadata.allocate_producer_ids().await {
            Err(error) if error.code == ErrorCode::NotController => {}
            answered => return answered,
        }
        let broker_id = self.metadata.node_id();
        let epoch = self.metadata.image().brokers.get(&broker_id).map_or(-1, |broker| broker.epoch);
        let request =
            AllocateProducerIdsRequest::default().with_broker_id(broker_id.into()).with_broker_epoch(epoch);
        let response = self.controller.call(request, 0..=0, BLOCK_WAIT_MS).await;
        let response =
            response.map_err(|error| ApiError::with(ErrorCode::RequestTimedOut, error.to_string()))?;
        if let Some(code) = ErrorCode::try_from_code(response.error_code) {
            return Err(code.into());
        }
        let first = response.producer_id_start.0;
        let end = first.checked_add(response.producer_id_len.into());
        let valid = end.filter(|end| first >= 0 && *end > first);
        valid.map(|end| first..end).ok_or_else(|| ErrorCode::UnknownServerError.into())
    }
}

pub(super) async fn handle(
    context: &Context,
    request: InitProducerIdRequest,
    version: i16,
) -> Result<InitProducerIdResponse, Disconnect> {
    let (id, epoch) = (request.producer_id.0, request.producer_epoch);
    let producer = match &request.transactional_id {
        _ if (id == NO_PRODUCER_ID) != (epoch == NO_EPOCH) => Err(ErrorCode::InvalidRequest),
        Some(transactional_id) => {
            let init = InitProducerId {
                transactional_id: text::shared(transactional_id),
                timeout_ms: request.transaction_timeout_ms,
                expected: (id != NO_PRODUCER_ID).then_some(Producer { id, epoch }),
                fresh_producer_id: None,
            };
            context.broker.transactions.init(init).await
        }
        None => context.broker.producer_ids.next().await.map(|id| Producer { id, epoch: 0 }),
    };
    let response = InitProducerIdResponse::default();
    Ok(match producer {
        Ok(producer) => response.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch),
        Err(code) => response
            .with_error_code(fenced_code(code, version >= FENCED_FROM).code())
            .with_producer_id(NO_PRODUCER_ID.into())
            .with_producer_epoch(NO_EPOCH),
    })
}
