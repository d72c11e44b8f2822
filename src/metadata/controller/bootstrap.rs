//! At which levels the features of a new cluster stand (`MetadataVersion`, `Feature`, `Formatter`,
//! `BootstrapMetadata`).

use std::collections::BTreeMap;

use super::configs::min_isr_of_cluster;
use super::features::{
    ELR_SINCE, ELR_VERSION, GROUP_VERSION, METADATA_VERSION_LATEST, METADATA_VERSION_MIN, SHARE_VERSION,
    STREAMS_VERSION, level_record, supported,
};
use crate::metadata::image::{KRAFT_VERSION, METADATA_VERSION, TRANSACTION_VERSION};
use crate::metadata::record::{BeginTransactionRecord, EndTransactionRecord, Record};

/// Features by their names.
pub type FeatureLevels = BTreeMap<String, i16>;

/// The `metadata.version` (3.6-IV1) from which on records can stand in transactions.
const TRANSACTIONS_SINCE: i16 = 13;

/// The releases from 3.3-IV3 on, which is `metadata.version` 7, in their order: each with the number of its last step.
const RELEASES: [(&str, std::ops::RangeInclusive<u8>); 11] = [
    ("3.3", 3..=3),
    ("3.4", 0..=0),
    ("3.5", 0..=2),
    ("3.6", 0..=2),
    ("3.7", 0..=4),
    ("3.8", 0..=0),
    ("3.9", 0..=0),
    ("4.0", 0..=3),
    ("4.1", 0..=1),
    ("4.2", 0..=1),
    ("4.3", 0..=0),
];

/// From which `metadata.version` on new clusters have which level of a feature.
const DEFAULTS: [(&str, i16, i16); 5] = [
    (ELR_VERSION, 26, 1),
    (GROUP_VERSION, 22, 1),
    (SHARE_VERSION, 28, 1),
    (STREAMS_VERSION, 29, 1),
    (TRANSACTION_VERSION, 24, 2),
];

/// What a new cluster is to begin with, as whoever formats a directory says it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// `--release-version`.
    pub release: Option<&'a str>,
    /// `--feature`, each `name=level`.
    pub features: &'a [String],
    /// Whether the voters can change: `controller.quorum.voters` is empty.
    pub has_dynamic_quorum: bool,
}

/// Every step of every release with its `metadata.version`.
fn steps() -> impl Iterator<Item = (&'static str, u8, i16)> {
    let steps = RELEASES.into_iter().flat_map(|(release, steps)| steps.map(move |step| (release, step)));
    steps.zip(METADATA_VERSION_MIN..).map(|((release, step), level)| (release, step, level))
}

/// The name of a `metadata.version`: 4.3-IV0.
pub fn release_of(metadata_version: i16) -> Option<String> {
    let (release, step, _) = steps().find(|(_, _, level)| *level == metadata_version)?;
    Some(format!("{release}-IV{step}"))
}

/// The `metadata.version` of 4.3, 4.3.1 or 4.3-IV0; a release without a step means its last one.
fn metadata_version(text: &str) -> Option<i16> {
    let mut parts = text.splitn(3, '.');
    let wanted = match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => format!("{major}.{minor}"),
        _ => text.to_owned(),
    };
    let is_wanted = |release: &str, step: u8| wanted == release || wanted == format!("{release}-IV{step}");
    steps().filter(|(release, step, _)| is_wanted(release, *step)).map(|(_, _, level)| level).last()
}

/// The features of a cluster that begins at this `metadata.version`.
fn defaults(metadata_version: i16) -> FeatureLevels {
    let level = |since, level| if metadata_version >= since { level } else { 0 };
    let mut levels: FeatureLevels =
        DEFAULTS.into_iter().map(|(name, since, at)| (name.to_owned(), level(since, at))).collect();
    levels.insert(METADATA_VERSION.to_owned(), metadata_version);
    levels
}

/// The features of a cluster that nobody said anything else of.
pub fn latest() -> FeatureLevels {
    defaults(METADATA_VERSION_LATEST)
}

