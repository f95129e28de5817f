//! The index written: a perfect hash over the keys, built anew for each change of them (see
//! [`balancer_common::index`]).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use balancer_common::index::{self, Capacity, LINES_PER_SEED_LOG2, Shape};
use balancer_common::layout::{IndexEntry, PortRange, ServiceEntry, ServiceKey};

use super::mapped::Mapped;
use crate::model::Limits;

const LINE_WORDS: usize = size_of::<IndexEntry>() / size_of::<u64>();
/// Seeds tried for a bucket; with half of the lines free a handful is enough.
const MOST_SEEDS: u64 = 1 << 20;

/// Everything that is looked up by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexContent {
    pub entries: BTreeMap<ServiceKey, ServiceEntry>,
    /// Ranges of ports of each address, in the order in which they win.
    pub ranges: BTreeMap<ServiceKey, Vec<PortRange>>,
}

/// What the maps hold at most.
pub(super) fn capacity(limits: &Limits) -> Capacity {
    // An entry for each service, each address and each reply; half of the lines stay free.
    let entries = limits.services * 2 + limits.backends;
    Capacity {
        lines_log2: lines_log2(entries as usize),
        ranges_log2: limits.services.max(2).next_power_of_two().ilog2(),
    }
}

fn lines_log2(entries: usize) -> u32 {
    (entries * 2).next_power_of_two().ilog2().max(LINES_PER_SEED_LOG2)
}

/// The kernel's index as memory.
#[derive(Debug)]
pub(super) struct IndexMaps {
    lines: Mapped,
    seeds: Mapped,
    ranges: Mapped,
    capacity: Capacity,
}

impl IndexMaps {
    pub(super) fn new(lines: &MapData, seeds: &MapData, ranges: &MapData, limits: &Limits) -> Result<Self> {
        let capacity = capacity(limits);
        let map = |data: &MapData, words: u32| Mapped::new(data.fd(), words as usize * 2).context("mapping the index");
        Ok(Self {
            lines: map(lines, capacity.lines() * LINE_WORDS as u32)?,
            seeds: map(seeds, capacity.seeds())?,
            ranges: map(ranges, capacity.ranges())?,
            capacity,
        })
    }

    /// Fills the half that is not in force under `word`; answers the word that puts it in force.
    pub(super) fn fill(&self, word: u64, content: &IndexContent) -> Result<u64> {
        let half = (word >> 24) as u32 & 1 ^ 1;
        let mut entries = content.entries.clone();
        entries.extend(address_lines(content).map(|(key, entry)| (*key, entry)));
        let ranges: Vec<u64> = content.ranges.values().flatten().map(|range| range_word(*range)).collect();
        ensure!(
            ranges.len() <= self.capacity.ranges() as usize,
            "{} ranges of ports are more than the map takes; raise `limits.services`",
            ranges.len()
        );
        let lines_log2 = lines_log2(entries.len());
        ensure!(
            lines_log2 <= self.capacity.lines_log2,
            "{} entries are more than the index takes; raise `limits.services` or `limits.backends`",
            entries.len()
        );
        let next = Shape::word(half, lines_log2, &self.capacity);
        let shape = Shape::of(next);
        let (seeds, places) = place(&entries, &shape)?;
        let mut lines = vec![0u64; (1usize << lines_log2) * LINE_WORDS];
        for ((key, entry), place) in entries.iter().zip(places) {
            let at = (place - shape.lines) as usize * LINE_WORDS;
            lines[at..at + LINE_WORDS].copy_from_slice(&line_words(*key, *entry));
        }
        self.lines.write(shape.lines as usize * LINE_WORDS, &lines);
        self.seeds.write(shape.seeds as usize, &seeds);
        self.ranges.write(shape.ranges as usize, &ranges);
        Ok(next)
    }

    /// Reads back the half in force.
    pub(super) fn read(&self, word: u64) -> IndexContent {
        let shape = Shape::of(word);
        let mut content = IndexContent::default();
        for line in 0..=shape.line_mask {
            let at = (shape.lines + line) as usize * LINE_WORDS;
            let words: Vec<u64> = (at..at + LINE_WORDS).filter_map(|place| self.lines.get(place)).collect();
            let Ok(words) = <[u64; LINE_WORDS]>::try_from(words) else { continue };
            let (key, entry) = line_of(words);
            if key.is_empty() {
                continue;
            }
            if key == key.address_only() {
                let (first, count) = entry.ranges();
                let ranges = (first..first + count).filter_map(|place| self.range(&shape, place)).collect();
                content.ranges.insert(key, ranges);
            } else {
                content.entries.insert(key, entry);
            }
        }
        content
    }

    /// One key, as the program looks it up.
    pub(super) fn look_up(&self, word: u64, key: &ServiceKey) -> Option<ServiceEntry> {
        let (shape, hash) = (Shape::of(word), index::hash(key));
        let seed = self.seeds.get(index::seed_place(&shape, hash) as usize)?;
        let at = index::line_place(&shape, hash, seed) as usize * LINE_WORDS;
        let words: Vec<u64> = (at..at + LINE_WORDS).filter_map(|place| self.lines.get(place)).collect();
        let (there, entry) = line_of(words.try_into().ok()?);
        (there == *key).then_some(entry)
    }

