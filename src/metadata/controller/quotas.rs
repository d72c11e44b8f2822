//! Quotas of users, client ids and addresses (`ClientQuotaControlManager`).

use std::collections::BTreeMap;

use super::{Context, Decision, Results};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::QuotaAlteration;
use crate::metadata::image::{ClientQuotaEntity, record_entity};
use crate::metadata::record::ClientQuotaRecord;

/// The types of which an entity may have one each.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// How far from a whole number a value may be that has to be one.
const FRACTION_MAX: f64 = 1e-6;

/// What a value may be at most, and whether it has to be a whole number.
#[derive(Clone, Copy)]
enum Number {
    Int,
    Long,
    Double,
}

const USER_AND_CLIENT_KEYS: &[(&str, Number)] = &[
    ("producer_byte_rate", Number::Long),
    ("consumer_byte_rate", Number::Long),
    ("request_percentage", Number::Double),
    ("controller_mutation_rate", Number::Double),
];
const IP_KEYS: &[(&str, Number)] = &[("connection_creation_rate", Number::Int)];

/// Sets and removes quotas, each entity by itself: all of its keys or none. Entities may not repeat.
pub fn alter(
    context: &Context<'_>,
    alterations: &[QuotaAlteration],
    validate_only: bool,
) -> Decision<Results<()>> {
    let mut records = Vec::new();
    let mut reply = Vec::with_capacity(alterations.len());
    for alteration in alterations {
        reply.push(alter_one(context, alteration).map(|new| records.extend(new)));
    }
    if validate_only {
        records.clear();
    }
    Decision { records: records.into_iter().map(Into::into).collect(), reply }
}

fn alter_one(
    context: &Context<'_>,
    alteration: &QuotaAlteration,
) -> Result<Vec<ClientQuotaRecord>, ApiError> {
    let QuotaAlteration { entity, changes, has_address } = alteration;
    check_entity(entity)?;
    let keys = keys_of(entity, *has_address)?;
    let mut values = BTreeMap::new();
    for (key, value) in changes {
        values.insert(key.as_str(), *value);
    }
    let mut records = Vec::new();
    for (key, value) in values {
        let before = context.image.quotas.get(entity, key);
        let record = ClientQuotaRecord {
            entity: record_entity(entity),
            key: key.to_owned(),
            ..ClientQuotaRecord::default()
        };
        match value {
            None if before.is_some() => records.push(ClientQuotaRecord { remove: true, ..record }),
            None => {}
            Some(value) => {
                check_value(keys, key, value)?;
                if before.map(f64::to_bits) != Some(value.to_bits()) {
                    records.push(ClientQuotaRecord { value, ..record });
                }
            }
        }
    }
    Ok(records)
}

fn check_entity(entity: &ClientQuotaEntity) -> Result<(), ApiError> {
    if entity.is_empty() {
        return Err(invalid("Invalid empty client quota entity"));
    }
    for (kind, name) in entity {
        if ![USER, CLIENT_ID, IP].contains(&kind.as_str()) {
            return Err(invalid(format!("Unhandled client quota entity type: {kind}")));
        }
        if name.as_ref().is_some_and(String::is_empty) {
            return Err(invalid(format!("Empty {kind} not supported")));
        }
    }
    Ok(())
}

fn keys_of(
    entity: &ClientQuotaEntity,
    has_address: bool,
) -> Result<&'static [(&'static str, Number)], ApiError> {
    let Some(address) = entity.get(IP) else { return Ok(USER_AND_CLIENT_KEYS) };
    if entity.len() > 1 {
        let text = "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId";
        return Err(invalid(text));
    }
    match address {
        Some(address) if !has_address => {
            Err(invalid(format!("{address} is not a valid IP or resolvable host.")))
        }
        Some(_) | None => Ok(IP_KEYS),
    }
}

#[expect(clippy::cast_precision_loss, reason = "Kafka compares the same two numbers")]
fn check_value(keys: &[(&str, Number)], key: &str, value: f64) -> Result<(), ApiError> {
    let Some((_, number)) = keys.iter().find(|(name, _)| *name == key) else {
        return Err(invalid(format!("Invalid configuration key {key}")));
    };
    if value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    let (most, kind) = match number {
        Number::Double => return Ok(()),
        Number::Int => (f64::from(i32::MAX), "an INT"),
        Number::Long => (i64::MAX as f64, "a LONG"),
    };
    if value > most {
        return Err(invalid(format!("Proposed value for {key} is too large for {kind}.")));
    }
    if (value % 1.0).abs() > FRACTION_MAX {
        return Err(invalid(format!("{key} cannot be a fractional value.")));
    }
    Ok(())
}

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::with(ErrorCode::InvalidRequest, text)
}
