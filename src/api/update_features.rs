//! UpdateFeatures (57): finalises features at other levels, all of them or none (KIP-584).
//!
//! Version 0 has a flag that allows a downgrade; since version 1 it is told how the level may be reached, and the
//! request may be tried out. Since version 2 there is no result for each feature any more.

use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;

use super::context::{Context, Disconnect};
use super::outcome::{code_and_message, text};
use crate::metadata::Metadata;
use crate::metadata::command::{FeatureUpdate, UpgradeType};
use crate::protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

/// The last version with a result for each feature.
const RESULTS_UNTIL: i16 = 1;

pub(super) async fn handle(
    context: &Context,
    request: UpdateFeaturesRequest,
    version: i16,
) -> Result<UpdateFeaturesResponse, Disconnect> {
    Ok(update(&context.broker.metadata, request, version).await)
}

pub(super) async fn update(
    metadata: &Metadata,
    request: UpdateFeaturesRequest,
    version: i16,
) -> UpdateFeaturesResponse {
    let updates: Vec<FeatureUpdate> = request
        .feature_updates
        .iter()
        .map(|update| FeatureUpdate {
            name: update.feature.to_string(),
            level: update.max_version_level,
            upgrade_type: match (version, update.allow_downgrade, update.upgrade_type) {
                (0, true, _) => UpgradeType::SafeDowngrade,
                (0, false, _) | (_, _, 1) => UpgradeType::Upgrade,
                (_, _, 2) => UpgradeType::SafeDowngrade,
                (_, _, 3) => UpgradeType::UnsafeDowngrade,
                _ => UpgradeType::Unknown,
            },
        })
        .collect();
    let result = metadata.update_features(updates, request.validate_only).await;
    let (code, message) = code_and_message(&result);
    let mut response = UpdateFeaturesResponse::default().with_error_code(code).with_error_message(None);
    if let Some(message) = message {
        let all = format!("No feature was updated, because of this one: {}", message.as_str());
        response = response.with_error_message(Some(text(all)));
    } else if version <= RESULTS_UNTIL {
        let result =
            |name| UpdatableFeatureResult::default().with_feature(name).with_error_message(Some(text("")));
        response.results = request.feature_updates.into_iter().map(|update| result(update.feature)).collect();
    }
    response
}
