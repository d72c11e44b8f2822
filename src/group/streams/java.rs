//! The order in which a broker in Java meets what is alike. The assignor breaks ties by it, so that it gives what
//! Kafka's gives.

/// The number of buckets of a `HashMap` that was made without a size.
pub(super) const BUCKETS: usize = 16;

/// The items in the order of a `java.util.HashMap`, which were put into it in the order given, with keys of these hash
/// codes. `buckets`: what the map was made for at first.
pub(super) fn hash_order<T>(items: Vec<T>, buckets: usize, hash: impl Fn(&T) -> u32) -> Vec<T> {
    let mut table = buckets.max(1).next_power_of_two();
    while items.len() > table * 3 / 4 {
        table *= 2;
    }
    let mut placed: Vec<(usize, T)> = items
        .into_iter()
        .map(|item| {
            let code = hash(&item);
            let spread = usize::try_from(code ^ (code >> 16)).unwrap_or_default();
            (spread & (table - 1), item)
        })
        .collect();
    placed.sort_by_key(|(bucket, _)| *bucket);
    placed.into_iter().map(|(_, item)| item).collect()
}

/// `String.hashCode`.
pub(super) fn hash(text: &str) -> u32 {
    text.encode_utf16().fold(0, |hash: u32, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

/// A `java.util.PriorityQueue`: the least item first, and among equal ones the one that its heap has on top.
#[derive(Debug)]
pub(super) struct PriorityQueue<T>(Vec<T>);

impl<T: Copy> PriorityQueue<T> {
    /// A queue of the items, which are added in their order.
    pub(super) fn of(items: impl Iterator<Item = T>, is_less: impl Fn(T, T) -> bool) -> Self {
        let mut queue = Self(Vec::new());
        items.for_each(|item| queue.add(item, &is_less));
        queue
    }

    /// Adds an item.
    pub(super) fn add(&mut self, item: T, is_less: impl Fn(T, T) -> bool) {
        let heap = &mut self.0;
        heap.push(item);
        let mut at = heap.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !is_less(heap[at], heap[parent]) {
                break;
            }
            heap.swap(at, parent);
            at = parent;
        }
    }

    /// Takes the least item out.
    pub(super) fn poll(&mut self, is_less: impl Fn(T, T) -> bool) -> Option<T> {
        let heap = &mut self.0;
        if heap.is_empty() {
            return None;
        }
        let least = heap.swap_remove(0);
        let mut at = 0;
        while at < heap.len() / 2 {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = if right < heap.len() && is_less(heap[right], heap[left]) { right } else { left };
            if !is_less(heap[child], heap[at]) {
                break;
            }
            heap.swap(at, child);
            at = child;
        }
        Some(least)
    }
}
