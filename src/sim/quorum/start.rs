//! How a node starts with what is on its disk.

use super::nodes::{LISTENER, Node, Settings, directory};
use crate::quorum::Voters;
use crate::quorum::core::history::LogView;
use crate::quorum::core::message::Action;
use crate::quorum::core::{Config, InitialVoters, QuorumCore, Remembered};
use crate::types::NodeId;

/// The core of a node and what it does first.
pub(super) fn core(
    node: &Node,
    bootstrap: &Voters,
    settings: &Settings,
    others: Vec<(String, u16)>,
    now_ms: i64,
    seed: u64,
) -> (QuorumCore, Vec<Action>) {
    let kept = node.disk.live();
    let initial_voters = if settings.fixed {
        let address = |id: &NodeId| (*id, format!("n{id}"), 1);
        InitialVoters::Fixed(Voters::fixed(LISTENER, bootstrap.0.keys().map(address)))
    } else if node.directory_id == directory(node.id, 0) && bootstrap.contains(node.key()) {
        InitialVoters::Formatted(bootstrap.clone())
    } else {
        InitialVoters::Unknown
    };
    let config = Config {
        local: node.voter(),
        can_vote: true,
        auto_join: false,
        listener: LISTENER.to_owned(),
        bootstrap: others,
        initial_voters,
        timing: settings.timing.clone(),
        seed,
    };
    let log = LogView {
        start: kept.log.start(),
        end: kept.log.end(),
        epochs: kept.log.epochs(),
        snapshots: kept.snapshots.iter().map(|snapshot| snapshot.id).collect(),
    };
    let newest = kept.first_snapshot().map(|snapshot| (snapshot.id, snapshot.contents.clone()));
    let remembered =
        Remembered { election: kept.election.clone(), log, snapshot: newest, control: kept.control() };
    QuorumCore::start(config, remembered, now_ms)
}
