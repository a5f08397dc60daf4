// SPDX-License-Identifier: GPL-2.0-or-later
//! Scenarios about the bytes of files: what A's kernel has of them goes before B changes them, whatever A reads and writes
//! meanwhile; and what A has written comes along.

use crate::ground::{CALM, Ground, race, right};
use crate::support::{Result, at, set_mode};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const PAGE: u64 = 4_096;
const MIB: u64 = 1 << 20;
/// A file of which the kernel takes some 20 ms to drop all pages.
const LONG: u64 = 128 * MIB;

pub fn open_to_read(path: &Path) -> Result<File> {
    at(path, "open", File::open(path))
}

pub fn open_to_write(path: &Path) -> Result<File> {
    at(path, "open", File::options().read(true).write(true).open(path))
}

/// Pages of one call's length only, and none before they are asked for.
pub fn advise_random(file: &File) {
    // SAFETY: a call with numbers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
}

/// The kernel drops these pages by itself, and tells nobody.
fn drop_pages(file: &File, offset: u64, length: u64) {
    // SAFETY: a call with numbers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), offset as i64, length as i64, libc::POSIX_FADV_DONTNEED) };
}

pub fn read_at(file: &File, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    let got = file.read_at(&mut bytes, offset)?;
    bytes.truncate(got);
    Ok(bytes)
}

fn read_all(file: &File, length: u64) -> std::io::Result<()> {
    (0..length / MIB).try_for_each(|mib| read_at(file, mib * MIB, MIB).map(drop))
}

/// A file of this length, without bytes, that both sides have looked at some time ago.
fn calm_file(ground: &Ground, name: &str, length: u64) -> Result<()> {
    let path = ground.a.join(name);
    ground.step("make a file", || {
        let file = at(&path, "create", File::create(&path))?;
        at(&path, "truncate", file.set_len(length))?;
        at(&path, "stat", fs::symlink_metadata(ground.b.join(name))).map(drop)
    })?;
    thread::sleep(CALM);
    Ok(())
}

/// Both sides write one file in turn, and each reads what the other has just written; nothing is closed.
pub fn handed_over(ground: &Ground) -> Result<()> {
    const LENGTH: u64 = 3 * PAGE;
    let path = ground.a.join("f");
    let files = ground.step("open on both sides", || {
        at(&path, "write", fs::write(&path, vec![0; LENGTH as usize]))?;
        let b = File::options().read(true).write(true).open(ground.b.join("f"));
        right(b.is_ok(), || format!("f on B: {:?}", b.as_ref().err()))?;
        Ok([open_to_write(&path)?, at(&path, "open", b)?])
    })?;
    for round in 0..ground.rounds * 2 {
        let (writer, reader) = ((round % 2) as usize, 1 - (round % 2) as usize);
        let bytes = vec![(round + 1) as u8; LENGTH as usize];
        let side = ["A", "B"][writer];
        ground.step("write on one side, read on the other", || {
            at(&path, "write", files[writer].write_all_at(&bytes, 0))?;
            let new = [&ground.a, &ground.b][writer].join(format!("new{round}"));
            at(&new, "create", fs::write(&new, &bytes))?;
            let seen = at(&path, "read", read_at(&files[reader], 0, LENGTH))?;
            right(seen == bytes, || format!("round {round}: not what {side} wrote to f"))?;
            let new = [&ground.a, &ground.b][reader].join(format!("new{round}"));
            let seen = fs::read(&new);
            right(seen.is_ok_and(|seen| seen == bytes), || format!("round {round}: a new file of {side}'s"))
        })?;
    }
    // What was given away is not used any more, and nothing was lost on the way.
    for side in [&ground.a, &ground.b] {
        let count = at(side, "list", fs::read_dir(side))?.count() as u64;
        right(count == ground.rounds * 2 + 1, || {
            format!("{count} names after {} rounds", ground.rounds * 2)
        })?;
    }
    for (file, side) in files.iter().zip(["A", "B"]) {
        right(file.sync_all().is_ok(), || format!("fsync on {side} fails"))?;
    }
    Ok(())
}

