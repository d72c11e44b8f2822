//! What was used lately, within bounds: whoever was silent for longest makes room for a newcomer, without a search.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// No place: the end of the order.
const NOWHERE: usize = usize::MAX;

/// How much text the names of what is remembered may have.
const TEXT_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
struct Place<K, V> {
    key: K,
    value: V,
    text_bytes: usize,
    used_ms: i64,
    older: usize,
    newer: usize,
}

/// Values by keys, in the order in which they were used last. Everything takes the same time, however many there are.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    entries_max: usize,
    by_key: HashMap<K, usize>,
    places: Vec<Option<Place<K, V>>>,
    free: Vec<usize>,
    oldest: usize,
    newest: usize,
    text_bytes: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// With room for this many.
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            entries_max,
            by_key: HashMap::new(),
            places: Vec::new(),
            free: Vec::new(),
            oldest: NOWHERE,
            newest: NOWHERE,
            text_bytes: 0,
        }
    }

    /// The value of a key, which is used now.
    pub(super) fn used<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, now_ms: i64) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let index = *self.by_key.get(key)?;
        if index != self.newest {
            self.unlink(index);
            self.link(index);
        }
        let place = self.places[index].as_mut()?;
        place.used_ms = now_ms;
        Some(&mut place.value)
    }

    /// Puts a value under a key that has none; the names in it have this many bytes. Who was silent for longest goes
    /// where there is no room.
    pub(super) fn insert(&mut self, key: K, value: V, text_bytes: usize, now_ms: i64) {
        while self.oldest != NOWHERE
            && (self.by_key.len() >= self.entries_max || self.text_bytes + text_bytes > TEXT_BYTES_MAX)
        {
            self.remove_oldest();
        }
        let place =
            Place { key: key.clone(), value, text_bytes, used_ms: now_ms, older: NOWHERE, newer: NOWHERE };
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[index] = Some(place);
        self.text_bytes += text_bytes;
        self.by_key.insert(key, index);
        self.link(index);
    }

    /// Forgets what nobody used since this moment, itself included.
    pub(super) fn forget_unused_since(&mut self, since_ms: i64) {
        while self.places.get(self.oldest).and_then(Option::as_ref).is_some_and(|one| one.used_ms <= since_ms)
        {
            self.remove_oldest();
        }
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.places.iter().flatten().map(|place| (&place.key, &place.value))
    }

    fn remove_oldest(&mut self) {
        let index = self.oldest;
        self.unlink(index);
        if let Some(place) = self.places.get_mut(index).and_then(Option::take) {
            self.by_key.remove(&place.key);
            self.text_bytes -= place.text_bytes;
            self.free.push(index);
        }
    }

    /// Puts a place at the end of the order.
    fn link(&mut self, index: usize) {
        let before = std::mem::replace(&mut self.newest, index);
        if let Some(place) = &mut self.places[index] {
            (place.older, place.newer) = (before, NOWHERE);
        }
        match self.places.get_mut(before) {
            Some(place) => place.iter_mut().for_each(|place| place.newer = index),
            None => self.oldest = index,
        }
    }

    /// Takes a place out of the order.
    fn unlink(&mut self, index: usize) {
        let Some(place) = self.places.get(index).and_then(Option::as_ref) else { return };
        let (older, newer) = (place.older, place.newer);
        match self.places.get_mut(older) {
            Some(place) => place.iter_mut().for_each(|place| place.newer = newer),
            None => self.oldest = newer,
        }
        match self.places.get_mut(newer) {
            Some(place) => place.iter_mut().for_each(|place| place.older = older),
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(recent: &Recent<u32, ()>) -> Vec<u32> {
        let mut keys: Vec<_> = recent.iter().map(|(key, ())| *key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn whoever_was_silent_for_longest_makes_room() {
        let mut recent = Recent::new(3);
        for (now_ms, key) in [(0, 1), (1, 2), (2, 3)] {
            recent.insert(key, (), 1, now_ms);
        }
        assert!(recent.used(&1, 3).is_some());
        recent.insert(4, (), 1, 4);
        assert_eq!(keys(&recent), [1, 3, 4]);
        assert!(recent.used(&2, 5).is_none());
        assert!(recent.used(&4, 6).is_some(), "the newest stays the newest");
        recent.insert(5, (), 1, 7);
        assert_eq!(keys(&recent), [1, 4, 5]);
        recent.forget_unused_since(3);
        assert_eq!(keys(&recent), [4, 5]);
        recent.forget_unused_since(7);
        assert!(keys(&recent).is_empty());
        recent.insert(6, (), 1, 8);
        assert_eq!(keys(&recent), [6]);
    }

    #[test]
    fn long_names_have_no_more_room_than_short_ones() {
        let mut recent = Recent::new(1_000);
        for key in 0..1_000 {
            recent.insert(key, (), TEXT_BYTES_MAX / 4, key.into());
        }
        assert_eq!(keys(&recent), [996, 997, 998, 999]);
        recent.insert(1_000, (), usize::MAX - TEXT_BYTES_MAX, 1_000);
        assert_eq!(keys(&recent), [1_000], "what is larger than all room is alone");
    }

    /// The same as an ordered list that is searched.
    #[test]
    fn it_keeps_what_a_simple_list_keeps() {
        let (mut recent, mut list) = (Recent::new(7), Vec::new());
        let mut random = 1_u32;
        for now_ms in 0..5_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = random >> 28;
            let known = list.iter().position(|(one, _)| *one == key);
            assert_eq!(recent.used(&key, now_ms).is_some(), known.is_some());
            match known {
                Some(place) => drop(list.remove(place)),
                None => {
                    if list.len() == 7 {
                        list.remove(0);
                    }
                    recent.insert(key, (), 1, now_ms);
                }
            }
            list.push((key, now_ms));
            if random >> 10 & 31 == 0 {
                recent.forget_unused_since(now_ms - 9);
                list.retain(|(_, used_ms)| *used_ms > now_ms - 9);
            }
            let mut expected: Vec<_> = list.iter().map(|(key, _)| *key).collect();
            expected.sort_unstable();
            assert_eq!(keys(&recent), expected);
        }
    }
}
