//! Reads the numbers out of OTLP's MetricsData, a message of Protocol Buffers, without building the message: what is
//! pushed takes no more memory than its bytes.
//!
//! Clients push gauges and sums (KIP-714); other kinds of metrics are passed over.

use std::borrow::Cow;
use std::fmt;

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not OTLP's MetricsData")
    }
}

/// How a number is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// What something was at a moment.
    Gauge,
    /// What came to a sum since the last push.
    Delta { is_monotonic: bool },
    /// A sum since its start.
    Cumulative { is_monotonic: bool },
}

/// A name with its value.
pub(super) type Attribute<'a> = (&'a str, Cow<'a, str>);

/// One number of a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point<'a> {
    pub(super) name: &'a str,
    pub(super) meaning: Meaning,
    /// Those of the client before those of the number.
    pub(super) attributes: Vec<Attribute<'a>>,
    pub(super) value: f64,
}

/// How many attributes of a number count; clients have a handful.
const ATTRIBUTES_MAX: usize = 32;

/// How many numbers of one push count; a client has some hundred.
const POINTS_MAX: usize = 20_000;

/// `AggregationTemporality.DELTA`.
const DELTA: u64 = 1;

/// The value of a field.
enum Field<'a> {
    Number(u64),
    /// Eight bytes.
    Fixed(u64),
    Bytes(&'a [u8]),
    /// Four bytes, which nothing here uses.
    Short,
}

impl<'a> Field<'a> {
    fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            Field::Number(_) | Field::Fixed(_) | Field::Short => Err(Malformed),
        }
    }

    fn text(&self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    fn number(&self) -> Result<u64, Malformed> {
        match self {
            Field::Number(number) => Ok(*number),
            Field::Fixed(_) | Field::Bytes(_) | Field::Short => Err(Malformed),
        }
    }

    fn fixed(&self) -> Result<u64, Malformed> {
        match self {
            Field::Fixed(bits) => Ok(*bits),
            Field::Number(_) | Field::Bytes(_) | Field::Short => Err(Malformed),
        }
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(Malformed)?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, after) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    Ok(taken)
}

/// Calls `visit` with the number and the value of each field of a message.
fn fields<'a>(
    message: &'a [u8],
    mut visit: impl FnMut(u64, Field<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut rest = message;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut rest)?),
            1 => {
                let bytes = take(&mut rest, 8)?;
                Field::Fixed(u64::from_le_bytes(bytes.try_into().map_err(|_| Malformed)?))
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| Malformed)?;
                Field::Bytes(take(&mut rest, length)?)
            }
            5 => {
                take(&mut rest, 4)?;
                Field::Short
            }
            _ => return Err(Malformed),
        };
        visit(tag >> 3, field)?;
    }
    Ok(())
}

/// Calls `tell` with every number of a MetricsData.
///
/// # Errors
/// Where the bytes are not such a message; `tell` may have been called with what stands before.
pub(super) fn read(message: &[u8], tell: &mut dyn FnMut(Point<'_>)) -> Result<(), Malformed> {
    let mut points = 0;
    let mut tell_some = |point: Point<'_>| {
        points += 1;
        if points <= POINTS_MAX {
            tell(point);
        }
    };
    fields(message, |number, field| match number {
        1 => resource_metrics(field.bytes()?, &mut tell_some),
        _ => Ok(()),
    })
}

fn resource_metrics(message: &[u8], tell: &mut dyn FnMut(Point<'_>)) -> Result<(), Malformed> {
    let mut of_client = Vec::new();
    fields(message, |number, field| match number {
        1 => fields(field.bytes()?, |number, field| match number {
            1 => attribute(field.bytes()?, &mut of_client),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    fields(message, |number, field| match number {
        2 => fields(field.bytes()?, |number, field| match number {
            2 => metric(field.bytes()?, &of_client, tell),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
}

fn metric<'a>(
    message: &'a [u8],
    of_client: &[Attribute<'a>],
    tell: &mut dyn FnMut(Point<'_>),
) -> Result<(), Malformed> {
    const GAUGE: u64 = 5;
    const SUM: u64 = 7;
    let (mut name, mut numbers, mut is_sum) = ("", None, false);
    fields(message, |number, field| {
        match number {
            1 => name = field.text()?,
            GAUGE | SUM => (numbers, is_sum) = (Some(field.bytes()?), number == SUM),
            _ => {}
        }
        Ok(())
    })?;
    let Some(numbers) = numbers else { return Ok(()) };
    let (mut temporality, mut is_monotonic) = (0, false);
    if is_sum {
        fields(numbers, |number, field| {
            match number {
                2 => temporality = field.number()?,
                3 => is_monotonic = field.number()? != 0,
                _ => {}
            }
            Ok(())
        })?;
    }
    let meaning = match (is_sum, temporality == DELTA) {
        (false, _) => Meaning::Gauge,
        (true, true) => Meaning::Delta { is_monotonic },
        (true, false) => Meaning::Cumulative { is_monotonic },
    };
    fields(numbers, |number, field| {
        if number != 1 {
            return Ok(());
        }
        let mut attributes = of_client.to_vec();
        if let Some(value) = data_point(field.bytes()?, &mut attributes)? {
            tell(Point { name, meaning, attributes, value });
        }
        Ok(())
    })
}

/// The value of a NumberDataPoint, if it has one.
fn data_point<'a>(message: &'a [u8], attributes: &mut Vec<Attribute<'a>>) -> Result<Option<f64>, Malformed> {
    let mut value = None;
    fields(message, |number, field| {
        match number {
            4 => value = Some(f64::from_bits(field.fixed()?)),
            #[expect(clippy::cast_precision_loss, reason = "Prometheus knows no numbers but floats")]
            6 => value = Some(field.fixed()?.cast_signed() as f64),
            7 => attribute(field.bytes()?, attributes)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(value)
}

/// Adds a KeyValue whose value is text, a number or a truth value.
fn attribute<'a>(message: &'a [u8], attributes: &mut Vec<Attribute<'a>>) -> Result<(), Malformed> {
    let (mut key, mut value) = ("", None);
    fields(message, |number, field| {
        match number {
            1 => key = field.text()?,
            2 => fields(field.bytes()?, |number, field| {
                value = match number {
                    1 => Some(Cow::Borrowed(field.text()?)),
                    2 => Some(Cow::Owned((field.number()? != 0).to_string())),
                    3 => Some(Cow::Owned(field.number()?.cast_signed().to_string())),
                    4 => Some(Cow::Owned(f64::from_bits(field.fixed()?).to_string())),
                    _ => None,
                };
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    if let Some(value) = value
        && !key.is_empty()
        && attributes.len() < ATTRIBUTES_MAX
    {
        attributes.push((key, value));
    }
    Ok(())
}
