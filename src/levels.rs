//! How much is logged, by logger, and how that is changed while klamm runs (KIP-412, Kafka's `LoggingController`).
//!
//! A logger is a module of klamm (`klamm.net` for `klamm::net`, as Kafka's tools take no colons), a target that `RUST_LOG` names, or `root`, which stands for all the
//! others. One without a level of its own has that of the longest other name that its name begins with. Levels that are
//! set at run time are forgotten when the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::dynamic::ConfigOp;
use crate::error::{ApiError, ErrorCode};

/// What is logged where `RUST_LOG` says nothing: our own notable events, and warnings of libraries.
const DEFAULT_FILTER: &str = "warn,klamm=info";

/// The logger that stands for all others.
const ROOT: &str = "root";

/// The modules of klamm are declared there.
const MODULES: &str = include_str!("lib.rs");

/// How much a logger logs, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Off,
    /// Nothing of klamm is logged at this level.
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The levels that can be set, in the order in which a refusal names them.
    const SETTABLE: [Self; 6] = [Self::Debug, Self::Error, Self::Fatal, Self::Info, Self::Trace, Self::Warn];

    fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Off | Self::Fatal => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }

    /// A level as `RUST_LOG` spells it.
    fn of_directive(text: &str) -> Option<Self> {
        let filter: LevelFilter = text.parse().ok()?;
        let all = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
        all.into_iter().find(|level| level.filter() == filter)
    }
}

/// The levels of one moment.
#[derive(Clone, Debug, Default)]
struct Configured {
    /// By logger, those that have one of their own.
    levels: BTreeMap<String, Level>,
    /// What `RUST_LOG` says of spans and their fields.
    of_spans: Vec<String>,
}

impl Configured {
    fn parse(directives: &str) -> Self {
        let mut configured = Self::default();
        for directive in directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let (target, level) = directive.rsplit_once('=').unwrap_or((directive, "trace"));
            if let Some(level) = Level::of_directive(directive) {
                configured.levels.insert(ROOT.to_owned(), level);
            } else if let Some(level) = Level::of_directive(level).filter(|_| !directive.contains('[')) {
                configured.levels.insert(target.to_owned(), level);
            } else {
                configured.of_spans.push(directive.to_owned());
            }
        }
        configured
    }

    /// The level of a logger: its own, or that of the longest name before it.
    fn level(&self, logger: &str) -> Level {
        let own = self.levels.get(logger).copied();
        let inherited = || {
            let before = self.levels.iter().filter(|(name, _)| logger.starts_with(name.as_str()));
            before.max_by_key(|(name, _)| name.len()).map(|(_, level)| *level)
        };
        own.or_else(inherited).or_else(|| self.levels.get(ROOT).copied()).unwrap_or(Level::Off)
    }

    /// The targets of all loggers, by the names that users know.
    fn targets(&self) -> BTreeMap<String, String> {
        let lines = MODULES.lines();
        let after = lines.clone().zip(lines.skip(1)).filter(|(before, _)| *before != "#[cfg(test)]");
        let modules = after.filter_map(|(_, line)| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';').map(|module| format!("klamm::{module}"))
        });
        let mut names: BTreeSet<String> = modules.chain(self.levels.keys().cloned()).collect();
        names.extend([ROOT.to_owned(), "klamm".to_owned()]);
        names.into_iter().map(|name| (name.replace("::", "."), name)).collect()
    }

    /// What the subscriber is given.
    fn directives(&self) -> String {
        // Where nothing else is said, nothing but what is said is logged.
        let mut directives = vec![self.level(ROOT).filter().to_string()];
        directives.extend(self.of_spans.iter().cloned());
        let own = self.levels.iter().filter(|(name, _)| *name != ROOT);
        directives.extend(own.map(|(name, level)| format!("{name}={}", level.filter())));
        directives.join(",")
    }
}

/// Gives the subscriber of the process another filter.
type Apply = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// The levels of this process's loggers. Clones share them.
#[derive(Clone, Default)]
pub struct Levels {
    configured: Arc<Mutex<Configured>>,
    /// `None` where no subscriber was installed by us: then levels are kept, and have no effect.
    apply: Option<Arc<Apply>>,
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels").field("configured", &*self.configured.lock()).finish_non_exhaustive()
    }
}

impl Levels {
    /// The levels that `RUST_LOG` asks for, or those of its absence, which no subscriber follows yet.
    pub fn from_environment(rust_log: Option<&str>) -> Self {
        let valid = rust_log.filter(|text| !text.trim().is_empty() && EnvFilter::try_new(text).is_ok());
        let configured = Configured::parse(valid.unwrap_or(DEFAULT_FILTER));
        Self { configured: Arc::new(Mutex::new(configured)), apply: None }
    }

    /// The filter of these levels.
    pub fn filter(&self) -> EnvFilter {
        EnvFilter::new(self.configured.lock().directives())
    }

    /// The same levels, and `apply` hands every change of them to the subscriber.
    #[must_use]
    pub fn followed_by(self, apply: impl Fn(EnvFilter) + Send + Sync + 'static) -> Self {
        Self { apply: Some(Arc::new(Box::new(apply))), ..self }
    }

