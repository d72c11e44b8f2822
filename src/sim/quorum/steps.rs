//! What happens in the world, one thing after the other, and what a node does because of it.

use super::mutants::Mutant;
use super::nodes::{Asker, Planned, Quorum};
use crate::quorum::ElectionState;
use crate::quorum::core::QuorumCore;
use crate::quorum::core::message::{Action, Event, Leadership, Request, RoleName, Unreachable};
use crate::sim::runner::Violation;
use crate::sim::trace::Trace;
use crate::types::{LeaderEpoch, NodeId};

impl Quorum {
    /// Lets the next thing happen.
    pub(in crate::sim) fn step(&mut self, trace: &mut Trace) -> Result<(), Violation> {
        let Some(planned) = self.timeline.next() else { return Ok(()) };
        if let Some(node) = self.nodes.get(&planned.node())
            && node.core.is_some()
            && node.frozen_until_ms > self.now_ms()
        {
            let until_ms = node.frozen_until_ms;
            self.timeline.at(until_ms, planned);
            return Ok(());
        }
        match planned {
            Planned::Arrives { to, port, from, life, correlation, request } => {
                let up = self.nodes.get(&to).is_some_and(|node| node.core.is_some() && node.port == port);
                if !up || !self.network.reaches(from, to) {
                    return Ok(());
                }
                let before = self.epoch_that_stays(to, &request);
                let request = self.mutated_request(to, request);
                self.tokens += 1;
                let token = self.tokens;
                self.askers
                    .insert(token, Asker::Node { id: from, life, correlation, request: request.clone() });
                self.event(to, Event::Request(token, request), trace)?;
                self.check_steady(to, before)
            }
            Planned::Returns { to, from, life, correlation, response } => {
                if !self.lives(to, life) || !self.network.reaches(from, to) {
                    return Ok(());
                }
                let Some(node) = self.nodes.get_mut(&to) else { return Ok(()) };
                let mut correlation = correlation;
                if node.outstanding.remove(&correlation).is_none()
                    && self.settings.mutant == Some(Mutant::CorrelationsIgnored)
                {
                    // Whatever comes is taken for the answer to what was asked last.
                    let asked = node.outstanding.iter().rev().find(|(_, other)| **other == from);
                    correlation = asked.map_or(correlation, |(asked, _)| *asked);
                    node.outstanding.remove(&correlation);
                }
                self.event(to, Event::Response(correlation, Ok(response)), trace)
            }
            Planned::GivesUp { node, life, correlation } => {
                let Some(waiting) =
                    self.nodes.get_mut(&node).filter(|node| node.life == life && node.core.is_some())
                else {
                    return Ok(());
                };
                if waiting.outstanding.remove(&correlation).is_none() {
                    return Ok(());
                }
                self.event(node, Event::Response(correlation, Err(Unreachable::Disconnected)), trace)
            }
            Planned::Tick { node, life } => {
                if !self.lives(node, life) {
                    return Ok(());
                }
                let now_ms = self.now_ms();
                let Some(ticking) = self.nodes.get_mut(&node) else { return Ok(()) };
                ticking.planned_tick_ms = i64::MAX;
                let due = ticking.core.as_ref().and_then(QuorumCore::deadline);
                if due.is_some_and(|due| due <= now_ms + ticking.skew_ms) {
                    return self.event(node, Event::Tick, trace);
                }
                self.plan_tick(node);
                Ok(())
            }
            Planned::Flush { node, life } => {
                if !self.lives(node, life) {
                    return Ok(());
                }
                let Some(flushing) = self.nodes.get_mut(&node) else { return Ok(()) };
                flushing.flush_planned = false;
                flushing.disk.sync();
                let log = &flushing.disk.live().log;
                let event = Event::Flushed(log.last_epoch(), log.end());
                self.event(node, event, trace)
            }
        }
    }

    /// Hands an event to a node and does what it wants done.
    pub(in crate::sim) fn event(
        &mut self,
        id: NodeId,
        event: Event,
        trace: &mut Trace,
    ) -> Result<(), Violation> {
        let now_ms = self.now_ms();
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let Some(core) = &mut node.core else { return Ok(()) };
        trace.note(now_ms, format_args!("n{id} < {event:?}"));
        let actions = Self::mutated_step(self.settings.mutant, core, now_ms + node.skew_ms, event);
        self.execute(id, actions, trace)?;
        self.check_state(id)
    }

