//! BrokerHeartbeat (63): version 2 tells cordoned directories (KIP-1066), which the crate's request can not.

use uuid::Uuid;

use crate::protocol::schema::schema;

schema! {
    /// A broker says that it lives, and what it wants to become (BrokerHeartbeatRequest).
    pub struct BrokerHeartbeatRequest, versions 0..=2, flexible 0.. {
        /// The broker.
        broker_id: i32,
        /// The epoch of its registration.
        broker_epoch: i64 = -1,
        /// How much of the metadata log it has taken in.
        current_metadata_offset: i64,
        /// It wants to serve nobody.
        want_fence: bool,
        /// It wants to stop.
        want_shut_down: bool,
        /// The log directories that failed.
        offline_log_dirs: Vec<Uuid> [1.., tag 0],
        /// The log directories that get no new replicas; null while it starts.
        cordoned_log_dirs: Option<Vec<Uuid>> [2.., tag 1] = None,
    }

    /// The answer (BrokerHeartbeatResponse).
    pub struct BrokerHeartbeatResponse, versions 0..=2, flexible 0.. {
        /// How long the broker is held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// What is wrong, or 0.
        error_code: i16,
        /// The broker has taken in (nearly) all of the metadata log.
        is_caught_up: bool,
        /// The broker serves nobody.
        is_fenced: bool = true,
        /// The broker may stop now.
        should_shut_down: bool,
    }
}
