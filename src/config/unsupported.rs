//! The honest table: Kafka's broker keys that klamm knows and does not act on, each with the
//! reason. A file that sets one starts klamm with a warning; one that would leave something open
//! which the file means to close is refused.

use super::key::{ConfigType, Scope, parse_type};

/// Why keys have no effect, in words that follow "has no effect here: ".
pub mod reason {
    pub const AUTHENTICATION: &str = "connections are not authenticated yet";
    pub const BATCHES: &str = "klamm's batches of metadata records have one bound";
    pub const CHECKPOINTS: &str = "klamm keeps what it would write from time to time with each batch";
    pub const CONNECTING: &str = "klamm gives every attempt to connect the same time";
    pub const COORDINATOR: &str = "klamm's coordinators have no such threads and buffers";
    pub const DIRECTORIES: &str = "klamm keeps everything in one store in one directory";
    pub const HOUSEKEEPING: &str = "klamm looks after its logs every log.retention.check.interval.ms";
    pub const JAVA: &str = "it names a Java class, and klamm runs none";
    pub const LINGER: &str =
        "klamm's controller writes at once; what comes while the disk is busy is written together";
    pub const LISTENERS: &str = "klamm opens its listeners as soon as what is behind them answers";
    pub const LZ4_LEVELS: &str = "the lz4 library that klamm is built with has one level";
    pub const METADATA_IDLE: &str = "klamm's controller writes nothing while nothing changes; other nodes hear of the high watermark as they fetch";
    pub const METADATA_RETENTION: &str =
        "klamm keeps its two newest metadata snapshots, and the log behind the older of them";
    pub const METRICS: &str = "klamm's metrics are read over HTTP and have no samples or windows";
    pub const POLICY: &str = "klamm can not run a policy that is a Java class, and without it more would be allowed than the file means; remove it to start";
    pub const PURGATORY: &str = "klamm wakes waiting requests directly and has no purgatory to clean";
    pub const QUEUE: &str = "klamm has no queue of requests: each connection has its own bound";
    pub const SECURITY: &str = "security is not built yet, and klamm refuses to start rather than leave open what the file means to close; remove it to start";
    pub const SEGMENTS: &str = "klamm stores batches in RocksDB and has no segment or index files";
    pub const STARTUP: &str = "klamm waits for its cluster as long as it takes, and says what it waits for";
    pub const THREADS: &str = "klamm has one pool of threads, as many as there are processors";
    pub const TIERED: &str = "tiered storage is not built yet";
    pub const UNSTABLE: &str = "klamm has no unstable versions";
}

/// A key that klamm knows and does not act on.
#[derive(Clone, Copy, Debug)]
pub struct UnsupportedKey {
    pub name: &'static str,
    pub kind: ConfigType,
    /// Kafka's default; `None` is null.
    pub default: Option<&'static str>,
    pub scope: Scope,
    /// Why it has no effect.
    pub reason: &'static str,
}

impl UnsupportedKey {
    /// Whether the text means the same as Kafka's default.
    pub fn is_default(&self, text: &str) -> bool {
        match (parse_type(self.name, self.kind, text), self.default) {
            (Ok(value), Some(default)) => {
                parse_type(self.name, self.kind, default).is_ok_and(|default| default == value)
            }
            (Ok(_), None) => text.trim().is_empty(),
            (Err(_), _) => false,
        }
    }
}

const fn row(
    name: &'static str,
    kind: ConfigType,
    default: Option<&'static str>,
    scope: Scope,
    reason: &'static str,
) -> UnsupportedKey {
    UnsupportedKey { name, kind, default, scope, reason }
}

/// The keys that have no effect here, for the reference.
pub fn without_effect() -> &'static [UnsupportedKey] {
    WITHOUT_EFFECT
}

/// The keys that klamm refuses when they are set to something other than Kafka's default.
pub fn refused() -> &'static [UnsupportedKey] {
    REFUSED
}

/// The row of a key in either table.
pub fn find(name: &str) -> Option<&'static UnsupportedKey> {
    WITHOUT_EFFECT.iter().chain(REFUSED).find(|key| key.name == name)
}

/// Whether a value of this key must stop klamm: a refused key that is not at its default, also
/// in its form for one listener (`listener.name.<name>.<key>`).
pub fn is_refused(name: &str, text: &str) -> bool {
    let own = REFUSED.iter().find(|key| key.name == name);
    own.map_or_else(|| listener_key(name).is_some(), |key| !key.is_default(text))
}

