//! A topology with the topics that it finds: how many tasks its subtopologies have, and which internal topics are still
//! to be created with how many partitions (`InternalTopicManager`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::java::{BUCKETS, hash, hash_order};
use super::topology::{CopartitionGroup, Subtopology, TopicInfo, Topology};
use crate::error::{ApiError, ErrorCode};
use crate::group::cluster::ClusterView;

/// How many topics a sentence names.
const NAMED_TOPICS_MAX: usize = 3;

/// What members are told about their group (`StreamsGroupHeartbeatResponse.Status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusCode {
    /// The member's topology is older than the group's.
    StaleTopology,
    MissingSourceTopics,
    /// Topics that have to have as many partitions as one another do not.
    IncorrectlyPartitionedTopics,
    MissingInternalTopics,
    /// A member asks the whole application to shut down.
    ShutdownApplication,
    /// The group has an epoch without a target assignment, which is to follow.
    AssignmentDelayed,
}

impl StatusCode {
    /// The number on the wire.
    pub fn id(self) -> i8 {
        match self {
            Self::StaleTopology => 0,
            Self::MissingSourceTopics => 1,
            Self::IncorrectlyPartitionedTopics => 2,
            Self::MissingInternalTopics => 3,
            Self::ShutdownApplication => 4,
            Self::AssignmentDelayed => 5,
        }
    }
}

/// A status with its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: StatusCode,
    pub detail: String,
}

/// A topology with the topics that it finds (`ConfiguredTopology`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredTopology {
    pub epoch: i32,
    /// By id; `None` where source topics are missing or have the wrong number of partitions.
    pub subtopologies: Option<BTreeMap<Arc<str>, ConfiguredSubtopology>>,
    /// Internal topics that are to be created.
    pub missing: Vec<InternalTopic>,
    /// Why there can be no tasks yet.
    pub problem: Option<Status>,
}

/// A subtopology with its tasks (`ConfiguredSubtopology`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredSubtopology {
    pub tasks: i32,
    pub source_topics: BTreeSet<Arc<str>>,
    pub repartition_sink_topics: BTreeSet<Arc<str>>,
    /// By name.
    pub repartition_source_topics: BTreeMap<Arc<str>, InternalTopic>,
    /// By name.
    pub changelog_topics: BTreeMap<Arc<str>, InternalTopic>,
}

/// An internal topic with the number of its partitions (`ConfiguredInternalTopic`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTopic {
    pub name: Arc<str>,
    pub partitions: i32,
    /// 0 for the broker's default.
    pub replication_factor: i16,
    pub configs: BTreeMap<Arc<str>, Arc<str>>,
}

impl ConfiguredTopology {
    /// Its subtopologies, where all topics are there as they should be.
    pub fn ready(&self) -> Option<&BTreeMap<Arc<str>, ConfiguredSubtopology>> {
        self.subtopologies.as_ref().filter(|_| self.problem.is_none())
    }

    /// Looks at the topics that a topology needs.
    ///
    /// # Errors
    /// `STREAMS_INVALID_TOPOLOGY` where no topics could make it work.
    pub fn of(topology: &Topology, cluster: &ClusterView) -> Result<Self, ApiError> {
        match configure(topology, cluster) {
            Ok(configured) => Ok(configured),
            Err(Failure::Invalid(message)) => Err(ApiError::with(ErrorCode::StreamsInvalidTopology, message)),
            Err(Failure::Topics(problem)) => Ok(Self {
                epoch: topology.epoch,
                subtopologies: None,
                missing: Vec::new(),
                problem: Some(problem),
            }),
        }
    }
}

/// Why a topology has no tasks.
enum Failure {
    /// Other topics would make it work.
    Topics(Status),
    Invalid(String),
}

fn incorrectly_partitioned<T>(detail: String) -> Result<T, Failure> {
    Err(Failure::Topics(Status { code: StatusCode::IncorrectlyPartitionedTopics, detail }))
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Invalid(message.into()))
}

/// A sentence names a few topics only.
fn summary<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> String {
    let names: Vec<&str> = names.map(|name| &**name).collect();
    let shown = names.iter().take(NAMED_TOPICS_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_TOPICS_MAX) {
        0 => shown,
        others => format!("{shown} and {others} additional topics"),
    }
}

fn configure(topology: &Topology, cluster: &ClusterView) -> Result<ConfiguredTopology, Failure> {
    let sources = topology.subtopologies.values().flat_map(|subtopology| &subtopology.source_topics);
    let missing: BTreeSet<&Arc<str>> = sources.filter(|name| cluster.topic(name).is_none()).collect();
    if !missing.is_empty() {
        let detail = format!("Source topics {} are missing.", summary(missing.into_iter()));
        return Err(Failure::Topics(Status { code: StatusCode::MissingSourceTopics, detail }));
    }
    let mut counts = PartitionCounts { cluster, decided: BTreeMap::new() };
    let ordered = hash_order(topology.subtopologies.iter().collect(), BUCKETS, |(id, _)| hash(id));
    counts.decided = repartition_counts(&ordered, &counts)?;
    counts.enforce_copartitioning(&ordered)?;
    counts.decide_changelogs(&ordered)?;
    let configured = |(id, subtopology): (&Arc<str>, &Subtopology)| {
        counts.configured(subtopology).map(|configured| (id.clone(), configured))
    };
    let subtopologies: BTreeMap<_, _> =
        topology.subtopologies.iter().map(configured).collect::<Result<_, _>>()?;
    let missing = missing_internal_topics(&subtopologies, topology, cluster)?;
    let detail =
        || format!("Internal topics are missing: {}", summary(missing.iter().map(|topic| &topic.name)));
    let problem =
        (!missing.is_empty()).then(|| Status { code: StatusCode::MissingInternalTopics, detail: detail() });
    Ok(ConfiguredTopology { epoch: topology.epoch, subtopologies: Some(subtopologies), missing, problem })
}

