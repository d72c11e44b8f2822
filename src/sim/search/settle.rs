//! Which states are the same: names that depend on the path, and the time, are taken out of them.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write as _};
use std::hash::{Hash as _, Hasher};
use std::rc::Rc;

use super::state::{Scope, State};
use crate::quorum::core::QuorumCore;
use crate::quorum::core::message::Correlation;
use crate::sim::quorum::mutants::Mutant;
use crate::sim::quorum::nodes::{Asker, Node, Planned};
use crate::sim::random::Random;
use crate::sim::runner::Violation;
use crate::sim::trace::Trace;
use crate::types::NodeId;

/// No request has this name: nobody waits for the answer.
const STALE: Correlation = 0;

/// Something on its way.
#[derive(Clone)]
pub(super) struct Message {
    digest: u64,
    pub(super) planned: Rc<Planned>,
}

impl Message {
    fn new(planned: Planned) -> Self {
        let mut text = Digest(DefaultHasher::new());
        // A digest takes everything.
        let _ = write!(text, "{planned:?}");
        Self { digest: text.0.finish(), planned: Rc::new(planned) }
    }

    /// The same with another name of the request.
    fn named(self, name: Correlation) -> Self {
        let mut planned = Rc::unwrap_or_clone(self.planned);
        match &mut planned {
            Planned::Arrives { life, correlation, .. } => {
                *correlation = name;
                if name == STALE {
                    *life = 0;
                }
            }
            Planned::Returns { correlation, .. } => *correlation = name,
            Planned::GivesUp { .. } | Planned::Tick { .. } | Planned::Flush { .. } => {}
        }
        Self::new(planned)
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// From whom it comes and to whom it goes.
    pub(super) fn ends(&self) -> [NodeId; 2] {
        match *self.planned {
            Planned::Arrives { from, to, .. } | Planned::Returns { from, to, .. } => [from, to],
            Planned::GivesUp { node, .. } | Planned::Tick { node, .. } | Planned::Flush { node, .. } => {
                [node, node]
            }
        }
    }

    fn name(&self) -> Correlation {
        match &*self.planned {
            Planned::Arrives { correlation, .. } | Planned::Returns { correlation, .. } => *correlation,
            Planned::GivesUp { .. } | Planned::Tick { .. } | Planned::Flush { .. } => STALE,
        }
    }

    fn is_stale(&self) -> bool {
        self.name() == STALE
    }
}

/// A text of which only the digest is kept.
struct Digest(DefaultHasher);

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Scope {
    /// An answer that comes twice is ignored, unless answers are not told from one another.
    pub(super) fn may_duplicate(&self, message: &Message) -> bool {
        matches!(*message.planned, Planned::Arrives { .. })
            || self.mutant == Some(Mutant::CorrelationsIgnored)
    }
}

/// The names of the requests that a node waits for.
struct Names {
    node: NodeId,
    life: u32,
    names: BTreeMap<Correlation, Correlation>,
}

impl Names {
    /// The new name of a request, if it is one of this node.
    fn of(&self, node: NodeId, life: u32, correlation: Correlation) -> Option<Option<Correlation>> {
        let waits = || self.names.get(&correlation).copied().filter(|_| life == self.life);
        (node == self.node).then(waits)
    }
}

impl State {
    /// After something happened in a node: what depends on the path is taken out.
    pub(super) fn settle(&mut self, id: NodeId, scope: &Scope, trace: &mut Trace) -> Result<(), Violation> {
        self.world.take_answers();
        if !scope.slow_disks {
            self.flush(id, trace)?;
        }
        let now_ms = self.world.now_ms();
        let Some(node) = self.world.nodes.get_mut(&id) else { return Ok(()) };
        let renamed = node.core.as_mut().map(QuorumCore::settle).unwrap_or_default();
        node.outstanding = renamed.values().map(|name| (*name, peer(*name))).collect();
        node.skew_ms = -now_ms;
        node.forget_ticks();
        let names = Names { node: id, life: node.life, names: renamed };
        self.settle_messages(scope, &names);
        self.settle_askers(&names);
        self.world.random = Random::new(0);
        Ok(())
    }

