//! The quotas of users, client ids and addresses (`ClientQuotasImage`).

use std::collections::BTreeMap;

use imbl::OrdMap;

use crate::metadata::record::{ClientQuotaRecord, QuotaEntity, Record};

/// Whom a quota is for: types (`user`, `client-id`, `ip`), each with a name, or without one for whoever has no quota of
/// that name.
pub type ClientQuotaEntity = BTreeMap<String, Option<String>>;

/// Every quota that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientQuotas {
    /// By whom they are for and by what they limit; the bits of a number.
    entities: OrdMap<ClientQuotaEntity, BTreeMap<String, u64>>,
}

impl ClientQuotas {
    pub(super) fn apply(&mut self, record: &ClientQuotaRecord) {
        let part = |part: &QuotaEntity| (part.entity_type.clone(), part.entity_name.clone());
        let entity: ClientQuotaEntity = record.entity.iter().map(part).collect();
        let values = self.entities.entry(entity.clone()).or_default();
        if record.remove {
            values.remove(&record.key);
        } else {
            values.insert(record.key.clone(), record.value.to_bits());
        }
        if values.is_empty() {
            self.entities.remove(&entity);
        }
    }

    /// Whom there are quotas for, and which.
    pub fn iter(
        &self,
    ) -> impl Iterator<Item = (&ClientQuotaEntity, impl Iterator<Item = (&str, f64)> + Clone)> {
        self.entities.iter().map(|(entity, values)| {
            (entity, values.iter().map(|(key, bits)| (key.as_str(), f64::from_bits(*bits))))
        })
    }

    /// What is set for one entity and key.
    pub fn get(&self, entity: &ClientQuotaEntity, key: &str) -> Option<f64> {
        self.entities.get(entity)?.get(key).copied().map(f64::from_bits)
    }

    /// The quotas as records.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let of = |(entity, values): (&ClientQuotaEntity, &BTreeMap<String, u64>)| {
            let record = |(key, bits): (&String, &u64)| {
                let value = f64::from_bits(*bits);
                let entity = record_entity(entity);
                ClientQuotaRecord { entity, key: key.clone(), value, ..ClientQuotaRecord::default() }.into()
            };
            values.iter().map(record).collect::<Vec<Record>>()
        };
        self.entities.iter().flat_map(of)
    }
}

/// An entity as records have it, in the order in which Kafka writes its parts.
pub fn record_entity(entity: &ClientQuotaEntity) -> Vec<QuotaEntity> {
    let part = |(kind, name): (&String, &Option<String>)| QuotaEntity {
        entity_type: kind.clone(),
        entity_name: name.clone(),
        ..QuotaEntity::default()
    };
    entity.iter().map(part).collect()
}
