//! How much may happen in which search, and what happened before.

use super::state::{Budget, Choice, Scene, Scope};
use crate::sim::quorum::mutants::Mutant;
use crate::types::NodeId;

const NOTHING: Budget = Budget {
    appends: 0,
    crashes: 0,
    ticks: 0,
    give_ups: 0,
    duplicates: 0,
    removals: 0,
    additions: 0,
    snapshots: 0,
    wipes: 0,
};

const ALL: Scene = Scene::Among(&[1, 2, 3]);
const APPEND: Scene = Scene::Do(Choice::Append(1));
const SNAPSHOT: Scene = Scene::Do(Choice::Snapshot(1));

const fn tick(id: NodeId) -> Scene {
    Scene::Do(Choice::Tick(id))
}

/// The first voter leads, and everybody follows.
const LEADS: &[Scene] = &[tick(1), ALL, tick(1), ALL];
/// It appends what nobody else gets.
const APPENDS_ALONE: &[Scene] = &[APPEND, Scene::Lose];
/// It appends what one other gets, and the third does not.
const APPENDS_FOR_ONE: &[Scene] = &[APPEND, Scene::Among(&[1, 3]), Scene::Lose];
/// The other two elect the second, while the first still believes that it leads.
const DEPOSED: &[Scene] = &[tick(3), Scene::Among(&[2, 3]), tick(2), Scene::Among(&[2, 3])];
/// The same, and nobody has heard of it yet.
const ELECTED: &[Scene] = &[tick(3), Scene::Lose, tick(2), Scene::Elected(2, &[2, 3])];
/// The first gives up, and is about to be elected anew.
const COMES_BACK: &[Scene] = &[tick(1), tick(1), tick(1), Scene::Lose, tick(2), Scene::Lose, tick(1)];
/// Two lose patience at the same time.
const TWO_ELECTIONS: &[Scene] = &[tick(3), tick(2)];
/// The leader hears of nobody, and gives up; whoever should hear of it does not.
const RESIGNS: &[Scene] = &[tick(1), tick(1), tick(1), Scene::Lose];
/// The log begins behind a snapshot, and the third node has nothing.
const WIPED: &[Scene] = &[
    APPEND,
    ALL,
    SNAPSHOT,
    APPEND,
    ALL,
    SNAPSHOT,
    Scene::Do(Choice::Crash(3, 0)),
    Scene::Do(Choice::Wipe(3)),
    Scene::Do(Choice::Start(3)),
];

/// Voters that know nothing.
const NEW: Scope = Scope {
    name: "a new quorum",
    nodes: 3,
    voters: 3,
    epochs: 3,
    stale: 1,
    scenes: &[],
    slow_disks: false,
    budget: NOTHING,
    mutant: None,
};
/// Voters that follow the first of them.
const LED: Scope = Scope { name: "a leader", scenes: &[LEADS], ..NEW };
/// The first two vote, the third only follows.
const OBSERVED: Scope = Scope { name: "an observer", voters: 2, ..LED };
const TWO_LEADERS: Scope = Scope { name: "two leaders", scenes: &[LEADS, APPENDS_ALONE, DEPOSED], ..NEW };
const ELECTIONS: Scope = Scope { name: "two elections at once", scenes: &[LEADS, TWO_ELECTIONS], ..NEW };
const LAGGING_ELECTIONS: Scope = Scope {
    name: "two elections at once, one voter behind",
    scenes: &[LEADS, APPENDS_FOR_ONE, TWO_ELECTIONS],
    ..NEW
};
/// Figure 8 of the Raft paper: a record of an old epoch that only its leader has.
const OLD_EPOCH: Scope =
    Scope { name: "a record of an old epoch", scenes: &[LEADS, APPENDS_ALONE, COMES_BACK], ..NEW };
const NEW_LEADER: Scope =
    Scope { name: "a leader nobody knows yet", scenes: &[LEADS, APPENDS_ALONE, ELECTED], ..NEW };
