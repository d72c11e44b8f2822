//! What the active controller knows of brokers and no log says: when each was last heard of, and how far it had read
//! the metadata (`BrokerHeartbeatManager`, `BrokerHeartbeatTracker`).
//!
//! It begins anew with each controller, so that a failover fences nobody who is alive.

use std::collections::BTreeMap;

use crate::metadata::image::{BrokerImage, Image};
use crate::types::{NodeId, Offset};

/// When a broker was last heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It registered, and said nothing since.
    Never,
    /// At this time of the steady clock, in milliseconds, and nothing says that it is still there: its connection has
    /// closed, or it was another controller that heard of it.
    Unsure(i64),
    /// At this time of the steady clock, in milliseconds.
    At(i64),
    /// It runs in the controller's own process: as long as somebody could ask, it is there.
    Always,
}

#[derive(Clone, Debug)]
struct Contact {
    /// The registration that this is about.
    epoch: i64,
    heard: Heard,
    /// The last record that the broker has seen; -1 before its first heartbeat.
    metadata_offset: Offset,
    /// The broker knows itself once it has read up to here.
    registered_at: Offset,
    /// What every other broker has to have seen before this one may stop.
    shutdown_offset: Option<Offset>,
}

impl Contact {
    fn new(epoch: i64, registered_at: Offset) -> Self {
        Self { epoch, heard: Heard::Never, metadata_offset: -1, registered_at, shutdown_offset: None }
    }
}

/// The heartbeats of all brokers.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    session_timeout_ms: i64,
    contacts: BTreeMap<NodeId, Contact>,
}

impl Heartbeats {
    /// The heartbeats as a controller begins with them: who is not fenced counts as heard of just now. A broker that is
    /// silent for longer than `session_timeout_ms` is fenced.
    pub fn activate(image: &Image, now_ms: i64, session_timeout_ms: i64) -> Self {
        let contact = |broker: &BrokerImage| Contact {
            heard: if broker.fenced { Heard::Never } else { Heard::Unsure(now_ms) },
            ..Contact::new(broker.epoch, image.offset)
        };
        let contacts = image.brokers.values().map(|broker| (broker.id, contact(broker))).collect();
        Self { session_timeout_ms, contacts }
    }

    /// The broker's registration with this epoch is decided; its record has this offset.
    pub fn registered(&mut self, id: NodeId, epoch: i64, offset: Offset) {
        match self.contacts.get_mut(&id) {
            Some(contact) if contact.epoch == epoch => contact.registered_at = offset,
            Some(_) | None => drop(self.contacts.insert(id, Contact::new(epoch, offset))),
        }
    }

    /// The broker runs in this process, and never counts as silent.
    pub fn in_process(&mut self, id: NodeId, epoch: i64) {
        let contact = self.contacts.entry(id).or_insert_with(|| Contact::new(epoch, epoch));
        contact.heard = Heard::Always;
    }

    /// A heartbeat came.
    pub(super) fn heard(&mut self, image: &Image, id: NodeId, epoch: i64, now_ms: i64) {
        let contact = self.contact(image, id, epoch);
        if contact.heard != Heard::Always {
            contact.heard = Heard::At(now_ms);
        }
    }

    /// The last record that the broker has seen.
    pub(super) fn reached(&mut self, image: &Image, id: NodeId, epoch: i64, metadata_offset: Offset) {
        self.contact(image, id, epoch).metadata_offset = metadata_offset;
    }

    /// The offset of the broker's registration.
    pub(super) fn registered_at(&mut self, image: &Image, id: NodeId, epoch: i64) -> Offset {
        self.contact(image, id, epoch).registered_at
    }

    /// The broker may stop once all others have seen this record, or the one that was named first.
    pub(super) fn shuts_down_at(&mut self, image: &Image, id: NodeId, epoch: i64, offset: Offset) {
        self.contact(image, id, epoch).shutdown_offset.get_or_insert(offset);
    }

