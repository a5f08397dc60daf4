// SPDX-License-Identifier: GPL-2.0-or-later
//! Files whose last name is gone while they are open.

use crate::ground::{Ground, Said, fails, same};
use crate::support::Result;
use crate::support::sys::{fstat, open_at, pread, pwrite, stat_at, unlink_at};

pub fn unlinked_open(ground: &Ground) -> Result<()> {
    let file = ground.file("file")?;
    pwrite(&file, b"before", 0).said("write")?;
    let other = open_at(&ground.at_b, c"file", libc::O_RDWR, 0).said("open in B")?;
    unlink_at(&ground.at_a, c"file").said("unlink")?;
    fails("the name in B", stat_at(&ground.at_b, c"file"), libc::ENOENT)?;
    pwrite(&file, b" and after", 6).said("write in A")?;
    same("data in B", pread(&other, 64, 0).said("read in B")?, b"before and after".to_vec())?;
    pwrite(&other, b"B", 0).said("write in B")?;
    same("data in A", pread(&file, 6, 0).said("read in A")?, b"Before".to_vec())?;
    same("links", (fstat(&file).said("fstat")?.nlink, fstat(&other).said("fstat")?.nlink), (0, 0))
}