    pub(super) fn look_up_range(&self, word: u64, place: u32) -> Option<PortRange> {
        self.range(&Shape::of(word), place)
    }

    fn range(&self, shape: &Shape, place: u32) -> Option<PortRange> {
        let word = self.ranges.get((shape.ranges + place) as usize)?;
        let (low, high, protocol) = (word as u16, (word >> 16) as u16, (word >> 32) as u8);
        Some(PortRange { low, high, protocol, _padding: [0; 3] })
    }
}

/// The line of each address: where its ranges stand.
pub(super) fn address_lines(content: &IndexContent) -> impl Iterator<Item = (&ServiceKey, ServiceEntry)> {
    content.ranges.iter().scan(0, |first, (key, ranges)| {
        let count = ranges.len() as u32;
        let entry = ServiceEntry::address(*first, count);
        *first += count;
        Some((key, entry))
    })
}

fn range_word(range: PortRange) -> u64 {
    u64::from(range.low) | u64::from(range.high) << 16 | u64::from(range.protocol) << 32
}

fn line_words(key: ServiceKey, entry: ServiceEntry) -> [u64; LINE_WORDS] {
    // SAFETY: same size, integers only and no padding.
    unsafe { std::mem::transmute(IndexEntry { key, entry }) }
}

fn line_of(words: [u64; LINE_WORDS]) -> (ServiceKey, ServiceEntry) {
    // SAFETY: as above; any bytes are a valid entry.
    let line: IndexEntry = unsafe { std::mem::transmute(words) };
    (line.key, line.entry)
}

/// A seed for each bucket so that no two keys share a line, and each key's line.
fn place(entries: &BTreeMap<ServiceKey, ServiceEntry>, shape: &Shape) -> Result<(Vec<u64>, Vec<u32>)> {
    let hashes: Vec<u64> = entries.keys().map(index::hash).collect();
    let mut buckets: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (key, hash) in hashes.iter().enumerate() {
        buckets.entry(index::seed_place(shape, *hash)).or_default().push(key);
    }
    // Those that are hardest to place come first.
    let mut order: Vec<(u32, Vec<usize>)> = buckets.into_iter().collect();
    order.sort_by_key(|(place, keys)| (std::cmp::Reverse(keys.len()), *place));
    let mut seeds = vec![0; shape.seed_mask as usize + 1];
    let mut taken = vec![false; shape.line_mask as usize + 1];
    let mut places = vec![0; entries.len()];
    for (bucket, keys) in order {
        let free = |seed: u64, taken: &[bool]| {
            let mut lines = Vec::with_capacity(keys.len());
            for key in &keys {
                let line = index::line_place(shape, hashes[*key], seed);
                if taken[(line - shape.lines) as usize] || lines.contains(&line) {
                    return None;
                }
                lines.push(line);
            }
            Some(lines)
        };
        let found = (0..MOST_SEEDS).find_map(|try_number| {
            let seed = try_number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            free(seed, &taken).map(|lines| (seed, lines))
        });
        let (seed, lines) = found.context("two services hash alike; change an address or a port of the newest one")?;
        seeds[(bucket - shape.seeds) as usize] = seed;
        for (key, line) in keys.iter().zip(lines) {
            taken[(line - shape.lines) as usize] = true;
            places[*key] = line;
        }
    }
    Ok((seeds, places))
}

#[cfg(test)]
mod tests {
    use balancer_common::hash::HashKeys;

    use super::*;

    #[test]
    fn every_key_gets_a_line_of_its_own() {
        for count in [0u32, 1, 2, 3, 1000, 40_000] {
            let key = |n: u32| ServiceKey::new([n / 7, 0, 0, n % 3], (n % 7) as u16, 6, 4);
            let entries: BTreeMap<_, _> = (0..count).map(|n| (key(n), ServiceEntry::default())).collect();
            let capacity = Capacity { lines_log2: 18, ranges_log2: 4 };
            let shape = Shape::of(Shape::word(1, lines_log2(entries.len()), &capacity));
            let (seeds, places) = place(&entries, &shape).unwrap();
            for (key, place) in entries.keys().zip(&places) {
                let hash = index::hash(key);
                let seed = seeds[(index::seed_place(&shape, hash) - shape.seeds) as usize];
                assert_eq!(index::line_place(&shape, hash, seed), *place);
            }
            let mut sorted = places.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), entries.len());
        }
    }

    #[test]
    fn a_line_is_its_words() {
        let key = ServiceKey::new([1, 2, 3, 4], 5, 6, 4);
        let keys = HashKeys { first: 7, second: 8 };
        let entry = ServiceEntry { keys, table: 9, table_size: 10, port_mask: 11, number: 12, ..Default::default() };
        assert_eq!(line_of(line_words(key, entry)), (key, entry));
    }
}