    /// Every logger with the name of its level, sorted.
    pub fn loggers(&self) -> BTreeMap<String, &'static str> {
        let configured = self.configured.lock();
        let targets = configured.targets().into_iter();
        targets.map(|(name, target)| (name, configured.level(&target).name())).collect()
    }

    /// Changes levels, all of them or none; with `validate_only` it tells what that would answer.
    ///
    /// # Errors
    /// INVALID_CONFIG for a logger or a level that there is not; INVALID_REQUEST where the level of `root` is to be
    /// removed, and for operations on lists.
    pub fn alter(&self, changes: &[(String, ConfigOp)], validate_only: bool) -> Result<(), ApiError> {
        let mut configured = self.configured.lock();
        let targets = configured.targets();
        let mut new = configured.clone();
        for (logger, op) in changes {
            let target = targets.get(logger);
            let own = target.unwrap_or(logger);
            match op {
                ConfigOp::Set(_) | ConfigOp::Delete if target.is_none() => {
                    return Err(ApiError::with(
                        ErrorCode::InvalidConfig,
                        format!("Logger {logger} does not exist!"),
                    ));
                }
                ConfigOp::Set(text) => new.levels.insert(own.clone(), settable(logger, text)?),
                ConfigOp::Delete if logger == ROOT => {
                    let why = "Removing the log level of the root logger is not allowed";
                    return Err(ApiError::with(ErrorCode::InvalidRequest, why));
                }
                ConfigOp::Delete => new.levels.remove(own),
                ConfigOp::Append(_) => return Err(of_lists("APPEND")),
                ConfigOp::Subtract(_) => return Err(of_lists("SUBTRACT")),
            };
        }
        if !validate_only {
            *configured = new;
            if let Some(apply) = &self.apply {
                apply(EnvFilter::new(configured.directives()));
            }
            tracing::warn!(?changes, "log levels were changed");
        }
        Ok(())
    }
}

fn settable(logger: &str, text: &str) -> Result<Level, ApiError> {
    Level::SETTABLE.into_iter().find(|level| level.name() == text).ok_or_else(|| {
        let valid = Level::SETTABLE.map(Level::name).join(", ");
        let why = format!(
            "Cannot set the log level of {logger} to {text} as it is not a supported log level. \
             Valid log levels are {valid}"
        );
        ApiError::with(ErrorCode::InvalidConfig, why)
    })
}

fn of_lists(operation: &str) -> ApiError {
    let why = format!("{operation} operation is not allowed for the BROKER_LOGGER resource");
    ApiError::with(ErrorCode::InvalidRequest, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(logger: &str, level: &str) -> (String, ConfigOp) {
        (logger.to_owned(), ConfigOp::Set(level.to_owned()))
    }

    #[test]
    fn loggers_inherit_from_the_longest_name_before_them() {
        let levels =
            Levels::from_environment(Some("klamm::net=debug,warn,hyper,klamm[request{key=0}]=trace"));
        let loggers = levels.loggers();
        let expected = [
            ("root", "WARN"),
            ("klamm", "WARN"),
            ("klamm.log", "WARN"),
            ("klamm.net", "DEBUG"),
            ("hyper", "TRACE"),
        ];
        for (logger, level) in expected {
            assert_eq!(loggers[logger], level, "{logger}");
        }
        assert!(!loggers.contains_key("klamm.tidy"), "a test");
        assert_eq!(
            levels.configured.lock().directives(),
            "warn,klamm[request{key=0}]=trace,hyper=trace,klamm::net=debug"
        );
        for text in ["", "=,=", "klamm=loud"] {
            let default = Levels::from_environment(Some(text)).configured.lock().directives();
            assert_eq!(default, "warn,klamm=info", "{text}");
        }
        assert_eq!(Levels::from_environment(Some("klamm=info")).loggers()["root"], "OFF");
    }

    #[test]
    fn changes_reach_the_subscriber_all_or_none() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&told);
        let levels =
            Levels::from_environment(None).followed_by(move |filter| hears.lock().push(filter.to_string()));
        levels
            .alter(&[set("klamm.net", "TRACE"), set("root", "FATAL")], false)
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((levels.loggers()["klamm.net"], levels.loggers()["root"]), ("TRACE", "FATAL"));
        assert_eq!(told.lock().len(), 1);
        assert!(told.lock()[0].contains("klamm::net=trace"), "{told:?}");

        let refused = [
            (vec![set("klamm.log", "DEBUG"), set("nobody", "DEBUG")], ErrorCode::InvalidConfig),
            (vec![set("klamm.log", "debug")], ErrorCode::InvalidConfig),
            (vec![(ROOT.to_owned(), ConfigOp::Delete)], ErrorCode::InvalidRequest),
            (vec![("klamm".to_owned(), ConfigOp::Append("INFO".to_owned()))], ErrorCode::InvalidRequest),
            (vec![("klamm".to_owned(), ConfigOp::Subtract("INFO".to_owned()))], ErrorCode::InvalidRequest),
        ];
        for (changes, code) in refused {
            assert_eq!(levels.alter(&changes, false).map_err(|error| error.code), Err(code));
        }
        assert_eq!(levels.loggers()["klamm.log"], "INFO");
        levels.alter(&[set("klamm", "DEBUG")], true).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((levels.loggers()["klamm"], told.lock().len()), ("INFO", 1), "nothing was to change");

        let unset = ("klamm.net".to_owned(), ConfigOp::Delete);
        levels.alter(&[unset], false).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(levels.loggers()["klamm.net"], "INFO");
    }
}
