//! The shortest prefix of a sorted list that reaches a total, without sorting all of it.

use std::cmp::Ordering;

/// Sorts only as much of `items` by `order` as is needed for `take` to become false. `take` sees the items in order, one
/// at a time; the number of items it took (the first refused one excluded) is returned.
pub fn take_sorted<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering, mut take: impl FnMut(&T) -> bool) -> usize {
    const FIRST_CHUNK: usize = 64;
    let mut rest = &mut items[..];
    let mut chunk = FIRST_CHUNK;
    let mut taken = 0;
    while !rest.is_empty() {
        if chunk < rest.len() {
            rest.select_nth_unstable_by(chunk, &order);
        }
        let (head, tail) = rest.split_at_mut(chunk.min(rest.len()));
        head.sort_unstable_by(&order);
        for item in head.iter() {
            if !take(item) {
                return taken;
            }
            taken += 1;
        }
        rest = tail;
        chunk *= 8;
    }
    taken
}
