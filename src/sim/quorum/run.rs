//! One run: storms in which everything breaks, and calm weather in which the quorum has to recover.

use bytes::Bytes;

use super::mutants::Mutant;
use super::nodes::{Answered, Quorum, REQUEST_TIMEOUT_MS, Settings};
use super::storage::Kept;
use crate::quorum::core::Timing;
use crate::quorum::core::message::{AddVoterRequest, Event, Request, Response, RoleName};
use crate::quorum::{ReplicaKey, Voters};
use crate::sim::network::Weather;
use crate::sim::random::Random;
use crate::sim::runner::{Counts, Violation, World};
use crate::sim::trace::Trace;
use crate::types::{NodeId, Offset};

/// How long calm weather lasts at most: within this time the quorum has recovered.
const CALM_MS_MAX: i64 = 120_000;

/// A quorum and whoever uses it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sim) struct QuorumRun {
    /// After so many steps the last calm begins.
    pub(in crate::sim) steps: u64,
    /// What is wrong with the nodes, if anything is.
    pub(in crate::sim) mutant: Option<Mutant>,
}

/// What a seed decides about its run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    voters: NodeId,
    nodes: NodeId,
    weather: Weather,
    /// The longest time between two things that the plan does.
    pause_ms: i64,
    /// How often each of them is done, in shares of the whole.
    crashes: u64,
    cuts: u64,
    freezes: u64,
    snapshots: u64,
    voter_changes: u64,
    wipes: u64,
    resignations: u64,
}

impl Plan {
    fn draw(random: &mut Random) -> (Self, Settings) {
        let mut of = |choices: &[u64]| random.pick(choices).copied().unwrap_or(0);
        let voters = [1, 2, 3, 3, 3, 3, 4, 5][usize::try_from(of(&[0, 1, 2, 3, 4, 5, 6, 7])).unwrap_or(0)];
        let observers = NodeId::try_from(of(&[0, 0, 1, 2])).unwrap_or(0);
        let per_million = |number: u64| u32::try_from(number).unwrap_or(0);
        let weather = Weather {
            drop: per_million(of(&[0, 10_000, 50_000, 300_000])),
            duplicate: per_million(of(&[0, 20_000, 200_000])),
            straggle: per_million(of(&[0, 10_000, 200_000])),
            delay_ms: i64::try_from(of(&[1, 5, 50, 400])).unwrap_or(1),
        };
        let plan = Self {
            voters,
            nodes: voters + observers,
            weather,
            pause_ms: i64::try_from(of(&[20, 200, 1_500])).unwrap_or(1),
            crashes: of(&[0, 2, 10]),
            cuts: of(&[0, 2, 10]),
            freezes: of(&[0, 1, 4]),
            snapshots: of(&[0, 2, 8]),
            voter_changes: of(&[0, 0, 4, 15]),
            wipes: of(&[0, 0, 2]),
            resignations: of(&[0, 0, 1]),
        };
        let settings = Settings {
            crash_in_step: per_million(of(&[0, 100, 2_000, 10_000])),
            flush_ms_max: i64::try_from(of(&[0, 5, 100])).unwrap_or(0),
            timeout_ms_min: REQUEST_TIMEOUT_MS,
            fixed: of(&[0, 0, 0, 1]) == 1,
            has_bootstrap: true,
            timing: Timing::default(),
            mutant: None,
        };
        let plan = if settings.fixed { Self { voter_changes: 0, wipes: 0, ..plan } } else { plan };
        (plan, settings)
    }
}

