// SPDX-License-Identifier: GPL-2.0-or-later
//! Tells whether a device holds something already, by the magic bytes of what people commonly keep on devices.

use crate::error::{EngineError, Result};
use crfs_device::BlockDevice;

struct Signature {
    what: &'static str,
    offset: u64,
    magic: &'static [u8],
}

const fn at(what: &'static str, offset: u64, magic: &'static [u8]) -> Signature {
    Signature { what, offset, magic }
}

/// File systems first, then what may enclose one, partition tables last: a file system may carry one of those too.
const SIGNATURES: &[Signature] = &[
    at("a BTRFS file system", 65_536 + 64, b"_BHRfS_M"),
    at("an ext2, ext3 or ext4 file system", 1024 + 56, &[0x53, 0xef]),
    at("an XFS file system", 0, b"XFSB"),
    at("an F2FS file system", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    at("a bcachefs file system or bcache device", 4096 + 24, &[0xc6, 0x85, 0x73, 0xf6]),
    at("a ReiserFS file system", 65_536 + 52, b"ReIsEr"),
    at("a JFS file system", 32_768, b"JFS1"),
    at("a GFS2 file system", 65_536, &[0x01, 0x16, 0x19, 0x70]),
    at("an OCFS2 file system", 8192, b"OCFSV2"),
    at("a NILFS2 file system", 1024 + 6, &[0x34, 0x34]),
    at("an NTFS file system", 3, b"NTFS    "),
    at("an exFAT file system", 3, b"EXFAT   "),
    at("a FAT file system", 54, b"FAT1"),
    at("a FAT file system", 82, b"FAT32"),
    at("an HFS+ file system", 1024, b"H+"),
    at("an HFSX file system", 1024, b"HX"),
    at("an APFS container", 32, b"NXSB"),
    at("a SquashFS file system", 0, b"hsqs"),
    at("an EROFS file system", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    at("an ISO 9660 file system", 32_769, b"CD001"),
    at("a UDF file system", 32_769, b"BEA01"),
    at("a ZFS pool", 131_072, &[0x0c, 0xb1, 0xba, 0x00]),
    at("swap space", 4086, b"SWAPSPACE2"),
    at("swap space", 4086, b"SWAP-SPACE"),
    at("a LUKS container", 0, b"LUKS\xba\xbe"),
    at("an LVM physical volume", 512, b"LABELONE"),
    at("an LVM physical volume", 0, b"LABELONE"),
    at("a member of an MD array", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    at("a member of an MD array", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    at("a Ceph BlueStore device", 0, b"bluestore block device"),
    at("a qcow2 image", 0, b"QFI\xfb"),
    at("a VMDK image", 0, b"KDMV"),
    at("a GPT partition table", 512, b"EFI PART"),
    at("a partition table or boot sector", 510, &[0x55, 0xaa]),
];

/// What the device holds, in words that complete "the image already holds ...", or `None`.
pub fn probe(device: &dyn BlockDevice) -> Result<Option<&'static str>> {
    let mut found = [0; 32];
    for signature in SIGNATURES {
        let place = &mut found[..signature.magic.len()];
        if signature.offset + place.len() as u64 > device.size() {
            continue;
        }
        device.read_at(signature.offset, place).map_err(|source| EngineError::Io {
            what: format!("looking for {} at {}", signature.what, signature.offset),
            source,
        })?;
        if place == signature.magic {
            return Ok(Some(signature.what));
        }
    }
    Ok(None)
}
