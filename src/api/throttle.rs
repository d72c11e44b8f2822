//! Holding clients back: what a request counts for the quotas of its client, and how long that is not listened to
//! afterwards (Kafka's `RequestHandlerHelper`, KIP-219).
//!
//! The response leaves at once and says how long the client is held back; its connection reads nothing more until that
//! time is over. Where several quotas are exceeded the longest time counts. All responses have their throttle time at a
//! place that their API and version tell, so that it is written when they are encoded already, and no handler has to
//! know of it. Fetch alone looks at the quotas by itself, as whoever is over them gets no records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf as _;
use parking_lot::Mutex;

use super::context::{BrokerHandles, Connection, Context};
use super::request::{Encoded, Request};
use super::{ApiEntry, envelope};
use crate::metadata::command::PartitionQuota;
use crate::protocol::header::response_header_size;
use crate::quota::{Client, MutationQuota, QuotaKind};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const SHARE_FETCH: i16 = 78;
const API_VERSIONS: i16 = 18;

/// Requests that nobody is held back for: other nodes send them (`sendResponseExemptThrottle`).
const EXEMPT: &[i16] = &[27, 52, 53, 54, 56, 59];

/// What quotas have to know of one request. There is one only while there are quotas.
#[derive(Debug)]
pub(crate) struct Metered {
    client_id: String,
    /// The size of the whole request.
    request_bytes: usize,
    /// Whether there is a quota for this client.
    is_limited: bool,
    work: Mutex<Work>,
    findings: Mutex<Findings>,
}

/// How long was worked on the request: until it was last taken up, and when that was.
#[derive(Debug)]
struct Work {
    before: Duration,
    since: Option<Instant>,
}

/// What the handler found out by itself.
#[derive(Debug, Default)]
struct Findings {
    /// Nobody is held back for it.
    exempt: bool,
    /// The quotas were looked at already: by which the client is held back, and for how many milliseconds.
    decided: Option<(QuotaKind, i32)>,
    mutations: Option<Arc<MutationQuota>>,
}

impl Metered {
    /// That of a request, if there are quotas at all.
    pub(crate) fn start(
        broker: &BrokerHandles,
        connection: &Connection,
        request: &Request,
    ) -> Option<Arc<Self>> {
        let quotas = &broker.quotas.clients;
        if !quotas.is_active() {
            return None;
        }
        let client_id = request.header.client_id.clone().unwrap_or_default();
        let client = Client { user: connection.user(), client_id: &client_id };
        let is_limited = QuotaKind::ALL.into_iter().any(|kind| quotas.is_limited(kind, client));
        let work = Mutex::new(Work { before: Duration::ZERO, since: None });
        let request_bytes = request.frame_bytes;
        Some(Arc::new(Self { client_id, request_bytes, is_limited, work, findings: Mutex::default() }))
    }

    /// Whether there is a quota for this client, so that its requests are taken one after the other.
    pub(crate) fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// The request is worked on from now on.
    pub(crate) fn resume(&self, now: Instant) {
        self.work.lock().since = Some(now);
    }

    /// The request waits for something.
    pub(crate) fn pause(&self, now: Instant) {
        let mut work = self.work.lock();
        if let Some(since) = work.since.take() {
            work.before += now.saturating_duration_since(since);
        }
    }

    /// Another thread has worked on it.
    pub(super) fn worked(&self, time: Duration) {
        self.work.lock().before += time;
    }

    /// Nobody is held back for this request.
    pub(super) fn exempt(&self) {
        self.findings.lock().exempt = true;
    }

    fn client<'a>(&'a self, connection: &'a Connection) -> Client<'a> {
        Client { user: connection.user(), client_id: &self.client_id }
    }

    /// How long was worked on it, in percents of a second.
    fn percents(&self) -> f64 {
        let work = self.work.lock();
        let time = work.before + work.since.map_or(Duration::ZERO, |since| since.elapsed());
        time.as_secs_f64() * 100.0
    }
}

/// Takes in what a consumer is about to get. Whether it gets nothing instead, as it is held back.
pub(super) fn fetched(context: &Context, response_bytes: usize) -> bool {
    let Some(metered) = &context.metered else { return false };
    let (quotas, now_ms) = (&context.broker.quotas.clients, context.broker.clock.steady_ms());
    let client = metered.client(&context.connection);
    let request_ms = quotas.record(QuotaKind::Request, client, metered.percents(), now_ms);
    let bytes = float(response_bytes);
    let fetch_ms = quotas.record(QuotaKind::Fetch, client, bytes, now_ms);
    let longest =
        if fetch_ms > request_ms { (QuotaKind::Fetch, fetch_ms) } else { (QuotaKind::Request, request_ms) };
    metered.findings.lock().decided = Some(longest);
    if longest.1 > 0 {
        quotas.take_back(QuotaKind::Fetch, client, bytes, now_ms);
    }
    longest.1 > 0
}

/// The most bytes that a consumer can get at once without being held back for them in any case; `None` for as many as
/// it wants. With more it would never get on.
pub(super) fn fetched_at_once_max(context: &Context) -> Option<usize> {
    let metered = context.metered.as_ref()?;
    let client = metered.client(&context.connection);
    let most = context.broker.quotas.clients.used_at_once_max(QuotaKind::Fetch, client)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no less than 0, and i32 is enough"
    )]
    Some(most.clamp(0.0, f64::from(i32::MAX)) as usize)
}