    /// Whether every active broker has seen what the controlled shutdown of this one changed.
    pub(super) fn may_stop(&self, image: &Image, id: NodeId) -> bool {
        let Some(offset) = self.contacts.get(&id).and_then(|contact| contact.shutdown_offset) else {
            return false;
        };
        let seen = |broker: &BrokerImage| {
            let contact = self.contacts.get(&broker.id).filter(|contact| contact.epoch == broker.epoch);
            contact.is_some_and(|contact| contact.metadata_offset >= offset)
        };
        image.brokers.values().filter(|broker| broker.is_active()).all(|broker| seen(broker))
    }

    /// The connection has closed over which heartbeats came.
    pub(super) fn disconnected(&mut self, id: NodeId, epoch: i64) {
        if let Some(contact) = self.contacts.get_mut(&id).filter(|contact| contact.epoch == epoch)
            && let Heard::At(heard_ms) = contact.heard
        {
            contact.heard = Heard::Unsure(heard_ms);
        }
    }

    /// Whether nothing says that the broker with this epoch is still there.
    pub(super) fn is_unsure(&self, id: NodeId, epoch: i64) -> bool {
        let contact = self.contacts.get(&id).filter(|contact| contact.epoch == epoch);
        contact.is_some_and(|contact| matches!(contact.heard, Heard::Unsure(_)))
    }

    /// Whether this broker is alive, as far as anybody can know: another process can not be it then. One that was
    /// fenced, or whose connection has closed, may have restarted (Kafka's waits for the end of its session).
    pub(super) fn has_session(&self, broker: &BrokerImage, now_ms: i64) -> bool {
        let contact = self.contacts.get(&broker.id).filter(|contact| contact.epoch == broker.epoch);
        contact.is_some_and(|contact| match contact.heard {
            Heard::Never | Heard::Unsure(_) => false,
            Heard::At(heard_ms) => !broker.fenced && now_ms - heard_ms <= self.session_timeout_ms,
            Heard::Always => true,
        })
    }

    /// The broker that is not fenced and has been silent for the longest time, if that is too long.
    pub(super) fn stale(&self, image: &Image, now_ms: i64) -> Option<NodeId> {
        let (heard_ms, id) = self.unfenced(image).min()?;
        (now_ms - heard_ms > self.session_timeout_ms).then_some(id)
    }

    /// When the next broker is stale, unless it is heard of before.
    pub(super) fn next_stale_ms(&self, image: &Image) -> Option<i64> {
        let (heard_ms, _) = self.unfenced(image).min()?;
        Some(heard_ms + self.session_timeout_ms + 1)
    }

    /// Time in which the controller itself did not run is nobody's silence: everybody has half a session to be heard of.
    pub(super) fn forgive(&mut self, now_ms: i64) {
        for contact in self.contacts.values_mut() {
            if let Heard::At(heard_ms) | Heard::Unsure(heard_ms) = &mut contact.heard {
                *heard_ms = (*heard_ms).max(now_ms - self.session_timeout_ms / 2);
            }
        }
    }

    fn unfenced<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = (i64, NodeId)> + 'a {
        self.contacts.iter().filter_map(|(id, contact)| {
            let broker = image.brokers.get(id)?;
            match contact.heard {
                Heard::At(heard_ms) | Heard::Unsure(heard_ms)
                    if !broker.fenced && broker.epoch == contact.epoch =>
                {
                    Some((heard_ms, *id))
                }
                Heard::At(_) | Heard::Unsure(_) | Heard::Never | Heard::Always => None,
            }
        })
    }

    /// The contact with this registration. Of one that this controller did not decide it is only known that the log
    /// holds it.
    fn contact(&mut self, image: &Image, id: NodeId, epoch: i64) -> &mut Contact {
        let contact = self.contacts.entry(id).or_insert_with(|| Contact::new(epoch, image.offset));
        if contact.epoch != epoch {
            *contact = Contact::new(epoch, image.offset);
        }
        contact
    }
}