/// The features that a new cluster begins with.
///
/// # Errors
/// One sentence that says what does not fit together.
pub fn levels(wishes: Wishes<'_>) -> Result<FeatureLevels, String> {
    let mut wanted = FeatureLevels::new();
    for text in wishes.features {
        let pair =
            text.split_once('=').and_then(|(name, level)| Some((name.trim(), level.trim().parse().ok()?)));
        let (name, level) =
            pair.ok_or_else(|| format!("--feature {text}: write NAME=LEVEL, as in {METADATA_VERSION}=30"))?;
        wanted.insert(name.to_owned(), level);
    }
    let version = match (wishes.release, wanted.get(METADATA_VERSION)) {
        (Some(_), Some(_)) => {
            return Err(format!(
                "--release-version and --feature {METADATA_VERSION} say the same: give one of them"
            ));
        }
        (Some(release), None) => metadata_version(release).ok_or_else(|| unknown_release(release))?,
        (None, Some(level)) if release_of(*level).is_some() => *level,
        (None, Some(level)) => return Err(unknown_release(&level.to_string())),
        (None, None) => METADATA_VERSION_LATEST,
    };
    let mut levels = defaults(version);
    for (name, level) in wanted {
        let ranges = supported();
        let Some(range) = ranges.iter().find(|range| *range.name == *name) else {
            let names: Vec<&str> = ranges.iter().map(|range| &*range.name).collect();
            return Err(format!("there is no feature {name}; the features are {}", names.join(", ")));
        };
        if !(range.min..=range.max).contains(&level) {
            return Err(format!("{name} has the levels {} to {}, not {level}", range.min, range.max));
        }
        levels.insert(name, level);
    }
    if let Some(level) = levels.remove(KRAFT_VERSION) {
        check_kraft_version(level, wishes.has_dynamic_quorum)?;
    }
    if levels.get(ELR_VERSION).is_some_and(|level| *level > 0) && version < ELR_SINCE {
        return Err(format!("{ELR_VERSION} 1 needs {METADATA_VERSION} {ELR_SINCE} at least, not {version}"));
    }
    Ok(levels)
}

fn unknown_release(text: &str) -> String {
    let first = release_of(METADATA_VERSION_MIN).unwrap_or_default();
    let last = release_of(METADATA_VERSION_LATEST).unwrap_or_default();
    format!(
        "there is no {METADATA_VERSION} {text}: it goes from {first} ({METADATA_VERSION_MIN}) to {last} ({METADATA_VERSION_LATEST})"
    )
}

/// The level of `kraft.version` follows from where the voters stand.
fn check_kraft_version(level: i16, has_dynamic_quorum: bool) -> Result<(), String> {
    match (level, has_dynamic_quorum) {
        (0, true) => Err(format!(
            "{KRAFT_VERSION} 0 needs controller.quorum.voters: without it the voters stand in the log, which is level 1"
        )),
        (1.., false) => Err(format!(
            "{KRAFT_VERSION} {level} has the voters in the log: remove controller.quorum.voters, and say --standalone, --initial-controllers or --no-initial-controllers"
        )),
        _ => Ok(()),
    }
}

