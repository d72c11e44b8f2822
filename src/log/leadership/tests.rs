//! The leader's state in tables, and against a controller and followers that do whatever they may.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::properties;

const LAG_MS: i64 = 30_000;
const NOW_MS: i64 = 1_000_000;

fn brokers(ids: &[NodeId]) -> Brokers {
    let standing = |id: &NodeId| BrokerStanding {
        epoch: 100 + i64::from(*id),
        is_fenced: false,
        is_shutting_down: false,
    };
    Brokers(ids.iter().map(|id| (*id, standing(id))).collect())
}

fn terms(brokers: &Brokers, now_ms: i64, min_insync_replicas: i32) -> Terms<'_> {
    Terms { now_ms, lag_time_max_ms: LAG_MS, min_insync_replicas, brokers }
}

fn leading(isr: &[NodeId]) -> Leading {
    Leading {
        node_id: 1,
        leader_epoch: 5,
        partition_epoch: 9,
        replicas: vec![1, 2, 3],
        isr: isr.to_vec(),
        adding: Vec::new(),
    }
}

fn fetch(replica: NodeId, offset: Offset, leader_end: Offset) -> FollowerFetch {
    FollowerFetch { replica, broker_epoch: 100 + i64::from(replica), offset, log_start: 0, leader_end }
}

fn ids(proposal: &IsrProposal) -> Vec<NodeId> {
    proposal.isr.iter().map(|member| member.id).collect()
}

#[test]
fn the_high_watermark_follows_the_slowest_in_sync() {
    let brokers = brokers(&[1, 2, 3]);
    let terms = terms(&brokers, NOW_MS, 2);
    let mut leader = Leadership::begin(None, leading(&[1, 2, 3]), 10, NOW_MS);
    assert_eq!(leader.high_watermark(10, &terms), Some(-1), "nobody has told yet how far it is");
    assert_eq!(leader.fetched(&fetch(2, 10, 10), 0, &terms), Ok(false));
    assert_eq!(leader.fetched(&fetch(3, 7, 10), 0, &terms), Ok(false));
    assert_eq!(leader.high_watermark(10, &terms), Some(7));
    leader.fetched(&fetch(3, 12, 12), 0, &terms).unwrap();
    assert_eq!(leader.high_watermark(12, &terms), Some(10));
    assert_eq!(Leadership::alone().high_watermark(12, &terms), Some(12));
}

/// Another partition of the topic changed: the image says again what this one is.
#[test]
fn what_is_said_again_forgets_nobody_who_was_asked_in() {
    let brokers = brokers(&[1, 2, 3]);
    let terms = terms(&brokers, NOW_MS, 2);
    let mut leader = Leadership::begin(None, leading(&[1, 2]), 10, NOW_MS);
    leader.fetched(&fetch(2, 12, 12), 10, &terms).unwrap();
    assert_eq!(leader.fetched(&fetch(3, 10, 12), 10, &terms), Ok(true));
    let proposal = leader.proposal(10, 12, &terms).unwrap();
    let before = leader.clone();
    let mut leader = Leadership::begin(Some(leader), leading(&[1, 2]), 12, NOW_MS + 5);
    assert_eq!(leader, before);
    let accepted = IsrAccepted { leader_epoch: 5, partition_epoch: 10, isr: vec![1, 2, 3] };
    assert_eq!(leader.answered(&proposal, Ok(accepted)), IsrOutcome::Changed);
    assert_eq!(leader.isr(), [1, 2, 3]);
}

#[test]
fn under_min_isr_nothing_is_committed() {
    let brokers = brokers(&[1, 2, 3]);
    let mut leader = Leadership::begin(None, leading(&[1]), 10, NOW_MS);
    assert!(leader.is_under_min_isr(2) && !leader.has_enough_replicas(2));
    assert_eq!(leader.high_watermark(10, &terms(&brokers, NOW_MS, 2)), None);
    assert_eq!(leader.high_watermark(10, &terms(&brokers, NOW_MS, 1)), Some(10));
    assert_eq!(leader.min_isr(7), 3, "no more are asked for than there are replicas");
    // One that is about to join counts for what is committed, not for what is taken.
    let now = terms(&brokers, NOW_MS, 2);
    assert_eq!(leader.fetched(&fetch(2, 10, 10), 10, &now), Ok(true));
    assert!(leader.proposal(10, 10, &now).is_some());
    assert!(leader.is_under_min_isr(2) && leader.has_enough_replicas(2));
}

