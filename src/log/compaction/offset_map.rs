//! The last offset of each key in a stretch of the log (Kafka's `SkimpyOffsetMap`).
//!
//! Keys are kept as hashes of 128 bits, under two random keys of this process, so that nobody can
//! make two keys that are taken for one. The map grows with what it holds, up to its bound: a log
//! with few keys costs little, whatever the bound.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::types::Offset;

/// What an entry takes.
pub(super) const ENTRY_BYTES: usize = size_of::<Slot>();
/// Many small tables instead of one: each grows alone, so that growing needs no second copy of
/// all of them.
const TABLES: usize = 64;
/// The size that a table starts with.
const FIRST_SLOTS: usize = 8;
const NOTHING: Offset = -1;

/// How large a map may get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MapBound {
    /// How many bytes it may take.
    pub(super) bytes: usize,
    /// Which part of its slots may be in use.
    pub(super) load_factor: f64,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    /// [`NOTHING`] where the slot is free.
    offset: Offset,
}

const FREE: Slot = Slot { hash: [0; 2], offset: NOTHING };

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    used: usize,
}

impl Table {
    /// Where the hash stands, or the free slot where it belongs; `None` in a full table without it.
    fn find(&self, hash: [u64; 2]) -> Option<usize> {
        let count = self.slots.len();
        let start = usize::try_from((u128::from(hash[1]) * count as u128) >> 64).ok()?;
        (start..count).chain(0..start).find(|at| {
            let slot = &self.slots[*at];
            slot.offset == NOTHING || slot.hash == hash
        })
    }

    fn grow(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![FREE; slots]);
        for slot in old.into_iter().filter(|slot| slot.offset != NOTHING) {
            if let Some(at) = self.find(slot.hash) {
                self.slots[at] = slot;
            }
        }
    }
}

/// Keys, by their hashes, to offsets.
pub(super) struct OffsetMap {
    tables: Vec<Table>,
    hashers: [RandomState; 2],
    slots: usize,
    slots_max: usize,
    entries: usize,
    entries_max: usize,
    latest: Offset,
}

impl OffsetMap {
    /// An empty map.
    pub(super) fn new(bound: MapBound, hashers: [RandomState; 2]) -> Self {
        let slots_max = (bound.bytes / ENTRY_BYTES).max(1);
        Self {
            tables: (0..TABLES).map(|_| Table::default()).collect(),
            hashers,
            slots: 0,
            slots_max,
            entries: 0,
            entries_max: part_of(slots_max, bound.load_factor),
            latest: -1,
        }
    }

    /// Remembers the offset of a key, in place of an earlier one; false where the map is full.
    #[must_use]
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let index = table_of(hash);
        let mut at = self.tables[index].find(hash);
        let is_new = at.is_none_or(|at| self.tables[index].slots[at].offset == NOTHING);
        if is_new {
            if self.entries >= self.entries_max {
                return false;
            }
            if self.grow_if_crowded(index) {
                at = self.tables[index].find(hash);
            }
        }
        let Some(at) = at else { return false };
        let table = &mut self.tables[index];
        table.slots[at] = Slot { hash, offset };
        table.used += usize::from(is_new);
        self.entries += usize::from(is_new);
        self.latest = offset;
        true
    }

    /// The offset of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let hash = self.hash(key);
        let table = &self.tables[table_of(hash)];
        let offset = table.slots[table.find(hash)?].offset;
        (offset != NOTHING).then_some(offset)
    }

    /// The largest offset that the map knows about: of everything up to it, the keys are here.
    pub(super) fn latest_offset(&self) -> Offset {
        self.latest
    }

    /// Says that everything up to this offset was looked at.
    pub(super) fn update_latest_offset(&mut self, offset: Offset) {
        self.latest = offset;
    }

    /// Which part of the bound is in use, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub(super) fn utilization(&self) -> f64 {
        self.entries as f64 / self.slots_max as f64
    }

    /// Makes room in a table that is three quarters full, if the bound allows it.
    fn grow_if_crowded(&mut self, index: usize) -> bool {
        let table = &mut self.tables[index];
        let count = table.slots.len();
        if table.used * 4 < count * 3 {
            return false;
        }
        let larger = (count + count / 2).max(FIRST_SLOTS);
        if count > 0 && self.slots - count + larger > self.slots_max {
            return false;
        }
        table.grow(larger);
        self.slots += larger - count;
        true
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|index: usize| {
            let mut hasher = self.hashers[index].build_hasher();
            hasher.write(key);
            hasher.finish()
        })
    }
}

fn table_of(hash: [u64; 2]) -> usize {
    usize::try_from(hash[0] % TABLES as u64).unwrap_or(0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a part of a number of slots, rounded down"
)]
fn part_of(slots: usize, load_factor: f64) -> usize {
    ((slots as f64 * load_factor) as usize).clamp(1, slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: usize) -> OffsetMap {
        let bound = MapBound { bytes: entries * ENTRY_BYTES, load_factor: 1.0 };
        OffsetMap::new(bound, [RandomState::new(), RandomState::new()])
    }

    #[test]
    fn the_last_offset_of_a_key_counts() {
        let mut map = map(1 << 20);
        for offset in 0..100_000_i64 {
            assert!(map.put(format!("key {}", offset % 30_000).as_bytes(), offset));
        }
        for key in 0..30_000_i64 {
            let last = if key < 10_000 { key + 90_000 } else { key + 60_000 };
            assert_eq!(map.get(format!("key {key}").as_bytes()), Some(last), "{key}");
        }
        assert_eq!(map.get(b"another"), None);
        assert_eq!(map.latest_offset(), 99_999);
        assert!(map.slots < 30_000 * 5 / 2, "{} slots are more than it needs", map.slots);
    }

    #[test]
    fn a_full_map_takes_known_keys_only() {
        for entries in [1, 2, 7, 1_000, 10_000] {
            let mut map = map(entries);
            let taken = (0_i64..).take_while(|offset| map.put(&offset.to_be_bytes(), *offset)).count();
            assert!(taken <= entries && taken * 2 >= entries, "{taken} of {entries}");
            assert!(map.slots <= entries.max(TABLES * FIRST_SLOTS), "{} for {entries}", map.slots);
            assert!(map.put(&0_i64.to_be_bytes(), 77));
            assert_eq!(map.get(&0_i64.to_be_bytes()), Some(77));
            assert!(map.utilization() <= 1.0);
        }
    }
}
