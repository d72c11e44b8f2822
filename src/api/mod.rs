//! The APIs: one file and one line in the table for each.
//!
//! `apis!` declares what is served. From it come the dispatch of requests, the answer to ApiVersions, the table in the
//! README, and the tests that send every version of everything.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod add_raft_voter;
mod allocate_producer_ids;
mod alter_client_quotas;
mod alter_configs;
mod alter_partition;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod alter_share_group_offsets;
mod api_versions;
mod assign_replicas_to_dirs;
pub(crate) mod authorized;
pub(crate) mod auto_create;
mod begin_quorum_epoch;
pub(crate) mod broker_heartbeat;
mod broker_registration;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod context;
mod controller_registration;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_share_group_offsets;
mod delete_share_group_state;
mod delete_topics;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_share_group_offsets;
mod describe_topic_partitions;
mod describe_transactions;
mod elect_leaders;
mod end_quorum_epoch;
mod end_txn;
mod ends;
mod envelope;
mod fetch;
pub(crate) mod fetch_session;
mod fetch_snapshot;
mod find_coordinator;
pub(crate) mod forward;
mod get_telemetry_subscriptions;
mod heartbeat;
mod incremental_alter_configs;
pub(crate) mod init_producer_id;
mod initialize_share_group_state;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
pub(crate) mod local;
pub(crate) mod markers;
mod metadata;
mod nodes;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod outcome;
pub(crate) mod peers;
mod produce;
mod push_telemetry;
mod quorum;
mod read_share_group_state;
mod read_share_group_state_summary;
mod remove_raft_voter;
mod request;
pub(crate) mod resolve;
mod share;
mod share_acknowledge;
mod share_fetch;
mod share_group_describe;
mod share_group_heartbeat;
mod share_groups;
mod share_state;
mod streams_group_describe;
mod streams_group_heartbeat;
mod streams_topics;
mod sync_group;
mod text;
mod throttle;
mod transactional;
mod txn_offset_commit;
mod unregister_broker;
mod update_features;
mod update_raft_voter;
pub(crate) mod verification;
mod vote;
mod write_share_group_state;
mod write_txn_markers;

use bytes::Bytes;

use crate::config::listener::ListenerKind;
use crate::protocol::header::RequestHeader;
use crate::protocol::messages::*;

pub(crate) use crate::log::Gathering;
pub(crate) use context::{BrokerHandles, Connection, Context, Disconnect, Listener};
pub(crate) use fetch::{FetchBounds, HeldBytes};
pub(crate) use request::{Encoded, Request, Running};
pub(crate) use streams_topics::StreamsTopics;
pub(crate) use throttle::{Metered, hold_back};

/// One API in the versions that are advertised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiEntry {
    /// The number by which requests name it.
    pub key: i16,
    /// Kafka's name of it.
    pub name: &'static str,
    /// The oldest version that is advertised.
    pub min: i16,
    /// The newest version.
    pub max: i16,
    /// The oldest version that is served. Produce alone advertises more than it serves.
    pub served_from: i16,
    /// Whether a request may start while earlier ones of its connection still run.
    pub(crate) pipelined: bool,
    /// On which listeners it is served.
    pub listeners: ListenerKind,
    /// Whether it is for the active controller, and a broker that is asked forwards it there (KIP-590).
    pub forwarded: bool,
}

impl ApiEntry {
    /// Whether requests of this version are answered.
    pub fn serves(&self, version: i16) -> bool {
        self.served_from <= version && version <= self.max
    }
}

/// Every API, by key.
pub fn advertised() -> &'static [ApiEntry] {
    APIS
}

fn decode<R: crate::protocol::messages::Request>(
    header: &RequestHeader,
    mut body: Bytes,
) -> Result<R, Disconnect> {
    R::decode(&mut body, header.api_version)
        .map_err(|error| Disconnect::Malformed(format!("api key {}: {error}", header.api_key)))
}

