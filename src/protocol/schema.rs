//! One macro that declares message bodies and log records: `schema!`.
//!
//! ```text
//! schema! {
//!     /// One partition (PartitionRecord).
//!     pub struct PartitionRecord, versions 0..=2, flexible 0.. {
//!         /// The partition.
//!         partition_id: i32 = -1,
//!         replicas: Vec<i32>,
//!         directories: Vec<Uuid> [1..],
//!         eligible_leader_replicas: Option<Vec<i32>> [2.., tag 1] = None,
//!         listeners: Vec<Listener>,
//!     }
//!     /// A nested struct has no versions of its own.
//!     pub struct Listener { name: String, port: u16 }
//! }
//! ```
//!
//! - The types are those of [`Field`]: `bool`, numbers, `Uuid`, `String`, `Bytes`, `Vec<T>`, other structs, and `Option`
//!   of a string, of bytes, of an array or of a struct where null is legal.
//! - In brackets stand, separated by commas: the versions that have the field (`1..` or `0..=2`; all of them if none
//!   are given), `tag N` for a tagged field, `nullable 2..` where null is legal in some versions only, and `ignorable`
//!   where a value is dropped silently in a version without the field, instead of being an error.
//! - After `=` stands the default, where it is not zero or empty. As in Kafka's schemas, that holds for a nullable field
//!   too: without `= None` it starts as `Some` of the empty value.
//!
//! Every struct gets `Debug`, `Clone`, `PartialEq`, `Default`, and a last field `unknown_tagged_fields` that keeps the
//! tags that we do not know and writes them back. A struct with versions implements [`Schema`].

use std::ops::RangeInclusive;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::wire::{DecodeError, EncodeError, Field, Form, Sink, Size, read_uvarint, take, write_uvarint};

/// A message body or a log record: something with versions of its own.
pub trait Schema: Field {
    /// Its name, as Kafka spells it.
    const NAME: &'static str;
    /// The versions that there are.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version in the flexible form, or `i16::MAX`.
    const FLEXIBLE_SINCE: i16;

    /// Reads the body at the front of `buf`; what follows it stays there.
    fn decode(buf: &mut Bytes, version: i16) -> Result<Self, DecodeError> {
        let form = form_of::<Self>(version).ok_or(DecodeError::Version { message: Self::NAME, version })?;
        Self::read(buf, form)
    }

    /// Appends the body to `buf`.
    fn encode(&self, buf: &mut BytesMut, version: i16) -> Result<(), EncodeError> {
        let form = form_of::<Self>(version).ok_or(EncodeError::Version { message: Self::NAME, version })?;
        self.write(buf, form)
    }

    /// The length of the encoded body, in bytes.
    fn size(&self, version: i16) -> Result<usize, EncodeError> {
        let form = form_of::<Self>(version).ok_or(EncodeError::Version { message: Self::NAME, version })?;
        let mut size = Size::default();
        self.write(&mut size, form)?;
        Ok(size.0)
    }
}

fn form_of<T: Schema>(version: i16) -> Option<Form> {
    T::VERSIONS.contains(&version).then_some(Form { version, flexible: version >= T::FLEXIBLE_SINCE })
}

/// The key or the value of a log record: a body behind a number, which is the record's type in a key, and the version in
/// a value.
///
/// # Errors
/// The body has no such version, or says what that can not hold.
pub fn prefixed(prefix: i16, body: &impl Schema, version: i16) -> Result<Bytes, EncodeError> {
    let mut bytes = BytesMut::with_capacity(2 + body.size(version)?);
    bytes.put_i16(prefix);
    body.encode(&mut bytes, version)?;
    Ok(bytes.freeze())
}

/// Reads the value of a log record: a body behind its version.
///
/// # Errors
/// There are too few bytes, or others than such a body has.
pub fn versioned<T: Schema>(mut bytes: Bytes) -> Result<T, DecodeError> {
    let version = take(&mut bytes, 2)?.get_i16();
    T::decode(&mut bytes, version)
}

