//! Quotas of users, client ids and addresses (`ClientQuotaControlManager`).

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
    let mut changes: Vec<_> = changes.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let count = changes.len();
    changes.sort_by_key(|(key, _)| place_in_java(key, count));
    let mut records = Vec::new();
    for (key, value) in changes {
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

/// Where a hash map of Java that is made for this many keys has this one, so that records are written in the order in
/// which Kafka writes them.
fn place_in_java(key: &str, count: usize) -> u32 {
    let hash = key.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let mut capacity = count.max(1).next_power_of_two();
    if count * 4 > capacity * 3 {
        capacity *= 2;
    }
    (hash ^ (hash >> 16)) & u32::try_from(capacity - 1).unwrap_or(u32::MAX)
}

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::with(ErrorCode::InvalidRequest, text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use crate::metadata::controller::tests::Model;
    use crate::metadata::record::Record;

    /// As `QuorumController` of Apache Kafka 4.3.1 has written it.
    const RECORD: &[u8] =
        b"\x01\x0e\0\x03\nclient-id\x04app\0\x05user\x06alice\0\x13consumer_byte_rate@\xa0\0\0\0\0\0\0\0\0";

    fn app_of_alice(changes: &[(&str, Option<f64>)]) -> QuotaAlteration {
        let name = |name: &str| Some(name.to_owned());
        QuotaAlteration {
            entity: [("user".to_owned(), name("alice")), ("client-id".to_owned(), name("app"))].into(),
            changes: changes.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
            has_address: true,
        }
    }

    #[test]
    fn records_are_written_as_kafka_writes_them_and_only_of_what_changes() {
        let mut model = Model::with_brokers(&[1]);
        let all = [
            ("request_percentage", Some(200.0)),
            ("producer_byte_rate", Some(1_024.0)),
            ("consumer_byte_rate", Some(2_048.0)),
        ];
        let records = |model: &mut Model, changes: &[(&str, Option<f64>)]| {
            let mut records = Vec::new();
            let reply = model.run(|context| {
                let decision = alter(context, &[app_of_alice(changes)], false);
                records.clone_from(&decision.records);
                decision
            });
            assert_eq!(reply, [Ok(())]);
            records
        };
        let first = records(&mut model, &all);
        let key = |record: &Record| {
            if let Record::ClientQuota(quota) = record { quota.key.clone() } else { String::new() }
        };
        let keys = first.iter().map(key);
        assert_eq!(
            keys.collect::<Vec<_>>(),
            ["consumer_byte_rate", "request_percentage", "producer_byte_rate"]
        );
        assert_eq!(first[0].encode(0).unwrap(), RECORD);
        assert_eq!(records(&mut model, &all), []);
        let removed = [("consumer_byte_rate", None), ("controller_mutation_rate", None)];
        assert_eq!(records(&mut model, &removed).len(), 1);
    }

    #[test]
    fn an_entity_gets_all_of_its_quotas_or_none() {
        let mut model = Model::with_brokers(&[1]);
        let half = app_of_alice(&[("producer_byte_rate", Some(1.0)), ("consumer_byte_rate", Some(0.5))]);
        let refused = model.run(|context| alter(context, &[half], false)).remove(0).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest);
        assert_eq!(model.image.quotas.iter().count(), 0);
        let tried = app_of_alice(&[("producer_byte_rate", Some(1.0))]);
        assert_eq!(model.run(|context| alter(context, &[tried], true)), [Ok(())]);
        assert_eq!(model.image.quotas.iter().count(), 0);
    }
}
