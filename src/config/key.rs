//! The declaration of configuration keys: types, ranges, parsing, and the `config_keys!` macro.
//!
//! A key is declared once. From its declaration follow the typed field, its default, the checks
//! of `server.properties`, `--override` and AlterConfigs, what DescribeConfigs says about it, and
//! its row in the reference.

use std::collections::BTreeMap;
use std::fmt;

/// Why a configuration was refused: one sentence in the form that Kafka's `ConfigException` has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ConfigError {
    /// The value of a key is not one of its valid values.
    pub fn value(name: &str, value: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self(format!("Invalid value {value} for configuration {name}: {problem}"))
    }
}

/// The type of a key's value (`org.apache.kafka.common.config.ConfigDef.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl ConfigType {
    /// Kafka's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }

    /// The number of the type in a DescribeConfigs response (`DescribeConfigsResponse.ConfigType`).
    pub fn wire_id(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }
}

/// Who may change a key, and when (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Read when the broker starts.
    ReadOnly,
    /// May be changed while the broker runs, for one broker.
    PerBroker,
    /// May be changed while the broker runs, for one broker or for all of them.
    ClusterWide,
    /// Belongs to a resource other than a broker: a topic, a group, a metrics subscription.
    Resource,
}

impl Scope {
    /// Kafka's name of the update mode.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::PerBroker => "per-broker",
            Self::ClusterWide => "cluster-wide",
            Self::Resource => "per-resource",
        }
    }
}

/// How likely a user is to need the key (`ConfigDef.Importance`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    High,
    Medium,
    Low,
}

impl Importance {
    /// The lower-case word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// The check of one value beyond its type, and the words that describe it.
pub type Check = fn(&Value) -> Result<(), String>;

/// Which values a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Valid {
    /// Every value of its type, and none.
    Any,
    /// A number that is at least this.
    AtLeast(i64),
    /// A number in this closed range.
    Between(i64, i64),
    /// One of these words, as they are spelled.
    OneOf(&'static [&'static str]),
    /// A list without empty items, of these words; doubles are dropped.
    ListOf(&'static [&'static str]),
    /// A list without empty items; doubles are dropped.
    Distinct,
    /// A list without empty items that has at least one; doubles are dropped.
    NonEmptyList,
    /// What the function says; the text describes it.
    Checked(Check, &'static str),
}

/// A parsed value of any type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Text(String),
    List(Vec<String>),
}

impl fmt::Display for Value {
    /// Kafka's text of a parsed value (`ConfigDef.convertToString`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Double(value) => f.write_str(&java_double(*value)),
            Self::Text(value) => f.write_str(value),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// A number as Java's `Double.toString` writes it, which is what clients compare with.
fn java_double(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !size.is_finite() || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

/// Everything that is known of a key.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    pub name: &'static str,
    pub kind: ConfigType,
    /// What klamm uses when nothing is set; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Where klamm's default differs from Kafka's: Kafka's default and our reason.
    pub differs: Option<(&'static str, &'static str)>,
    pub scope: Scope,
    pub valid: Valid,
    pub importance: Importance,
    /// One sentence for the reference and for DescribeConfigs.
    pub documentation: &'static str,
    /// Why the key is kept and reported, but has no effect; `None` means that klamm acts on it.
    pub idle: Option<&'static str>,
}

impl ConfigKey {
    /// Reads a value as Kafka does (`ConfigDef.parseType`, then the validator).
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let mut value = parse_type(self.name, self.kind, text)?;
        if let Value::List(items) = &mut value
            && matches!(self.valid, Valid::ListOf(_) | Valid::Distinct | Valid::NonEmptyList)
        {
            // Kafka drops doubles of such a list rather than refusing them (KIP-1161).
            let mut seen = std::collections::BTreeSet::new();
            items.retain(|item| seen.insert(item.clone()));
        }
        self.check(&value)?;
        Ok(value)
    }

    /// The value that holds when nothing is set.
    pub fn default_value(&self) -> Value {
        self.default.map_or(Value::Null, |text| parse_type(self.name, self.kind, text).unwrap_or(Value::Null))
    }

