//! ApiVersions (18): which APIs are served in which versions, and which features the cluster has (KIP-35, KIP-511,
//! KIP-584).
//!
//! - A version that we do not know is answered in version 0 with UNSUPPORTED_VERSION and the versions of this API
//!   alone, so that the client can try again.
//! - The response header stays at version 0 in every version.
//! - Version 3 hides supported features that start at 0, which its readers take for an error (KAFKA-17011).

use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::request::{Encoded, Running};
use super::{ApiEntry, advertised};
use crate::error::ErrorCode;
use crate::metadata::image::KRAFT_VERSION;
use crate::protocol::header::RequestHeader;
use crate::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

/// The API key.
pub(super) const KEY: i16 = 18;

/// The first version that tells features.
const FEATURES_FROM: i16 = 3;
/// The first version that tells supported features whose lowest level is 0.
const FEATURES_FROM_ZERO_FROM: i16 = 4;

/// Answers what is served, and remembers the software that the client says it is.
pub(super) async fn handle(
    context: &Context,
    request: ApiVersionsRequest,
    version: i16,
) -> Result<ApiVersionsResponse, Disconnect> {
    if version >= 3 {
        let (name, software_version) = (&request.client_software_name, &request.client_software_version);
        if !is_software_name(name) || !is_software_name(software_version) {
            return Ok(ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code()));
        }
        // The first word counts: a client tells once, at the start of its connection.
        let _ = context.connection.software.set((name.to_string(), software_version.to_string()));
    }
    let listener = context.connection.listener.kind;
    let served = advertised().iter().filter(|api| listener.serves(api.listeners));
    let response = ApiVersionsResponse::default().with_api_keys(served.map(api_version).collect());
    Ok(if version >= FEATURES_FROM { with_features(context, response, version) } else { response })
}

/// Adds what this broker supports and what the cluster has agreed on.
fn with_features(context: &Context, response: ApiVersionsResponse, version: i16) -> ApiVersionsResponse {
    let image = context.broker.metadata.image();
    let supported = context.broker.metadata.supported_features();
    let shown = supported.iter().filter(|feature| feature.min > 0 || version >= FEATURES_FROM_ZERO_FROM);
    let supported = shown.map(|feature| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_string(feature.name.to_string()))
            .with_min_version(feature.min)
            .with_max_version(feature.max)
    });
    // The level of kraft.version is no feature record: the quorum has it.
    let level = context.broker.metadata.quorum().kraft_version();
    let kraft_version = (level > 0).then_some((KRAFT_VERSION, level));
    let finalized = image.features().chain(kraft_version).map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_string(name.to_string()))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(image.offset)
}

/// The answer to a version that we do not know.
pub(super) fn refuse(header: &RequestHeader) -> Result<Running, Disconnect> {
    let this_api = advertised().iter().filter(|api| api.key == KEY);
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(this_api.map(api_version).collect());
    let header = RequestHeader { api_version: 0, ..header.clone() };
    let encoded = Encoded::response(&header, &response)?;
    Ok(Box::pin(std::future::ready(Ok(Some(encoded)))))
}

fn api_version(api: &ApiEntry) -> ApiVersion {
    ApiVersion::default().with_api_key(api.key).with_min_version(api.min).with_max_version(api.max)
}

/// Letters, digits, dots and dashes, with a letter or digit at both ends (KIP-511).
fn is_software_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    outer(text.chars().next()) && outer(text.chars().next_back()) && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_checked_as_in_kip_511() {
        for name in ["apache-kafka-java", "a", "4.3.1", "librdkafka"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a b", ".a", "ä", "a_b"] {
            assert!(!is_software_name(name), "{name}");
        }
    }
}