/// The records that make a cluster with these features, whose topics have this `min.insync.replicas`; without the latter
/// there are no eligible leader replicas (`ActivationRecordsGenerator.recordsForEmptyLog`).
pub(super) fn records(levels: &FeatureLevels, min_isr: i32) -> Vec<Record> {
    let version = levels.get(METADATA_VERSION).copied().unwrap_or(METADATA_VERSION_LATEST);
    let others = levels.iter().filter(|(name, level)| *name != METADATA_VERSION && **level > 0);
    let mut records = vec![level_record(METADATA_VERSION, version)];
    records.extend(others.map(|(name, level)| level_record(name, *level)));
    if levels.get(ELR_VERSION).is_some_and(|level| *level > 0) {
        records.push(min_isr_of_cluster(min_isr).into());
    }
    if version >= TRANSACTIONS_SINCE {
        let name = Some("Bootstrap records".to_owned());
        records.insert(0, BeginTransactionRecord { name, ..BeginTransactionRecord::default() }.into());
        records.push(EndTransactionRecord::default().into());
    }
    records
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    fn text(levels: &FeatureLevels) -> String {
        levels.iter().map(|(name, level)| format!("{name}={level} ")).collect()
    }

    /// What `kafka-storage.sh version-mapping --release-version` of Kafka 4.3.1 says.
    #[test]
    fn releases_have_kafkas_features() {
        for (release, version, [elr, group, share, streams, transaction]) in [
            ("3.3-IV3", 7, [0, 0, 0, 0, 0]),
            ("3.6", 14, [0, 0, 0, 0, 0]),
            ("3.7-IV2", 17, [0, 0, 0, 0, 0]),
            ("3.9.1", 21, [0, 0, 0, 0, 0]),
            ("4.0-IV0", 22, [0, 1, 0, 0, 0]),
            ("4.0", 25, [0, 1, 0, 0, 2]),
            ("4.1", 27, [1, 1, 0, 0, 2]),
            ("4.2-IV0", 28, [1, 1, 1, 0, 2]),
            ("4.2", 29, [1, 1, 1, 1, 2]),
            ("4.3.1", 30, [1, 1, 1, 1, 2]),
        ] {
            let levels = levels(Wishes { release: Some(release), ..Wishes::default() }).unwrap();
            let expected = format!(
                "{ELR_VERSION}={elr} {GROUP_VERSION}={group} {METADATA_VERSION}={version} \
                 {SHARE_VERSION}={share} {STREAMS_VERSION}={streams} {TRANSACTION_VERSION}={transaction} "
            );
            assert_eq!(text(&levels), expected, "{release}");
        }
        assert_eq!(release_of(30).as_deref(), Some("4.3-IV0"));
        assert_eq!(release_of(31), None);
        assert_eq!(levels(Wishes::default()), Ok(latest()));
    }

    #[test]
    fn features_are_taken_as_kafkas_tool_takes_them() {
        let levels = |release, features: &[&str], has_dynamic_quorum| {
            let features: Vec<String> = features.iter().map(|text| (*text).to_owned()).collect();
            levels(Wishes { release, features: &features, has_dynamic_quorum })
        };
        let chosen = levels(None, &["metadata.version=23", " group.version = 0 ", "kraft.version=1"], true);
        assert_eq!(chosen.unwrap().get(GROUP_VERSION), Some(&0));
        let early = levels(Some("4.0"), &["eligible.leader.replicas.version=1"], true).unwrap();
        assert_eq!((early[ELR_VERSION], early[METADATA_VERSION]), (1, 25));
        assert!(levels(None, &["kraft.version=0"], false).is_ok());
        for (release, features, has_dynamic_quorum, why) in [
            (Some("9.9"), &[][..], true, "no metadata.version 9.9"),
            (Some("4"), &[], true, "no metadata.version 4"),
            (None, &["metadata.version=6"], true, "no metadata.version 6"),
            (Some("4.3"), &["metadata.version=30"], true, "give one of them"),
            (None, &["group.version"], true, "write NAME=LEVEL"),
            (None, &["group.version=x"], true, "write NAME=LEVEL"),
            (None, &["group.version=2"], true, "the levels 0 to 1"),
            (None, &["unit.test=1"], true, "no feature unit.test"),
            (None, &["kraft.version=0"], true, "needs controller.quorum.voters"),
            (None, &["kraft.version=1"], false, "remove controller.quorum.voters"),
            (Some("3.9"), &["eligible.leader.replicas.version=1"], true, "needs metadata.version 23"),
        ] {
            let refused = levels(release, features, has_dynamic_quorum).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn old_versions_have_no_transactions_and_no_bound_for_the_cluster() {
        let kinds = |release| {
            let levels = levels(Wishes { release: Some(release), ..Wishes::default() }).unwrap();
            records(&levels, 1).iter().map(Record::kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds("3.5"), [12]);
        assert_eq!(kinds("3.9"), [23, 12, 24]);
        assert_eq!(kinds("4.0"), [23, 12, 12, 12, 24]);
        assert_eq!(kinds("4.1"), [23, 12, 12, 12, 12, 4, 24]);
    }
}