/// A tagged field that we do not know: its tag and its bytes.
pub type UnknownTag = (u32, Bytes);

/// What stands in the brackets of a field.
#[derive(Debug, Clone, Copy)]
pub struct FieldSpec {
    versions: (i16, i16),
    nullable: (i16, i16),
    tag: Option<u32>,
    ignorable: bool,
}

const fn within(range: (i16, i16), version: i16) -> bool {
    range.0 <= version && version <= range.1
}

impl FieldSpec {
    /// In every version, untagged.
    pub const PLAIN: Self =
        Self { versions: (0, i16::MAX), nullable: (0, i16::MAX), tag: None, ignorable: false };

    /// In these versions only.
    pub const fn versions(self, first: i16, last: i16) -> Self {
        Self { versions: (first, last), ..self }
    }

    /// Null in these versions only.
    pub const fn nullable(self, first: i16, last: i16) -> Self {
        Self { nullable: (first, last), ..self }
    }

    /// Tagged.
    pub const fn tagged(self, tag: u32) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// Dropped where a version has no place for it.
    pub const fn ignorable(self) -> Self {
        Self { ignorable: true, ..self }
    }

    /// Whether the field stands in the body itself.
    pub const fn in_body(self, form: Form) -> bool {
        self.tag.is_none() && within(self.versions, form.version)
    }

    /// The tag under which the field stands, if it is a tagged one in this version.
    pub const fn tag(self, form: Form) -> Option<u32> {
        if form.flexible && within(self.versions, form.version) { self.tag } else { None }
    }

    /// Whether a value that is not the default has to be refused: there is no place for it.
    pub const fn refuses(self, form: Form) -> bool {
        !self.ignorable && !within(self.versions, form.version)
    }

    /// Whether null is legal.
    pub const fn may_be_null(self, form: Form) -> bool {
        within(self.nullable, form.version)
    }
}

/// A field in its struct, for the errors that name it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The struct.
    pub message: &'static str,
    /// The field.
    pub field: &'static str,
}

/// Reads a field of the body.
pub fn read_field<T: Field>(
    buf: &mut Bytes,
    spec: FieldSpec,
    place: Place,
    form: Form,
) -> Result<T, DecodeError> {
    let value = T::read(buf, form)?;
    if value.is_null() && !spec.may_be_null(form) {
        let Place { message, field } = place;
        return Err(DecodeError::NullField { message, field, version: form.version });
    }
    Ok(value)
}

/// Writes a field of the body, if this version has it; otherwise the field has to be at its default.
pub fn write_field<T: Field + PartialEq>(
    value: &T,
    default: &T,
    spec: FieldSpec,
    place: Place,
    sink: &mut dyn Sink,
    form: Form,
) -> Result<(), EncodeError> {
    let (Place { message, field }, version) = (place, form.version);
    if spec.in_body(form) {
        if value.is_null() && !spec.may_be_null(form) {
            return Err(EncodeError::NullField { message, field, version });
        }
        value.write(sink, form)
    } else if spec.refuses(form) && value != default {
        Err(EncodeError::UnsupportedField { message, field, version })
    } else {
        Ok(())
    }
}

/// Reads the tagged fields at the end of a struct.
pub fn read_tags(buf: &mut Bytes) -> Result<Vec<UnknownTag>, DecodeError> {
    let mut tags = Vec::new();
    for _ in 0..read_uvarint(buf)? {
        let tag = read_uvarint(buf)?;
        let size = read_uvarint(buf)?;
        let size = usize::try_from(size).map_err(|_| DecodeError::NegativeLength(size.into()))?;
        tags.push((tag, take(buf, size)?));
    }
    Ok(tags)
}