/// The quota for partitions that a request creates or deletes. A strict one refuses what is too much.
pub(super) fn partition_quota(context: &Context, strict: bool) -> PartitionQuota {
    let clock = context.broker.clock.clone();
    let client = Client { user: context.connection.user(), client_id: context.client_id() };
    let quota = context.broker.quotas.clients.mutations(client, strict, clock.steady_ms());
    let Some(quota) = quota.map(Arc::new) else { return PartitionQuota::NONE };
    if let Some(metered) = &context.metered {
        metered.findings.lock().mutations = Some(Arc::clone(&quota));
    }
    PartitionQuota::new(move |partitions| quota.record(partitions, clock.steady_ms()))
}

/// Takes in a request that is answered, and writes into its response by which quota its client is held back from now on,
/// and for how many milliseconds; 0 for not at all.
pub(super) fn settle(
    broker: &BrokerHandles,
    connection: &Connection,
    metered: &Metered,
    (api, version): (&ApiEntry, i16),
    response: Option<&mut Encoded>,
) -> (QuotaKind, i32) {
    if api.key == envelope::KEY {
        return (QuotaKind::Request, 0);
    }
    let (quotas, now_ms) = (&broker.quotas.clients, broker.clock.steady_ms());
    let client = metered.client(connection);
    let findings = std::mem::take(&mut *metered.findings.lock());
    let mut longest = findings.decided.unwrap_or((QuotaKind::Request, 0));
    if findings.exempt || EXEMPT.contains(&api.key) || (response.is_none() && findings.decided.is_none()) {
        quotas.record_exempt(metered.percents(), now_ms);
    } else if findings.decided.is_none() {
        longest.1 = quotas.record(QuotaKind::Request, client, metered.percents(), now_ms);
    }
    let mut other = |kind, throttle_ms| {
        if throttle_ms > longest.1 {
            longest = (kind, throttle_ms);
        }
    };
    if api.key == PRODUCE {
        other(
            QuotaKind::Produce,
            quotas.record(QuotaKind::Produce, client, float(metered.request_bytes), now_ms),
        );
    }
    // Its records belong to the member already: it gets them, and is held back afterwards.
    if api.key == SHARE_FETCH
        && let Some(response) = &response
    {
        other(QuotaKind::Fetch, quotas.record(QuotaKind::Fetch, client, float(response.bytes()), now_ms));
    }
    if let Some(mutations) = &findings.mutations {
        other(QuotaKind::ControllerMutation, mutations.throttle_ms(now_ms));
    }
    if let Some(response) = response {
        // What the controller said, where it has answered.
        other(QuotaKind::Request, response.throttle_ms(api.key, version).unwrap_or(0));
        if longest.1 > 0 {
            response.set_throttle_ms(api.key, version, longest.1);
        }
    }
    longest
}

/// The same for the client of a connection of this broker, which is to hold it back: for how many milliseconds.
pub(crate) fn hold_back(
    broker: &BrokerHandles,
    connection: &Connection,
    metered: &Metered,
    api: (&ApiEntry, i16),
    response: Option<&mut Encoded>,
) -> i32 {
    let (kind, throttle_ms) = settle(broker, connection, metered, api, response);
    if throttle_ms > 0 {
        let now_ms = broker.clock.steady_ms();
        broker.quotas.clients.held_back(kind, metered.client(connection), throttle_ms, now_ms);
    }
    throttle_ms
}

/// Where in a response, behind its length, the throttle time stands; `None` where it has none. That of Produce stands
/// behind what it can not be found by: its handler says where.
pub(super) fn throttle_at(key: i16, version: i16, frame: &[u8]) -> Option<usize> {
    let since = match key {
        FETCH | 10 | 12..=16 | API_VERSIONS | 20 => 1,
        2 | 11 | 19 | 23 => 2,
        3 | 8 | 9 => 3,
        21 | 22 | 24..=26 | 28..=35 | 37 | 42..=51 | 56..=57 | 59..=82 | 88..=92 => 0,
        _ => return None,
    };
    let body = response_header_size(key, version);
    let inside = match key {
        API_VERSIONS => behind_api_versions(version, frame.get(body..)?)?,
        // Behind the error code.
        47 => 2,
        _ => 0,
    };
    (version >= since).then_some(body + inside)
}

/// Behind the error code and the list of APIs.
fn behind_api_versions(version: i16, mut body: &[u8]) -> Option<usize> {
    if version >= 3 {
        let length = body.len();
        body = body.get(2..)?;
        let mut count = 0;
        for shift in [0, 7, 14] {
            let byte = body.first().copied()?;
            body.advance(1);
            count |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        return Some(length - body.len() + count.saturating_sub(1) * 7);
    }
    let count = body.get(2..6)?.try_into().ok().map(i32::from_be_bytes)?;
    Some(6 + usize::try_from(count).ok()? * 6)
}

#[expect(clippy::cast_precision_loss, reason = "sizes of requests and responses")]
fn float(bytes: usize) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use crate::api::{advertised, throttled_default};

    #[test]
    fn every_response_that_has_a_throttle_time_is_told_it() {
        for api in advertised() {
            for version in api.served_from..=api.max {
                let (has_field, text) = throttled_default(api.key, version, 123_456);
                let told = text.contains("throttle_time_ms: 123456");
                assert_eq!(told, has_field, "{} {version}: {text}", api.name);
                let can_tell = text.contains("throttle_time_ms");
                assert!(version < api.max || has_field == can_tell, "{} {version}: {text}", api.name);
            }
        }
    }
}