    pub(super) fn execute(
        &mut self,
        id: NodeId,
        actions: Vec<Action>,
        trace: &mut Trace,
    ) -> Result<(), Violation> {
        let actions = self.mutated_actions(actions);
        let by_chance =
            self.random.chance(self.settings.crash_in_step).then(|| self.random.index(actions.len() + 1));
        let crash_at = self.crash_at.take().or(by_chance);
        self.done = actions.len();
        let mut then = Vec::new();
        let count = actions.len();
        for (number, action) in actions.into_iter().enumerate() {
            if crash_at == Some(number) {
                self.crash(id, trace);
                return Ok(());
            }
            trace.note(self.now_ms(), format_args!("n{id} > {action:?}"));
            if let Some(event) = self.act(id, action)? {
                then.push(event);
            }
        }
        if crash_at == Some(count) {
            self.crash(id, trace);
            return Ok(());
        }
        self.plan_tick(id);
        let done = self.done;
        for event in then {
            self.event(id, event, trace)?;
        }
        self.done = done;
        Ok(())
    }

    fn plan_tick(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(due_ms) = node.core.as_ref().and_then(QuorumCore::deadline) else { return };
        let due_ms = due_ms - node.skew_ms;
        if due_ms < node.planned_tick_ms {
            node.planned_tick_ms = due_ms;
            self.timeline.at(due_ms, Planned::Tick { node: id, life: node.life });
        }
    }

    /// The epoch of a node that a question does not move to another: it asks only whether there would be a vote.
    fn epoch_that_stays(&self, id: NodeId, request: &Request) -> Option<LeaderEpoch> {
        let Request::Vote(vote) = request else { return None };
        let node = self.nodes.get(&id)?;
        let core = node.core.as_ref()?;
        // Who waits for other leaders, or is alone, moves on by itself.
        let moves = core.role_name() == RoleName::Resigned || core.is_only_voter();
        Some(core.epoch()).filter(|epoch| vote.pre_vote && vote.epoch <= *epoch && !moves)
    }

    fn check_steady(&self, id: NodeId, before: Option<LeaderEpoch>) -> Result<(), Violation> {
        let after = self.nodes.get(&id).and_then(|node| node.core.as_ref()).map(QuorumCore::epoch);
        match (before, after) {
            (Some(before), Some(after)) if before != after => Err(format!(
                "NoIllegalState: n{id} goes from epoch {before} to {after} because somebody asks whether it would vote"
            )),
            _ => Ok(()),
        }
    }

    /// What a node says it is, is what its disk says (`StatesMatchRoles`, `NoIllegalState`).
    fn check_state(&self, id: NodeId) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(&id).filter(|node| node.core.is_some()) else { return Ok(()) };
        let (kept, Leadership { epoch, leader, role, .. }) = (node.disk.synced(), &node.leadership);
        let ElectionState { epoch: durable, leader: led_by, voted } = &kept.election;
        let fits = match role {
            RoleName::Leader => *leader == Some(id) && *led_by == Some(id),
            RoleName::Candidate => *voted == Some(node.key()) && led_by.is_none(),
            RoleName::Follower | RoleName::Observer => *leader != Some(id) && led_by == leader,
            RoleName::Unattached | RoleName::Prospective | RoleName::Resigned => true,
        };
        let mutated = self.settings.mutant == Some(Mutant::VoteNotPersisted);
        if (fits && durable == epoch) || mutated {
            return Ok(());
        }
        Err(format!("StatesMatchRoles: n{id} is {:?} with {:?} on its disk", node.leadership, kept.election))
    }
}

impl Planned {
    /// In whom it happens.
    pub(in crate::sim) fn node(&self) -> NodeId {
        match self {
            Self::Arrives { to, .. } | Self::Returns { to, .. } => *to,
            Self::GivesUp { node, .. } | Self::Tick { node, .. } | Self::Flush { node, .. } => *node,
        }
    }
}
