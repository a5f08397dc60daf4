use crfs_device::{Access, FileDevice};
use crfs_disk::inode::Timespec;
use crfs_disk::checksum::crc32c;
use crfs_engine::change::codec::*;
use crfs_engine::change::*;
use crfs_engine::*;
use std::sync::Arc;
use std::time::Instant;
fn main() {
    let path = std::path::Path::new("/tmp/e2big.img");
    let _ = std::fs::remove_file(path);
    let tib: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let dev = FileDevice::create(path, tib << 40).unwrap();
    mkfs(&dev, &MkfsOptions::default()).unwrap();
    drop(dev);
    let open = || Volume::open(Arc::new(FileDevice::open(path, Access::ReadWrite).unwrap()), VolumeOptions::default()).unwrap();
    let v = open();
    let time = Timespec { sec: 1, nsec: 0 };
    let t = Instant::now();
    let mut ch = Vec::new();
    Change::NewInode(NewInode { tree: 5, ino: 999, mode: 0o100644, uid: 0, gid: 0, rdev: 0, time, target: b"" }).encode(&mut ch);
    Change::AddName(Name { tree: 5, dir: 256, index: 99, ino: 999, time, name: b"big" }).encode(&mut ch);
    v.apply(&Batch { changes: &ch, count: 2, checksums: &[], data: &[] }, &Grants::all()).unwrap();
    let mut done = 0u64; let step = 8u64 << 30;
    loop { let mut ch = Vec::new(); Change::Preallocate { tree: 5, ino: 999, offset: done, length: step, new_size: done + step, time }.encode(&mut ch);
        match v.apply(&Batch { changes: &ch, count: 1, checksums: &[], data: &[] }, &Grants::all()) { Ok(_) => done += step, Err(e) => { println!("{e:?}"); break; } } }
    println!("preallocated {} GiB in {:.2}s", done >> 30, t.elapsed().as_secs_f64());
    v.commit().unwrap();
    println!("committed {:.2}s {:?}", t.elapsed().as_secs_f64(), v.statfs());
    drop(v);
    let t = Instant::now(); let v = open(); println!("open {:.3}s", t.elapsed().as_secs_f64());
    let t = Instant::now(); let mut ch = Vec::new();
    Change::SetFields { tree: 5, ino: 999, fields: Fields { size: Some(done / 2), ..Fields::default() } }.encode(&mut ch);
    v.apply(&Batch { changes: &ch, count: 1, checksums: &[], data: &[] }, &Grants::all()).unwrap();
    println!("truncate half {:.3}s", t.elapsed().as_secs_f64());
    v.commit().unwrap(); println!("committed {:.3}s {:?}", t.elapsed().as_secs_f64(), v.statfs());
    // random 4k overwrites of a 1 GiB file
    let big = vec![9u8; 8 << 20]; let mut sums = Vec::new(); for s in big.chunks(4096) { sums.extend_from_slice(&crc32c(s).to_le_bytes()); }
    let mut ch = Vec::new();
    Change::NewInode(NewInode { tree: 5, ino: 1999, mode: 0o100644, uid: 0, gid: 0, rdev: 0, time, target: b"" }).encode(&mut ch);
    Change::AddName(Name { tree: 5, dir: 256, index: 199, ino: 1999, time, name: b"rand" }).encode(&mut ch);
    v.apply(&Batch { changes: &ch, count: 2, checksums: &[], data: &[] }, &Grants::all()).unwrap();
    for i in 0..32u64 { let mut ch = Vec::new(); Change::PutData { tree: 5, ino: 1999, offset: i * (8 << 20), length: 8 << 20, new_size: (i + 1) * (8 << 20), time }.encode(&mut ch);
        v.apply(&Batch { changes: &ch, count: 1, checksums: &sums, data: &big }, &Grants::all()).unwrap(); }
    v.commit().unwrap();
    let mut x = 12345u64; let t = Instant::now(); let mut worst = 0.0f64;
    for round in 0..500 { let mut ch = Vec::new(); for _ in 0..100 { x ^= x << 13; x ^= x >> 7; x ^= x << 17; Change::PutData { tree: 5, ino: 1999, offset: x % 65536 * 4096, length: 4096, new_size: 256 << 20, time }.encode(&mut ch); }
        let t1 = Instant::now(); v.apply(&Batch { changes: &ch, count: 100, checksums: &sums[..400], data: &big[..409600] }, &Grants::all()).unwrap(); worst = worst.max(t1.elapsed().as_secs_f64());
        if round % 50 == 49 { let t1 = Instant::now(); v.commit().unwrap(); println!("commit {:.3}", t1.elapsed().as_secs_f64()); } }
    println!("50k random overwrites {:.2}s worst batch {:.4}", t.elapsed().as_secs_f64(), worst);
}