    /// Whether the value must not be shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == ConfigType::Password
    }

    /// The valid values in words, empty where every value of the type is.
    pub fn valid_values(&self) -> String {
        match self.valid {
            Valid::Any | Valid::Distinct => String::new(),
            Valid::AtLeast(least) => format!("[{least},...]"),
            Valid::Between(least, most) => format!("[{least},...,{most}]"),
            Valid::OneOf(words) | Valid::ListOf(words) => format!("[{}]", words.join(", ")),
            Valid::NonEmptyList => "non-empty list".to_owned(),
            Valid::Checked(_, words) => words.to_owned(),
        }
    }

    fn check(&self, value: &Value) -> Result<(), ConfigError> {
        let refuse = |problem: String| Err(ConfigError::value(self.name, shown(value), problem));
        match self.valid {
            Valid::Any => Ok(()),
            Valid::AtLeast(least) if below(value, least) => refuse(format!("Value must be at least {least}")),
            Valid::Between(least, _) if below(value, least) => {
                refuse(format!("Value must be at least {least}"))
            }
            Valid::Between(_, most) if above(value, most) => {
                refuse(format!("Value must be no more than {most}"))
            }
            Valid::AtLeast(_) | Valid::Between(..) => Ok(()),
            Valid::OneOf(words) if !matches!(value, Value::Text(text) if words.contains(&text.as_str())) => {
                refuse(format!("String must be one of: {}", words.join(", ")))
            }
            Valid::OneOf(_) => Ok(()),
            Valid::ListOf(words) => self.check_list(value, words, true),
            Valid::Distinct => self.check_list(value, &[], true),
            Valid::NonEmptyList => self.check_list(value, &[], false),
            Valid::Checked(check, _) => match check(value) {
                Ok(()) => Ok(()),
                Err(problem) => refuse(problem),
            },
        }
    }

    fn check_list(&self, value: &Value, words: &[&str], empty_allowed: bool) -> Result<(), ConfigError> {
        let Value::List(items) = value else { return Ok(()) };
        let name = self.name;
        if items.is_empty() && !empty_allowed {
            return Err(ConfigError(format!(
                "Configuration '{name}' must not be empty. Valid values include: any non-empty value"
            )));
        }
        for item in items {
            if item.is_empty() {
                return Err(ConfigError(format!("Configuration '{name}' values must not be empty.")));
            }
            if !words.is_empty() && !words.contains(&item.as_str()) {
                let problem = format!("String must be one of: {}", words.join(", "));
                return Err(ConfigError::value(name, item, problem));
            }
        }
        Ok(())
    }
}

/// A value as Java prints it inside a message: lists stand in brackets.
fn shown(value: &Value) -> String {
    let Value::List(items) = value else { return value.to_string() };
    format!("[{}]", items.join(", "))
}

fn below(value: &Value, least: i64) -> bool {
    number(value).is_some_and(|number| number < f64_of(least))
}

fn above(value: &Value, most: i64) -> bool {
    number(value).is_some_and(|number| number > f64_of(most))
}

/// A number to compare with a bound. Kafka compares as doubles too.
fn number(value: &Value) -> Option<f64> {
    if let Value::Integer(number) = value {
        return Some(f64_of(*number));
    }
    let Value::Double(number) = value else { return None };
    Some(*number)
}

#[expect(clippy::cast_precision_loss, reason = "bounds are small numbers, which a double holds exactly")]
fn f64_of(number: i64) -> f64 {
    number as f64
}

/// Reads a text as a value of a type, without the check of its range.
pub fn parse_type(name: &str, kind: ConfigType, text: &str) -> Result<Value, ConfigError> {
    let trimmed = text.trim();
    let not_a_number = || ConfigError::value(name, text, format!("Not a number of type {}", kind.name()));
    let integer = |fits: fn(i64) -> bool| match trimmed.parse::<i64>() {
        Ok(number) if fits(number) => Ok(Value::Integer(number)),
        _ => Err(not_a_number()),
    };
    match kind {
        ConfigType::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
        ConfigType::Boolean if trimmed.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
        ConfigType::Boolean => {
            Err(ConfigError::value(name, text, "Expected value to be either true or false"))
        }
        ConfigType::String | ConfigType::Class | ConfigType::Password => Ok(Value::Text(trimmed.to_owned())),
        ConfigType::Int => integer(|number| i32::try_from(number).is_ok()),
        ConfigType::Short => integer(|number| i16::try_from(number).is_ok()),
        ConfigType::Long => integer(|_| true),
        ConfigType::Double => trimmed.parse::<f64>().map(Value::Double).map_err(|_| not_a_number()),
        ConfigType::List if trimmed.is_empty() => Ok(Value::List(Vec::new())),
        ConfigType::List => Ok(Value::List(trimmed.split(',').map(|item| item.trim().to_owned()).collect())),
    }
}

