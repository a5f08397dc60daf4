// SPDX-License-Identifier: GPL-2.0-or-later
//! Which images are served read-write, which only read-only, and which not at all. Every reason is one line that says
//! why and what to do. What only the trees tell (a running balance, quotas, shared trees) is added by `open`.

use crfs_device::BlockDevice;
use crfs_disk::Superblock;
use crfs_disk::constants::{SECTOR_SIZE, compat_ro, incompat, super_flag};

/// The reasons against serving an image; none at all means read-write.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// It must not even be read.
    pub refused: Vec<String>,
    /// It may be read but not written.
    pub read_only: Vec<String>,
}

impl Judgement {
    pub(crate) fn refuse(&mut self, reason: impl Into<String>) {
        self.refused.push(reason.into());
    }

    pub(crate) fn only_read(&mut self, reason: impl Into<String>) {
        self.read_only.push(reason.into());
    }
}

/// Incompatible features that are understood, so that their bits may be set.
const INCOMPAT_KNOWN: u64 = INCOMPAT_NEEDED
    | incompat::DEFAULT_SUBVOL
    | incompat::COMPRESS_LZO
    | incompat::COMPRESS_ZSTD
    | incompat::BIG_METADATA
    | incompat::METADATA_UUID
    | incompat::RAID1C34;

/// Features without which trees look different from what the engine writes.
const INCOMPAT_NEEDED: u64 =
    incompat::MIXED_BACKREF | incompat::EXTENDED_IREF | incompat::SKINNY_METADATA | incompat::NO_HOLES;

/// Incompatible features with a name that are refused, and why.
const INCOMPAT_REFUSED: [(u64, &str); 6] = [
    (incompat::RAID56, "RAID5/6 is not supported"),
    (incompat::ZONED, "zoned devices are not supported"),
    (incompat::EXTENT_TREE_V2, "extent tree v2 is not supported"),
    (incompat::RAID_STRIPE_TREE, "the RAID stripe tree is not supported"),
    (incompat::REMAP_TREE, "the remap tree is not supported"),
    (
        incompat::MIXED_GROUPS,
        "mixed block groups are not supported; copy the files to an image made without --mixed",
    ),
];

/// Judges what the superblock alone tells.
pub fn judge_superblock(sb: &Superblock, device: &dyn BlockDevice) -> Judgement {
    let mut judgement = Judgement::default();
    judge_shape(sb, device, &mut judgement);
    judge_incompat(sb, &mut judgement);
    judge_compat_ro(sb, &mut judgement);
    judge_flags(sb, &mut judgement);
    if sb.log_root != 0 {
        judgement.only_read(
            "a log tree waits to be replayed: mount the image once in Linux, or drop the last fsyncs with `btrfs rescue zero-log`",
        );
    }
    judgement
}

fn judge_shape(sb: &Superblock, device: &dyn BlockDevice, judgement: &mut Judgement) {
    if u64::from(sb.sectorsize) != SECTOR_SIZE {
        judgement.refuse(format!(
            "sector size {} is not supported; make the image with --sectorsize {SECTOR_SIZE}",
            sb.sectorsize
        ));
    }
    if sb.num_devices != 1 {
        judgement.refuse(format!(
            "the file system has {} devices; reduce it to one with `btrfs device remove` in Linux",
            sb.num_devices
        ));
    }
    if sb.dev_item.total_bytes > device.size() {
        judgement.refuse(format!(
            "the image is cut short: its device has {} bytes, the file system needs {}",
            device.size(),
            sb.dev_item.total_bytes
        ));
    }
}

fn judge_incompat(sb: &Superblock, judgement: &mut Judgement) {
    let mut left = sb.incompat_flags & !INCOMPAT_KNOWN;
    for (bit, reason) in INCOMPAT_REFUSED {
        if left & bit != 0 {
            judgement.refuse(reason);
        }
        left &= !bit;
    }
    if left & incompat::SIMPLE_QUOTA != 0 {
        judgement
            .only_read("simple quotas are not accounted; disable them with `btrfs quota disable` in Linux");
        left &= !incompat::SIMPLE_QUOTA;
    }
    if left != 0 {
        judgement.refuse(format!("unknown incompatible features {left:#x}; a newer release may know them"));
    }
    let missing = INCOMPAT_NEEDED & !sb.incompat_flags;
    if missing != 0 {
        judgement.only_read(format!(
            "features {missing:#x} are missing (mixed backrefs, extended irefs, skinny metadata, no holes); set them with `btrfstune -r -x -n`"
        ));
    }
}

fn judge_compat_ro(sb: &Superblock, judgement: &mut Judgement) {
    let valid = compat_ro::FREE_SPACE_TREE | compat_ro::FREE_SPACE_TREE_VALID;
    if sb.compat_ro_flags & valid != valid {
        judgement.only_read("no valid free-space tree; mount the image once in Linux with -o space_cache=v2");
    }
    if sb.compat_ro_flags & compat_ro::BLOCK_GROUP_TREE != 0 {
        judgement.only_read(
            "the block group tree is not written yet; convert with `btrfstune --convert-from-block-group-tree`",
        );
    }
    if sb.compat_ro_flags & compat_ro::VERITY != 0 {
        judgement.only_read("files with fs-verity are not enforced; copy them to an image without");
    }
    let known = valid | compat_ro::BLOCK_GROUP_TREE | compat_ro::VERITY;
    let unknown = sb.compat_ro_flags & !known;
    if unknown != 0 {
        judgement.only_read(format!(
            "unknown read-only-compatible features {unknown:#x}; a newer release may know them"
        ));
    }
}

fn judge_flags(sb: &Superblock, judgement: &mut Judgement) {
    if sb.flags & (super_flag::METADUMP | super_flag::METADUMP_V2) != 0 {
        judgement.refuse("the image is a metadata dump without file data");
    }
    if sb.flags & super_flag::SEEDING != 0 {
        judgement.only_read("the image is a seed; clear it with `btrfstune -S 0`");
    }
    if sb.flags & super_flag::ERROR != 0 {
        judgement.only_read("Linux marked the file system as having errors; run `btrfs check`");
    }
    let changing = super_flag::CHANGING_FSID
        | super_flag::CHANGING_FSID_V2
        | super_flag::CHANGING_BG_TREE
        | super_flag::CHANGING_DATA_CSUM
        | super_flag::CHANGING_META_CSUM;
    if sb.flags & changing != 0 {
        judgement.refuse("a conversion by btrfstune was interrupted; run the same btrfstune again");
    }
}
