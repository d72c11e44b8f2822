//! How the result of one item of a request stands in a response.

use kafka_protocol::protocol::StrBytes;

use crate::error::{ApiError, ErrorCode, wire_code};

/// A text of ours as the codec takes it.
pub(super) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// The code, and a sentence where it is an error: its own one, or what Kafka says of the code.
pub(super) fn code_and_message<T>(result: &Result<T, ApiError>) -> (i16, Option<StrBytes>) {
    (wire_code(result), result.as_ref().err().map(|error| text(error.to_string())))
}

/// The result of every item of a request, in its order: those that could be read have one in `results`, and those
/// that could not are refused for that reason.
pub(super) fn in_order<T, U>(
    read: Vec<Result<T, ApiError>>,
    results: Vec<Result<U, ApiError>>,
) -> impl Iterator<Item = Result<U, ApiError>> {
    let mut results = results.into_iter();
    let unanswered = || Err(ErrorCode::UnknownServerError.into());
    read.into_iter().map(move |read| read.and_then(|_| results.next().unwrap_or_else(unanswered)))
}