impl World for QuorumRun {
    fn name(&self) -> &'static str {
        "quorum"
    }

    fn run(&self, seed: u64, trace: &mut Trace) -> Result<Counts, Violation> {
        let mut random = Random::new(seed);
        let (mut plan, mut settings) = Plan::draw(&mut random);
        settings.mutant = self.mutant;
        if self.mutant == Some(Mutant::CorrelationsIgnored) {
            // It takes answers that come late and twice, while leaders change.
            plan.weather = Weather { drop: 50_000, duplicate: 500_000, straggle: 300_000, delay_ms: 50 };
            (plan.voters, plan.nodes, plan.pause_ms) = (3, 3, 200);
        }
        trace.note(0, format_args!("{plan:?} {settings:?}"));
        let quorum = Quorum::new(settings, plan.nodes, plan.voters, random.split());
        let mut run = Run { plan, quorum, random, steps: 0, values: 0, next_ms: 0 };
        for id in 1..=plan.nodes {
            run.quorum.start(id, trace)?;
        }
        run.calm(trace)?;
        while run.steps < self.steps {
            run.storm(trace)?;
            run.calm(trace)?;
        }
        let Quorum { crashes, installed, truncated, history, .. } = &run.quorum;
        Ok(Counts {
            steps: run.steps,
            crashes: *crashes,
            epochs: history.epochs(),
            commits: history.committed().unsigned_abs(),
            voter_changes: history.voter_changes,
            snapshots: *installed,
            truncated: *truncated,
            ..Counts::default()
        })
    }
}

struct Run {
    plan: Plan,
    quorum: Quorum,
    random: Random,
    steps: u64,
    values: u64,
    next_ms: i64,
}

impl Run {
    /// Lets the next thing happen that the nodes do, up to a moment; whether there was one.
    fn step_until(&mut self, until_ms: i64, trace: &mut Trace) -> Result<bool, Violation> {
        if self.quorum.next_ms().is_none_or(|next| next > until_ms) {
            self.quorum.advance_to(until_ms);
            return Ok(false);
        }
        self.steps += 1;
        self.quorum.step(trace)?;
        Ok(true)
    }

    fn storm(&mut self, trace: &mut Trace) -> Result<(), Violation> {
        self.quorum.network.weather = self.plan.weather;
        self.quorum.settings.timeout_ms_min = 1;
        let steps = self.steps + 200 + self.random.below(1_500);
        let until_ms = self.quorum.now_ms() + 60_000;
        trace.note(self.quorum.now_ms(), format_args!("a storm begins"));
        self.next_ms = self.quorum.now_ms();
        while self.steps < steps && self.quorum.now_ms() < until_ms {
            if !self.step_until(self.next_ms, trace)? {
                self.next_ms += self.random.between(1, self.plan.pause_ms);
                self.disturb(trace)?;
            }
            self.quorum.take_answers();
        }
        Ok(())
    }

    /// Does one of the things that the plan has.
    fn disturb(&mut self, trace: &mut Trace) -> Result<(), Violation> {
        let Plan { crashes, cuts, freezes, snapshots, voter_changes, wipes, resignations, .. } = self.plan;
        let ids: Vec<NodeId> = self.quorum.nodes.keys().copied().collect();
        let Some(id) = self.random.pick(&ids).copied() else { return Ok(()) };
        let now_ms = self.quorum.now_ms();
        // Appends, restarts and the end of a partition are always among it.
        let mut choice = self
            .random
            .below(20 + crashes + cuts + freezes + snapshots + voter_changes + wipes + resignations);
        let mut is = |share: u64| {
            let chosen = choice < share;
            choice = choice.wrapping_sub(share);
            chosen
        };
        if is(12) {
            self.append(trace)
        } else if is(6) {
            self.quorum.start(id, trace)
        } else if is(2) {
            self.quorum.network.heal();
            Ok(())
        } else if is(crashes) {
            self.quorum.crash(id, trace);
            Ok(())
        } else if is(cuts) {
            self.quorum.network.cut(&mut self.random, &ids);
            trace.note(now_ms, format_args!("{:?}", self.quorum.network));
            Ok(())
        } else if is(freezes) {
            let frozen_ms = self.random.between(10, 5_000);
            if let Some(node) = self.quorum.nodes.get_mut(&id) {
                node.frozen_until_ms = now_ms + frozen_ms;
            }
            trace.note(now_ms, format_args!("n{id} freezes for {frozen_ms} ms"));
            Ok(())
        } else if is(snapshots) {
            self.quorum.save_snapshot(id, trace).map(drop)
        } else if is(voter_changes) {
            self.change_voters(id, trace)
        } else if is(wipes) {
            self.wipe(id, trace);
            Ok(())
        } else {
            self.resign(id, trace)
        }
    }

