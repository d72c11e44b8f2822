//! StreamsGroupDescribe (89): streams groups with their topology and their members (KIP-1071).

use std::sync::Arc;

use super::context::{Context, Disconnect};
use super::streams_group_heartbeat::{check_enabled, wire_endpoint, wire_tasks};
use super::{authorized, outcome};
use crate::group::streams::command::{
    DescribedStreamsGroup, StreamsGroupDescription, StreamsMemberDescription, SubtopologyDescription,
};
use crate::group::streams::configured::InternalTopic;
use crate::group::streams::tasks::Tasks;
use crate::protocol::messages::streams_group_describe::{
    Assignment, DescribedGroup, DescribedMember, DescribedSubtopology, DescribedTopology,
};
use crate::protocol::messages::streams_group_heartbeat::{KeyValue, TopicInfo};
use crate::protocol::messages::{StreamsGroupDescribeRequest, StreamsGroupDescribeResponse};

pub(super) async fn handle(
    context: &Context,
    request: StreamsGroupDescribeRequest,
    _version: i16,
) -> Result<StreamsGroupDescribeResponse, Disconnect> {
    let group_ids: Vec<Arc<str>> = request.group_ids.into_iter().map(Into::into).collect();
    let described = match check_enabled(context) {
        Ok(()) => context.broker.groups.describe_streams(group_ids).await,
        Err(error) => {
            let refused = |group_id| DescribedStreamsGroup { group_id, group: Err(error.clone()) };
            group_ids.into_iter().map(refused).collect()
        }
    };
    let groups = described.into_iter().map(|described| {
        let asked = request.include_authorized_operations && described.group.is_ok();
        let authorized_operations = authorized::if_asked(asked, authorized::GROUP);
        DescribedGroup { authorized_operations, ..group(described) }
    });
    Ok(StreamsGroupDescribeResponse { groups: groups.collect(), ..Default::default() })
}

fn group(described: DescribedStreamsGroup) -> DescribedGroup {
    let (error_code, error_message) = outcome::code_and_message(&described.group);
    let group = DescribedGroup {
        group_id: described.group_id.to_string(),
        error_code,
        error_message: error_message.map(|text| text.to_string()),
        ..DescribedGroup::default()
    };
    match described.group {
        Ok(found) => with_description(group, found),
        Err(_) => group,
    }
}

fn with_description(group: DescribedGroup, found: StreamsGroupDescription) -> DescribedGroup {
    let topology = DescribedTopology {
        epoch: found.topology_epoch,
        subtopologies: Some(found.subtopologies.iter().map(subtopology).collect()),
        ..DescribedTopology::default()
    };
    DescribedGroup {
        group_state: found.state.to_owned(),
        group_epoch: found.epoch,
        assignment_epoch: found.target_epoch,
        topology: Some(topology),
        members: found.members.into_iter().map(member).collect(),
        ..group
    }
}

fn texts(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>) -> Vec<KeyValue> {
    let pair = |(key, value): (&Arc<str>, &Arc<str>)| KeyValue {
        key: key.to_string(),
        value: value.to_string(),
        ..KeyValue::default()
    };
    pairs.map(pair).collect()
}

fn subtopology(found: &SubtopologyDescription) -> DescribedSubtopology {
    let topics = |topics: &[InternalTopic]| -> Vec<TopicInfo> {
        let topic = |topic: &InternalTopic| TopicInfo {
            name: topic.name.to_string(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            topic_configs: pairs(topic.configs.iter()),
            ..TopicInfo::default()
        };
        topics.iter().map(topic).collect()
    };
    DescribedSubtopology {
        subtopology_id: found.id.to_string(),
        source_topics: texts(&found.source_topics),
        repartition_sink_topics: texts(&found.repartition_sink_topics),
        state_changelog_topics: topics(&found.changelog_topics),
        repartition_source_topics: topics(&found.repartition_source_topics),
        ..DescribedSubtopology::default()
    }
}

fn assignment(tasks: &Tasks) -> Assignment {
    Assignment {
        active_tasks: wire_tasks(&tasks.active),
        standby_tasks: wire_tasks(&tasks.standby),
        warmup_tasks: wire_tasks(&tasks.warmup),
        ..Assignment::default()
    }
}

fn member(member: StreamsMemberDescription) -> DescribedMember {
    let metadata = &member.metadata;
    DescribedMember {
        member_id: member.member_id.to_string(),
        member_epoch: member.member_epoch,
        instance_id: metadata.instance_id.as_ref().map(ToString::to_string),
        rack_id: metadata.rack_id.as_ref().map(ToString::to_string),
        client_id: metadata.client_id.to_string(),
        client_host: metadata.client_host.to_string(),
        topology_epoch: metadata.topology_epoch,
        process_id: metadata.process_id.to_string(),
        user_endpoint: metadata.user_endpoint.as_ref().map(wire_endpoint),
        client_tags: pairs(metadata.client_tags.iter()),
        assignment: assignment(&member.assignment),
        target_assignment: assignment(&member.target),
        ..DescribedMember::default()
    }
}