/// The security key inside `listener.name.<name>.[<mechanism>.]<key>`.
pub fn listener_key(name: &str) -> Option<&str> {
    let (_, key) = name.strip_prefix("listener.name.")?.split_once('.')?;
    REFUSED.iter().any(|refused| key.ends_with(refused.name)).then_some(key)
}

use ConfigType::{Boolean, Class, Double, Int, List, Long, Password, Short, String};
use Scope::{ClusterWide, PerBroker, ReadOnly};

/// Keys that have no effect; setting one is worth a warning.
static WITHOUT_EFFECT: &[UnsupportedKey] = &[
    row("connection.failed.authentication.delay.ms", Int, Some("100"), ReadOnly, reason::AUTHENTICATION),
    row("connections.max.reauth.ms", Long, Some("0"), ReadOnly, reason::AUTHENTICATION),
    row("group.coordinator.append.linger.ms", Int, Some("-1"), ReadOnly, reason::COORDINATOR),
    row("group.coordinator.background.threads", Int, Some("2"), ReadOnly, reason::COORDINATOR),
    row("group.coordinator.cached.buffer.max.bytes", Int, Some("1048588"), ClusterWide, reason::COORDINATOR),
    row("group.coordinator.threads", Int, Some("4"), ReadOnly, reason::COORDINATOR),
    row("offsets.load.buffer.size", Int, Some("5242880"), ReadOnly, reason::COORDINATOR),
    row("offsets.topic.compression.codec", Int, Some("0"), ReadOnly, reason::COORDINATOR),
    row("cordoned.log.dirs", List, Some(""), PerBroker, reason::DIRECTORIES),
    row("log.dir.failure.timeout.ms", Long, Some("30000"), ReadOnly, reason::DIRECTORIES),
    row("log.flush.offset.checkpoint.interval.ms", Int, Some("60000"), ReadOnly, reason::DIRECTORIES),
    row("log.flush.start.offset.checkpoint.interval.ms", Int, Some("60000"), ReadOnly, reason::DIRECTORIES),
    row("client.quota.callback.class", Class, None, ReadOnly, reason::JAVA),
    row("config.providers", List, Some(""), ClusterWide, reason::JAVA),
    row("kafka.metrics.polling.interval.secs", Int, Some("10"), ReadOnly, reason::JAVA),
    row("kafka.metrics.reporters", List, Some(""), ReadOnly, reason::JAVA),
    row(
        "metric.reporters",
        List,
        Some("org.apache.kafka.common.metrics.JmxReporter"),
        ClusterWide,
        reason::JAVA,
    ),
    row("metrics.num.samples", Int, Some("2"), ReadOnly, reason::METRICS),
    row("metrics.recording.level", String, Some("INFO"), ReadOnly, reason::METRICS),
    row("metrics.sample.window.ms", Long, Some("30000"), ReadOnly, reason::METRICS),
    row("delete.records.purgatory.purge.interval.requests", Int, Some("1"), ReadOnly, reason::PURGATORY),
    row("fetch.purgatory.purge.interval.requests", Int, Some("1000"), ReadOnly, reason::PURGATORY),
    row("producer.purgatory.purge.interval.requests", Int, Some("1000"), ReadOnly, reason::PURGATORY),
    row("controller.performance.always.log.threshold.ms", Long, Some("2000"), ReadOnly, reason::METRICS),
    row("controller.performance.sample.period.ms", Long, Some("60000"), ReadOnly, reason::METRICS),
    row("early.start.listeners", List, None, ReadOnly, reason::LISTENERS),
    row("internal.metadata.delete.delay.millis", Long, Some("60000"), ReadOnly, reason::SEGMENTS),
    row("internal.metadata.log.segment.bytes", Int, None, ReadOnly, reason::SEGMENTS),
    row("internal.metadata.max.batch.size.in.bytes", Int, Some("8388608"), ReadOnly, reason::BATCHES),
    row("metadata.log.dir", String, None, ReadOnly, reason::DIRECTORIES),
    row("metadata.log.segment.bytes", Int, Some("1073741824"), ReadOnly, reason::SEGMENTS),
    row("metadata.log.segment.ms", Long, Some("604800000"), ReadOnly, reason::SEGMENTS),
    row("server.max.startup.time.ms", Long, Some("9223372036854775807"), ReadOnly, reason::STARTUP),
    row("alter.log.dirs.replication.quota.window.num", Int, Some("11"), ReadOnly, reason::DIRECTORIES),
    row(
        "alter.log.dirs.replication.quota.window.size.seconds",
        Int,
        Some("1"),
        ReadOnly,
        reason::DIRECTORIES,
    ),
    row("num.replica.alter.log.dirs.threads", Int, None, ReadOnly, reason::DIRECTORIES),
    row("replica.high.watermark.checkpoint.interval.ms", Long, Some("5000"), ReadOnly, reason::CHECKPOINTS),
    row(
        "group.share.persister.class.name",
        String,
        Some("org.apache.kafka.server.share.persister.DefaultStatePersister"),
        ReadOnly,
        reason::JAVA,
    ),
    row("share.coordinator.append.linger.ms", Int, Some("-1"), ReadOnly, reason::COORDINATOR),
    row("share.coordinator.cached.buffer.max.bytes", Int, Some("1048588"), ClusterWide, reason::COORDINATOR),
    row("share.coordinator.threads", Int, Some("1"), ReadOnly, reason::COORDINATOR),
    row("share.fetch.purgatory.purge.interval.requests", Int, Some("1000"), ReadOnly, reason::PURGATORY),
    row("background.threads", Int, Some("10"), ClusterWide, reason::THREADS),
    row("num.io.threads", Int, Some("8"), ClusterWide, reason::THREADS),
    row("num.network.threads", Int, Some("3"), ClusterWide, reason::THREADS),
    row("num.recovery.threads.per.data.dir", Int, Some("2"), ClusterWide, reason::THREADS),
    row("follower.fetch.last.tiered.offset.enable", Boolean, Some("false"), ClusterWide, reason::TIERED),
    row("remote.fetch.max.wait.ms", Int, Some("500"), ClusterWide, reason::TIERED),
    row("remote.list.offsets.request.timeout.ms", Long, Some("30000"), ClusterWide, reason::TIERED),
    row(
        "remote.log.index.file.cache.total.size.bytes",
        Long,
        Some("1073741824"),
        ClusterWide,
        reason::TIERED,
    ),
    row("remote.log.index.file.cache.ttl.ms", Long, Some("900000"), ReadOnly, reason::TIERED),
    row("remote.log.manager.copier.thread.pool.size", Int, Some("10"), ClusterWide, reason::TIERED),
    row(
        "remote.log.manager.copy.max.bytes.per.second",
        Long,
        Some("9223372036854775807"),
        ClusterWide,
        reason::TIERED,
    ),
    row("remote.log.manager.copy.quota.window.num", Int, Some("11"), ReadOnly, reason::TIERED),
    row("remote.log.manager.copy.quota.window.size.seconds", Int, Some("1"), ReadOnly, reason::TIERED),
    row("remote.log.manager.expiration.thread.pool.size", Int, Some("10"), ClusterWide, reason::TIERED),
    row(
        "remote.log.manager.fetch.max.bytes.per.second",
        Long,
        Some("9223372036854775807"),
        ClusterWide,
        reason::TIERED,
    ),
    row("remote.log.manager.fetch.quota.window.num", Int, Some("11"), ReadOnly, reason::TIERED),
    row("remote.log.manager.fetch.quota.window.size.seconds", Int, Some("1"), ReadOnly, reason::TIERED),
    row("remote.log.manager.follower.thread.pool.size", Int, Some("2"), ClusterWide, reason::TIERED),
    row("remote.log.manager.task.interval.ms", Long, Some("30000"), ReadOnly, reason::TIERED),
    row("remote.log.manager.task.retry.backoff.max.ms", Long, Some("30000"), ReadOnly, reason::TIERED),
    row("remote.log.manager.task.retry.backoff.ms", Long, Some("500"), ReadOnly, reason::TIERED),
    row("remote.log.manager.task.retry.jitter", Double, Some("0.2"), ReadOnly, reason::TIERED),
    row("remote.log.manager.thread.pool.size", Int, Some("2"), ReadOnly, reason::TIERED),
    row("remote.log.metadata.custom.metadata.max.bytes", Int, Some("128"), ReadOnly, reason::TIERED),
    row(
        "remote.log.metadata.manager.class.name",
        String,
        Some("org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager"),
        ReadOnly,
        reason::TIERED,
    ),
    row("remote.log.metadata.manager.class.path", String, None, ReadOnly, reason::TIERED),
    row("remote.log.metadata.manager.impl.prefix", String, Some("rlmm.config."), ReadOnly, reason::TIERED),
    row("remote.log.metadata.manager.listener.name", String, None, ReadOnly, reason::TIERED),
    row("remote.log.reader.max.pending.tasks", Int, Some("100"), ReadOnly, reason::TIERED),
    row("remote.log.reader.threads", Int, Some("10"), ClusterWide, reason::TIERED),
    row("remote.log.storage.manager.class.name", String, None, ReadOnly, reason::TIERED),
    row("remote.log.storage.manager.class.path", String, None, ReadOnly, reason::TIERED),
    row("remote.log.storage.manager.impl.prefix", String, Some("rsm.config."), ReadOnly, reason::TIERED),
    row("remote.log.storage.system.enable", Boolean, Some("false"), ReadOnly, reason::TIERED),
    row("transaction.state.log.load.buffer.size", Int, Some("5242880"), ReadOnly, reason::COORDINATOR),
    row("transaction.two.phase.commit.enable", Boolean, Some("false"), ReadOnly, reason::UNSTABLE),
    row("unstable.api.versions.enable", Boolean, Some("false"), ReadOnly, reason::UNSTABLE),
    row("unstable.feature.versions.enable", Boolean, Some("false"), ReadOnly, reason::UNSTABLE),
];