    /// Appends at some node that believes that it leads.
    fn append(&mut self, trace: &mut Trace) -> Result<(), Violation> {
        let leaders: Vec<_> = self
            .quorum
            .nodes
            .values()
            .filter(|node| node.is_leader())
            .map(|node| (node.id, node.leadership.epoch))
            .collect();
        let Some((id, epoch)) = self.random.pick(&leaders).copied() else { return Ok(()) };
        let count = self.random.between(1, 3);
        let mut value = || {
            self.values += 1;
            Bytes::copy_from_slice(&self.values.to_le_bytes())
        };
        let values = (0..count).map(|_| value()).collect();
        self.quorum.append(id, epoch, values, trace).map(drop)
    }

    /// Asks a leader to take in or let go of a node.
    fn change_voters(&mut self, id: NodeId, trace: &mut Trace) -> Result<(), Violation> {
        let Some(leader) = self.quorum.leader() else { return Ok(()) };
        let leader_id = leader.id;
        let (Some(voters), Some(node)) = (leader.disk.live().voters(), self.quorum.nodes.get(&id)) else {
            return Ok(());
        };
        let request = match voters.0.get(&id) {
            Some(voter) if voter.key != node.key() => Request::RemoveVoter(voter.key),
            // Who finds itself removed does not stand for election, as in Kafka, even where nobody else has the record
            // yet. So the others have to be enough to elect a leader without it, before the change and after.
            Some(voter)
                if self.random.chance(300_000)
                    && self.suffices_without(voters, id)
                    && voters.without(voter.key).is_some_and(|rest| self.suffices_without(&rest, id)) =>
            {
                Request::RemoveVoter(voter.key)
            }
            Some(_) => return Ok(()),
            None => Request::AddVoter(AddVoterRequest {
                voter: node.voter(),
                ack_when_committed: self.random.chance(500_000),
            }),
        };
        self.quorum.ask(leader_id, request, trace).map(drop)
    }

    /// Whether most of the voters have their disks and are not this node.
    fn suffices_without(&self, voters: &Voters, id: NodeId) -> bool {
        let remains = |key: &ReplicaKey| {
            self.quorum.nodes.get(&key.id).is_some_and(|node| node.id != id && key.accepts(node.key()))
        };
        voters.keys().filter(remains).count() * 2 > voters.0.len()
    }

    /// Loses a disk, if enough of the voters keep theirs.
    fn wipe(&mut self, id: NodeId, trace: &mut Trace) {
        let safe = |voters: &Voters| self.suffices_without(voters, id);
        let committed = self.quorum.history.committed();
        let disks = || self.quorum.nodes.values().flat_map(|node| [node.disk.live(), node.disk.synced()]);
        // Not while a change of the voters is open: who finds itself removed would have to help, and does not.
        let open = |kept: &Kept| kept.voters_logged().last().is_some_and(|(offset, _)| *offset >= committed);
        let all_safe = disks().all(|kept| {
            !open(kept) && kept.voters().into_iter().chain(kept.voters_before(committed)).all(safe)
        });
        let known = disks().any(|kept| kept.voters().is_some());
        // Nor while it is becoming a voter, which may be written when its disk is gone.
        let key = self.quorum.nodes.get(&id).map(|node| node.key());
        let cores = || self.quorum.nodes.values().filter_map(|node| node.core.as_ref());
        let joins = cores().any(|core| key.is_some_and(|key| core.is_adding(key)));
        if all_safe && known && !joins {
            self.quorum.crash(id, trace);
            self.quorum.wipe(id, trace);
        }
    }

    fn resign(&mut self, id: NodeId, trace: &mut Trace) -> Result<(), Violation> {
        let Some(node) = self.quorum.nodes.get(&id).filter(|node| node.core.is_some()) else { return Ok(()) };
        let epoch = node.leadership.epoch;
        let event = if self.random.chance(700_000) { Event::Resign(epoch) } else { Event::Shutdown };
        let stops = event == Event::Shutdown;
        if !stops && node.leadership.role != RoleName::Leader {
            return Ok(());
        }
        if let Some(node) = self.quorum.nodes.get_mut(&id) {
            node.stops |= stops;
        }
        self.quorum.event(id, event, trace)
    }

