//! How the result of one item of a request stands in a response.

use kafka_protocol::protocol::StrBytes;

use crate::error::{ApiError, wire_code};

/// A text of ours as the codec takes it.
pub(super) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// The code, and a sentence where it is an error: its own one, or what Kafka says of the code.
pub(super) fn code_and_message<T>(result: &Result<T, ApiError>) -> (i16, Option<StrBytes>) {
    (wire_code(result), result.as_ref().err().map(|error| text(error.to_string())))
}
