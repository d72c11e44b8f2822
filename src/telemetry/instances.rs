//! The clients that ask for subscriptions and push: who they are, and when each may come again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use uuid::Uuid;

use super::subscriptions::Subscriptions;
use crate::error::ErrorCode;
use crate::types::kafka_id;

/// How many clients are remembered; the one that was silent for longest makes room for the next.
const INSTANCES_MAX: usize = 16_384;

/// How long a client is remembered that does not push more often, in milliseconds.
const KEPT_MS: i64 = 60_000;

/// Before any moment that a clock shows, and far from the end of numbers.
const NEVER_MS: i64 = i64::MIN / 2;

/// What is known of a client by its connection.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The client id of its requests, where they have one.
    pub client_id: Option<String>,
    /// Its library and the library's version.
    pub software: (String, String),
    /// Where it connects from.
    pub peer: SocketAddr,
    /// Gone when its connection has ended.
    pub connection: Weak<()>,
}

impl Identity {
    /// An attribute by the name that subscriptions select by.
    pub(super) fn attribute(&self, id: Uuid, selector: &str) -> Option<String> {
        match selector {
            "client_instance_id" => Some(kafka_id(id)),
            "client_id" => self.client_id.clone(),
            "client_software_name" => Some(self.software.0.clone()),
            "client_software_version" => Some(self.software.1.clone()),
            "client_source_address" => Some(self.peer.ip().to_canonical().to_string()),
            "client_source_port" => Some(self.peer.port().to_string()),
            _ => None,
        }
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Instance {
    identity: Identity,
    subscriptions_version: u64,
    pub(super) subscription_id: i32,
    pub(super) metrics: Arc<[String]>,
    pub(super) push_interval_ms: i32,
    last_get_ms: i64,
    last_push_ms: i64,
    expires_ms: i64,
    /// It said that it ends.
    pub(super) is_terminating: bool,
    /// What its last request was refused with.
    pub(super) last_error: Option<ErrorCode>,
}

impl Instance {
    fn new(id: Uuid, identity: Identity, subscriptions: &Subscriptions) -> Self {
        let (metrics, push_interval_ms, subscription_id) = subscriptions.of(id, &identity);
        Self {
            identity,
            subscriptions_version: subscriptions.version(),
            subscription_id,
            metrics: metrics.into(),
            push_interval_ms,
            last_get_ms: NEVER_MS,
            last_push_ms: NEVER_MS,
            expires_ms: 0,
            is_terminating: false,
            last_error: None,
        }
    }

    /// How long it is remembered after each request, in milliseconds.
    pub(super) fn kept_ms(&self) -> i64 {
        KEPT_MS.max(i64::from(self.push_interval_ms) * 3)
    }

    /// Whether it may ask for its subscription now; one that was told that it knows an old one may at once.
    pub(super) fn may_get(&mut self, now_ms: i64) -> bool {
        if now_ms - self.last_get_ms.max(self.last_push_ms) >= self.push_interval_ms.into() {
            self.last_get_ms = now_ms;
            return true;
        }
        matches!(
            self.last_error,
            Some(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType)
        )
    }

    /// Whether it may push now: at any time after it asked, as clients wait for a random part of the interval first.
    pub(super) fn may_push(&mut self, now_ms: i64) -> bool {
        let may = self.last_get_ms > self.last_push_ms
            || now_ms - self.last_push_ms >= self.push_interval_ms.into();
        if may {
            self.last_push_ms = now_ms;
        }
        may
    }

    /// What is added to everything that it pushes.
    pub(super) fn labels(&self, id: Uuid) -> Vec<(&'static str, String)> {
        let names = [
            "client_id",
            "client_instance_id",
            "client_software_name",
            "client_software_version",
            "client_source_address",
        ];
        names.into_iter().filter_map(|name| Some((name, self.identity.attribute(id, name)?))).collect()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Instances {
    pub(super) subscriptions: Subscriptions,
    by_id: HashMap<Uuid, Instance>,
}

impl Instances {
    /// The client of a request, with what is wanted of it by now.
    pub(super) fn get(&mut self, id: Uuid, of: &Identity, now_ms: i64) -> &mut Instance {
        self.make_room(id, now_ms);
        let subscriptions = &self.subscriptions;
        let instance = self.by_id.entry(id).or_insert_with(|| Instance::new(id, of.clone(), subscriptions));
        if instance.identity.connection.strong_count() == 0
            || instance.expires_ms < now_ms && instance.expires_ms > 0
        {
            *instance = Instance::new(id, of.clone(), subscriptions);
        } else if instance.subscriptions_version < subscriptions.version() {
            *instance = Instance::new(id, instance.identity.clone(), subscriptions);
        }
        instance.expires_ms = now_ms.saturating_add(instance.kept_ms());
        instance
    }

    /// A client that is remembered.
    pub(super) fn known(&mut self, id: Uuid) -> Option<&mut Instance> {
        self.by_id.get_mut(&id)
    }

    /// Forgets those that were silent for long, and those whose connection has ended.
    pub(super) fn expire(&mut self, now_ms: i64) {
        self.by_id.retain(|_, one| one.expires_ms >= now_ms && one.identity.connection.strong_count() > 0);
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn make_room(&mut self, id: Uuid, now_ms: i64) {
        if self.by_id.len() < INSTANCES_MAX || self.by_id.contains_key(&id) {
            return;
        }
        self.expire(now_ms);
        if self.by_id.len() >= INSTANCES_MAX {
            let latest = |one: &Instance| one.last_get_ms.max(one.last_push_ms);
            let oldest = self.by_id.iter().min_by_key(|(_, one)| latest(one)).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.by_id.remove(&oldest));
        }
    }
}