    /// What a leader appended gets onto its disk at once.
    fn flush(&mut self, id: NodeId, trace: &mut Trace) -> Result<(), Violation> {
        let done = self.world.done;
        while let Some(node) =
            self.world.nodes.get(&id).filter(|node| node.flush_planned && node.core.is_some())
        {
            let (now_ms, life) = (self.world.now_ms(), node.life);
            let planned: Vec<_> = self.world.timeline.drain().collect();
            self.world.timeline.at(now_ms, Planned::Flush { node: id, life });
            self.world.step(trace)?;
            for one in planned {
                self.world.timeline.at(now_ms, one);
            }
        }
        self.world.done = done;
        Ok(())
    }

    fn settle_messages(&mut self, scope: &Scope, names: &Names) {
        let keeps_answers = scope.mutant == Some(Mutant::CorrelationsIgnored);
        let new: Vec<Planned> = self.world.timeline.drain().collect();
        let old = std::mem::take(&mut self.messages);
        let mut messages = Vec::with_capacity(old.len() + new.len());
        let mut stale = Vec::new();
        for mut message in old.into_iter().chain(new.into_iter().filter(is_message).map(Message::new)) {
            let named = match &*message.planned {
                Planned::Arrives { from, life, correlation, .. } => names.of(*from, *life, *correlation),
                Planned::Returns { to, life, correlation, .. } => names.of(*to, *life, *correlation),
                Planned::GivesUp { .. } | Planned::Tick { .. } | Planned::Flush { .. } => None,
            };
            if let Some(name) = named {
                let name = name.unwrap_or(STALE);
                message = if message.name() == name { message } else { message.named(name) };
            }
            let is_answer = matches!(*message.planned, Planned::Returns { .. });
            if !message.is_stale() {
                messages.push(message);
            } else if keeps_answers || !is_answer {
                stale.push(message);
            }
        }
        // Who comes too late is lost.
        stale.sort_by_key(|message| message.digest);
        stale.truncate(scope.stale);
        messages.extend(stale);
        messages.sort_by_key(|message| message.digest);
        self.messages = messages;
    }

    fn settle_askers(&mut self, names: &Names) {
        let mut old = std::mem::take(&mut self.world.askers);
        let mut next = 0;
        let ids: Vec<NodeId> = self.world.nodes.keys().copied().collect();
        for id in ids {
            if self
                .world
                .nodes
                .get(&id)
                .and_then(|node| node.core.as_ref())
                .is_none_or(|core| !core.has_tokens())
            {
                continue;
            }
            let Some(node) = self.world.nodes.get_mut(&id) else { continue };
            for token in node.core.iter_mut().flat_map(|core| core.tokens()) {
                let Some(mut asker) = old.remove(token) else { continue };
                next += 1;
                *token = next;
                if let Asker::Node { id, life, correlation, .. } = &mut asker
                    && let Some(name) = names.of(*id, *life, *correlation)
                {
                    *correlation = name.unwrap_or(STALE);
                }
                self.world.askers.insert(next, asker);
            }
        }
        self.world.tokens = next;
    }

    /// A number that differs from that of other states.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.left.hash(&mut hasher);
        for message in &self.messages {
            message.digest.hash(&mut hasher);
        }
        for node in self.world.nodes.values() {
            fingerprint(node, &mut hasher);
        }
        for (token, asker) in &self.world.askers {
            if let Asker::Node { id, correlation, .. } = asker {
                (token, id, correlation).hash(&mut hasher);
            }
        }
        let since = self.world.nodes.values().map(|node| node.disk.synced().election.epoch).min();
        self.world.history.fingerprint(since.unwrap_or(0), &mut hasher);
        hasher.finish()
    }
}

fn fingerprint(node: &Node, hasher: &mut impl Hasher) {
    (node.id, node.directory_id, node.committed, node.stops, node.flush_planned).hash(hasher);
    (node.disk.unsynced(), &node.download, node.core.is_some()).hash(hasher);
    node.disk.live().fingerprint(hasher);
    if node.disk.unsynced() > 0 {
        node.disk.synced().fingerprint(hasher);
    }
    if let Some(core) = &node.core {
        core.fingerprint(hasher);
    }
}

/// To whom a request went that is named so.
fn peer(name: Correlation) -> NodeId {
    NodeId::try_from(name).unwrap_or(100) - 100
}

/// Whether it goes from one node to another.
fn is_message(planned: &Planned) -> bool {
    matches!(planned, Planned::Arrives { .. } | Planned::Returns { .. })
}
