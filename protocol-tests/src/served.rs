//! Every message that the broker reads or writes, with its type forgotten.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use klamm::protocol::guard;
use klamm::protocol::messages::*;

/// An API with the codec of its messages.
pub struct Served {
    /// Its key.
    pub key: i16,
    /// The versions that its codec has.
    pub versions: RangeInclusive<i16>,
    /// Decodes a request and drops it.
    pub decode_request: fn(&mut Bytes, i16) -> Result<(), MessageError>,
    /// Decodes a request, checks the size that it says it has, and encodes it.
    pub recode_request: fn(&mut Bytes, i16) -> Result<BytesMut, MessageError>,
    /// The same with a response.
    pub recode_response: fn(&mut Bytes, i16) -> Result<BytesMut, MessageError>,
}

impl Served {
    /// Its name.
    pub fn name(&self) -> &'static str {
        guard::api_name(self.key).unwrap_or("an API without a shape")
    }

    /// What the broker does with the body of a request: the guard, then the decoder. Both have to find the same end.
    pub fn read(&self, version: i16, body: &Bytes) -> Result<(), String> {
        let length = guard::length(self.key, version, body).map_err(|error| error.to_string())?;
        let mut rest = body.clone();
        (self.decode_request)(&mut rest, version).map_err(|error| error.to_string())?;
        assert_eq!(body.len() - rest.len(), length, "the end of {} {version} in {body:?}", self.name());
        Ok(())
    }
}

fn recode<T: Body>(buf: &mut Bytes, version: i16) -> Result<BytesMut, MessageError> {
    let body = T::decode(buf, version)?;
    let mut again = BytesMut::new();
    body.encode(&mut again, version)?;
    assert_eq!(body.size(version)?, again.len(), "the size that version {version} of a message says it has");
    Ok(again)
}

macro_rules! served {
    ($($request:ident)*) => {
        &[$(Served {
            key: <$request as Request>::KEY,
            versions: <$request as Body>::VERSIONS,
            decode_request: |buf, version| <$request as Body>::decode(buf, version).map(drop),
            recode_request: recode::<$request>,
            recode_response: recode::<<$request as Request>::Response>,
        }),*]
    };
}

/// All of them, by key.
pub const SERVED: &[Served] = served! {
    ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest
    FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest
    DescribeGroupsRequest ListGroupsRequest ApiVersionsRequest CreateTopicsRequest DeleteTopicsRequest
    DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest AddPartitionsToTxnRequest
    AddOffsetsToTxnRequest EndTxnRequest WriteTxnMarkersRequest TxnOffsetCommitRequest DescribeConfigsRequest
    AlterConfigsRequest AlterReplicaLogDirsRequest DescribeLogDirsRequest CreatePartitionsRequest DeleteGroupsRequest
    IncrementalAlterConfigsRequest OffsetDeleteRequest DescribeClientQuotasRequest AlterClientQuotasRequest
    DescribeQuorumRequest UpdateFeaturesRequest
    DescribeClusterRequest DescribeProducersRequest DescribeTransactionsRequest ListTransactionsRequest
    ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest GetTelemetrySubscriptionsRequest PushTelemetryRequest
    ListConfigResourcesRequest
    DescribeTopicPartitionsRequest BrokerRegistrationRequest BrokerHeartbeatRequest UnregisterBrokerRequest
    ControllerRegistrationRequest ElectLeadersRequest AlterPartitionReassignmentsRequest
    ListPartitionReassignmentsRequest AlterPartitionRequest AllocateProducerIdsRequest
    AssignReplicasToDirsRequest EnvelopeRequest VoteRequest BeginQuorumEpochRequest EndQuorumEpochRequest
    ShareFetchRequest ShareAcknowledgeRequest FetchSnapshotRequest AddRaftVoterRequest RemoveRaftVoterRequest UpdateRaftVoterRequest
    ShareGroupHeartbeatRequest ShareGroupDescribeRequest DescribeShareGroupOffsetsRequest
    AlterShareGroupOffsetsRequest DeleteShareGroupOffsetsRequest
    InitializeShareGroupStateRequest ReadShareGroupStateRequest WriteShareGroupStateRequest
    DeleteShareGroupStateRequest ReadShareGroupStateSummaryRequest
    StreamsGroupHeartbeatRequest StreamsGroupDescribeRequest
};