/// Which internal topics there are not; those that there are have the right number of partitions.
fn missing_internal_topics(
    subtopologies: &BTreeMap<Arc<str>, ConfiguredSubtopology>,
    topology: &Topology,
    cluster: &ClusterView,
) -> Result<Vec<InternalTopic>, Failure> {
    let mut missing = BTreeMap::new();
    for subtopology in subtopologies.values() {
        let internal = subtopology.repartition_source_topics.iter().chain(&subtopology.changelog_topics);
        missing.extend(internal);
    }
    for name in topology.required_topics() {
        let Some(found) = cluster.topic(name) else { continue };
        if let Some(expected) = missing.remove(name)
            && found.partitions != expected.partitions
        {
            return incorrectly_partitioned(format!(
                "Existing topic {name} has different number of partitions: expected {}, found {}",
                expected.partitions, found.partitions
            ));
        }
    }
    Ok(hash_order(missing.into_values().cloned().collect(), BUCKETS, |topic| hash(&topic.name)))
}

/// How many partitions the repartition topics that nobody gives a number to have: as many as the largest source topic
/// of who writes to them (`RepartitionTopics`).
fn repartition_counts(
    subtopologies: &[(&Arc<str>, &Subtopology)],
    known: &PartitionCounts<'_>,
) -> Result<BTreeMap<Arc<str>, i32>, Failure> {
    let all = || subtopologies.iter().map(|(_, subtopology)| *subtopology);
    let fixed = all().flat_map(|subtopology| &subtopology.repartition_source_topics);
    let fixed = fixed.filter(|topic| topic.partitions != 0);
    let mut counts: BTreeMap<Arc<str>, i32> =
        fixed.map(|topic| (topic.name.clone(), topic.partitions)).collect();
    loop {
        let (mut some_left, mut some_found) = (false, false);
        for subtopology in all() {
            for sink in &subtopology.repartition_sink_topics {
                if counts.contains_key(sink) {
                    continue;
                }
                let internal = &subtopology.repartition_source_topics;
                let internal = internal.iter().filter_map(|topic| counts.get(&topic.name).copied());
                let external = subtopology.source_topics.iter().filter_map(|name| known.of(name));
                if let Some(count) = internal.chain(external).max() {
                    counts.insert(sink.clone(), count);
                    some_found = true;
                } else {
                    some_left = true;
                }
            }
        }
        if !some_left {
            break;
        }
        if !some_found {
            return invalid(
                "The number of partitions of repartition topics can not be computed: there may be loops in the topology.",
            );
        }
    }
    if all()
        .flat_map(|subtopology| &subtopology.repartition_source_topics)
        .any(|t| !counts.contains_key(&t.name))
    {
        return invalid("A repartition topic is read and nobody writes to it.");
    }
    Ok(counts)
}

/// The numbers of partitions of topics that there are or are to be.
struct PartitionCounts<'a> {
    cluster: &'a ClusterView,
    decided: BTreeMap<Arc<str>, i32>,
}

