//! StreamsGroupHeartbeat (88), which the crate does not have.

use crate::protocol::schema::schema;

schema! {
    /// A member is alive (StreamsGroupHeartbeatRequest). What is null did not change.
    pub struct StreamsGroupHeartbeatRequest, versions 0..=0, flexible 0.. {
        /// The group.
        group_id: String,
        /// The member, which made its id.
        member_id: String,
        /// 0 to join, -1 to leave.
        member_epoch: i32,
        /// The last epoch of endpoints that the member knows.
        endpoint_information_epoch: i32,
        /// For static members.
        instance_id: Option<String> = None,
        /// The member's rack.
        rack_id: Option<String> = None,
        /// How long it may take to give up tasks, in milliseconds; -1 where that did not change.
        rebalance_timeout_ms: i32 = -1,
        /// The application's topology, with a join.
        topology: Option<Topology> = None,
        /// The active tasks that it has.
        active_tasks: Option<Vec<TaskIds>> = None,
        /// The standby tasks that it has.
        standby_tasks: Option<Vec<TaskIds>> = None,
        /// The warmup tasks that it has.
        warmup_tasks: Option<Vec<TaskIds>> = None,
        /// The process that it belongs to.
        process_id: Option<String> = None,
        /// Where the process answers interactive queries.
        user_endpoint: Option<Endpoint> = None,
        /// Tags of the process.
        client_tags: Option<Vec<KeyValue>> = None,
        /// How far changelogs have been read.
        task_offsets: Option<Vec<TaskOffset>> = None,
        /// Where they end.
        task_end_offsets: Option<Vec<TaskOffset>> = None,
        /// Whether the whole application is to shut down.
        shutdown_application: bool,
    }

    /// A topology.
    pub struct Topology {
        /// Which version of it this is.
        epoch: i32,
        /// Its parts.
        subtopologies: Vec<Subtopology>,
    }

    /// A part of a topology.
    pub struct Subtopology {
        /// Its name in the topology.
        subtopology_id: String,
        /// The topics that it reads.
        source_topics: Vec<String>,
        /// Regular expressions for more of them.
        source_topic_regex: Vec<String>,
        /// The topics that keep its state.
        state_changelog_topics: Vec<TopicInfo>,
        /// The repartition topics that it writes to.
        repartition_sink_topics: Vec<String>,
        /// The repartition topics that it reads.
        repartition_source_topics: Vec<TopicInfo>,
        /// Source topics that need as many partitions as one another.
        copartition_groups: Vec<CopartitionGroup>,
    }

    /// Source topics by their places in the lists of their subtopology.
    pub struct CopartitionGroup {
        /// Of the source topics.
        source_topics: Vec<i16>,
        /// Of the regular expressions.
        source_topic_regex: Vec<i16>,
        /// Of the repartition topics that are read.
        repartition_source_topics: Vec<i16>,
    }

    /// An internal topic.
    pub struct TopicInfo {
        /// Its name.
        name: String,
        /// 0 where the broker decides.
        partitions: i32,
        /// 0 for the broker's default.
        replication_factor: i16,
        /// Its configuration.
        topic_configs: Vec<KeyValue>,
    }

    /// A key with its value.
    pub struct KeyValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
    }

    /// Host and port.
    pub struct Endpoint {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    }

    /// An offset of a task's changelogs.
    pub struct TaskOffset {
        /// The task's subtopology.
        subtopology_id: String,
        /// The task.
        partition: i32,
        /// The sum of the offsets.
        offset: i64,
    }

    /// Tasks of a subtopology.
    pub struct TaskIds {
        /// The subtopology.
        subtopology_id: String,
        /// The tasks.
        partitions: Vec<i32>,
    }

    /// The answer (StreamsGroupHeartbeatResponse). What is null did not change.
    pub struct StreamsGroupHeartbeatResponse, versions 0..=0, flexible 0.. {
        /// How long the client is held back.
        throttle_time_ms: i32,
        /// 0 for none.
        error_code: i16,
        /// What was wrong.
        error_message: Option<String> = None,
        /// The member.
        member_id: String,
        /// Its epoch.
        member_epoch: i32,
        /// How often it is to send heartbeats.
        heartbeat_interval_ms: i32,
        /// How far a warmup task may be behind; not used yet.
        acceptable_recovery_lag: i32,
        /// How often it is to tell offsets of tasks; not used yet.
        task_offset_interval_ms: i32,
        /// What the member has to know of its group.
        status: Option<Vec<Status>>,
        /// The active tasks that it is to have.
        active_tasks: Option<Vec<TaskIds>> = None,
        /// The standby tasks that it is to have.
        standby_tasks: Option<Vec<TaskIds>> = None,
        /// The warmup tasks that it is to have.
        warmup_tasks: Option<Vec<TaskIds>> = None,
        /// The epoch of the endpoints.
        endpoint_information_epoch: i32,
        /// Where state can be asked for.
        partitions_by_user_endpoint: Option<Vec<EndpointToPartitions>> = None,
    }

    /// Whose state a process can be asked for.
    pub struct EndpointToPartitions {
        /// Where the process answers.
        user_endpoint: Endpoint,
        /// Those of its active tasks.
        active_partitions: Vec<TopicPartition>,
        /// Those of its standby tasks.
        standby_partitions: Vec<TopicPartition>,
    }

    /// Partitions of a topic.
    pub struct TopicPartition {
        /// The topic.
        topic: String,
        /// The partitions.
        partitions: Vec<i32>,
    }

    /// What a member has to know of its group.
    pub struct Status {
        /// Which of the codes of `StreamsGroupHeartbeatResponse.Status`.
        status_code: i8,
        /// A sentence.
        status_detail: String,
    }
}
