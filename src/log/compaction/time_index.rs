//! What is left of the time index of a stretch of the log when its extents were rewritten.
//!
//! An entry says: all records before this extent are older than this time. That stays true of
//! whatever is removed; but of several entries that come to lie in one extent only the one with
//! the largest time is needed, or the index would grow with everything that was ever written.

use crate::types::{Offset, TimestampMs};

/// The entry that takes the place of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merged {
    /// The largest time of the entries.
    pub(super) timestamp: TimestampMs,
    /// The start of the extent that it points to now.
    pub(super) extent: Offset,
}

/// The entries that stay, of all in a stretch (in order), given the starts of the stretch's
/// extents as they are now (in order).
pub(super) fn merge(entries: &[(TimestampMs, Offset)], extents: &[Offset]) -> Vec<Merged> {
    let mut merged: Vec<Merged> = Vec::new();
    for (timestamp, offset) in entries {
        // What points before the first extent points to nothing that is left before it.
        let at = extents.partition_point(|extent| extent <= offset).saturating_sub(1);
        // With nothing left at all, one entry keeps what is known.
        let extent = extents.get(at).copied();
        let new = Merged { timestamp: *timestamp, extent: extent.unwrap_or(*offset) };
        match merged.last_mut() {
            Some(last) if extent.is_none_or(|extent| last.extent == extent) => *last = new,
            _ => merged.push(new),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(entries: &[(i64, i64)], extents: &[i64]) -> Vec<(i64, i64)> {
        merge(entries, extents).iter().map(|entry| (entry.timestamp, entry.extent)).collect()
    }

    #[test]
    fn each_extent_keeps_its_latest_entry() {
        let entries = [(10, 0), (20, 5), (30, 8), (40, 12)];
        assert_eq!(merged(&entries, &[0, 5, 8, 12]), entries, "nothing was rewritten");
        assert_eq!(merged(&entries, &[0, 8]), [(20, 0), (40, 8)]);
        assert_eq!(merged(&entries, &[6]), [(40, 6)], "entries before the first extent too");
        assert_eq!(merged(&entries, &[]), [(40, 12)], "what was known stays known");
        assert_eq!(merged(&[], &[1]), []);
    }
}