/// Takes a known field out of the tags, if it is a tagged one in this version and is there; of several the last.
pub fn take_tag<T: Field>(
    tags: &mut Vec<UnknownTag>,
    spec: FieldSpec,
    form: Form,
) -> Result<Option<T>, DecodeError> {
    let Some(tag) = spec.tag(form) else { return Ok(None) };
    let Some(at) = tags.iter().rposition(|(other, _)| *other == tag) else { return Ok(None) };
    let (_, mut bytes) = tags.remove(at);
    tags.retain(|(other, _)| *other != tag);
    let value = T::read(&mut bytes, form)?;
    if bytes.is_empty() { Ok(Some(value)) } else { Err(DecodeError::TagSize { tag, remaining: bytes.len() }) }
}

/// Adds a known field to the tags that are to be written, if it is a tagged one in this version and not at its
/// default.
pub fn add_tag<T: Field + PartialEq>(
    tags: &mut Vec<UnknownTag>,
    value: &T,
    default: &T,
    spec: FieldSpec,
    form: Form,
) -> Result<(), EncodeError> {
    if let Some(tag) = spec.tag(form)
        && value != default
    {
        let mut bytes = BytesMut::new();
        value.write(&mut bytes, form)?;
        tags.push((tag, bytes.freeze()));
    }
    Ok(())
}

/// Writes the tagged fields at the end of a struct in the order of their tags.
pub fn write_tags(
    mut tags: Vec<UnknownTag>,
    place: Place,
    sink: &mut dyn Sink,
    form: Form,
) -> Result<(), EncodeError> {
    if !form.flexible {
        let Place { message, field } = place;
        let refused = EncodeError::UnsupportedField { message, field, version: form.version };
        return if tags.is_empty() { Ok(()) } else { Err(refused) };
    }
    tags.sort_by_key(|(tag, _)| *tag);
    write_uvarint(u32::try_from(tags.len()).map_err(|_| EncodeError::TooLong(tags.len()))?, sink);
    for (tag, value) in tags {
        write_uvarint(tag, sink);
        write_uvarint(u32::try_from(value.len()).map_err(|_| EncodeError::TooLong(value.len()))?, sink);
        sink.put(&value);
    }
    Ok(())
}

/// Reads a struct that may be null: in its place stands a byte, -1 for null and 1 for a value.
pub fn read_nullable_struct<T: Field>(buf: &mut Bytes, form: Form) -> Result<Option<T>, DecodeError> {
    if i8::read(buf, form)? < 0 { Ok(None) } else { T::read(buf, form).map(Some) }
}

/// Writes a struct that may be null.
pub fn write_nullable_struct<T: Field>(
    value: Option<&T>,
    sink: &mut dyn Sink,
    form: Form,
) -> Result<(), EncodeError> {
    match value {
        None => (-1i8).write(sink, form),
        Some(value) => {
            1i8.write(sink, form)?;
            value.write(sink, form)
        }
    }
}