#[test]
fn a_follower_joins_once_it_has_what_is_committed_and_the_epoch_began_with() {
    let brokers = brokers(&[1, 2, 3]);
    let now = terms(&brokers, NOW_MS, 1);
    let mut leader = Leadership::begin(None, leading(&[1]), 10, NOW_MS);
    assert_eq!(leader.fetched(&fetch(2, 9, 20), 5, &now), Ok(false), "the epoch began at 10");
    assert_eq!(leader.fetched(&fetch(2, 12, 20), 15, &now), Ok(false), "15 are committed");
    assert_eq!(leader.fetched(&fetch(2, 15, 20), 15, &now), Ok(true));
    assert_eq!(leader.fetched(&fetch(3, 16, 20), 15, &now), Ok(true));
    let proposal = leader.proposal(15, 20, &now).unwrap();
    assert_eq!((ids(&proposal), proposal.is_expansion), (vec![1, 2, 3], true));
    assert_eq!((proposal.leader_epoch, proposal.partition_epoch), (5, 9));
    let epochs: Vec<_> = proposal.isr.iter().map(|member| member.broker_epoch).collect();
    assert_eq!(epochs, [ANY_BROKER_EPOCH, 102, 103]);
    assert_eq!(leader.proposal(15, 20, &now), None, "one at a time");
    assert_eq!(leader.high_watermark(20, &now), Some(15), "it is waited for before it is in sync");
    assert_eq!(leader.isr(), [1]);
    let accepted = IsrAccepted { leader_epoch: 5, partition_epoch: 10, isr: vec![1, 2, 3] };
    assert_eq!(leader.answered(&proposal, Ok(accepted.clone())), IsrOutcome::Changed);
    assert_eq!((leader.isr(), leader.partition_epoch()), (&[1, 2, 3][..], 10));
    assert_eq!(leader.answered(&proposal, Ok(accepted)), IsrOutcome::Stale);
}