const RESIGNED: Scope = Scope { name: "a lost resignation", scenes: &[LEADS, RESIGNS], ..NEW };
const SNAPSHOTS: Scope = Scope { name: "a snapshot on its way", scenes: &[LEADS, WIPED], ..NEW };

/// All schedules of these are searched with the tests.
pub(super) const SMALL: &[Scope] = &[
    with(LED, Budget { appends: 1, ticks: 1, ..NOTHING }),
    with(Scope { slow_disks: true, ..LED }, Budget { appends: 2, ..NOTHING }),
    with(TWO_LEADERS, Budget { appends: 1, give_ups: 1, ..NOTHING }),
    with(TWO_LEADERS, Budget { duplicates: 1, ..NOTHING }),
    with(LED, Budget { removals: 1, ..NOTHING }),
    with(OBSERVED, Budget { additions: 1, ..NOTHING }),
    with(SNAPSHOTS, NOTHING),
    with(NEW_LEADER, NOTHING),
];

/// All schedules of these are searched with `make sim`.
pub(super) const LARGE: &[Scope] = &[
    with(NEW, Budget { ticks: 1, ..NOTHING }),
    with(LED, Budget { ticks: 2, ..NOTHING }),
    with(LED, Budget { appends: 1, ticks: 1, give_ups: 1, ..NOTHING }),
    with(LED, Budget { appends: 1, crashes: 1, ..NOTHING }),
    with(Scope { slow_disks: true, ..LED }, Budget { appends: 1, crashes: 1, ..NOTHING }),
    with(LED, Budget { removals: 1, ticks: 1, ..NOTHING }),
    with(OBSERVED, Budget { additions: 1, ticks: 1, ..NOTHING }),
    with(ELECTIONS, NOTHING),
    with(LAGGING_ELECTIONS, NOTHING),
    with(OLD_EPOCH, NOTHING),
    with(RESIGNED, Budget { ticks: 1, ..NOTHING }),
    with(SNAPSHOTS, Budget { ticks: 1, ..NOTHING }),
    with(TWO_LEADERS, Budget { crashes: 1, ..NOTHING }),
    with(TWO_LEADERS, Budget { ticks: 1, duplicates: 1, ..NOTHING }),
    with(TWO_LEADERS, Budget { appends: 2, ticks: 2, give_ups: 1, ..NOTHING }),
];

/// How much has to happen until a mistake is seen.
pub(super) fn of(mutant: Mutant) -> Scope {
    let scope = match mutant {
        Mutant::NoTruncation | Mutant::TruncatesCommitted => TWO_LEADERS,
        Mutant::VoteIgnoresLog => LAGGING_ELECTIONS,
        Mutant::FetchBeforeSync | Mutant::LeaderCountsUnflushed => {
            Scope { slow_disks: true, ..with(LED, Budget { appends: 1, ..NOTHING }) }
        }
        Mutant::DoubleVote | Mutant::CandidateGrants => ELECTIONS,
        Mutant::VoteNotPersisted => with(ELECTIONS, Budget { crashes: 1, ..NOTHING }),
        Mutant::PersistAfterAnswer => with(NEW, Budget { ticks: 1, ..NOTHING }),
        Mutant::CorrelationsIgnored => with(NEW_LEADER, Budget { duplicates: 1, ..NOTHING }),
        Mutant::WipedVoterVotes => with(ELECTIONS, Budget { wipes: 1, crashes: 1, ..NOTHING }),
        Mutant::SnapshotOfUncommitted => with(LED, Budget { appends: 1, snapshots: 1, ..NOTHING }),
        Mutant::CommitsOldEpoch => with(LED, Budget { appends: 1, ticks: 2, ..NOTHING }),
        Mutant::ObserverCounts => with(OBSERVED, Budget { appends: 1, ..NOTHING }),
        Mutant::ChangesVotersTwice => with(LED, Budget { removals: 2, ..NOTHING }),
        Mutant::PreVoteChangesEpoch => with(NEW, Budget { ticks: 1, ..NOTHING }),
    };
    Scope { mutant: Some(mutant), ..scope }
}

const fn with(scope: Scope, budget: Budget) -> Scope {
    Scope { budget, ..scope }
}
