//! DescribeClientQuotas (48): the quotas of users, client ids and addresses that a filter matches.
//!
//! Every broker answers from its own metadata. A strict filter wants entities that have no other types than it names.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};

use super::context::{Context, Disconnect};
use super::outcome::text;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::image::{ClientQuotaEntity, ClientQuotas};
use crate::protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

pub(super) async fn handle(
    context: &Context,
    request: DescribeClientQuotasRequest,
    _version: i16,
) -> Result<DescribeClientQuotasResponse, Disconnect> {
    Ok(describe(&context.broker.metadata.image().quotas, &request))
}

fn describe(quotas: &ClientQuotas, request: &DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let filter = match Filter::read(request) {
        Ok(filter) => filter,
        Err(error) => {
            return DescribeClientQuotasResponse::default()
                .with_error_code(error.code.code())
                .with_error_message(Some(text(error.to_string())))
                .with_entries(None);
        }
    };
    let found = quotas.iter().filter(|(entity, _)| filter.matches(entity));
    let entries = found.map(|(entity, values)| {
        let part = |(kind, name): (&String, &Option<String>)| {
            EntityData::default()
                .with_entity_type(text(kind.clone()))
                .with_entity_name(name.clone().map(text))
        };
        let value = |(key, value): (&str, f64)| ValueData::default().with_key(text(key)).with_value(value);
        EntryData::default()
            .with_entity(entity.iter().map(part).collect())
            .with_values(values.map(value).collect())
    });
    DescribeClientQuotasResponse::default().with_entries(Some(entries.collect()))
}

/// What an entity has to be like: for each type a name, none for the default, or any at all.
struct Filter {
    types: BTreeMap<String, Wanted>,
    strict: bool,
}

enum Wanted {
    Name(Option<String>),
    Any,
}

impl Filter {
    fn read(request: &DescribeClientQuotasRequest) -> Result<Self, ApiError> {
        let mut types = BTreeMap::new();
        for component in &request.components {
            let kind = component.entity_type.to_string();
            if kind.is_empty() {
                return Err(invalid("Invalid empty entity type."));
            }
            if types.contains_key(&kind) {
                let text = format!("Entity type {kind} cannot appear more than once in the filter.");
                return Err(invalid(text));
            }
            if !["ip", "user", "client-id"].contains(&kind.as_str()) {
                let text = format!("Unsupported entity type {kind}");
                return Err(ApiError::with(ErrorCode::UnsupportedVersion, text));
            }
            types.insert(kind, wanted(component)?);
        }
        if types.contains_key("ip") && types.len() > 1 {
            return Err(invalid(
                "Invalid entity filter component combination. IP filter component should not be used with user or \
                 clientId filter component.",
            ));
        }
        Ok(Self { types, strict: request.strict })
    }

    fn matches(&self, entity: &ClientQuotaEntity) -> bool {
        let has = |(kind, wanted): (&String, &Wanted)| match (entity.get(kind), wanted) {
            (None, _) => false,
            (Some(_), Wanted::Any) => true,
            (Some(name), Wanted::Name(wanted)) => name == wanted,
        };
        (!self.strict || entity.len() == self.types.len()) && self.types.iter().all(has)
    }
}

fn wanted(component: &ComponentData) -> Result<Wanted, ApiError> {
    let name = component._match.as_ref().map(ToString::to_string);
    match (component.match_type, name) {
        (EXACT, Some(name)) => Ok(Wanted::Name(Some(name))),
        (EXACT, None) => Err(invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")),
        (DEFAULT, None) => Ok(Wanted::Name(None)),
        (DEFAULT, Some(_)) => {
            Err(invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string."))
        }
        (SPECIFIED, None) => Ok(Wanted::Any),
        (SPECIFIED, Some(_)) => {
            Err(invalid("Request specified MATCH_TYPE_SPECIFIED, but also specified a match string."))
        }
        (other, _) => Err(invalid(format!("Unknown match type {other}"))),
    }
}

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::with(ErrorCode::InvalidRequest, text)
}