/// A Rust type that a field of a configuration can have.
pub trait FieldType: Sized {
    /// The type of the key.
    const KIND: ConfigType;
    /// The field's value; `None` when the value is of another type, which the parser rules out
    /// except for a missing value of a key that must have one.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! integer_field {
    ($type:ty, $kind:ident) => {
        impl FieldType for $type {
            const KIND: ConfigType = ConfigType::$kind;
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Integer(number) => Self::try_from(number).ok(),
                    _ => None,
                }
            }
        }
    };
}
integer_field!(i16, Short);
integer_field!(i32, Int);
integer_field!(i64, Long);

macro_rules! plain_field {
    ($type:ty, $kind:ident, $variant:ident) => {
        impl FieldType for $type {
            const KIND: ConfigType = ConfigType::$kind;
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(inner) => Some(inner),
                    _ => None,
                }
            }
        }
    };
}
plain_field!(bool, Boolean, Boolean);
plain_field!(f64, Double, Double);
plain_field!(String, String, Text);
plain_field!(Vec<String>, List, List);

impl<T: FieldType> FieldType for Option<T> {
    const KIND: ConfigType = T::KIND;
    fn from_value(value: Value) -> Option<Self> {
        if value == Value::Null { Some(None) } else { T::from_value(value).map(Some) }
    }
}

/// Finds, parses and checks the value of one key; used by what `config_keys!` generates.
pub(crate) fn read_field<T: FieldType>(
    key: &ConfigKey,
    values: &BTreeMap<String, String>,
) -> Result<T, ConfigError> {
    let value = match values.get(key.name) {
        Some(text) => key.parse(text)?,
        None => key.default_value(),
    };
    T::from_value(value).ok_or_else(|| {
        ConfigError(format!("Missing required configuration \"{}\" which has no default value.", key.name))
    })
}

/// The key of a name in a table that is sorted by name.
pub(crate) fn find(table: &'static [ConfigKey], name: &str) -> Option<&'static ConfigKey> {
    table.iter().find(|key| key.name == name)
}

/// Declares a configuration: a struct with one typed field per key, and the table of its keys.
///
/// One key: `"log.retention.hours" log_retention_hours: i32 = "168", ReadOnly, Any, High, "Documentation.";`
/// Its default stands in quotes as in a file, or is `null`. It may be followed by
/// `differs "3000" "reason"` (Kafka's default and why ours differs) and by `idle "reason"`
/// (kept and reported, without effect).
macro_rules! config_keys {
    (
        $(#[$meta:meta])*
        pub struct $struct:ident, table $table:ident;
        $(
            $name:literal $field:ident : $type:ty = $default:tt, $scope:ident,
            $valid:ident $(($($bound:expr),*))?, $importance:ident, $documentation:literal
            $(differs $kafka:literal $why:literal)? $(idle $idle:expr)?;
        )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $struct {
            $(#[doc = concat!("`", $name, "`: ", $documentation)] pub $field: $type,)*
            /// Where the values come from.
            pub layers: std::sync::Arc<$crate::config::Layers>,
        }

        /// The keys of this configuration.
        pub static $table: &[$crate::config::key::ConfigKey] = &[$(
            $crate::config::key::ConfigKey {
                name: $name,
                kind: <$type as $crate::config::key::FieldType>::KIND,
                default: config_keys!(@default $default),
                differs: config_keys!(@pair $($kafka $why)?),
                scope: $crate::config::key::Scope::$scope,
                valid: $crate::config::key::Valid::$valid $(($($bound),*))?,
                importance: $crate::config::key::Importance::$importance,
                documentation: $documentation,
                idle: config_keys!(@option $($idle)?),
            },
        )*];

        impl $struct {
            /// Reads every field from the values that are set, by name; the rest get their
            /// defaults. Names that are not in the table are left alone.
            pub(crate) fn read(
                values: &std::collections::BTreeMap<String, String>,
                layers: std::sync::Arc<$crate::config::Layers>,
            ) -> Result<Self, $crate::config::key::ConfigError> {
                let mut keys = $table.iter();
                let mut next = || keys.next().ok_or_else(|| {
                    $crate::config::key::ConfigError("the key table is shorter than its struct".to_owned())
                });
                Ok(Self {
                    $($field: $crate::config::key::read_field(next()?, values)?,)*
                    layers,
                })
            }
        }
    };
    (@default null) => { None };
    (@default $default:literal) => { Some($default) };
    (@pair) => { None };
    (@pair $kafka:literal $why:literal) => { Some(($kafka, $why)) };
    (@option) => { None };
    (@option $idle:expr) => { Some($idle) };
}
pub(crate) use config_keys;
