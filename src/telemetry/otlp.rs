//! Reads the numbers out of OTLP's MetricsData, a message of Protocol Buffers, without building the message: what is
//! pushed takes no more memory than its bytes.
//!
//! Java's client and librdkafka push gauges and sums (KIP-714); other clients may push histograms and summaries.

use std::borrow::Cow;
use std::fmt;

use super::distribution::{BUCKETS_READ_MAX, Buckets, Explicit, Exponential, QUANTILES_MAX, Summary};

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not OTLP's MetricsData")
    }
}

/// What a metric tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// What something was at a moment.
    Gauge(f64),
    /// A sum since its start, or what came to it since the last push.
    Sum { value: f64, is_delta: bool, is_monotonic: bool },
    /// How values are distributed since the start, or those since the last push.
    Histogram { buckets: Buckets, is_delta: bool },
    /// Quantiles.
    Summary(Summary),
}

/// A name with its value.
pub(super) type Attribute<'a> = (&'a str, Cow<'a, str>);

/// One data point of a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point<'a> {
    pub(super) name: &'a str,
    /// Those of the client before those of the data point.
    pub(super) attributes: Vec<Attribute<'a>>,
    pub(super) value: Value,
}

/// How many attributes of a number count; clients have a handful.
const ATTRIBUTES_MAX: usize = 32;