/// Declares the APIs, one line each: `key Name versions, mode handler(Request) on listeners => controller;`
///
/// `on controller` and `on both` say where it is served, which is on the listeners of brokers otherwise (`listeners` in
/// Kafka's schemas). With `=> controller` a broker that is asked forwards it to the active controller
/// (`ApiKeys.forwardable`).
///
/// - `serial`: `async fn handle(&Context, Request, version) -> Result<Response, Disconnect>` starts when everything
///   before it on the connection has been answered;
/// - `encoded`: the same, but it is given the request header and encodes its response by itself;
/// - `pipelined`: `fn begin(Context, Request, RequestHeader) -> Result<Running, Disconnect>` runs in the order of the
///   requests, and the future that it returns later gives the response.
macro_rules! apis {
    ($( $key:literal $name:ident $min:literal..=$max:literal $(advertised from $advertised:literal)?,
        $mode:ident $module:ident($request:ty) $(on $listeners:ident)? $(=> $forwarded:ident)?; )*) => {
        const APIS: &[ApiEntry] = &[$(ApiEntry {
            key: $key,
            name: stringify!($name),
            min: apis!(@min $min $($advertised)?),
            max: $max,
            served_from: $min,
            pipelined: apis!(@pipelined $mode),
            listeners: apis!(@on $($listeners)?),
            forwarded: apis!(@forwarded $($forwarded)?),
        }),*];

        $(const _: () = assert!(
            <$request as crate::protocol::messages::Request>::KEY == $key
                && *<$request as Body>::VERSIONS.start() <= $min
                && $max <= *<$request as Body>::VERSIONS.end(),
            concat!("the codec does not have every version of ", stringify!($name))
        );)*

        fn dispatch(context: Context, header: RequestHeader, body: Bytes) -> Result<Running, Disconnect> {
            match header.api_key {
                $($key => {
                    let request: $request = decode(&header, body)?;
                    apis!(@$mode $module, context, header, request)
                })*
                key => Err(Disconnect::Malformed(format!("unknown api key {key}"))),
            }
        }

        /// An empty response that was told a throttle time, as it is read again, and whether it has a place for it.
        #[cfg(test)]
        fn throttled_default(api_key: i16, api_version: i16, throttle_ms: i32) -> (bool, String) {
            let header = RequestHeader { api_key, api_version, correlation_id: 1, client_id: None };
            match api_key {
                $($key => throttled::<<$request as crate::protocol::messages::Request>::Response>(&header, throttle_ms),)*
                key => panic!("unknown api key {key}"),
            }
        }
    };
    (@min $min:literal) => { $min };
    (@min $min:literal $advertised:literal) => { $advertised };
    (@on) => { ListenerKind::Broker };
    (@on controller) => { ListenerKind::Controller };
    (@on both) => { ListenerKind::Both };
    (@forwarded) => { false };
    (@forwarded controller) => { true };
    (@pipelined serial) => { false };
    (@pipelined encoded) => { false };
    (@pipelined pipelined) => { true };
    (@serial $module:ident, $context:ident, $header:ident, $request:ident) => {
        Ok(Box::pin(async move {
            let response = $module::handle(&$context, $request, $header.api_version).await?;
            Encoded::response(&$header, &response).map(Some)
        }))
    };
    (@encoded $module:ident, $context:ident, $header:ident, $request:ident) => {
        Ok(Box::pin(async move { $module::handle(&$context, $request, &$header).await.map(Some) }))
    };
    (@pipelined $module:ident, $context:ident, $header:ident, $request:ident) => {
        $module::begin($context, $request, $header)
    };
}

