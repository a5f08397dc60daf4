// SPDX-License-Identifier: GPL-2.0-or-later
//! Ways to the data besides read and write: mappings, the end of the file.

use crate::ground::{Ground, Said, bytes, same};
use crate::support::Result;
use crate::support::sys::{Mapping, fsync, open_at, pread, pwrite, write};

pub fn mappings(ground: &Ground) -> Result<()> {
    let file = ground.file("file")?;
    pwrite(&file, &bytes(1, 8_192), 0).said("write")?;
    let mapping = Mapping::new(&file, 8_192, true).said("mmap")?;
    mapping.store(4_000, b"stored");
    mapping.sync().said("msync")?;
    fsync(&file).said("fsync")?;
    let other = open_at(&ground.at_b, c"file", libc::O_RDONLY, 0).said("open in B")?;
    same("what was stored, in B", pread(&other, 6, 4_000).said("read")?, b"stored".to_vec())
}

pub fn append(ground: &Ground) -> Result<()> {
    ground.file("file")?;
    let open = |at| open_at(at, c"file", libc::O_WRONLY | libc::O_APPEND, 0).said("open");
    let (one, two) = (open(&ground.at_a)?, open(&ground.at_b)?);
    for _ in 0..50 {
        write(&one, b"one").said("append in A")?;
        write(&two, b"two").said("append in B")?;
    }
    let other = open_at(&ground.at_b, c"file", libc::O_RDONLY, 0).said("open in B")?;
    same("data in B", pread(&other, 1_000, 0).said("read")?, b"onetwo".repeat(50))
}
