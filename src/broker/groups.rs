//! What the group coordinator has to know: its configuration, the topic that it keeps its state in, and the topics and
//! configurations of the cluster, which it hears of from image to image.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{BrokerConfig, GroupConfig};
use crate::group::assignor::Assignor;
use crate::group::cluster::{ClusterView, GroupTimes, StreamsTimes, Topic};
use crate::group::command::DeletedTopic;
use crate::group::coordinator::GroupCoordinator;
use crate::group::settings::{GroupSettings, MigrationPolicy};
use crate::log::LogManager;
use crate::metadata::image::{ConfigResource, Delta, ResourceType, TopicImage};
use crate::metadata::{Image, ImageListener, Metadata};
use crate::shard::CoordinatorTopic;
use crate::types::{CONSUMER_OFFSETS_TOPIC, NodeId};

/// Opens the group coordinator, which follows the metadata from now on.
pub(super) fn open(
    metadata: &Metadata,
    logs: Arc<LogManager>,
    clock: Clock,
    config: &Arc<BrokerConfig>,
) -> Arc<GroupCoordinator> {
    let groups = GroupCoordinator::new(clock, logs, settings(config));
    let followed = Arc::new(Followed { groups: Arc::clone(&groups), config: Arc::clone(config) });
    let image = metadata.image();
    groups.set_cluster(Arc::new(followed.whole_view(&image)));
    metadata.listen(Arc::clone(&followed) as Arc<dyn ImageListener>);
    followed.lead(&image);
    groups
}

fn settings(config: &BrokerConfig) -> GroupSettings {
    let size = |limit: i32| usize::try_from(limit).unwrap_or(0);
    let defaults = GroupSettings::default();
    let assignors = config.group_consumer_assignors.iter().filter_map(|name| Assignor::by_name(name));
    GroupSettings {
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        min_session_timeout_ms: config.group_min_session_timeout_ms,
        max_session_timeout_ms: config.group_max_session_timeout_ms,
        max_size: size(config.group_max_size),
        write_timeout_ms: config.offsets_commit_timeout_ms.into(),
        offset_metadata_max_bytes: size(config.offset_metadata_max_bytes),
        offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
        producer_id_expiration_ms: config.producer_id_expiration_ms.into(),
        offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
        offsets_topic_partitions: config.offsets_topic_num_partitions,
        consumer_max_size: size(config.group_consumer_max_size),
        streams_max_size: size(config.group_streams_max_size),
        assignors: assignors.collect(),
        migration: MigrationPolicy::by_name(&config.group_consumer_migration_policy)
            .unwrap_or(defaults.migration),
        expression_refresh_interval_ms: config.group_consumer_regex_refresh_interval_ms.into(),
        share_max_size: size(config.group_share_max_size),
        share_initialize_retry_interval_ms: config.group_share_initialize_retry_interval_ms.into(),
    }
}

/// A coordinator's topic, and which of its partitions this broker leads.
pub(super) fn led(image: &Image, topic: &str, node_id: NodeId) -> Option<CoordinatorTopic> {
    let topic = image.topics.get(topic)?;
    let led = topic.partitions().filter(|(_, partition)| partition.leader == node_id);
    Some(CoordinatorTopic {
        id: topic.id,
        partition_count: topic.partition_count(),
        led: led.map(|(index, partition)| (index, partition.leader_epoch)).collect(),
    })
}

/// Tells the group coordinator what concerns it.
struct Followed {
    groups: Arc<GroupCoordinator>,
    config: Arc<BrokerConfig>,
}

impl Followed {
    fn lead(&self, image: &Image) {
        if let Some(offsets) = led(image, CONSUMER_OFFSETS_TOPIC, self.config.node_id) {
            self.groups.lead(&offsets);
        }
    }

    fn whole_view(&self, image: &Image) -> ClusterView {
        let mut view = ClusterView::empty();
        image.topics.iter().for_each(|topic| view.put(topic_of(image, topic)));
        view.version = image.offset;
        view.topics_version = image.offset;
        view.new_topics_version = image.offset;
        self.set_times(image, &mut view);
        view
    }

    fn set_times(&self, image: &Image, view: &mut ClusterView) {
        let config = self.broker_config(image);
        view.times = GroupTimes {
            session_timeout_ms: config.group_consumer_session_timeout_ms,
            heartbeat_interval_ms: config.group_consumer_heartbeat_interval_ms,
            assignment_interval_ms: config.group_consumer_assignment_interval_ms,
        };
        view.share_times = GroupTimes {
            session_timeout_ms: config.group_share_session_timeout_ms,
            heartbeat_interval_ms: config.group_share_heartbeat_interval_ms,
            assignment_interval_ms: config.group_share_assignment_interval_ms,
        };
        view.streams_times = StreamsTimes {
            session_timeout_ms: config.group_streams_session_timeout_ms,
            heartbeat_interval_ms: config.group_streams_heartbeat_interval_ms,
            assignment_interval_ms: config.group_streams_assignment_interval_ms,
            initial_rebalance_delay_ms: config.group_streams_initial_rebalance_delay_ms,
            standby_replicas: config.group_streams_num_standby_replicas,
        };
        for (resource, values) in image.configs().filter(|(resource, _)| resource.kind == ResourceType::Group)
        {
            set_group_times(view, &resource.name, Some(values), &config);
        }
    }