#[test]
fn who_is_fenced_going_down_or_of_another_life_does_not_join() {
    let all = brokers(&[1, 2, 3]);
    let mut fenced = all.clone();
    fenced.0.get_mut(&2).unwrap().is_fenced = true;
    let mut stopping = all.clone();
    stopping.0.get_mut(&2).unwrap().is_shutting_down = true;
    let mut newer = all.clone();
    newer.0.get_mut(&2).unwrap().epoch = 500;
    let mut older = all.clone();
    older.0.get_mut(&2).unwrap().epoch = 50;
    let asks = |brokers: &Brokers, fetch: &FollowerFetch| {
        let mut leader = Leadership::begin(None, leading(&[1]), 10, NOW_MS);
        leader.fetched(fetch, 10, &terms(brokers, NOW_MS, 1))
    };
    let usual = fetch(2, 10, 10);
    assert_eq!(asks(&all, &usual), Ok(true));
    assert_eq!(asks(&fenced, &usual), Ok(false));
    assert_eq!(asks(&stopping, &usual), Ok(false));
    assert_eq!(asks(&newer, &usual), Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(asks(&older, &usual), Ok(false), "the image is behind");
    assert_eq!(asks(&Brokers::default(), &usual), Ok(false));
    assert_eq!(asks(&newer, &FollowerFetch { broker_epoch: ANY_BROKER_EPOCH, ..usual }), Ok(true));
    assert_eq!(asks(&all, &fetch(4, 10, 10)), Err(ErrorCode::UnknownLeaderEpoch));
}

#[test]
fn who_was_behind_for_too_long_is_removed() {
    let brokers = brokers(&[1, 2, 3]);
    let at = |ms| terms(&brokers, NOW_MS + ms, 1);
    let mut leader = Leadership::begin(None, leading(&[1, 2, 3]), 10, NOW_MS);
    assert_eq!(leader.proposal(0, 10, &at(LAG_MS)), None);
    // Never at the end, but always at where it was at the fetch before.
    for (ms, offset) in [(10_000, 8), (20_000, 18), (30_000, 28), (40_000, 38)] {
        leader.fetched(&fetch(2, offset, offset + 10), 0, &at(ms)).unwrap();
    }
    leader.fetched(&fetch(3, 48, 48), 0, &at(5_000)).unwrap();
    let proposal = leader.proposal(38, 50, &at(LAG_MS + 5_001)).unwrap();
    assert_eq!((ids(&proposal), proposal.is_expansion), (vec![1, 2], false));
    assert_eq!(leader.high_watermark(50, &at(LAG_MS + 5_001)), Some(38), "whoever is to leave still counts");
    // Nothing was appended: whoever is at the end is in sync, however long ago it fetched.
    let mut quiet = Leadership::begin(None, leading(&[1, 2, 3]), 10, NOW_MS);
    quiet.fetched(&fetch(2, 10, 10), 0, &at(0)).unwrap();
    quiet.fetched(&fetch(3, 10, 10), 0, &at(0)).unwrap();
    assert_eq!(quiet.proposal(10, 10, &at(1_000_000)), None);
}

#[test]
fn every_answer_of_the_controller_has_its_outcome() {
    let brokers = brokers(&[1, 2, 3]);
    let now = terms(&brokers, NOW_MS, 1);
    let table = [
        (Err(ErrorCode::OperationNotAttempted), IsrOutcome::Refused, true),
        (Err(ErrorCode::IneligibleReplica), IsrOutcome::Refused, true),
        (Err(ErrorCode::NewLeaderElected), IsrOutcome::Refused, false),
        (Err(ErrorCode::FencedLeaderEpoch), IsrOutcome::Refused, false),
        (Err(ErrorCode::InvalidUpdateVersion), IsrOutcome::Refused, false),
        (Err(ErrorCode::InvalidRequest), IsrOutcome::Refused, false),
        (Err(ErrorCode::UnknownTopicId), IsrOutcome::Refused, false),
        (Err(ErrorCode::UnknownTopicOrPartition), IsrOutcome::Refused, false),
        (Err(ErrorCode::NotController), IsrOutcome::Retry, false),
        (Err(ErrorCode::RequestTimedOut), IsrOutcome::Retry, false),
        (
            Ok(IsrAccepted { leader_epoch: 6, partition_epoch: 10, isr: vec![1, 2] }),
            IsrOutcome::Refused,
            false,
        ),
        (
            Ok(IsrAccepted { leader_epoch: 5, partition_epoch: 8, isr: vec![1, 2] }),
            IsrOutcome::Refused,
            false,
        ),
        (Ok(IsrAccepted { leader_epoch: 5, partition_epoch: 9, isr: vec![1, 2] }), IsrOutcome::Changed, true),
    ];
    for (answer, outcome, is_free) in table {
        let mut leader = Leadership::begin(None, leading(&[1]), 10, NOW_MS);
        assert_eq!(leader.fetched(&fetch(2, 10, 10), 10, &now), Ok(true));
        let proposal = leader.proposal(10, 10, &now).unwrap();
        assert_eq!(leader.answered(&proposal, answer.clone()), outcome, "{answer:?}");
        assert_eq!(leader.pending.is_none(), is_free, "{answer:?}");
        // An image that knows more ends every doubt.
        let newer = Leading { partition_epoch: 11, ..leading(&[1]) };
        let leader = Leadership::begin(Some(leader), newer, 10, NOW_MS);
        assert!(leader.pending.is_none());
    }
}

#[test]
fn a_new_epoch_waits_for_fetches_and_an_old_one_goes_on() {
    let brokers = brokers(&[1, 2, 3]);
    let now = terms(&brokers, NOW_MS + 1, 1);
    let mut leader = Leadership::begin(None, leading(&[1, 2]), 10, NOW_MS);
    leader.fetched(&fetch(2, 10, 10), 0, &now).unwrap();
    leader.fetched(&fetch(3, 4, 10), 0, &now).unwrap();
    let same = Leading { partition_epoch: 10, isr: vec![1, 2], ..leading(&[]) };
    let same = Leadership::begin(Some(leader.clone()), same, 20, NOW_MS);
    assert_eq!((same.epoch_start(), same.high_watermark(20, &now)), (10, Some(10)));
    let next = Leading { leader_epoch: 6, partition_epoch: 10, ..leading(&[1, 2]) };
    let next = Leadership::begin(Some(leader.clone()), next, 20, NOW_MS + 50);
    assert_eq!(
        (next.epoch_start(), next.caught_up_ms(2), next.caught_up_ms(3)),
        (20, Some(NOW_MS + 50), None)
    );
    assert_eq!(next.high_watermark(20, &now), Some(10), "what it fetched is there as before");
    let later = Leading { leader_epoch: 7, partition_epoch: 11, ..leading(&[1, 2]) };
    let later = Leadership::begin(Some(leader.clone()), later, 20, NOW_MS + 50);
    assert_eq!(later.high_watermark(20, &now), Some(-1), "another may have led meanwhile");
    assert_eq!((later.epoch_start(), later.caught_up_ms(2)), (20, Some(NOW_MS + 50)));
    let fewer = Leading { partition_epoch: 11, replicas: vec![1, 3], isr: vec![1], ..leading(&[]) };
    let fewer = Leadership::begin(Some(leader), fewer, 20, NOW_MS);
    assert!(fewer.has_follower(3) && !fewer.has_follower(2));
    assert_eq!(fewer.follower_range(3), Some((0, 4)));
}

#[test]
fn the_low_watermark_is_that_of_the_replicas_that_are_alive() {
    let mut brokers = brokers(&[1, 2, 3]);
    let mut leader = Leadership::begin(None, leading(&[1, 2]), 10, NOW_MS);
    assert_eq!(leader.low_watermark(8, &brokers), -1, "nobody has told yet");
    for (replica, log_start) in [(2, 6), (3, 4)] {
        let fetch = FollowerFetch { log_start, ..fetch(replica, 10, 10) };
        leader.fetched(&fetch, 0, &terms(&brokers, NOW_MS, 1)).unwrap();
    }
    assert_eq!(leader.low_watermark(8, &brokers), 4);
    brokers.0.get_mut(&3).unwrap().is_fenced = true;
    assert_eq!(leader.low_watermark(8, &brokers), 6);
}

#[test]
fn replicas_that_are_being_added_are_not_missing() {
    let reassigned = Leading { replicas: vec![1, 2, 3], adding: vec![3], ..leading(&[1, 2]) };
    assert!(!Leadership::begin(None, reassigned, 0, NOW_MS).is_under_replicated());
    assert!(Leadership::begin(None, leading(&[1, 2]), 0, NOW_MS).is_under_replicated());
}

/// What may happen to a partition whose leader stays.
#[derive(Clone, Debug)]
enum Step {
    Append(i64),
    /// A follower copies so many records, and fetches.
    Fetch(NodeId, i64),
    /// A follower fetches again what it fetched before: the answer was lost.
    Pass(i64),
    Propose,
    /// The controller answers; or does as it is asked and the answer is lost; or never hears of it.
    Answer,
    LoseAnswer,
    LoseRequest,
    Refuse,
    /// The controller removes a broker, as it is gone, or takes it in again with a new epoch.
    Fence(NodeId),
    Unfence(NodeId),
    /// The leader hears of the controller's state.
    Image,
}

fn step() -> impl Strategy<Value = Step> {
    let follower = || 2..=3_i32;
    prop_oneof![
        4 => (1..20_i64).prop_map(Step::Append),
        8 => (follower(), 0..30_i64).prop_map(|(id, count)| Step::Fetch(id, count)),
        2 => (0..2 * LAG_MS).prop_map(Step::Pass),
        6 => Just(Step::Propose),
        4 => Just(Step::Answer),
        1 => Just(Step::LoseAnswer),
        1 => Just(Step::LoseRequest),
        1 => Just(Step::Refuse),
        1 => follower().prop_map(Step::Fence),
        1 => follower().prop_map(Step::Unfence),
        3 => Just(Step::Image),
    ]
}

/// The controller's truth, the followers' logs, and the leader that hears of both late.
struct World {
    isr: Vec<NodeId>,
    partition_epoch: i32,
    controller_brokers: Brokers,
    brokers: Brokers,
    followers: BTreeMap<NodeId, Offset>,
    leader: Leadership,
    leader_end: Offset,
    high_watermark: Offset,
    asked: Option<IsrProposal>,
    now_ms: i64,
}

impl World {
    fn new() -> Self {
        Self {
            isr: vec![1, 2, 3],
            partition_epoch: 9,
            controller_brokers: brokers(&[1, 2, 3]),
            brokers: brokers(&[1, 2, 3]),
            followers: BTreeMap::from([(2, 0), (3, 0)]),
            leader: Leadership::begin(None, leading(&[1, 2, 3]), 0, NOW_MS),
            leader_end: 0,
            high_watermark: 0,
            asked: None,
            now_ms: NOW_MS,
        }
    }

    /// The controller's rules (`ReplicationControlManager.alterPartition`).
    fn decide(&mut self, proposal: &IsrProposal) -> Result<IsrAccepted, ErrorCode> {
        if proposal.partition_epoch != self.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let is_eligible = |member: &IsrMember| {
            self.controller_brokers.0.get(&member.id).is_some_and(|broker| {
                let fits = [ANY_BROKER_EPOCH, broker.epoch].contains(&member.broker_epoch);
                member.id == 1 || (!broker.is_fenced && fits)
            })
        };
        if !proposal.isr.iter().all(is_eligible) {
            return Err(ErrorCode::IneligibleReplica);
        }
        self.isr = ids(proposal);
        self.partition_epoch += 1;
        Ok(IsrAccepted { leader_epoch: 5, partition_epoch: self.partition_epoch, isr: self.isr.clone() })
    }

    fn take(&mut self, step: Step) {
        let brokers = self.brokers.clone();
        let now = terms(&brokers, self.now_ms, 1);
        match step {
            Step::Append(count) => self.leader_end += count,
            Step::Fetch(id, count) => {
                let Some(end) = self.followers.get_mut(&id) else { return };
                *end = (*end + count).min(self.leader_end);
                let epoch = self.controller_brokers.0[&id].epoch;
                let fetch = FollowerFetch { broker_epoch: epoch, ..fetch(id, *end, self.leader_end) };
                // One of a life that the leader has not heard of does not count for more than it is.
                let _ = self.leader.fetched(&fetch, self.high_watermark, &now);
            }
            Step::Pass(ms) => self.now_ms += ms,
            Step::Propose => {
                if let Some(proposal) = self.leader.proposal(self.high_watermark, self.leader_end, &now) {
                    assert!(self.asked.is_none(), "one is on its way at most");
                    self.asked = Some(proposal);
                }
            }
            Step::Answer | Step::LoseAnswer | Step::LoseRequest | Step::Refuse => {
                let Some(proposal) = self.asked.take() else { return };
                // It is refused so only where it could have been accepted.
                let is_refused =
                    matches!(step, Step::Refuse) && proposal.partition_epoch == self.partition_epoch;
                let answer = if matches!(step, Step::LoseRequest) {
                    Err(ErrorCode::RequestTimedOut)
                } else if is_refused {
                    Err(ErrorCode::OperationNotAttempted)
                } else {
                    self.decide(&proposal)
                };
                let is_lost = matches!(step, Step::LoseAnswer);
                let answer = if is_lost { Err(ErrorCode::NetworkException) } else { answer };
                if self.leader.answered(&proposal, answer) == IsrOutcome::Retry {
                    self.asked = Some(proposal);
                }
            }
            Step::Fence(id) => {
                let broker = self.controller_brokers.0.get_mut(&id).unwrap();
                broker.is_fenced = true;
                if self.isr.contains(&id) {
                    self.isr.retain(|other| *other != id);
                    self.partition_epoch += 1;
                }
            }
            Step::Unfence(id) => {
                let broker = self.controller_brokers.0.get_mut(&id).unwrap();
                // A new life has lost what it had not synced; whoever is in sync was not fenced.
                if broker.is_fenced {
                    (broker.is_fenced, broker.epoch) = (false, broker.epoch + 10);
                    let end = self.followers.get_mut(&id).unwrap();
                    *end /= 2;
                }
            }
            Step::Image => {
                self.brokers = self.controller_brokers.clone();
                if self.partition_epoch > self.leader.partition_epoch() {
                    let leading = Leading {
                        partition_epoch: self.partition_epoch,
                        isr: self.isr.clone(),
                        ..leading(&[])
                    };
                    let previous = self.leader.clone();
                    self.leader = Leadership::begin(Some(previous), leading, self.leader_end, self.now_ms);
                    self.asked = None;
                }
            }
        }
        let brokers = self.brokers.clone();
        let reached = self.leader.high_watermark(self.leader_end, &terms(&brokers, self.now_ms, 1));
        self.high_watermark = self.high_watermark.max(reached.unwrap_or(0));
    }

    /// Whatever is committed is on every replica that the controller could make the leader.
    fn check(&self) {
        assert!(self.high_watermark <= self.leader_end);
        for id in self.isr.iter().filter(|id| **id != 1) {
            let end = self.followers[id];
            assert!(end >= self.high_watermark, "{id} ends at {end}, {} are committed", self.high_watermark);
        }
    }
}

proptest! {
    #![proptest_config(properties(2_000))]

    #[test]
    fn what_is_committed_is_on_all_whom_the_controller_holds_to_be_in_sync(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check();
        }
    }
}
