//! Every message that the broker serves, behind one pair of traits.
//!
//! Most types are those of the `kafka-protocol` crate. Where it can not read or write all the versions that Kafka 4.3
//! advertises, a type of ours (by [`schema!`](crate::protocol::schema)) stands in its place for all of them, or, where
//! the last version differs in nothing but its number, that number is turned into the one before it.
//!
//! Decoding is safe only behind the [guard](crate::protocol::guard).

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message, Request as CrateRequest};

use super::schema::Schema;

pub mod add_raft_voter;
pub mod broker_heartbeat;
pub mod describe_log_dirs;
pub mod describe_share_group_offsets;
pub mod offset_commit;
pub mod offset_fetch;
pub mod read_share_group_state_summary;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod streams_group_describe;
pub mod streams_group_heartbeat;
pub mod write_share_group_state;
pub mod write_txn_markers;

pub use add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
pub use broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
pub use describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
pub use describe_share_group_offsets::{DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse};
pub use offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
pub use offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
pub use read_share_group_state_summary::{
    ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse,
};
pub use share_acknowledge::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
pub use share_fetch::{ShareFetchRequest, ShareFetchResponse};
pub use streams_group_describe::{StreamsGroupDescribeRequest, StreamsGroupDescribeResponse};
pub use streams_group_heartbeat::{StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse};
pub use write_share_group_state::{WriteShareGroupStateRequest, WriteShareGroupStateResponse};
pub use write_txn_markers::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

/// A body that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("version {version}: {reason}")]
pub struct MessageError {
    /// The version that was asked for.
    pub version: i16,
    /// What the codec says.
    pub reason: String,
}

/// The body of a request or of a response, in any of its versions.
pub trait Body: Sized {
    /// The versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;

    /// Reads the body at the front of `buf`. Byte fields are slices of it.
    fn decode(buf: &mut Bytes, version: i16) -> Result<Self, MessageError>;

    /// Appends the body to `buf`.
    fn encode(&self, buf: &mut BytesMut, version: i16) -> Result<(), MessageError>;

    /// The length of the encoded body, in bytes.
    fn size(&self, version: i16) -> Result<usize, MessageError>;
}

/// The body of a request.
pub trait Request: Body {
    /// The key of the API.
    const KEY: i16;
    /// What it is answered with.
    type Response: Response;
}

/// The body of a response.
pub trait Response: Body {}

impl<T: Schema> Body for T {
    const VERSIONS: RangeInclusive<i16> = <T as Schema>::VERSIONS;

    fn decode(buf: &mut Bytes, version: i16) -> Result<Self, MessageError> {
        <T as Schema>::decode(buf, version)
            .map_err(|error| MessageError { version, reason: error.to_string() })
    }

    fn encode(&self, buf: &mut BytesMut, version: i16) -> Result<(), MessageError> {
        Schema::encode(self, buf, version)
            .map_err(|error| MessageError { version, reason: error.to_string() })
    }

    fn size(&self, version: i16) -> Result<usize, MessageError> {
        Schema::size(self, version).map_err(|error| MessageError { version, reason: error.to_string() })
    }
}

/// The versions of one of the crate's types, with a check at compile time that it has them all. With `as`, the versions
/// after that one look like it.
macro_rules! crate_body {
    ($type:ident, $first:literal ..= $last:literal, $codec_last:expr) => {
        const _: () = assert!(
            <kafka_protocol::messages::$type as Message>::VERSIONS.min <= $first
                && $codec_last <= <kafka_protocol::messages::$type as Message>::VERSIONS.max
        );
        pub use kafka_protocol::messages::$type;
        impl Body for $type {
            const VERSIONS: RangeInclusive<i16> = $first..=$last;

            fn decode(buf: &mut Bytes, version: i16) -> Result<Self, MessageError> {
                let codec_version = codec_version::<Self>(version, $codec_last)?;
                <Self as Decodable>::decode(buf, codec_version)
                    .map_err(|error| MessageError { version, reason: format!("{error:#}") })
            }

            fn encode(&self, buf: &mut BytesMut, version: i16) -> Result<(), MessageError> {
                let codec_version = codec_version::<Self>(version, $codec_last)?;
                Encodable::encode(self, buf, codec_version)
                    .map_err(|error| MessageError { version, reason: format!("{error:#}") })
            }

            fn size(&self, version: i16) -> Result<usize, MessageError> {
                let codec_version = codec_version::<Self>(version, $codec_last)?;
                self.compute_size(codec_version)
                    .map_err(|error| MessageError { version, reason: format!("{error:#}") })
            }
        }
    };
}

/// The crate's number for a version, or an error if the message does not have it.
fn codec_version<T: Body>(version: i16, codec_last: i16) -> Result<i16, MessageError> {
    if T::VERSIONS.contains(&version) {
        Ok(version.min(codec_last))
    } else {
        Err(MessageError { version, reason: format!("expected one of {:?}", T::VERSIONS) })
    }
}

macro_rules! crate_messages {
    (@last $last:literal) => { $last };
    (@last $last:literal $codec_last:literal) => { $codec_last };
    ($($request:ident, $response:ident: $first:literal ..= $last:literal $(as $codec_last:literal)?;)*) => {$(
        crate_body!($request, $first..=$last, crate_messages!(@last $last $($codec_last)?));
        crate_body!($response, $first..=$last, crate_messages!(@last $last $($codec_last)?));
        impl Request for $request {
            const KEY: i16 = <Self as CrateRequest>::KEY;
            type Response = $response;
        }
        impl Response for $response {}
    )*};
}

