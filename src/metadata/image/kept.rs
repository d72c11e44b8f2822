//! What klamm keeps for others and does not act on: access control, credentials, tokens. Nodes of Apache Kafka
//! in the same cluster do act on it, so that a snapshot has to have it.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use uuid::Uuid;

use crate::metadata::record::{
    AccessControlEntryRecord, DelegationTokenRecord, Record, UserScramCredentialRecord,
};

/// Records of these kinds that are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    acls: OrdMap<Uuid, Arc<Acl>>,
    /// By mechanism and user.
    credentials: OrdMap<(i8, String), Arc<Credential>>,
    tokens: OrdMap<String, Arc<Token>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Acl {
    resource: (i8, String, i8),
    principal: String,
    host: String,
    operation: i8,
    permission: i8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Credential {
    salt: Bytes,
    stored_key: Bytes,
    server_key: Bytes,
    iterations: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    owner: String,
    requester: String,
    renewers: Vec<String>,
    issued_ms: i64,
    ends_ms: i64,
    expires_ms: i64,
}

impl Kept {
    pub(super) fn add_acl(&mut self, record: &AccessControlEntryRecord) {
        let acl = Acl {
            resource: (record.resource_type, record.resource_name.clone(), record.pattern_type),
            principal: record.principal.clone(),
            host: record.host.clone(),
            operation: record.operation,
            permission: record.permission_type,
        };
        self.acls.insert(record.id, Arc::new(acl));
    }

    pub(super) fn remove_acl(&mut self, id: Uuid) {
        self.acls.remove(&id);
    }

    pub(super) fn set_credential(&mut self, record: &UserScramCredentialRecord) {
        let credential = Credential {
            salt: record.salt.clone(),
            stored_key: record.stored_key.clone(),
            server_key: record.server_key.clone(),
            iterations: record.iterations,
        };
        self.credentials.insert((record.mechanism, record.name.clone()), Arc::new(credential));
    }

    pub(super) fn remove_credential(&mut self, mechanism: i8, user: &str) {
        self.credentials.remove(&(mechanism, user.to_owned()));
    }

    pub(super) fn set_token(&mut self, record: &DelegationTokenRecord) {
        let token = Token {
            owner: record.owner.clone(),
            requester: record.requester.clone(),
            renewers: record.renewers.clone(),
            issued_ms: record.issue_timestamp,
            ends_ms: record.max_timestamp,
            expires_ms: record.expiration_timestamp,
        };
        self.tokens.insert(record.token_id.clone(), Arc::new(token));
    }

    pub(super) fn remove_token(&mut self, id: &str) {
        self.tokens.remove(id);
    }

    /// The entries of access control, the credentials and the tokens as records, in this order.
    pub fn security(&self) -> impl Iterator<Item = Record> {
        let acls = self.acls.iter().map(|(id, acl)| {
            let (resource_type, resource_name, pattern_type) = acl.resource.clone();
            AccessControlEntryRecord {
                id: *id,
                resource_type,
                resource_name,
                pattern_type,
                principal: acl.principal.clone(),
                host: acl.host.clone(),
                operation: acl.operation,
                permission_type: acl.permission,
                ..AccessControlEntryRecord::default()
            }
            .into()
        });
        let credentials = self.credentials.iter().map(|((mechanism, name), credential)| {
            UserScramCredentialRecord {
                name: name.clone(),
                mechanism: *mechanism,
                salt: credential.salt.clone(),
                stored_key: credential.stored_key.clone(),
                server_key: credential.server_key.clone(),
                iterations: credential.iterations,
                ..UserScramCredentialRecord::default()
            }
            .into()
        });
        let tokens = self.tokens.iter().map(|(id, token)| {
            DelegationTokenRecord {
                owner: token.owner.clone(),
                requester: token.requester.clone(),
                renewers: token.renewers.clone(),
                issue_timestamp: token.issued_ms,
                max_timestamp: token.ends_ms,
                expiration_timestamp: token.expires_ms,
                token_id: id.clone(),
                ..DelegationTokenRecord::default()
            }
            .into()
        });
        acls.chain(credentials).chain(tokens)
    }
}