/// Which pages of a file the kernel has.
fn resident(file: &File, pages: u64) -> std::io::Result<Vec<bool>> {
    let length = (pages * PAGE) as usize;
    let mut found = vec![0u8; pages as usize];
    // SAFETY: a fresh mapping at an address that the kernel chooses, which nobody reads through and which is given back;
    // `found` has a byte for each of its pages.
    let result = unsafe {
        let (nowhere, fd) = (std::ptr::null_mut(), file.as_raw_fd());
        let address = libc::mmap(nowhere, length, libc::PROT_READ, libc::MAP_SHARED, fd, 0);
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let result = libc::mincore(address, length, found.as_mut_ptr());
        libc::munmap(address, length);
        result
    };
    if result == 0 {
        Ok(found.iter().map(|byte| byte & 1 == 1).collect())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Both sides want one large file; B writes one page of it. A's kernel keeps the others.
pub fn other_pages(ground: &Ground) -> Result<()> {
    const PAGES: u64 = 64;
    for round in 0..ground.rounds {
        let name = format!("f{round}");
        calm_file(ground, &name, PAGES * PAGE)?;
        let (on_b, a) = (ground.b.join(&name), open_to_read(&ground.a.join(&name))?);
        let b = open_to_write(&on_b)?;
        let written = 5 + round;
        ground.step("write one page", || {
            at(&on_b, "chmod", set_mode(&on_b, 0o600))?;
            at(&on_b, "read", read_at(&a, 0, PAGES * PAGE))?;
            at(&on_b, "write", b.write_all_at(&[7; PAGE as usize], written * PAGE))?;
            let pages = at(&on_b, "mincore", resident(&a, PAGES))?;
            let kept = pages.iter().filter(|&&kept| kept).count() as u64;
            let is_gone = pages.get(written as usize) == Some(&false);
            right(is_gone && kept == PAGES - 1, || {
                format!("round {round}: {kept} of {PAGES} pages stay on A")
            })
        })?;
    }
    Ok(())
}

/// A READ on A waits for the attributes that B holds, with its page locked; that very page must go, since B, who came
/// first, writes it.
pub fn read_waits(ground: &Ground) -> Result<()> {
    for round in 0..ground.rounds {
        let name = format!("f{round}");
        calm_file(ground, &name, 64 * PAGE)?;
        let (on_b, a) = (ground.b.join(&name), open_to_read(&ground.a.join(&name))?);
        let b = open_to_write(&on_b)?;
        advise_random(&a);
        let offset = 5 * PAGE;
        ground.step("a READ waits", || {
            at(&on_b, "chmod", set_mode(&on_b, 0o600))?;
            at(&on_b, "read", read_at(&a, offset, PAGE))?;
            // Both know by now that the other wants the file: of what follows each takes what it needs.
            at(&on_b, "chmod", set_mode(&on_b, 0o640))?;
            drop_pages(&a, offset, PAGE);
            let bytes = vec![7; PAGE as usize];
            let done =
                race(ground.part(1, 2), || b.write_all_at(&bytes, offset), || read_at(&a, offset, PAGE));
            at(&on_b, "write", done.0)?;
            at(&on_b, "read", done.1)?;
            let seen = at(&on_b, "read", read_at(&a, offset, PAGE))?;
            right(seen == bytes, || format!("round {round}: old bytes on A"))
        })?;
    }
    Ok(())
}

/// A WRITE on A to a part of a page that it has waits for room; the page must go, since B writes another part of it.
pub fn write_waits(ground: &Ground) -> Result<()> {
    calm_file(ground, "f", PAGE)?;
    calm_file(ground, "other", PAGE)?;
    let (a, b) = (open_to_write(&ground.a.join("f"))?, open_to_write(&ground.b.join("f"))?);
    let other = open_to_write(&ground.a.join("other"))?;
    let path = &ground.a;
    let ended = AtomicBool::new(false);
    let full = vec![1; MIB as usize];
    thread::scope(|scope| {
        // There is always more written than may be on its way.
        for writer in 0..4 {
            let (other, ended, full) = (&other, &ended, &full);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    for place in 0..8 {
                        let _ = other.write_all_at(full, (writer * 8 + place) * MIB);
                    }
                }
            });
        }
        let result = (1..=ground.rounds).try_for_each(|round| {
            ground.step("a WRITE waits", || {
                at(path, "read", read_at(&a, 0, PAGE))?;
                let number = round.to_le_bytes();
                let later = ground.some(ground.delay);
                let done = race(later, || b.write_all_at(&number, 1_000), || a.write_all_at(&number, 2_000));
                at(path, "write", done.0)?;
                at(path, "write", done.1)?;
                let seen = at(path, "read", read_at(&a, 0, PAGE))?;
                right(seen.get(1_000..1_008) == Some(&number), || format!("round {round}: B's bytes on A"))?;
                right(seen.get(2_000..2_008) == Some(&number), || format!("round {round}: A's bytes on A"))
            })
        });
        ended.store(true, Ordering::Relaxed);
        result
    })
}

