// SPDX-License-Identifier: GPL-2.0-or-later
//! crc32c (Castagnoli): the instruction of x86-64 (SSE 4.2) or of 64-bit ARM where the processor has it, a table
//! elsewhere. One chain of the instruction waits three cycles for itself, so sectors go four at a time in
//! independent chains.

use std::sync::OnceLock;

/// The usual crc32c: inverted before and after.
pub fn crc32c(data: &[u8]) -> u32 {
    !crc32c_raw(!0, data)
}

/// Continues the raw state `seed` over `data`, without any inversion.
pub fn crc32c_raw(seed: u32, data: &[u8]) -> u32 {
    (functions().one)(seed, data)
}

/// Appends the crc32c of every `sector_size` bytes of `data` (the last sector may be shorter).
pub fn crc32c_sectors(data: &[u8], sector_size: usize, out: &mut Vec<u32>) {
    let functions = functions();
    let mut groups = data.chunks_exact(4 * sector_size);
    for group in &mut groups {
        let (a, rest) = group.split_at(sector_size);
        let (b, rest) = rest.split_at(sector_size);
        let (c, d) = rest.split_at(sector_size);
        out.extend((functions.four)([!0; 4], [a, b, c, d]).map(|state| !state));
    }
    out.extend(groups.remainder().chunks(sector_size).map(crc32c));
}

struct Functions {
    one: fn(u32, &[u8]) -> u32,
    /// Four slices of equal length.
    four: fn([u32; 4], [&[u8]; 4]) -> [u32; 4],
}

fn functions() -> &'static Functions {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    FUNCTIONS.get_or_init(choose)
}

fn choose() -> Functions {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        return Functions { one: x86::one, four: x86::four };
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("crc") {
        return Functions { one: arm::one, four: arm::four };
    }
    Functions { one: table::one, four: table::four }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};

    pub fn one(seed: u32, data: &[u8]) -> u32 {
        // SAFETY: `choose` hands this function out only where SSE 4.2 was detected.
        unsafe { one_sse(seed, data) }
    }

    pub fn four(seeds: [u32; 4], data: [&[u8]; 4]) -> [u32; 4] {
        // SAFETY: as above.
        unsafe { four_sse(seeds, data) }
    }

    #[target_feature(enable = "sse4.2")]
    fn one_sse(seed: u32, data: &[u8]) -> u32 {
        let (words, tail) = data.as_chunks::<8>();
        let mut state = u64::from(seed);
        for word in words {
            state = _mm_crc32_u64(state, u64::from_le_bytes(*word));
        }
        tail.iter().fold(state as u32, |state, byte| _mm_crc32_u8(state, *byte))
    }

    #[target_feature(enable = "sse4.2")]
    fn four_sse(seeds: [u32; 4], data: [&[u8]; 4]) -> [u32; 4] {
        let [(a, a_tail), (b, b_tail), (c, c_tail), (d, d_tail)] = data.map(|slice| slice.as_chunks::<8>());
        let [mut sa, mut sb, mut sc, mut sd] = seeds.map(u64::from);
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            sa = _mm_crc32_u64(sa, u64::from_le_bytes(*a));
            sb = _mm_crc32_u64(sb, u64::from_le_bytes(*b));
            sc = _mm_crc32_u64(sc, u64::from_le_bytes(*c));
            sd = _mm_crc32_u64(sd, u64::from_le_bytes(*d));
        }
        [
            one_sse(sa as u32, a_tail),
            one_sse(sb as u32, b_tail),
            one_sse(sc as u32, c_tail),
            one_sse(sd as u32, d_tail),
        ]
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::{__crc32cb, __crc32cd};

    pub fn one(seed: u32, data: &[u8]) -> u32 {
        // SAFETY: `choose` hands this function out only where the crc extension was detected.
        unsafe { one_crc(seed, data) }
    }

    pub fn four(seeds: [u32; 4], data: [&[u8]; 4]) -> [u32; 4] {
        // SAFETY: as above.
        unsafe { four_crc(seeds, data) }
    }

    #[target_feature(enable = "crc")]
    fn one_crc(seed: u32, data: &[u8]) -> u32 {
        let (words, tail) = data.as_chunks::<8>();
        let mut state = seed;
        for word in words {
            state = __crc32cd(state, u64::from_le_bytes(*word));
        }
        tail.iter().fold(state, |state, byte| __crc32cb(state, *byte))
    }

    #[target_feature(enable = "crc")]
    fn four_crc(seeds: [u32; 4], data: [&[u8]; 4]) -> [u32; 4] {
        let [(a, a_tail), (b, b_tail), (c, c_tail), (d, d_tail)] = data.map(|slice| slice.as_chunks::<8>());
        let [mut sa, mut sb, mut sc, mut sd] = seeds;
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            sa = __crc32cd(sa, u64::from_le_bytes(*a));
            sb = __crc32cd(sb, u64::from_le_bytes(*b));
            sc = __crc32cd(sc, u64::from_le_bytes(*c));
            sd = __crc32cd(sd, u64::from_le_bytes(*d));
        }
        [one_crc(sa, a_tail), one_crc(sb, b_tail), one_crc(sc, c_tail), one_crc(sd, d_tail)]
    }
}

