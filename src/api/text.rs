//! Texts between the wire and the domain: Kafka's codec has its own strings.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

use crate::error::ErrorCode;

/// A text of a response.
pub(super) fn wire(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A text of a response that may be null.
pub(super) fn wire_optional(text: Option<&Arc<str>>) -> Option<StrBytes> {
    text.map(|text| wire(text))
}

/// A text of a request.
pub(super) fn shared(text: &str) -> Arc<str> {
    text.into()
}

/// A text of a request that may be null.
pub(super) fn shared_optional(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(|text| shared(text))
}

/// An error code of a response: 0 for none.
pub(super) fn wire_error(error: Option<ErrorCode>) -> i16 {
    error.map_or(0, |code| code.code())
}
