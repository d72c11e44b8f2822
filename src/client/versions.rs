//! Which version of an API is used with another node.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use crate::error::ErrorCode;
use crate::protocol::header::API_VERSIONS;
use crate::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, Body};

/// What another node serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions(BTreeMap<i16, (i16, i16)>);

impl Versions {
    /// The highest version of an API that both sides know.
    pub(super) fn highest(&self, api_key: i16, ours: &RangeInclusive<i16>) -> Option<i16> {
        let (min, max) = self.0.get(&api_key)?;
        let highest = (*max).min(*ours.end());
        (highest >= (*min).max(*ours.start())).then_some(highest)
    }
}

/// The question that opens a connection.
pub(super) fn question() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
}

/// What a node says to [`question`].
pub(super) enum Reply {
    Versions(Versions),
    /// It knows only older versions of the question, up to this one (KIP-511).
    AskAgain(i16),
}

/// Reads the answer to a [`question`] of this version.
pub(super) fn read(mut body: Bytes, version: i16) -> Result<Reply, String> {
    let unsupported = ErrorCode::UnsupportedVersion.code();
    let refused = body.first_chunk().is_some_and(|code| i16::from_be_bytes(*code) == unsupported);
    // Refusals are in the form of version 0, which every client can read.
    let form = if refused { 0 } else { version };
    let response = ApiVersionsResponse::decode(&mut body, form).map_err(|error| error.to_string())?;
    let served = response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
    let served = Versions(served.collect());
    if refused {
        let ours = *ApiVersionsRequest::VERSIONS.start()..=version - 1;
        let older = served.highest(API_VERSIONS, &ours).unwrap_or(0);
        return if version > 0 { Ok(Reply::AskAgain(older)) } else { Err("no version in common".to_owned()) };
    }
    match response.error_code {
        0 => Ok(Reply::Versions(served)),
        code => Err(format!("error {code} to the question for its versions")),
    }
}