/// A handle on A that reads past the kernel's pages waits for bytes, while another has the kernel keep the page that B writes.
pub fn direct_read_waits(ground: &Ground) -> Result<()> {
    for round in 0..ground.rounds {
        let name = format!("f{round}");
        calm_file(ground, &name, 4 * PAGE)?;
        let (on_a, on_b) = (ground.a.join(&name), ground.b.join(&name));
        let (kept, b) = (open_to_read(&on_a)?, open_to_write(&on_b)?);
        advise_random(&kept);
        ground.step("a direct READ waits", || {
            at(&on_b, "write", b.write_all_at(&[1; 4 * PAGE as usize], 0))?;
            at(&on_b, "read", read_at(&kept, 0, 4 * PAGE))?;
            // A knows by now that B wants the file, so this handle is a direct one.
            let direct = open_to_read(&on_a)?;
            at(&on_b, "read", read_at(&kept, 0, 4 * PAGE))?;
            let bytes = vec![7; PAGE as usize];
            let done = race(ground.part(1, 2), || read_at(&direct, 0, PAGE), || b.write_all_at(&bytes, 0));
            at(&on_b, "read", done.0)?;
            at(&on_b, "write", done.1)?;
            let seen = at(&on_b, "read", read_at(&kept, 0, PAGE))?;
            right(seen == bytes, || format!("round {round}: old bytes on A"))
        })?;
    }
    Ok(())
}

/// Drops of all pages of a long file take a while; meanwhile A reads again what has gone already. B then writes it.
pub fn late_pages(ground: &Ground) -> Result<()> {
    for round in 0..ground.rounds {
        let name = format!("f{round}");
        calm_file(ground, &name, LONG)?;
        let (path, a) = (ground.b.join(&name), open_to_read(&ground.a.join(&name))?);
        advise_random(&a);
        let ended = AtomicBool::new(false);
        ground.step("read while pages go", || {
            at(&path, "read", read_all(&a, LONG))?;
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let _ = read_at(&a, 0, PAGE);
                    }
                });
                let bytes = vec![7; PAGE as usize];
                let written =
                    open_to_write(&path).and_then(|b| at(&path, "write", b.write_all_at(&bytes, 0)));
                ended.store(true, Ordering::Relaxed);
                written?;
                let seen = at(&path, "read", read_at(&a, 0, PAGE))?;
                right(seen == bytes, || format!("round {round}: old bytes on A"))
            })
        })?;
    }
    Ok(())
}

/// The same with attributes: A asks for them while the pages go, and B then changes them.
pub fn late_attributes(ground: &Ground) -> Result<()> {
    for round in 0..ground.rounds {
        let name = format!("f{round}");
        calm_file(ground, &name, LONG)?;
        let (path, a) = (ground.b.join(&name), open_to_read(&ground.a.join(&name))?);
        let ended = AtomicBool::new(false);
        ground.step("stat while pages go", || {
            at(&path, "read", read_all(&a, LONG))?;
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let _ = a.metadata();
                    }
                });
                let changed = at(&path, "chmod", set_mode(&path, 0o600));
                ended.store(true, Ordering::Relaxed);
                changed?;
                let mode = at(&path, "stat", a.metadata())?.mode() & 0o7777;
                right(mode == 0o600, || format!("round {round}: mode {mode:o} on A after the chmod on B"))
            })
        })?;
    }
    Ok(())
}

/// A READ on A comes while its pages are going, and A does not have the attributes any more: B has them, and waits for the
/// pages to go.
pub fn leaving_read(ground: &Ground) -> Result<()> {
    for round in 0..ground.rounds {
        let name = format!("f{round}");
        calm_file(ground, &name, LONG)?;
        let path = ground.b.join(&name);
        let b = open_to_write(&path)?;
        thread::sleep(CALM);
        let a = open_to_read(&ground.a.join(&name))?;
        ground.step("read while pages go", || {
            at(&path, "read", read_all(&a, LONG))?;
            advise_random(&a);
            // B has just lost what it held: it takes no more than it needs now.
            at(&path, "chmod", set_mode(&path, 0o600))?;
            drop_pages(&a, LONG / 2, LONG / 2);
            thread::scope(|scope| {
                for late in 0..10 {
                    let (a, wait) = (&a, ground.delay + Duration::from_micros(late * 700));
                    scope.spawn(move || {
                        thread::sleep(wait);
                        read_at(a, LONG - (late + 1) * MIB, PAGE)
                    });
                }
                at(&path, "truncate", b.set_len(0))
            })
        })?;
        right(read_at(&a, 0, PAGE).is_ok_and(|bytes| bytes.is_empty()), || "bytes behind the end".into())?;
    }
    Ok(())
}
