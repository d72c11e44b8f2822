//! Which quota holds for which client (`ClientQuotaManager.DefaultQuotaCallback`).

use std::collections::HashMap;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuotaKind {
    /// `producer_byte_rate`: bytes of Produce requests per second.
    Produce,
    /// `consumer_byte_rate`: bytes of Fetch responses per second.
    Fetch,
    /// `request_percentage`: the share of one thread's time that requests take.
    Request,
    /// `controller_mutation_rate`: partitions that are created and deleted per second.
    ControllerMutation,
}

impl QuotaKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Produce, Self::Fetch, Self::Request, Self::ControllerMutation];

    /// The kind that a key of a quota stands for.
    pub fn of_key(key: &str) -> Option<Self> {
        match key {
            "producer_byte_rate" => Some(Self::Produce),
            "consumer_byte_rate" => Some(Self::Fetch),
            "request_percentage" => Some(Self::Request),
            "controller_mutation_rate" => Some(Self::ControllerMutation),
            _ => None,
        }
    }

    /// Kafka's name of it, as its beans have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce => "Produce",
            Self::Fetch => "Fetch",
            Self::Request => "Request",
            Self::ControllerMutation => "ControllerMutation",
        }
    }

    /// A number of its own, from 0.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Produce => 0,
            Self::Fetch => 1,
            Self::Request => 2,
            Self::ControllerMutation => 3,
        }
    }
}

/// Whom a quota is for: a name, or whoever has none of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// The one with this name.
    Is(String),
    /// Everyone for whom nothing else is said.
    Default,
}

impl From<Option<&str>> for Name {
    fn from(name: Option<&str>) -> Self {
        name.map_or(Self::Default, |name| Self::Is(name.to_owned()))
    }
}

/// A user, a client id, or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entity {
    /// The user, where it is one.
    pub user: Option<Name>,
    /// The client id, where it is one.
    pub client_id: Option<Name>,
}

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// The user; ANONYMOUS where nobody has to say who it is.
    pub user: &'a str,
    /// The client id of the request, empty where it has none.
    pub client_id: &'a str,
}

/// Who shares a quota: all clients of a user, all with a client id, or both. Empty stands for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// The user.
    pub user: &'a str,
    /// The client id.
    pub client_id: &'a str,
}

/// The quotas of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    by_entity: HashMap<Entity, f64>,
    /// How many there are for client ids alone, for users alone, and for both.
    of_clients: usize,
    of_users: usize,
    of_both: usize,
}

impl Limits {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_entity.is_empty()
    }

    /// Adds a quota. An entity that is neither a user nor a client id has none.
    pub fn insert(&mut self, entity: Entity, quota: f64) {
        let count = match (&entity.user, &entity.client_id) {
            (Some(_), Some(_)) => &mut self.of_both,
            (Some(_), None) => &mut self.of_users,
            (None, Some(_)) => &mut self.of_clients,
            (None, None) => return,
        };
        if self.by_entity.insert(entity, quota).is_none() {
            *count += 1;
        }
    }

    /// With whom a client shares its quota. Where quotas are of one sort only, everyone is measured by that sort;
    /// otherwise by the most special one that there is for the client.
    pub fn share<'a>(&self, client: Client<'a>) -> Share<'a> {
        let Client { user, client_id } = client;
        let (of_user, of_client) = (Share { user, client_id: "" }, Share { user: "", client_id });
        let of_both = Share { user, client_id };
        match (self.of_users > 0, self.of_both > 0, self.of_clients > 0) {
            (false, false, _) => return of_client,
            (true, false, false) => return of_user,
            (false, true, false) => return of_both,
            (_, true, _) | (true, false, true) => {}
        }
        let is = |name: &str| Some(Name::Is(name.to_owned()));
        let has = |user, client_id| self.by_entity.contains_key(&Entity { user, client_id });
        let default = || Some(Name::Default);
        if has(is(user), is(client_id)) || has(is(user), default()) {
            of_both
        } else if has(is(user), None) {
            of_user
        } else if has(default(), is(client_id)) || has(default(), default()) {
            of_both
        } else if has(default(), None) {
            of_user
        } else {
            of_client
        }
    }

    /// The quota of those who share one; `None` where nothing limits them.
    pub fn limit(&self, share: Share<'_>) -> Option<f64> {
        let names = |name: &str| [Some(Name::Is(name.to_owned())), Some(Name::Default)];
        let (users, clients) = match (share.user.is_empty(), share.client_id.is_empty()) {
            (false, false) => (names(share.user), names(share.client_id)),
            (false, true) => (names(share.user), [None, None]),
            (true, false) => ([None, None], names(share.client_id)),
            (true, true) => return None,
        };
        let pairs = users.iter().flat_map(|user| clients.iter().map(move |client| (user, client)));
        pairs
            .map(|(user, client_id)| Entity { user: user.clone(), client_id: client_id.clone() })
            .find_map(|entity| self.by_entity.get(&entity).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(user: Option<Option<&str>>, client_id: Option<Option<&str>>) -> Entity {
        Entity { user: user.map(Name::from), client_id: client_id.map(Name::from) }
    }

    /// As the documentation of `ClientQuotaManager` lists them, the first one first.
    #[test]
    fn the_most_special_quota_holds() {
        let order = [
            entity(Some(Some("u")), Some(Some("c"))),
            entity(Some(Some("u")), Some(None)),
            entity(Some(Some("u")), None),
            entity(Some(None), Some(Some("c"))),
            entity(Some(None), Some(None)),
            entity(Some(None), None),
            entity(None, Some(Some("c"))),
            entity(None, Some(None)),
        ];
        let client = Client { user: "u", client_id: "c" };
        for subset in 1_u32..256 {
            let mut limits = Limits::default();
            let here = |place: &usize| subset & (1 << place) != 0;
            let mut quota = 0.0;
            let mut first = None;
            for (place, entity) in order.iter().enumerate() {
                quota += 1.0;
                if here(&place) {
                    limits.insert(entity.clone(), quota);
                    first = first.or(Some(quota));
                }
            }
            assert_eq!(limits.limit(limits.share(client)), first, "{subset:08b}");
            let other = Client { user: "v", client_id: "d" };
            let defaults = [(4, 5.0), (5, 6.0), (7, 8.0)];
            let shared = defaults.into_iter().find(|(place, _)| here(place)).map(|(_, quota)| quota);
            assert_eq!(limits.limit(limits.share(other)), shared, "{subset:08b}");
        }
    }

    #[test]
    fn a_client_without_an_id_has_no_quota_of_client_ids() {
        let mut limits = Limits::default();
        limits.insert(entity(None, Some(None)), 1.0);
        assert_eq!(limits.limit(limits.share(Client { user: "u", client_id: "" })), None);
    }
}