apis! {
    0 Produce 3..=13 advertised from 0, pipelined produce(ProduceRequest);
    1 Fetch 4..=18, encoded fetch(FetchRequest) on both;
    2 ListOffsets 1..=11, serial list_offsets(ListOffsetsRequest);
    3 Metadata 0..=13, serial metadata(MetadataRequest);
    8 OffsetCommit 2..=10, serial offset_commit(OffsetCommitRequest);
    9 OffsetFetch 1..=10, serial offset_fetch(OffsetFetchRequest);
    10 FindCoordinator 0..=6, serial find_coordinator(FindCoordinatorRequest);
    11 JoinGroup 0..=9, serial join_group(JoinGroupRequest);
    12 Heartbeat 0..=4, serial heartbeat(HeartbeatRequest);
    13 LeaveGroup 0..=5, serial leave_group(LeaveGroupRequest);
    14 SyncGroup 0..=5, serial sync_group(SyncGroupRequest);
    15 DescribeGroups 0..=6, serial describe_groups(DescribeGroupsRequest);
    16 ListGroups 0..=5, serial list_groups(ListGroupsRequest);
    18 ApiVersions 0..=4, serial api_versions(ApiVersionsRequest) on both;
    19 CreateTopics 2..=7, serial create_topics(CreateTopicsRequest) on both => controller;
    20 DeleteTopics 1..=6, serial delete_topics(DeleteTopicsRequest) on both => controller;
    21 DeleteRecords 0..=2, serial delete_records(DeleteRecordsRequest);
    22 InitProducerId 0..=5, serial init_producer_id(InitProducerIdRequest);
    23 OffsetForLeaderEpoch 2..=4, serial offset_for_leader_epoch(OffsetForLeaderEpochRequest);
    24 AddPartitionsToTxn 0..=5, serial add_partitions_to_txn(AddPartitionsToTxnRequest);
    25 AddOffsetsToTxn 0..=4, serial add_offsets_to_txn(AddOffsetsToTxnRequest);
    26 EndTxn 0..=5, serial end_txn(EndTxnRequest);
    27 WriteTxnMarkers 1..=2, serial write_txn_markers(WriteTxnMarkersRequest);
    28 TxnOffsetCommit 0..=5, serial txn_offset_commit(TxnOffsetCommitRequest);
    32 DescribeConfigs 1..=4, serial describe_configs(DescribeConfigsRequest) on both;
    33 AlterConfigs 0..=2, serial alter_configs(AlterConfigsRequest) on both => controller;
    34 AlterReplicaLogDirs 1..=2, serial alter_replica_log_dirs(AlterReplicaLogDirsRequest);
    35 DescribeLogDirs 1..=5, serial describe_log_dirs(DescribeLogDirsRequest);
    37 CreatePartitions 0..=3, serial create_partitions(CreatePartitionsRequest) on both => controller;
    42 DeleteGroups 0..=2, serial delete_groups(DeleteGroupsRequest);
    43 ElectLeaders 0..=2, serial elect_leaders(ElectLeadersRequest) on both => controller;
    44 IncrementalAlterConfigs 0..=1, serial incremental_alter_configs(IncrementalAlterConfigsRequest) on both => controller;
    45 AlterPartitionReassignments 0..=1, serial alter_partition_reassignments(AlterPartitionReassignmentsRequest) on both => controller;
    46 ListPartitionReassignments 0..=0, serial list_partition_reassignments(ListPartitionReassignmentsRequest) on both => controller;
    47 OffsetDelete 0..=0, serial offset_delete(OffsetDeleteRequest);
    48 DescribeClientQuotas 0..=1, serial describe_client_quotas(DescribeClientQuotasRequest);
    49 AlterClientQuotas 0..=1, serial alter_client_quotas(AlterClientQuotasRequest) on both => controller;
    52 Vote 0..=2, serial vote(VoteRequest) on controller;
    53 BeginQuorumEpoch 0..=1, serial begin_quorum_epoch(BeginQuorumEpochRequest) on controller;
    54 EndQuorumEpoch 0..=1, serial end_quorum_epoch(EndQuorumEpochRequest) on controller;
    55 DescribeQuorum 0..=2, serial describe_quorum(DescribeQuorumRequest) on both => controller;
    56 AlterPartition 2..=3, serial alter_partition(AlterPartitionRequest) on controller;
    57 UpdateFeatures 0..=2, serial update_features(UpdateFeaturesRequest) on both => controller;
    58 Envelope 0..=0, pipelined envelope(EnvelopeRequest) on controller;
    59 FetchSnapshot 0..=1, serial fetch_snapshot(FetchSnapshotRequest) on controller;
    60 DescribeCluster 0..=2, serial describe_cluster(DescribeClusterRequest) on both;
    61 DescribeProducers 0..=0, serial describe_producers(DescribeProducersRequest);
    62 BrokerRegistration 0..=4, serial broker_registration(BrokerRegistrationRequest) on controller;
    63 BrokerHeartbeat 0..=2, serial broker_heartbeat(BrokerHeartbeatRequest) on controller;
    64 UnregisterBroker 0..=0, serial unregister_broker(UnregisterBrokerRequest) on both => controller;
    65 DescribeTransactions 0..=0, serial describe_transactions(DescribeTransactionsRequest);
    66 ListTransactions 0..=2, serial list_transactions(ListTransactionsRequest);
    67 AllocateProducerIds 0..=0, serial allocate_producer_ids(AllocateProducerIdsRequest) on controller;
    68 ConsumerGroupHeartbeat 0..=1, serial consumer_group_heartbeat(ConsumerGroupHeartbeatRequest);
    69 ConsumerGroupDescribe 0..=1, serial consumer_group_describe(ConsumerGroupDescribeRequest);
    70 ControllerRegistration 0..=0, serial controller_registration(ControllerRegistrationRequest) on controller;
    71 GetTelemetrySubscriptions 0..=0, serial get_telemetry_subscriptions(GetTelemetrySubscriptionsRequest);
    72 PushTelemetry 0..=0, serial push_telemetry(PushTelemetryRequest);
    73 AssignReplicasToDirs 0..=0, serial assign_replicas_to_dirs(AssignReplicasToDirsRequest) on controller;
    74 ListConfigResources 0..=1, serial list_config_resources(ListConfigResourcesRequest);
    75 DescribeTopicPartitions 0..=0, serial describe_topic_partitions(DescribeTopicPartitionsRequest);
    76 ShareGroupHeartbeat 1..=1, serial share_group_heartbeat(ShareGroupHeartbeatRequest);
    77 ShareGroupDescribe 1..=1, serial share_group_describe(ShareGroupDescribeRequest);
    78 ShareFetch 1..=2, encoded share_fetch(ShareFetchRequest);
    79 ShareAcknowledge 1..=2, serial share_acknowledge(ShareAcknowledgeRequest);
    80 AddRaftVoter 0..=1, serial add_raft_voter(AddRaftVoterRequest) on both => controller;
    81 RemoveRaftVoter 0..=0, serial remove_raft_voter(RemoveRaftVoterRequest) on both => controller;
    82 UpdateRaftVoter 0..=0, serial update_raft_voter(UpdateRaftVoterRequest) on controller;
    83 InitializeShareGroupState 0..=0, serial initialize_share_group_state(InitializeShareGroupStateRequest);
    84 ReadShareGroupState 0..=0, serial read_share_group_state(ReadShareGroupStateRequest);
    85 WriteShareGroupState 0..=1, serial write_share_group_state(WriteShareGroupStateRequest);
    86 DeleteShareGroupState 0..=0, serial delete_share_group_state(DeleteShareGroupStateRequest);
    87 ReadShareGroupStateSummary 0..=1, serial read_share_group_state_summary(ReadShareGroupStateSummaryRequest);
    88 StreamsGroupHeartbeat 0..=0, serial streams_group_heartbeat(StreamsGroupHeartbeatRequest);
    89 StreamsGroupDescribe 0..=0, serial streams_group_describe(StreamsGroupDescribeRequest);
    90 DescribeShareGroupOffsets 0..=1, serial describe_share_group_offsets(DescribeShareGroupOffsetsRequest);
    91 AlterShareGroupOffsets 0..=0, serial alter_share_group_offsets(AlterShareGroupOffsetsRequest);
    92 DeleteShareGroupOffsets 0..=0, serial delete_share_group_offsets(DeleteShareGroupOffsetsRequest);
}