    fn broker_config(&self, image: &Image) -> BrokerConfig {
        let none = BTreeMap::new();
        let values = |resource| image.config(&resource).map_or_else(|| none.clone(), |set| (**set).clone());
        let own = values(ConfigResource::broker(self.config.node_id));
        // One that does not hold any more is told of where the broker takes it in.
        let dynamic = self.config.with_dynamic(&values(ConfigResource::cluster()), &own);
        dynamic.unwrap_or_else(|_| (*self.config).clone())
    }

    /// Takes the changes over into the view; whether there were any.
    fn change_view(&self, view: &mut ClusterView, old: &Image, new: &Image, delta: &Delta) -> bool {
        let mut changed = false;
        for topic in delta.deleted(old, new) {
            view.remove(topic.id);
            changed = true;
        }
        for topic in delta.changed(new) {
            let topic = topic_of(new, topic);
            if view.topic(&topic.name).is_none_or(|known| **known != topic) {
                view.put(topic);
                changed = true;
            }
        }
        if changed {
            view.topics_version = new.offset;
        }
        if delta.created(old, new).next().is_some() {
            view.new_topics_version = new.offset;
        }
        let of_group = |resource: &&ConfigResource| resource.kind == ResourceType::Group;
        for group in delta.configs().filter(of_group) {
            let values = new.config(group).map(|set| &**set);
            set_group_times(view, &group.name, values, &self.broker_config(new));
            changed = true;
        }
        if delta.broker_config() {
            self.set_times(new, view);
            changed = true;
        }
        view.version = new.offset;
        changed
    }
}

/// Gives a group the times that are set for it. It has those of all where none are, or where they do not hold any more.
fn set_group_times(
    view: &mut ClusterView,
    group_id: &Arc<str>,
    values: Option<&BTreeMap<String, String>>,
    config: &BrokerConfig,
) {
    let resolved = values.and_then(|values| match GroupConfig::resolve(values, config) {
        Ok(resolved) => Some(resolved),
        Err(error) => {
            tracing::warn!(group = &**group_id, %error, "the configuration of a group does not hold and is left out");
            None
        }
    });
    let consumer = resolved.as_ref().map(|resolved| GroupTimes {
        session_timeout_ms: resolved.consumer_session_timeout_ms,
        heartbeat_interval_ms: resolved.consumer_heartbeat_interval_ms,
        assignment_interval_ms: resolved.consumer_assignment_interval_ms,
    });
    let share = resolved.as_ref().map(|resolved| GroupTimes {
        session_timeout_ms: resolved.share_session_timeout_ms,
        heartbeat_interval_ms: resolved.share_heartbeat_interval_ms,
        assignment_interval_ms: resolved.share_assignment_interval_ms,
    });
    let streams = resolved.as_ref().map(|resolved| StreamsTimes {
        session_timeout_ms: resolved.streams_session_timeout_ms,
        heartbeat_interval_ms: resolved.streams_heartbeat_interval_ms,
        assignment_interval_ms: resolved.streams_assignment_interval_ms,
        initial_rebalance_delay_ms: resolved.streams_initial_rebalance_delay_ms,
        standby_replicas: resolved.streams_num_standby_replicas,
    });
    view.set_group_times(group_id, consumer);
    view.set_group_streams_times(group_id, streams);
    view.set_share_group_times(group_id, share);
}

fn topic_of(image: &Image, topic: &TopicImage) -> Topic {
    let racks: Vec<Vec<Arc<str>>> = topic
        .partitions()
        .map(|(_, partition)| {
            let brokers = partition.replicas.iter().filter_map(|id| image.brokers.get(id));
            brokers.filter_map(|broker| broker.rack.clone()).collect()
        })
        .collect();
    let known = Topic::new(Arc::clone(&topic.name), topic.id, topic.partition_count());
    if racks.iter().all(Vec::is_empty) { known } else { known.with_racks(racks) }
}

impl ImageListener for Followed {
    fn on_image(&self, old: &Image, new: &Arc<Image>, delta: &Delta) {
        if delta.changed(new).any(|topic| &*topic.name == CONSUMER_OFFSETS_TOPIC) {
            self.lead(new);
        }
        let deleted: Vec<_> = delta.deleted(old, new).collect();
        if deleted.iter().any(|topic| &*topic.name == CONSUMER_OFFSETS_TOPIC) {
            self.groups.resign();
        }
        let deleted: Vec<_> = deleted
            .into_iter()
            .map(|topic| DeletedTopic { topic: Arc::clone(&topic.name), topic_id: topic.id })
            .collect();
        let mut view = (*self.groups.cluster()).clone();
        let changed = self.change_view(&mut view, old, new, delta);
        if changed {
            self.groups.set_cluster(Arc::new(view));
        }
        if changed || !deleted.is_empty() {
            let groups = Arc::clone(&self.groups);
            tokio::spawn(async move {
                groups.tell_cluster().await;
                if !deleted.is_empty() {
                    groups.topics_deleted(deleted).await;
                }
            });
        }
    }
}
