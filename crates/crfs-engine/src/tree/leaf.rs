// SPDX-License-Identifier: GPL-2.0-or-later
//! A leaf as the disk knows it: item headers grow from the front, item data from the back, nothing between two items'
//! data. Edits move bytes; nothing is parsed or rebuilt. The 101 bytes of block header are filled in when the leaf is
//! written.
//!
//! Invariant: keys ascend strictly; data of slot `i` ends where that of slot `i - 1` starts (slot 0: at the end).

use crfs_disk::{Header, ItemHeader, Key};

const HEAD: usize = Header::SIZE;
const ITEM: usize = ItemHeader::SIZE;

#[derive(Clone)]
pub struct Leaf {
    bytes: Box<[u8]>,
    count: usize,
}

impl Leaf {
    pub fn new(nodesize: usize) -> Leaf {
        Leaf { bytes: vec![0; nodesize].into_boxed_slice(), count: 0 }
    }

    /// Takes a verified block.
    pub fn from_block(bytes: Box<[u8]>) -> Leaf {
        let count = crfs_disk::Leaf(&bytes).len();
        Leaf { bytes, count }
    }

    /// The block, its header unset.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes for items and their headers.
    pub fn space(&self) -> usize {
        self.bytes.len() - HEAD
    }

    /// Bytes taken by items and their headers.
    pub fn used(&self) -> usize {
        self.count * ITEM + self.space() - self.data_start()
    }

    pub fn free(&self) -> usize {
        self.data_start() - self.count * ITEM
    }

    #[inline]
    pub fn key(&self, slot: usize) -> Key {
        let at = HEAD + slot * ITEM;
        let raw: &[u8; Key::SIZE] =
            self.bytes[at..at + Key::SIZE].try_into().expect("the slice has the length of the array");
        Key::from_le_bytes(raw)
    }

    #[inline]
    pub fn data(&self, slot: usize) -> &[u8] {
        let start = HEAD + self.offset(slot);
        &self.bytes[start..start + self.size(slot)]
    }

    pub fn data_mut(&mut self, slot: usize) -> &mut [u8] {
        let start = HEAD + self.offset(slot);
        let size = self.size(slot);
        &mut self.bytes[start..start + size]
    }

