//! Sockets: listeners, connections, frames. The only module that names them.
//!
//! A listener accepts, [`admission`] says who may come in and how much memory unanswered requests may hold, and each
//! connection is one task ([`connection`]) that reads frames ([`codec`]), starts requests, and writes the responses in
//! the order of the requests.

pub(crate) mod admission;
mod codec;
mod connection;
pub(crate) mod listener;
mod outbox;
