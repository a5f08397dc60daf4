// SPDX-License-Identifier: GPL-2.0-or-later
//! The four checksum algorithms an image can have. A tree block or superblock stores its checksum in 32 bytes, the
//! unused rest zero; a csum item stores only the `size` bytes of each sector.

mod crc32c;

pub use crc32c::{crc32c, crc32c_raw, crc32c_sectors};

use crate::bytes::FormatError;
use sha2::Digest;

/// `csum_type` of the superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum ChecksumKind {
    Crc32c = 0,
    Xxhash64 = 1,
    Sha256 = 2,
    Blake2b = 3,
}

impl ChecksumKind {
    pub const ALL: [ChecksumKind; 4] =
        [ChecksumKind::Crc32c, ChecksumKind::Xxhash64, ChecksumKind::Sha256, ChecksumKind::Blake2b];

    pub fn from_disk(csum_type: u16) -> Result<ChecksumKind, FormatError> {
        ChecksumKind::ALL
            .into_iter()
            .find(|kind| kind.to_disk() == csum_type)
            .ok_or_else(|| FormatError::new(format!("unknown checksum type {csum_type}")))
    }

    pub fn to_disk(self) -> u16 {
        self as u16
    }

    /// The name that `mkfs.btrfs --csum` takes.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumKind::Crc32c => "crc32c",
            ChecksumKind::Xxhash64 => "xxhash64",
            ChecksumKind::Sha256 => "sha256",
            ChecksumKind::Blake2b => "blake2b",
        }
    }

    pub fn from_name(name: &str) -> Option<ChecksumKind> {
        ChecksumKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Bytes that count: 4, 8, 32, 32.
    pub fn size(self) -> usize {
        match self {
            ChecksumKind::Crc32c => 4,
            ChecksumKind::Xxhash64 => 8,
            ChecksumKind::Sha256 | ChecksumKind::Blake2b => 32,
        }
    }

    /// The checksum of `data`, padded with zeros.
    pub fn compute(self, data: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        match self {
            ChecksumKind::Crc32c => out[..4].copy_from_slice(&crc32c(data).to_le_bytes()),
            ChecksumKind::Xxhash64 => {
                out[..8].copy_from_slice(&xxhash_rust::xxh64::xxh64(data, 0).to_le_bytes());
            }
            ChecksumKind::Sha256 => out.copy_from_slice(&sha2::Sha256::digest(data)),
            ChecksumKind::Blake2b => {
                let hash = blake2b_simd::Params::new().hash_length(32).hash(data);
                out.copy_from_slice(hash.as_bytes());
            }
        }
        out
    }

    /// Appends the checksum of every `sector_size` bytes of `data`, as a csum item stores them.
    pub fn append_sectors(self, data: &[u8], sector_size: usize, out: &mut Vec<u8>) {
        if self == ChecksumKind::Crc32c {
            let mut sums = Vec::with_capacity(data.len() / sector_size);
            crc32c_sectors(data, sector_size, &mut sums);
            out.reserve(sums.len() * 4);
            out.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
            return;
        }
        for sector in data.chunks(sector_size) {
            out.extend_from_slice(&self.compute(sector)[..self.size()]);
        }
    }
}

/// Compares whole sectors with their stored checksums (`csums` as a csum item holds them); the error names the first
/// bad sector by its index. Both slices must describe the same number of sectors.
pub fn check_sectors(
    data: &[u8],
    csums: &[u8],
    kind: ChecksumKind,
    sector_size: usize,
) -> Result<(), SectorMismatch> {
    let size = kind.size();
    let sectors = data.len() / sector_size;
    if !data.len().is_multiple_of(sector_size) || csums.len() != sectors * size {
        return Err(SectorMismatch {
            sector: sectors.min(csums.len() / size),
            stored: Vec::new(),
            computed: Vec::new(),
        });
    }
    let mut computed = Vec::with_capacity(csums.len());
    kind.append_sectors(data, sector_size, &mut computed);
    if computed == csums {
        return Ok(());
    }
    for (sector, (have, want)) in computed.chunks(size).zip(csums.chunks(size)).enumerate() {
        if have != want {
            return Err(SectorMismatch { sector, stored: want.to_vec(), computed: have.to_vec() });
        }
    }
    Ok(())
}

/// A data sector that differs from its checksum; `stored` is empty when the counts did not match at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SectorMismatch {
    /// Index of the sector in the data that was checked.
    pub sector: usize,
    pub stored: Vec<u8>,
    pub computed: Vec<u8>,
}

/// Bytes as `0x...`, in the order they are stored.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published test vectors: CRC catalogue, xxHash, FIPS 180, RFC 7693 parameters as `b2sum -l 256` prints.
    #[test]
    fn known_answers() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(hex(&ChecksumKind::Crc32c.compute(b"123456789")[..4]), "0x839206e3");
        assert_eq!(xxhash_rust::xxh64::xxh64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(
            hex(&ChecksumKind::Sha256.compute(b"abc")),
            "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex(&ChecksumKind::Blake2b.compute(b"abc")),
            "0xbddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"
        );
    }

    #[test]
    fn a_bad_sector_is_named() {
        for kind in ChecksumKind::ALL {
            let mut data = vec![7u8; 4096 * 9];
            let mut csums = Vec::new();
            kind.append_sectors(&data, 4096, &mut csums);
            assert_eq!(check_sectors(&data, &csums, kind, 4096), Ok(()));
            data[4096 * 6 + 1] ^= 1;
            assert_eq!(check_sectors(&data, &csums, kind, 4096).unwrap_err().sector, 6);
            assert!(check_sectors(&data[..4096], &csums, kind, 4096).is_err());
        }
    }
}