/// Eight bytes a step through eight tables.
mod table {
    /// The polynomial, bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;

    static TABLES: [[u32; 256]; 8] = build();

    const fn build() -> [[u32; 256]; 8] {
        let mut tables = [[0; 256]; 8];
        let mut byte = 0;
        while byte < 256 {
            let mut state = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                state = if state & 1 == 1 { (state >> 1) ^ POLYNOMIAL } else { state >> 1 };
                bit += 1;
            }
            tables[0][byte] = state;
            byte += 1;
        }
        let mut level = 1;
        while level < 8 {
            let mut byte = 0;
            while byte < 256 {
                let state = tables[level - 1][byte];
                tables[level][byte] = (state >> 8) ^ tables[0][(state & 0xff) as usize];
                byte += 1;
            }
            level += 1;
        }
        tables
    }

    pub fn one(seed: u32, data: &[u8]) -> u32 {
        let (words, tail) = data.as_chunks::<8>();
        let mut state = seed;
        for word in words {
            let low = u32::from_le_bytes([word[0], word[1], word[2], word[3]]) ^ state;
            state = TABLES[7][(low & 0xff) as usize]
                ^ TABLES[6][(low >> 8 & 0xff) as usize]
                ^ TABLES[5][(low >> 16 & 0xff) as usize]
                ^ TABLES[4][(low >> 24) as usize]
                ^ TABLES[3][usize::from(word[4])]
                ^ TABLES[2][usize::from(word[5])]
                ^ TABLES[1][usize::from(word[6])]
                ^ TABLES[0][usize::from(word[7])];
        }
        tail.iter()
            .fold(state, |state, byte| (state >> 8) ^ TABLES[0][((state ^ u32::from(*byte)) & 0xff) as usize])
    }

    pub fn four(seeds: [u32; 4], data: [&[u8]; 4]) -> [u32; 4] {
        let [a, b, c, d] = data;
        [one(seeds[0], a), one(seeds[1], b), one(seeds[2], c), one(seeds[3], d)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_and_table_agree_on_every_length_and_alignment() {
        let data: Vec<u8> = (0..300u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for start in 0..9 {
            for end in start..data.len() {
                let slice = &data[start..end];
                assert_eq!(crc32c_raw(!0, slice), table::one(!0, slice));
            }
        }
        let (a, b, c, d) = (&data[..75], &data[75..150], &data[150..225], &data[225..]);
        let seeds = [1, 2, 3, 4];
        assert_eq!((functions().four)(seeds, [a, b, c, d]), table::four(seeds, [a, b, c, d]));
    }

    #[test]
    fn sectors_are_summed_one_by_one() {
        let data: Vec<u8> = (0..4096 * 7 + 100u32).map(|i| (i ^ (i >> 8)) as u8).collect();
        let mut sums = Vec::new();
        crc32c_sectors(&data, 4096, &mut sums);
        assert_eq!(sums, data.chunks(4096).map(crc32c).collect::<Vec<_>>());
    }
}
