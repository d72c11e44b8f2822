//! AlterClientQuotas (49): sets and removes the quotas of users, client ids and addresses, each entity by itself.
//!
//! An entity that stands twice, or of which a key stands twice, is refused and answered once. What was said of it first
//! holds all the same where only the entity stands twice, as in Kafka.

use std::net::IpAddr;

use kafka_protocol::messages::alter_client_quotas_request::EntryData as Asked;
use kafka_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};

use super::context::{Context, Disconnect};
use super::outcome::{code_and_message, text};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::QuotaAlteration;
use crate::metadata::controller::quotas;
use crate::metadata::image::ClientQuotaEntity;
use crate::protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};

pub(super) async fn handle(
    context: &Context,
    request: AlterClientQuotasRequest,
    _version: i16,
) -> Result<AlterClientQuotasResponse, Disconnect> {
    let mut entries: Vec<(ClientQuotaEntity, Result<(), ApiError>)> = Vec::new();
    let mut alterations: Vec<QuotaAlteration> = Vec::new();
    for asked in &request.entries {
        let entity = entity_of(asked);
        let known = entries.iter().position(|(other, _)| *other == entity);
        if known.is_some() || has_duplicates(asked) {
            let why = format!("Ignoring duplicate entity ClientQuotaEntity(entries={})", shown(&entity));
            let refused = Err(ApiError::with(ErrorCode::InvalidRequest, why));
            match known {
                Some(place) => entries[place].1 = refused,
                None => entries.push((entity, refused)),
            }
            continue;
        }
        entries.push((entity.clone(), Ok(())));
        alterations.push(alteration(entity, asked).await);
    }
    let asked: Vec<_> = alterations.iter().map(|alteration| alteration.entity.clone()).collect();
    let validate_only = request.validate_only;
    let metadata = &context.broker.metadata;
    let decided = metadata.ask(move |context| quotas::alter(context, &alterations, validate_only)).await;
    for (place, entity) in asked.iter().enumerate() {
        let result = match &decided {
            Ok(results) => results.get(place).cloned().unwrap_or(Ok(())),
            Err(error) => Err(error.clone()),
        };
        let entry = entries.iter_mut().find(|(other, result)| other == entity && result.is_ok());
        if let Some((_, entry)) = entry {
            *entry = result;
        }
    }
    Ok(AlterClientQuotasResponse::default().with_entries(entries.iter().map(answer).collect()))
}

/// A type that stands twice has the name that it has last.
fn entity_of(asked: &Asked) -> ClientQuotaEntity {
    let parts = asked.entity.iter();
    parts
        .map(|part| (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string)))
        .collect()
}

fn has_duplicates(asked: &Asked) -> bool {
    asked.ops.iter().enumerate().any(|(place, op)| asked.ops[..place].iter().any(|other| other.key == op.key))
}

async fn alteration(entity: ClientQuotaEntity, asked: &Asked) -> QuotaAlteration {
    let changes = asked.ops.iter().map(|op| (op.key.to_string(), (!op.remove).then_some(op.value)));
    let changes = changes.collect();
    let has_address = match entity.get("ip").and_then(Option::as_ref) {
        Some(name) if !name.is_empty() => is_host(name).await,
        Some(_) | None => true,
    };
    QuotaAlteration { entity, changes, has_address }
}

/// Whether it is an address, or a name that has one.
async fn is_host(name: &str) -> bool {
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    tokio::net::lookup_host((name, 0)).await.is_ok_and(|mut addresses| addresses.next().is_some())
}

/// As Java shows a map.
fn shown(entity: &ClientQuotaEntity) -> String {
    let part =
        |(kind, name): (&String, &Option<String>)| format!("{kind}={}", name.as_deref().unwrap_or("null"));
    format!("{{{}}}", entity.iter().map(part).collect::<Vec<_>>().join(", "))
}

fn answer((entity, result): &(ClientQuotaEntity, Result<(), ApiError>)) -> EntryData {
    let (code, message) = code_and_message(result);
    let part = |(kind, name): (&String, &Option<String>)| {
        EntityData::default().with_entity_type(text(kind.clone())).with_entity_name(name.clone().map(text))
    };
    EntryData::default()
        .with_error_code(code)
        .with_error_message(message)
        .with_entity(entity.iter().map(part).collect())
}