    /// Slot of the first item with a key >= `key`, and whether it is equal.
    pub fn search(&self, key: Key) -> (usize, bool) {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            match self.key(middle).cmp(&key) {
                std::cmp::Ordering::Equal => return (middle, true),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        (low, false)
    }

    /// Puts an item before `slot`. The caller has made sure that it fits.
    pub fn insert(&mut self, slot: usize, key: Key, data: &[u8]) {
        assert!(self.free() >= ITEM + data.len(), "an item was put into a leaf without room for it");
        let start = self.data_start();
        let end = self.data_end(slot);
        self.bytes.copy_within(HEAD + start..HEAD + end, HEAD + start - data.len());
        self.shift_offsets(slot, -(data.len() as i64));
        let at = HEAD + slot * ITEM;
        self.bytes.copy_within(at..HEAD + self.count * ITEM, at + ITEM);
        self.count += 1;
        self.put_header(slot, key, end - data.len(), data.len());
        self.bytes[HEAD + end - data.len()..HEAD + end].copy_from_slice(data);
    }

    /// Gives the item at `slot` new data. The caller has made sure that it fits.
    pub fn replace(&mut self, slot: usize, data: &[u8]) {
        let old = self.size(slot);
        if old != data.len() {
            assert!(self.free() + old >= data.len(), "an item outgrew its leaf");
            let grow = data.len() as i64 - old as i64;
            let start = self.data_start();
            let at = self.offset(slot);
            self.bytes.copy_within(HEAD + start..HEAD + at, (HEAD as i64 + start as i64 - grow) as usize);
            self.shift_offsets(slot, -grow);
            self.put_u32(HEAD + slot * ITEM + 21, data.len());
        }
        self.data_mut(slot).copy_from_slice(data);
    }

    pub fn remove(&mut self, slot: usize) {
        let size = self.size(slot);
        let start = self.data_start();
        let at = self.offset(slot);
        self.bytes.copy_within(HEAD + start..HEAD + at, HEAD + start + size);
        self.shift_offsets(slot + 1, size as i64);
        let header = HEAD + slot * ITEM;
        self.bytes.copy_within(header + ITEM..HEAD + self.count * ITEM, header);
        self.count -= 1;
    }

    /// Moves the items from `slot` on into a new leaf.
    pub fn split_off(&mut self, slot: usize) -> Leaf {
        let mut right = Leaf::new(self.bytes.len());
        right.append_slots(self, slot, self.count);
        self.count = slot;
        right
    }

    /// Moves items from our front to the end of `left`, as many of the first `most` as fit; returns how many.
    pub fn push_left(&mut self, left: &mut Leaf, most: usize) -> usize {
        let mut count = most;
        while count > 0 && self.bytes_of(0, count) > left.free() {
            count -= 1;
        }
        if count > 0 {
            left.append_slots(self, 0, count);
            let mut rest = Leaf::new(self.bytes.len());
            rest.append_slots(self, count, self.count);
            *self = rest;
        }
        count
    }

    /// Moves items from our end to the front of `right`, as many of those from `first` on as fit; returns how many.
    pub fn push_right(&mut self, right: &mut Leaf, first: usize) -> usize {
        let mut from = first;
        while from < self.count && self.bytes_of(from, self.count) > right.free() {
            from += 1;
        }
        let moved = self.count - from;
        if moved > 0 {
            let mut joined = self.split_off(from);
            joined.append(right);
            *right = joined;
        }
        moved
    }

    /// Adds all items of `right`, whose keys lie above ours. The caller has made sure that they fit.
    pub fn append(&mut self, right: &Leaf) {
        self.append_slots(right, 0, right.count);
    }

    fn append_slots(&mut self, from: &Leaf, first: usize, end: usize) {
        if first == end {
            return;
        }
        let (low, high) = (from.offset(end - 1), from.data_end(first));
        let size = high - low;
        let to = self.data_start() - size;
        assert!(to >= (self.count + end - first) * ITEM, "leaves were joined that do not fit into one");
        self.bytes[HEAD + to..HEAD + to + size].copy_from_slice(&from.bytes[HEAD + low..HEAD + high]);
        let at = HEAD + self.count * ITEM;
        self.bytes[at..at + (end - first) * ITEM]
            .copy_from_slice(&from.bytes[HEAD + first * ITEM..HEAD + end * ITEM]);
        let old = self.count;
        self.count += end - first;
        self.shift_offsets(old, to as i64 - low as i64);
    }

    /// Where to cut so that both halves hold about the same, `extra` bytes being on their way to `slot`.
    pub fn middle(&self, slot: usize, extra: usize) -> usize {
        let half = (self.used() + extra) / 2;
        let mut sum = 0;
        for at in 0..self.count {
            if at == slot {
                sum += extra;
            }
            sum += ITEM + self.size(at);
            if sum >= half {
                return (at + 1).min(self.count);
            }
        }
        self.count
    }

    /// Bytes of the items of `first..end`, headers included.
    pub fn bytes_of(&self, first: usize, end: usize) -> usize {
        if first >= end {
            return 0;
        }
        (end - first) * ITEM + self.data_end(first) - self.offset(end - 1)
    }

    /// Start of the lowest item data, counted from the end of the block header.
    fn data_start(&self) -> usize {
        self.data_end(self.count)
    }

    fn data_end(&self, slot: usize) -> usize {
        if slot == 0 { self.space() } else { self.offset(slot - 1) }
    }

    #[inline]
    fn offset(&self, slot: usize) -> usize {
        self.get_u32(HEAD + slot * ITEM + 17)
    }

    #[inline]
    fn size(&self, slot: usize) -> usize {
        self.get_u32(HEAD + slot * ITEM + 21)
    }

    fn shift_offsets(&mut self, first: usize, by: i64) {
        for slot in first..self.count {
            let moved = self.offset(slot) as i64 + by;
            self.put_u32(HEAD + slot * ITEM + 17, moved as usize);
        }
    }

    fn put_header(&mut self, slot: usize, key: Key, offset: usize, size: usize) {
        let at = HEAD + slot * ITEM;
        self.bytes[at..at + Key::SIZE].copy_from_slice(&key.to_le_bytes());
        self.put_u32(at + 17, offset);
        self.put_u32(at + 21, size);
    }

    #[inline]
    fn get_u32(&self, at: usize) -> usize {
        let raw: [u8; 4] = self.bytes[at..at + 4].try_into().expect("the slice has the length of the array");
        u32::from_le_bytes(raw) as usize
    }

    #[inline]
    fn put_u32(&mut self, at: usize, value: usize) {
        self.bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
}