impl PartitionCounts<'_> {
    fn of(&self, name: &str) -> Option<i32> {
        let found = self.cluster.topic(name).map(|topic| topic.partitions);
        found.or_else(|| self.decided.get(name).copied())
    }

    fn known(&self, name: &str) -> Result<i32, Failure> {
        self.of(name).map_or_else(|| invalid(format!("The number of partitions of {name} is not known.")), Ok)
    }

    /// Gives the repartition topics of a copartition group one number of partitions (`CopartitionedTopicsEnforcer`).
    fn enforce_copartitioning(&mut self, subtopologies: &[(&Arc<str>, &Subtopology)]) -> Result<(), Failure> {
        let internal =
            || subtopologies.iter().flat_map(|(_, subtopology)| &subtopology.repartition_source_topics);
        let names = |is_fixed: bool| -> BTreeSet<&Arc<str>> {
            internal().filter(|t| (t.partitions != 0) == is_fixed).map(|topic| &topic.name).collect()
        };
        let (fixed, flexible) = (names(true), names(false));
        for (_, subtopology) in subtopologies {
            for group in &subtopology.copartition_groups {
                let topics = topics_of(subtopology, group)?;
                self.enforce(&topics, &fixed, &flexible)?;
            }
        }
        Ok(())
    }

    fn enforce(
        &mut self,
        topics: &BTreeSet<&Arc<str>>,
        fixed: &BTreeSet<&Arc<str>>,
        flexible: &BTreeSet<&Arc<str>>,
    ) -> Result<(), Failure> {
        if topics.is_empty() {
            return Ok(());
        }
        let (internal, external): (BTreeSet<&Arc<str>>, BTreeSet<&Arc<str>>) =
            topics.iter().partition(|name| fixed.contains(*name) || flexible.contains(*name));
        let count = |name: &&Arc<str>| self.known(name).map(|count| ((*name).clone(), count));
        let internal: BTreeMap<Arc<str>, i32> = internal.iter().map(count).collect::<Result<_, _>>()?;
        let external: BTreeMap<Arc<str>, i32> = external.iter().map(count).collect::<Result<_, _>>()?;
        let decided = if !external.is_empty() {
            same_count(&external, external.values().copied())?
        } else if fixed.is_empty() {
            internal.values().copied().max().filter(|count| *count > 0)
        } else {
            let fixed = fixed.iter().map(|name| self.known(name)).collect::<Result<Vec<i32>, _>>()?;
            same_count(&internal, fixed.into_iter())?
        };
        let Some(decided) = decided else { return Ok(()) };
        for (name, count) in internal {
            if fixed.contains(&name) && count != decided {
                return incorrectly_partitioned(format!(
                    "Number of partitions [{count}] of repartition topic [{name}] doesn't match number of partitions \
                     [{decided}] of the source topic."
                ));
            }
            self.decided.insert(name, decided);
        }
        Ok(())
    }

    /// A changelog topic has as many partitions as its subtopology has tasks (`ChangelogTopics`).
    fn decide_changelogs(&mut self, subtopologies: &[(&Arc<str>, &Subtopology)]) -> Result<(), Failure> {
        let mut decided = Vec::new();
        for (id, subtopology) in subtopologies {
            let Some(count) = self.largest_source(subtopology)? else {
                return invalid(format!("No source topics found for subtopology {id}"));
            };
            decided.extend(subtopology.changelog_topics.iter().map(|topic| (topic.name.clone(), count)));
        }
        self.decided.extend(decided);
        Ok(())
    }

    fn largest_source(&self, subtopology: &Subtopology) -> Result<Option<i32>, Failure> {
        let counts = subtopology.all_source_topics().map(|name| self.known(name));
        Ok(counts.collect::<Result<Vec<i32>, _>>()?.into_iter().max())
    }

    fn configured(&self, subtopology: &Subtopology) -> Result<ConfiguredSubtopology, Failure> {
        let names = |names: &[Arc<str>]| names.iter().cloned().collect();
        Ok(ConfiguredSubtopology {
            tasks: self.largest_source(subtopology)?.unwrap_or(0),
            source_topics: names(&subtopology.source_topics),
            repartition_sink_topics: names(&subtopology.repartition_sink_topics),
            repartition_source_topics: self.internal_topics(&subtopology.repartition_source_topics)?,
            changelog_topics: self.internal_topics(&subtopology.changelog_topics)?,
        })
    }

    fn internal_topics(&self, topics: &[TopicInfo]) -> Result<BTreeMap<Arc<str>, InternalTopic>, Failure> {
        let internal = |topic: &TopicInfo| {
            let decided = match topic.partitions {
                0 => self.decided.get(&topic.name).copied(),
                fixed => Some(fixed),
            };
            let Some(partitions) = decided.filter(|count| *count > 0) else {
                return invalid(format!("The number of partitions of {} is not known.", topic.name));
            };
            let internal = InternalTopic {
                name: topic.name.clone(),
                partitions,
                replication_factor: topic.replication_factor,
                configs: topic.configs.iter().cloned().collect(),
            };
            Ok((topic.name.clone(), internal))
        };
        topics.iter().map(internal).collect()
    }
}

/// The one number of partitions; what is named where there are several.
fn same_count(
    named: &BTreeMap<Arc<str>, i32>,
    mut counts: impl Iterator<Item = i32>,
) -> Result<Option<i32>, Failure> {
    let first = counts.next();
    if counts.all(|count| Some(count) == first) {
        return Ok(first);
    }
    let named: Vec<String> = named.iter().map(|(name, count)| format!("{name}={count}")).collect();
    incorrectly_partitioned(format!(
        "Following topics do not have the same number of partitions: [{{{}}}]",
        named.join(", ")
    ))
}

fn topics_of<'a>(
    subtopology: &'a Subtopology,
    group: &CopartitionGroup,
) -> Result<BTreeSet<&'a Arc<str>>, Failure> {
    let place = |index: &i16| usize::try_from(*index).unwrap_or(usize::MAX);
    let external = group.source_topics.iter().map(|index| subtopology.source_topics.get(place(index)));
    let internal = group.repartition_source_topics.iter();
    let internal = internal
        .map(|index| subtopology.repartition_source_topics.get(place(index)).map(|topic| &topic.name));
    let topics: Option<BTreeSet<&Arc<str>>> = external.chain(internal).collect();
    topics
        .map_or_else(|| invalid("A copartition group names a topic that its subtopology does not have."), Ok)
}