    /// Everything works again: within some time a leader is elected, it commits something new, the voters can change,
    /// and everyone has it (`EventuallyLeaderElected`, `ValuesEventuallyAcked`, `ReconfigurationNotStuck`).
    fn calm(&mut self, trace: &mut Trace) -> Result<(), Violation> {
        trace.note(self.quorum.now_ms(), format_args!("calm weather begins"));
        self.quorum.network.heal();
        self.quorum.network.weather = Weather::CALM;
        self.quorum.settings.timeout_ms_min = REQUEST_TIMEOUT_MS;
        let crash_in_step = std::mem::take(&mut self.quorum.settings.crash_in_step);
        let now_ms = self.quorum.now_ms();
        for node in self.quorum.nodes.values_mut() {
            node.frozen_until_ms = now_ms;
        }
        let ids: Vec<NodeId> = self.quorum.nodes.keys().copied().collect();
        for id in &ids {
            if self.quorum.nodes.get(id).is_some_and(|node| node.stops) {
                self.quorum.crash(*id, trace);
            }
            self.quorum.start(*id, trace)?;
        }
        let until_ms = now_ms + CALM_MS_MAX;
        let before = self.quorum.history.committed();
        let mut change = (self.plan.voter_changes > 0)
            .then(|| Change::Wanted(self.random.pick(&ids).copied().unwrap_or(1)));
        let mut next_ms = now_ms;
        while !(self.recovered(before) && change.is_none()) {
            if self.quorum.now_ms() >= until_ms {
                return Err(self.stuck(before, change));
            }
            if !self.step_until(next_ms, trace)? {
                next_ms += 500;
                if self.quorum.history.committed() <= before || self.random.chance(200_000) {
                    self.append(trace)?;
                }
                self.ask_for_change(&mut change, trace)?;
            }
            for Answered { token, response } in self.quorum.take_answers() {
                if let Some(Change::Asked(id, asked)) = change
                    && token == asked
                {
                    let done = matches!(response, Response::AddVoter(Ok(())) | Response::RemoveVoter(Ok(())));
                    change = (!done).then_some(Change::Wanted(id));
                }
            }
        }
        self.quorum.settings.crash_in_step = crash_in_step;
        Ok(())
    }

    /// Brings the set of voters back to what the plan began with, one step in each calm.
    fn ask_for_change(&mut self, change: &mut Option<Change>, trace: &mut Trace) -> Result<(), Violation> {
        let Some(Change::Wanted(id)) = *change else { return Ok(()) };
        let Some(leader) = self.quorum.leader() else { return Ok(()) };
        let (leader_id, voters) = (leader.id, leader.disk.live().voters().cloned().unwrap_or_default());
        let Some(node) = self.quorum.nodes.get(&id) else { return Ok(()) };
        let request = match voters.0.get(&id) {
            Some(voter) if voter.key != node.key() => Request::RemoveVoter(voter.key),
            Some(_) => {
                *change = None;
                return Ok(());
            }
            None => Request::AddVoter(AddVoterRequest { voter: node.voter(), ack_when_committed: true }),
        };
        let token = self.quorum.ask(leader_id, request, trace)?;
        *change = Some(Change::Asked(id, token));
        Ok(())
    }

    fn recovered(&self, before: Offset) -> bool {
        let committed = self.quorum.history.committed();
        committed > before
            && self.quorum.leader().is_some()
            && self.quorum.nodes.values().all(|node| node.committed >= committed)
    }

    fn stuck(&self, before: Offset, change: Option<Change>) -> Violation {
        let committed = self.quorum.history.committed();
        let nodes: Vec<_> = self
            .quorum
            .nodes
            .values()
            .map(|node| (node.id, node.committed, node.leadership.clone()))
            .collect();
        let what = match (self.quorum.leader(), committed > before) {
            (None, _) => "EventuallyLeaderElected",
            (Some(_), false) => "ValuesEventuallyAcked",
            (Some(_), true) if change.is_some() => "ReconfigurationNotStuck",
            (Some(_), true) => "EventuallyMetadataConverges",
        };
        format!(
            "{what}: after {CALM_MS_MAX} ms of calm weather, {before} to {committed} committed, {change:?}, {nodes:?}"
        )
    }
}

/// A change of the voters in calm weather.
#[derive(Clone, Copy, Debug)]
enum Change {
    Wanted(NodeId),
    Asked(NodeId, u64),
}
