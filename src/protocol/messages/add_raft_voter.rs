//! AddRaftVoter (80): version 1 can ask for an answer before the change is committed (KIP-1186), which the crate's
//! request can not.

use uuid::Uuid;

use crate::protocol::schema::schema;

schema! {
    /// Makes an observer of the metadata log a voter (AddRaftVoterRequest).
    pub struct AddRaftVoterRequest, versions 0..=1, flexible 0.. {
        /// The cluster, where the caller knows it.
        cluster_id: Option<String>,
        /// How long the answer may take, in milliseconds.
        timeout_ms: i32,
        /// The new voter.
        voter_id: i32,
        /// Its directory.
        voter_directory_id: Uuid,
        /// Where it listens.
        listeners: Vec<AddRaftVoterListener>,
        /// Whether the answer waits until the change is committed.
        ack_when_committed: bool [1.., ignorable] = true,
    }

    /// A listener in an AddRaftVoterRequest.
    pub struct AddRaftVoterListener {
        /// Its name.
        name: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    }

    /// The answer (AddRaftVoterResponse).
    pub struct AddRaftVoterResponse, versions 0..=1, flexible 0.. {
        /// How long the client is held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// What is wrong, or 0.
        error_code: i16,
        /// What is wrong, for a person.
        error_message: Option<String> = None,
    }
}
