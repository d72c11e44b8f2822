//! Errors. Kafka's codes are the vocabulary: what goes wrong inside becomes one of them at the
//! place where it is known what a client can do about it.

use std::fmt;
use std::path::PathBuf;

/// Kafka's error codes (`org.apache.kafka.common.protocol.Errors`). Success has no value here:
/// it is `Ok`, and 0 on the wire.
pub use kafka_protocol::error::ResponseError as ErrorCode;

/// What a request, or one of its items, is answered with when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub code: ErrorCode,
    /// A sentence for a person, where the response has a field for it.
    pub message: Option<String>,
}

impl ApiError {
    /// An error whose code says everything.
    pub fn new(code: ErrorCode) -> Self {
        Self { code, message: None }
    }

    /// An error with a sentence that says what was wrong.
    pub fn with(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message}"),
            None => write!(f, "{}", self.code),
        }
    }
}

impl std::error::Error for ApiError {}

/// The code of a result as it stands on the wire: 0 for success.
pub fn wire_code<T>(result: &Result<T, ApiError>) -> i16 {
    result.as_ref().err().map_or(0, |error| error.code.code())
}

/// What the store can not do. The texts are meant for the operator.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    #[error(
        "the data directory {directory} is in use by another process: stop that one, or name another directory"
    )]
    Locked { directory: PathBuf },
    #[error(
        "the directory {directory} holds something that is not klamm's ({found}): name one that is empty or missing"
    )]
    Foreign { directory: PathBuf, found: String },
    #[error("the data directory {directory} {problem}")]
    Mismatch { directory: PathBuf, problem: String },
    #[error("the store is damaged: {0}")]
    Damaged(String),
    #[error("the store can not be written: {0}")]
    Write(String),
    #[error("the store can not be read: {0}")]
    Read(String),
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        Self::with(ErrorCode::KafkaStorageError, error.to_string())
    }
}