/// Keys that keep something closed. A broker that took them and left it open would be worse
/// than one that does not start.
static REFUSED: &[UnsupportedKey] = &[
    row("authorizer.class.name", String, Some(""), ReadOnly, reason::SECURITY),
    row("delegation.token.expiry.check.interval.ms", Long, Some("3600000"), ReadOnly, reason::SECURITY),
    row("delegation.token.expiry.time.ms", Long, Some("86400000"), ReadOnly, reason::SECURITY),
    row("delegation.token.max.lifetime.ms", Long, Some("604800000"), ReadOnly, reason::SECURITY),
    row("delegation.token.secret.key", Password, None, ReadOnly, reason::SECURITY),
    row(
        "principal.builder.class",
        Class,
        Some("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder"),
        PerBroker,
        reason::SECURITY,
    ),
    row("sasl.client.callback.handler.class", Class, None, ReadOnly, reason::SECURITY),
    row("sasl.enabled.mechanisms", List, Some("GSSAPI"), PerBroker, reason::SECURITY),
    row("sasl.jaas.config", Password, None, PerBroker, reason::SECURITY),
    row("sasl.kerberos.kinit.cmd", String, Some("/usr/bin/kinit"), PerBroker, reason::SECURITY),
    row("sasl.kerberos.min.time.before.relogin", Long, Some("60000"), PerBroker, reason::SECURITY),
    row("sasl.kerberos.principal.to.local.rules", List, Some("DEFAULT"), PerBroker, reason::SECURITY),
    row("sasl.kerberos.service.name", String, None, PerBroker, reason::SECURITY),
    row("sasl.kerberos.ticket.renew.jitter", Double, Some("0.05"), PerBroker, reason::SECURITY),
    row("sasl.kerberos.ticket.renew.window.factor", Double, Some("0.8"), PerBroker, reason::SECURITY),
    row("sasl.login.callback.handler.class", Class, None, ReadOnly, reason::SECURITY),
    row("sasl.login.class", Class, None, ReadOnly, reason::SECURITY),
    row("sasl.login.connect.timeout.ms", Int, None, ReadOnly, reason::SECURITY),
    row("sasl.login.read.timeout.ms", Int, None, ReadOnly, reason::SECURITY),
    row("sasl.login.refresh.buffer.seconds", Short, Some("300"), PerBroker, reason::SECURITY),
    row("sasl.login.refresh.min.period.seconds", Short, Some("60"), PerBroker, reason::SECURITY),
    row("sasl.login.refresh.window.factor", Double, Some("0.8"), PerBroker, reason::SECURITY),
    row("sasl.login.refresh.window.jitter", Double, Some("0.05"), PerBroker, reason::SECURITY),
    row("sasl.login.retry.backoff.max.ms", Long, Some("10000"), ReadOnly, reason::SECURITY),
    row("sasl.login.retry.backoff.ms", Long, Some("100"), ReadOnly, reason::SECURITY),
    row("sasl.mechanism.controller.protocol", String, Some("GSSAPI"), ReadOnly, reason::SECURITY),
    row("sasl.mechanism.inter.broker.protocol", String, Some("GSSAPI"), PerBroker, reason::SECURITY),
    row("sasl.oauthbearer.assertion.algorithm", String, Some("RS256"), ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.claim.aud", String, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.claim.exp.seconds", Int, Some("300"), ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.claim.iss", String, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.claim.jti.include", Boolean, Some("false"), ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.claim.nbf.seconds", Int, Some("60"), ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.claim.sub", String, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.file", String, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.private.key.file", String, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.private.key.passphrase", Password, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.assertion.template.file", String, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.client.credentials.client.id", String, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.client.credentials.client.secret", Password, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.clock.skew.seconds", Int, Some("30"), ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.expected.audience", List, Some(""), ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.expected.issuer", String, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.jwks.endpoint.refresh.ms", Long, Some("3600000"), ReadOnly, reason::SECURITY),
    row(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        Long,
        Some("10000"),
        ReadOnly,
        reason::SECURITY,
    ),
    row("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Long, Some("100"), ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.jwks.endpoint.url", String, None, ReadOnly, reason::SECURITY),
    row(
        "sasl.oauthbearer.jwt.retriever.class",
        Class,
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"),
        ReadOnly,
        reason::SECURITY,
    ),
    row(
        "sasl.oauthbearer.jwt.validator.class",
        Class,
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"),
        ReadOnly,
        reason::SECURITY,
    ),
    row("sasl.oauthbearer.scope", String, None, ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.scope.claim.name", String, Some("scope"), ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.sub.claim.name", String, Some("sub"), ReadOnly, reason::SECURITY),
    row("sasl.oauthbearer.token.endpoint.url", String, None, ReadOnly, reason::SECURITY),
    row("sasl.server.callback.handler.class", Class, None, ReadOnly, reason::SECURITY),
    row("sasl.server.max.receive.size", Int, Some("524288"), ReadOnly, reason::SECURITY),
    row("security.providers", String, None, ReadOnly, reason::SECURITY),
    row("ssl.allow.dn.changes", Boolean, Some("false"), ReadOnly, reason::SECURITY),
    row("ssl.allow.san.changes", Boolean, Some("false"), ReadOnly, reason::SECURITY),
    row("ssl.cipher.suites", List, Some(""), PerBroker, reason::SECURITY),
    row("ssl.client.auth", String, Some("none"), PerBroker, reason::SECURITY),
    row("ssl.enabled.protocols", List, Some("TLSv1.2,TLSv1.3"), PerBroker, reason::SECURITY),
    row("ssl.endpoint.identification.algorithm", String, Some("https"), PerBroker, reason::SECURITY),
    row("ssl.engine.factory.class", Class, None, PerBroker, reason::SECURITY),
    row("ssl.key.password", Password, None, PerBroker, reason::SECURITY),
    row("ssl.keymanager.algorithm", String, Some("SunX509"), PerBroker, reason::SECURITY),
    row("ssl.keystore.certificate.chain", Password, None, PerBroker, reason::SECURITY),
    row("ssl.keystore.key", Password, None, PerBroker, reason::SECURITY),
    row("ssl.keystore.location", String, None, PerBroker, reason::SECURITY),
    row("ssl.keystore.password", Password, None, PerBroker, reason::SECURITY),
    row("ssl.keystore.type", String, Some("JKS"), PerBroker, reason::SECURITY),
    row("ssl.principal.mapping.rules", String, Some("DEFAULT"), ReadOnly, reason::SECURITY),
    row("ssl.protocol", String, Some("TLSv1.3"), PerBroker, reason::SECURITY),
    row("ssl.provider", String, None, PerBroker, reason::SECURITY),
    row("ssl.secure.random.implementation", String, None, PerBroker, reason::SECURITY),
    row("ssl.trustmanager.algorithm", String, Some("PKIX"), PerBroker, reason::SECURITY),
    row("ssl.truststore.certificates", Password, None, PerBroker, reason::SECURITY),
    row("ssl.truststore.location", String, None, PerBroker, reason::SECURITY),
    row("ssl.truststore.password", Password, None, PerBroker, reason::SECURITY),
    row("ssl.truststore.type", String, Some("JKS"), PerBroker, reason::SECURITY),
    row("alter.config.policy.class.name", Class, None, ReadOnly, reason::POLICY),
    row("create.topic.policy.class.name", Class, None, ReadOnly, reason::POLICY),
];