macro_rules! own_messages {
    ($($key:literal $request:ident, $response:ident;)*) => {$(
        impl Request for $request {
            const KEY: i16 = $key;
            type Response = $response;
        }
        impl Response for $response {}
    )*};
}

// Every API of this broker, with all the versions that Kafka 4.3 advertises.
crate_messages! {
    ProduceRequest, ProduceResponse: 3..=13;
    FetchRequest, FetchResponse: 4..=18;
    // Version 11 adds a special timestamp, and nothing on the wire.
    ListOffsetsRequest, ListOffsetsResponse: 1..=11 as 10;
    MetadataRequest, MetadataResponse: 0..=13;
    FindCoordinatorRequest, FindCoordinatorResponse: 0..=6;
    JoinGroupRequest, JoinGroupResponse: 0..=9;
    HeartbeatRequest, HeartbeatResponse: 0..=4;
    LeaveGroupRequest, LeaveGroupResponse: 0..=5;
    SyncGroupRequest, SyncGroupResponse: 0..=5;
    DescribeGroupsRequest, DescribeGroupsResponse: 0..=6;
    ListGroupsRequest, ListGroupsResponse: 0..=5;
    ApiVersionsRequest, ApiVersionsResponse: 0..=4;
    CreateTopicsRequest, CreateTopicsResponse: 2..=7;
    DeleteTopicsRequest, DeleteTopicsResponse: 1..=6;
    DeleteRecordsRequest, DeleteRecordsResponse: 0..=2;
    InitProducerIdRequest, InitProducerIdResponse: 0..=5;
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse: 2..=4;
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse: 0..=5;
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse: 0..=4;
    EndTxnRequest, EndTxnResponse: 0..=5;
    TxnOffsetCommitRequest, TxnOffsetCommitResponse: 0..=5;
    DescribeConfigsRequest, DescribeConfigsResponse: 1..=4;
    AlterConfigsRequest, AlterConfigsResponse: 0..=2;
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse: 1..=2;
    CreatePartitionsRequest, CreatePartitionsResponse: 0..=3;
    DeleteGroupsRequest, DeleteGroupsResponse: 0..=2;
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse: 0..=1;
    OffsetDeleteRequest, OffsetDeleteResponse: 0..=0;
    DescribeQuorumRequest, DescribeQuorumResponse: 0..=2;
    UpdateFeaturesRequest, UpdateFeaturesResponse: 0..=2;
    DescribeClientQuotasRequest, DescribeClientQuotasResponse: 0..=1;
    AlterClientQuotasRequest, AlterClientQuotasResponse: 0..=1;
    DescribeClusterRequest, DescribeClusterResponse: 0..=2;
    DescribeProducersRequest, DescribeProducersResponse: 0..=0;
    DescribeTransactionsRequest, DescribeTransactionsResponse: 0..=0;
    ListTransactionsRequest, ListTransactionsResponse: 0..=2;
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse: 0..=1;
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse: 0..=1;
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse: 0..=0;
    PushTelemetryRequest, PushTelemetryResponse: 0..=0;
    ListConfigResourcesRequest, ListConfigResourcesResponse: 0..=1;
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse: 0..=0;
    ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse: 1..=1;
    ShareGroupDescribeRequest, ShareGroupDescribeResponse: 1..=1;
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse: 0..=0;
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse: 0..=0;
}

// What nodes of a cluster say to one another.
crate_messages! {
    VoteRequest, VoteResponse: 0..=2;
    BeginQuorumEpochRequest, BeginQuorumEpochResponse: 0..=1;
    EndQuorumEpochRequest, EndQuorumEpochResponse: 0..=1;
    FetchSnapshotRequest, FetchSnapshotResponse: 0..=1;
    RemoveRaftVoterRequest, RemoveRaftVoterResponse: 0..=0;
    UpdateRaftVoterRequest, UpdateRaftVoterResponse: 0..=0;
    BrokerRegistrationRequest, BrokerRegistrationResponse: 0..=4;
    UnregisterBrokerRequest, UnregisterBrokerResponse: 0..=0;
    ControllerRegistrationRequest, ControllerRegistrationResponse: 0..=0;
    AlterPartitionRequest, AlterPartitionResponse: 2..=3;
    InitializeShareGroupStateRequest, InitializeShareGroupStateResponse: 0..=0;
    ReadShareGroupStateRequest, ReadShareGroupStateResponse: 0..=0;
    DeleteShareGroupStateRequest, DeleteShareGroupStateResponse: 0..=0;
    AllocateProducerIdsRequest, AllocateProducerIdsResponse: 0..=0;
    AssignReplicasToDirsRequest, AssignReplicasToDirsResponse: 0..=0;
    EnvelopeRequest, EnvelopeResponse: 0..=0;
    ElectLeadersRequest, ElectLeadersResponse: 0..=2;
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse: 0..=1;
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse: 0..=0;
}

own_messages! {
    8 OffsetCommitRequest, OffsetCommitResponse;
    9 OffsetFetchRequest, OffsetFetchResponse;
    27 WriteTxnMarkersRequest, WriteTxnMarkersResponse;
    85 WriteShareGroupStateRequest, WriteShareGroupStateResponse;
    87 ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse;
    35 DescribeLogDirsRequest, DescribeLogDirsResponse;
    63 BrokerHeartbeatRequest, BrokerHeartbeatResponse;
    78 ShareFetchRequest, ShareFetchResponse;
    79 ShareAcknowledgeRequest, ShareAcknowledgeResponse;
    80 AddRaftVoterRequest, AddRaftVoterResponse;
    88 StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse;
    89 StreamsGroupDescribeRequest, StreamsGroupDescribeResponse;
    90 DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse;
}