#[cfg(test)]
fn throttled<R>(header: &RequestHeader, throttle_ms: i32) -> (bool, String)
where
    R: crate::protocol::messages::Response + Default + std::fmt::Debug,
{
    let (key, version) = (header.api_key, header.api_version);
    let mut encoded = Encoded::response(header, &R::default()).expect("it is empty");
    if key == 0 {
        encoded = encoded.with_throttle_behind(if version >= 9 { 1 } else { 0 });
    }
    let has_place = encoded.set_throttle_ms(key, version, throttle_ms);
    let mut frame = encoded.into_frame();
    crate::protocol::header::decode_response_header(&mut frame, key, version).expect("it has a header");
    (has_place, format!("{:?}", R::decode(&mut frame, version).expect("it is whole")))
}

/// The keys of Kafka's APIs are below this.
const KEYS: usize = 128;

/// Where in the table an API stands, by its key.
const PLACES: [Option<u8>; KEYS] = {
    let mut places = [None; KEYS];
    let mut place = 0_u8;
    while (place as usize) < APIS.len() {
        places[APIS[place as usize].key as usize] = Some(place);
        place += 1;
    }
    places
};

fn entry(key: i16) -> Option<&'static ApiEntry> {
    let place = PLACES.get(usize::try_from(key).ok()?)?.as_ref()?;
    APIS.get(usize::from(*place))
}

#[cfg(test)]
mod admin_tests;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_is_found_by_its_key() {
        for api in advertised() {
            assert_eq!(entry(api.key), Some(api));
        }
        for key in [i16::MIN, -1, 4, 127, 128, i16::MAX] {
            assert_eq!(entry(key), None);
        }
    }

    #[test]
    fn the_table_is_sorted_by_key() {
        assert!(advertised().is_sorted_by_key(|api| api.key));
    }
}
