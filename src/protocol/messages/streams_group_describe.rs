//! StreamsGroupDescribe (89), which the crate does not have.

use super::streams_group_heartbeat::{Endpoint, KeyValue, TaskIds, TaskOffset, TopicInfo};
use crate::protocol::schema::schema;

schema! {
    /// Asks for streams groups with their members (StreamsGroupDescribeRequest).
    pub struct StreamsGroupDescribeRequest, versions 0..=0, flexible 0.. {
        /// The groups.
        group_ids: Vec<String>,
        /// Whether the answer tells what the caller may do with them.
        include_authorized_operations: bool,
    }

    /// The answer (StreamsGroupDescribeResponse).
    pub struct StreamsGroupDescribeResponse, versions 0..=0, flexible 0.. {
        /// How long the client is held back.
        throttle_time_ms: i32,
        /// One for each group.
        groups: Vec<DescribedGroup>,
    }

    /// A group.
    pub struct DescribedGroup {
        /// 0 for none.
        error_code: i16,
        /// What was wrong.
        error_message: Option<String> = None,
        /// The group.
        group_id: String,
        /// Where it stands.
        group_state: String,
        /// Its epoch.
        group_epoch: i32,
        /// The epoch of its target assignment.
        assignment_epoch: i32,
        /// Its topology.
        topology: Option<DescribedTopology> = None,
        /// Its members.
        members: Vec<DescribedMember>,
        /// What the caller may do with it, as bits.
        authorized_operations: i32 = i32::MIN,
    }

    /// A topology.
    pub struct DescribedTopology {
        /// Which version of it this is.
        epoch: i32,
        /// Its parts.
        subtopologies: Option<Vec<DescribedSubtopology>> = None,
    }

    /// A part of a topology.
    pub struct DescribedSubtopology {
        /// Its name in the topology.
        subtopology_id: String,
        /// The topics that it reads.
        source_topics: Vec<String>,
        /// The repartition topics that it writes to.
        repartition_sink_topics: Vec<String>,
        /// The topics that keep its state.
        state_changelog_topics: Vec<TopicInfo>,
        /// The repartition topics that it reads.
        repartition_source_topics: Vec<TopicInfo>,
    }

    /// A member.
    pub struct DescribedMember {
        /// Its id.
        member_id: String,
        /// Its epoch.
        member_epoch: i32,
        /// For static members.
        instance_id: Option<String> = None,
        /// Its rack.
        rack_id: Option<String> = None,
        /// Its client id.
        client_id: String,
        /// Its address.
        client_host: String,
        /// The epoch of its topology.
        topology_epoch: i32,
        /// The process that it belongs to.
        process_id: String,
        /// Where the process answers interactive queries.
        user_endpoint: Option<Endpoint> = None,
        /// Tags of the process.
        client_tags: Vec<KeyValue>,
        /// How far changelogs have been read; not used yet.
        task_offsets: Vec<TaskOffset>,
        /// Where they end; not used yet.
        task_end_offsets: Vec<TaskOffset>,
        /// The tasks that it has.
        assignment: Assignment,
        /// The tasks that it is to have.
        target_assignment: Assignment,
        /// Whether it uses the classic protocol.
        is_classic: bool,
    }

    /// Tasks of all roles.
    pub struct Assignment {
        /// Those that are processed.
        active_tasks: Vec<TaskIds>,
        /// Those whose state is copied.
        standby_tasks: Vec<TaskIds>,
        /// Those whose state is built up.
        warmup_tasks: Vec<TaskIds>,
    }
}
