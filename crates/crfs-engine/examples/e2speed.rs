use crfs_device::{Access, FileDevice};
use crfs_disk::inode::Timespec;
use crfs_disk::checksum::crc32c;
use crfs_engine::change::codec::*;
use crfs_engine::change::*;
use crfs_engine::*;
use std::sync::Arc;
use std::time::Instant;
fn cpu() -> f64 { let mut t = unsafe { std::mem::zeroed::<libc::timespec>() }; unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) }; t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9 }
fn main() {
    let path = std::path::Path::new("/tmp/e2speed.img");
    let _ = std::fs::remove_file(path);
    let dev = FileDevice::create(path, 20 << 30).unwrap();
    mkfs(&dev, &MkfsOptions::default()).unwrap();
    drop(dev);
    let v = Volume::open(Arc::new(FileDevice::open(path, Access::ReadWrite).unwrap()), VolumeOptions::default()).unwrap();
    let time = Timespec { sec: 1, nsec: 0 };
    let n = 200_000u64; let per = std::env::args().nth(1).map_or(1000, |a| a.parse().unwrap());
    let len: usize = std::env::args().nth(2).map_or(1024, |a| a.parse().unwrap());
    let data = vec![7u8; len];
    let mut ino = 1000u64;
    let (mut encode, mut applyt, mut commit) = (0.0, 0.0, 0.0);
    let start = Instant::now(); let c0 = cpu();
    while ino < 1000 + n {
        let t = Instant::now();
        let mut ch = Vec::new(); let mut sums = Vec::new(); let mut body = Vec::new(); let mut count = 0;
        if ino % 1000 == 0 {
            Change::NewInode(NewInode { tree: 5, ino: ino + 10_000_000, mode: 0o40755, uid: 0, gid: 0, rdev: 0, time, target: b"" }).encode(&mut ch);
            Change::AddName(Name { tree: 5, dir: 256, index: ino, ino: ino + 10_000_000, time, name: format!("dir{ino}").as_bytes() }).encode(&mut ch);
            count += 2;
        }
        for i in ino..ino + per {
            Change::NewInode(NewInode { tree: 5, ino: i, mode: 0o100644, uid: 0, gid: 0, rdev: 0, time, target: b"" }).encode(&mut ch);
            Change::AddName(Name { tree: 5, dir: ino / 1000 * 1000 + 10_000_000, index: i, ino: i, time, name: format!("file-{i}").as_bytes() }).encode(&mut ch);
            count += 2;
            if len > 0 {
                Change::PutData { tree: 5, ino: i, offset: 0, length: len as u32, new_size: len as u64, time }.encode(&mut ch);
                count += 1;
                for s in data.chunks(4096) { let mut p = s.to_vec(); p.resize(4096, 0); sums.extend_from_slice(&crc32c(&p).to_le_bytes()); }
                body.extend_from_slice(&data);
            }
        }
        encode += t.elapsed().as_secs_f64();
        let t = Instant::now();
        v.apply(&Batch { changes: &ch, count, checksums: &sums, data: &body }, &Grants::all()).unwrap();
        applyt += t.elapsed().as_secs_f64();
        if v.wants_commit() { let t = Instant::now(); v.commit().unwrap(); commit += t.elapsed().as_secs_f64(); }
        ino += per;
    }
    let t = Instant::now(); v.commit().unwrap(); commit += t.elapsed().as_secs_f64();
    println!("{n} files of {len} in batches of {per}: wall {:.2}s cpu {:.2}s encode {encode:.2} apply {applyt:.2} ({:.2} us/file) commit {commit:.2} {:?}", start.elapsed().as_secs_f64(), cpu() - c0, applyt * 1e6 / n as f64, v.stats());
    println!("{:?} {:?}", v.statfs(), v.info().bytes_used);
    let t = Instant::now(); let s = v.snapshot(); let mut k = crfs_disk::Key::MIN; let mut bytes = 0; let mut items = 0u64;
    while k < crfs_disk::Key::MAX { let p = s.read_items(5, k, crfs_disk::Key::MAX, 256 << 10).unwrap(); bytes += p.bytes.len(); items += p.items as u64; k = p.covered_end; }
    println!("read_items {items} items {} MB in {:.3}s", bytes >> 20, t.elapsed().as_secs_f64());
    drop(s);
    if per == 1000 {
        // big stream
        let big = vec![9u8; 8 << 20]; let mut sums = Vec::new(); for s in big.chunks(4096) { sums.extend_from_slice(&crc32c(s).to_le_bytes()); }
        let mut ch = Vec::new();
        Change::NewInode(NewInode { tree: 5, ino: 999, mode: 0o100644, uid: 0, gid: 0, rdev: 0, time, target: b"" }).encode(&mut ch);
        Change::AddName(Name { tree: 5, dir: 256, index: 99, ino: 999, time, name: b"big" }).encode(&mut ch);
        v.apply(&Batch { changes: &ch, count: 2, checksums: &[], data: &[] }, &Grants::all()).unwrap();
        let t = Instant::now(); let c = cpu();
        for i in 0..128u64 { let mut ch = Vec::new(); Change::PutData { tree: 5, ino: 999, offset: i * (8 << 20), length: 8 << 20, new_size: (i + 1) * (8 << 20), time }.encode(&mut ch);
            v.apply(&Batch { changes: &ch, count: 1, checksums: &sums, data: &big }, &Grants::all()).unwrap(); }
        println!("stream 1 GiB applied {:.2}s cpu {:.2}", t.elapsed().as_secs_f64(), cpu() - c);
        v.commit().unwrap();
        println!("  committed {:.2}s", t.elapsed().as_secs_f64());
        let s = v.snapshot(); let t = Instant::now(); let mut o = 0; while o < 1 << 30 { s.read_data(5, 999, o, 1 << 20).unwrap(); o += 1 << 20; } println!("read 1 GiB {:.2}s", t.elapsed().as_secs_f64());
        let mut c = s.cursor(5, crfs_disk::Key::new(999, 108, 0)).unwrap(); let mut ext = 0; while c.item().is_some_and(|(k, _)| k.objectid == 999) { ext += 1; c.advance().unwrap(); } println!("extents {ext}");
    }
    let t = Instant::now(); let c = cpu(); let mut ino = 1000;
    while ino < 1000 + n { let mut ch = Vec::new();
        for i in ino..ino + per { Change::RemoveName(Name { tree: 5, dir: ino / 1000 * 1000 + 10_000_000, index: i, ino: i, time, name: format!("file-{i}").as_bytes() }).encode(&mut ch); Change::DropInode { tree: 5, ino: i }.encode(&mut ch); }
        v.apply(&Batch { changes: &ch, count: 2 * per as u32, checksums: &[], data: &[] }, &Grants::all()).unwrap(); if v.wants_commit() { v.commit().unwrap(); } ino += per; }
    v.commit().unwrap();
    println!("remove {:.2}s cpu {:.2}s", t.elapsed().as_secs_f64(), cpu() - c);
    drop(v);
}