/// How many data points of one push count; a client has some hundred.
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

    fn double(&self) -> Result<f64, Malformed> {
        self.fixed().map(f64::from_bits)
    }

    /// A `sint32`.
    fn zigzag(&self) -> Result<i32, Malformed> {
        let number = self.number()?;
        let number = (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
        i32::try_from(number).map_err(|_| Malformed)
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

/// The kinds of metrics, by their fields in Metric.
const GAUGE: u64 = 5;
const SUM: u64 = 7;
const HISTOGRAM: u64 = 9;
const EXPONENTIAL_HISTOGRAM: u64 = 10;
const SUMMARY: u64 = 11;

fn metric<'a>(
    message: &'a [u8],
    of_client: &[Attribute<'a>],
    tell: &mut dyn FnMut(Point<'_>),
) -> Result<(), Malformed> {
    let (mut name, mut found) = ("", None);
    fields(message, |number, field| {
        match number {
            1 => name = field.text()?,
            GAUGE | SUM | HISTOGRAM | EXPONENTIAL_HISTOGRAM | SUMMARY => {
                found = Some((number, field.bytes()?));
            }
            _ => {}
        }
        Ok(())
    })?;
    let Some((kind, points)) = found else { return Ok(()) };
    let (mut temporality, mut is_monotonic) = (0, false);
    if kind != GAUGE && kind != SUMMARY {
        fields(points, |number, field| {
            match number {
                2 => temporality = field.number()?,
                3 => is_monotonic = field.number()? != 0,
                _ => {}
            }
            Ok(())
        })?;
    }
    let is_delta = temporality == DELTA;
    fields(points, |number, field| {
        if number != 1 {
            return Ok(());
        }
        let (message, mut attributes) = (field.bytes()?, of_client.to_vec());
        let value = match kind {
            GAUGE => data_point(message, &mut attributes)?.map(Value::Gauge),
            SUM => data_point(message, &mut attributes)?.map(|value| Value::Sum {
                value,
                is_delta,
                is_monotonic,
            }),
            HISTOGRAM => Some(Value::Histogram { buckets: histogram(message, &mut attributes)?, is_delta }),
            EXPONENTIAL_HISTOGRAM => {
                Some(Value::Histogram { buckets: exponential(message, &mut attributes)?, is_delta })
            }
            _ => Some(Value::Summary(summary(message, &mut attributes)?)),
        };
        if let Some(value) = value {
            tell(Point { name, attributes, value });
        }
        Ok(())
    })
}

/// The value of a NumberDataPoint, if it has one.
fn data_point<'a>(message: &'a [u8], attributes: &mut Vec<Attribute<'a>>) -> Result<Option<f64>, Malformed> {
    let mut value = None;
    fields(message, |number, field| {
        match number {
            4 => value = Some(field.double()?),
            #[expect(clippy::cast_precision_loss, reason = "Prometheus knows no numbers but floats")]
            6 => value = Some(field.fixed()?.cast_signed() as f64),
            7 => attribute(field.bytes()?, attributes)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(value)
}

/// A HistogramDataPoint.
fn histogram<'a>(message: &'a [u8], attributes: &mut Vec<Attribute<'a>>) -> Result<Buckets, Malformed> {
    let (mut count, mut sum, mut counts, mut bounds) = (0, None, Vec::new(), Vec::new());
    fields(message, |number, field| {
        match number {
            4 => count = field.fixed()?,
            5 => sum = Some(field.double()?),
            6 => repeated_fixed(&field, &mut counts)?,
            7 => repeated_fixed(&field, &mut bounds)?,
            9 => attribute(field.bytes()?, attributes)?,
            _ => {}
        }
        Ok(())
    })?;
    let bounds = bounds.into_iter().map(f64::from_bits).collect();
    let explicit = Explicit::new(bounds, counts, count).ok_or(Malformed)?;
    Ok(Buckets::Explicit { explicit, sum })
}

/// An ExponentialHistogramDataPoint.
fn exponential<'a>(message: &'a [u8], attributes: &mut Vec<Attribute<'a>>) -> Result<Buckets, Malformed> {
    let (mut sum, mut scale, mut zeros, mut threshold) = (None, 0, 0, 0.0);
    let (mut positive, mut negative) = ((0, Vec::new()), (0, Vec::new()));
    fields(message, |number, field| {
        match number {
            1 => attribute(field.bytes()?, attributes)?,
            5 => sum = Some(field.double()?),
            6 => scale = field.zigzag()?,
            7 => zeros = field.fixed()?,
            8 => positive = exponential_buckets(field.bytes()?)?,
            9 => negative = exponential_buckets(field.bytes()?)?,
            14 => threshold = field.double()?,
            _ => {}
        }
        Ok(())
    })?;
    let exponential =
        Exponential::new(scale, (zeros, threshold), (positive.0, &positive.1), (negative.0, &negative.1))
            .ok_or(Malformed)?;
    Ok(Buckets::Exponential { exponential, sum })
}

/// The Buckets of an ExponentialHistogramDataPoint: the index of the first one, and how many values are in each.
fn exponential_buckets(message: &[u8]) -> Result<(i32, Vec<u64>), Malformed> {
    let (mut offset, mut counts) = (0, Vec::new());
    fields(message, |number, field| {
        match (number, field) {
            (1, field) => offset = field.zigzag()?,
            (2, Field::Bytes(packed)) => {
                let mut rest = packed;
                while !rest.is_empty() {
                    push(&mut counts, varint(&mut rest)?)?;
                }
            }
            (2, field) => push(&mut counts, field.number()?)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((offset, counts))
}

/// A SummaryDataPoint.
fn summary<'a>(message: &'a [u8], attributes: &mut Vec<Attribute<'a>>) -> Result<Summary, Malformed> {
    let mut summary = Summary::default();
    fields(message, |number, field| {
        match number {
            4 => summary.count = field.fixed()?,
            5 => summary.sum = field.double()?,
            6 => {
                let (mut quantile, mut value) = (0.0, 0.0);
                fields(field.bytes()?, |number, field| {
                    match number {
                        1 => quantile = field.double()?,
                        2 => value = field.double()?,
                        _ => {}
                    }
                    Ok(())
                })?;
                if summary.quantiles.len() < QUANTILES_MAX {
                    summary.quantiles.push((quantile, value));
                }
            }
            7 => attribute(field.bytes()?, attributes)?,
            _ => {}
        }
        Ok(())
    })?;
    if !summary.quantiles.iter().all(|(quantile, _)| (0.0..=1.0).contains(quantile)) {
        return Err(Malformed);
    }
    summary.quantiles.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    summary.quantiles.dedup_by(|(a, _), (b, _)| a == b);
    Ok(summary)
}

/// Adds repeated numbers of eight bytes, together in one field or one in each.
fn repeated_fixed(field: &Field<'_>, numbers: &mut Vec<u64>) -> Result<(), Malformed> {
    let Field::Bytes(packed) = field else { return push(numbers, field.fixed()?) };
    let (all, []) = packed.as_chunks::<8>() else { return Err(Malformed) };
    all.iter().try_for_each(|bytes| push(numbers, u64::from_le_bytes(*bytes)))
}

fn push(numbers: &mut Vec<u64>, number: u64) -> Result<(), Malformed> {
    if numbers.len() >= BUCKETS_READ_MAX {
        return Err(Malformed);
    }
    numbers.push(number);
    Ok(())
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
