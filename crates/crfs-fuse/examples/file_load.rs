// SPDX-License-Identifier: GPL-2.0-or-later
//! Load for measuring a mount: works on many small files and prints how long each phase took.
//!
//! `file_load DIR COUNT PHASE...` with the phases `create` (1 KiB each, in 20 directories), `stat`, `read`, `unlink`,
//! `write4k` and `read4k` (COUNT calls of 4 KiB on one file), `seqwrite` and `seqread` (COUNT calls of 1 MiB). One line
//! per phase: name, operations, seconds. The caller drops caches between phases.
//! `test/fixtures/fuse_bench.ts` runs it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

const DIRECTORIES: usize = 20;

fn path(root: &Path, index: usize) -> PathBuf {
    root.join(format!("d{}", index % DIRECTORIES)).join(format!("file-{index}"))
}

fn each(count: usize, mut body: impl FnMut(usize) -> io::Result<()>) -> io::Result<()> {
    (0..count).try_for_each(&mut body)
}

fn run(root: &Path, count: usize, phase: &str) -> io::Result<()> {
    let mut block = vec![7u8; if phase.starts_with("seq") { 1 << 20 } else { 4096 }];
    match phase {
        "create" => {
            for index in 0..DIRECTORIES {
                fs::create_dir_all(root.join(format!("d{index}")))?;
            }
            each(count, |index| File::create_new(path(root, index))?.write_all(&[7; 1024]))
        }
        "stat" => each(count, |index| fs::metadata(path(root, index)).map(drop)),
        "read" => each(count, |index| {
            let length = File::open(path(root, index))?.read(&mut block)?;
            if length == 1024 {
                Ok(())
            } else {
                Err(io::Error::other(format!("file {index} has {length} bytes")))
            }
        }),
        "unlink" => each(count, |index| fs::remove_file(path(root, index))),
        "write4k" | "seqwrite" => {
            let mut file = File::create(root.join("large"))?;
            each(count, |_| file.write_all(&block))
        }
        "read4k" | "seqread" => {
            let mut file = File::open(root.join("large"))?;
            let mut random = 1u64;
            each(count, |_| {
                if phase == "read4k" {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    file.seek(SeekFrom::Start((random >> 33) % (64 << 20) / 4096 * 4096))?;
                }
                file.read_exact(&mut block)
            })
        }
        _ => Err(io::Error::other(format!("unknown phase {phase}"))),
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, count, phases @ ..] = arguments.as_slice() else {
        return Err(io::Error::other("usage: file_load DIR COUNT PHASE..."));
    };
    let count = count.parse().map_err(io::Error::other)?;
    for phase in phases {
        let begin = Instant::now();
        run(Path::new(root), count, phase)?;
        writeln!(io::stdout(), "{phase} {count} {:.6}", begin.elapsed().as_secs_f64())?;
    }
    Ok(())
}