/// Declares message bodies and log records; see the [module](self) for the form.
macro_rules! schema {
    // The brackets of a field, one item at a time.
    (@munch ($spec:expr)) => { $spec };
    (@munch ($spec:expr) , $($rest:tt)*) => { schema!(@munch ($spec) $($rest)*) };
    (@munch ($spec:expr) tag $tag:literal $($rest:tt)*) => { schema!(@munch ($spec.tagged($tag)) $($rest)*) };
    (@munch ($spec:expr) ignorable $($rest:tt)*) => { schema!(@munch ($spec.ignorable()) $($rest)*) };
    (@munch ($spec:expr) nullable $first:literal ..= $last:literal $($rest:tt)*) => {
        schema!(@munch ($spec.nullable($first, $last)) $($rest)*)
    };
    (@munch ($spec:expr) nullable $first:literal .. $($rest:tt)*) => {
        schema!(@munch ($spec.nullable($first, i16::MAX)) $($rest)*)
    };
    (@munch ($spec:expr) $first:literal ..= $last:literal $($rest:tt)*) => {
        schema!(@munch ($spec.versions($first, $last)) $($rest)*)
    };
    (@munch ($spec:expr) $first:literal .. $($rest:tt)*) => {
        schema!(@munch ($spec.versions($first, i16::MAX)) $($rest)*)
    };

    (@spec $($spec:tt)*) => {
        const { schema!(@munch ($crate::protocol::schema::FieldSpec::PLAIN) $($spec)*) }
    };
    (@place $message:ident $field:ident) => {
        $crate::protocol::schema::Place { message: stringify!($message), field: stringify!($field) }
    };

    (@default) => { $crate::protocol::wire::Field::initial() };
    (@default $default:expr) => { $default };

    (@flexible) => { i16::MAX };
    (@flexible $first:literal) => { $first };

    (@schema $name:ident) => {};
    (@schema $name:ident $first:literal $last:literal $($flexible:literal)?) => {
        impl $crate::protocol::schema::Schema for $name {
            const NAME: &'static str = stringify!($name);
            const VERSIONS: ::std::ops::RangeInclusive<i16> = $first..=$last;
            const FLEXIBLE_SINCE: i16 = schema!(@flexible $($flexible)?);
        }
    };

    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident $(, versions $first:literal ..= $last:literal $(, flexible $flexible:literal ..)?)? {
            $(
                $(#[$field_meta:meta])*
                $field:ident : $type:ty $([ $($spec:tt)* ])? $(= $default:expr)?
            ),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $(
                $(#[$field_meta])*
                pub $field: $type,
            )*
            /// The tagged fields that are not known here, in the order in which they came.
            pub unknown_tagged_fields: Vec<$crate::protocol::schema::UnknownTag>,
        }

        schema!(@schema $name $($first $last $($flexible)?)?);

        const _: () = {
            use $crate::protocol::schema as rt;
            use $crate::protocol::wire::{DecodeError, EncodeError, Field, Form, Nullable, Sink};

            impl Default for $name {
                fn default() -> Self {
                    Self {
                        $($field: schema!(@default $($default)?),)*
                        unknown_tagged_fields: Vec::new(),
                    }
                }
            }

            impl Field for $name {
                fn read(buf: &mut ::bytes::Bytes, form: Form) -> Result<Self, DecodeError> {
                    let mut value = Self::default();
                    $(if schema!(@spec $($($spec)*)?).in_body(form) {
                        let (spec, place) = (schema!(@spec $($($spec)*)?), schema!(@place $name $field));
                        value.$field = rt::read_field(buf, spec, place, form)?;
                    })*
                    if form.flexible {
                        value.unknown_tagged_fields = rt::read_tags(buf)?;
                        $(if let Some(tagged) =
                            rt::take_tag(&mut value.unknown_tagged_fields, schema!(@spec $($($spec)*)?), form)?
                        {
                            value.$field = tagged;
                        })*
                    }
                    Ok(value)
                }

                fn write(&self, sink: &mut dyn Sink, form: Form) -> Result<(), EncodeError> {
                    let default = Self::default();
                    $(
                        let (spec, place) = (schema!(@spec $($($spec)*)?), schema!(@place $name $field));
                        rt::write_field(&self.$field, &default.$field, spec, place, sink, form)?;
                    )*
                    let mut tags = default.unknown_tagged_fields;
                    $(rt::add_tag(&mut tags, &self.$field, &default.$field, schema!(@spec $($($spec)*)?), form)?;)*
                    tags.extend_from_slice(&self.unknown_tagged_fields);
                    let place = schema!(@place $name unknown_tagged_fields);
                    rt::write_tags(tags, place, sink, form)
                }

                fn initial() -> Self {
                    Self::default()
                }
            }

            impl Nullable for $name {
                fn read_nullable(buf: &mut ::bytes::Bytes, form: Form) -> Result<Option<Self>, DecodeError> {
                    rt::read_nullable_struct(buf, form)
                }
                fn write_nullable(
                    value: Option<&Self>,
                    sink: &mut dyn Sink,
                    form: Form,
                ) -> Result<(), EncodeError> {
                    rt::write_nullable_struct(value, sink, form)
                }
            }
        };
    )*};
}

pub(crate) use schema;

#[cfg(test)]
mod tests;
