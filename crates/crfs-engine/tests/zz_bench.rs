mod change_common;
mod volume_common;
use change_common::builder::Builder;
use change_common::ROOT;
use volume_common::*;
#[test]
fn bench() {
    let image = Image::by_engine(4096 * MIB, &crfs_engine::MkfsOptions::default());
    let volume = image.open();
    let data = [7u8; 1024];
    let mut total = std::time::Duration::ZERO;
    let mut builders = Vec::new();
    for round in 0..100u64 {
        let mut b = Builder::default();
        let dir = 10_000 + round * 1001;
        b.dir(dir, format!("dir{round}").as_bytes());
        for i in 0..1000 {
            let ino = dir + 1 + i;
            b.new_inode(ino, 0o100644).add_name(dir, 2 + i, ino, format!("file-{i}").as_bytes()).put(ino, 0, &data);
        }
        builders.push(b);
    }
    for b in &builders {
        let t = std::time::Instant::now();
        apply(&volume, b);
        total += t.elapsed();
    }
    println!("volume: {:?} per create", total / 100_000);
    let t = std::time::Instant::now();
    volume.commit().unwrap();
    println!("commit {:?}", t.elapsed());
    let mut store = change_common::model_store::ModelStore::new(16384, 1 << 20);
    let t = std::time::Instant::now();
    for b in &builders { b.apply(&mut store).unwrap(); }
    println!("model: {:?} per create", t.elapsed() / 100_000);
    let big = vec![3u8; 8 << 20];
    let mut b = Builder::default();
    b.file(500, b"big");
    for i in 0..8 { b.put(500, i * (8 << 20), &big); }
    let t = std::time::Instant::now();
    apply(&volume, &b);
    println!("64 MiB: {:?}", t.elapsed());
    let mut b = Builder::default();
    for round in 0..100u64 {
        let dir = 10_000 + round * 1001;
        for i in 0..1000 {
            let ino = dir + 1 + i;
            b.remove_name(dir, 2 + i, ino, format!("file-{i}").as_bytes()).drop_inode(ino);
        }
    }
    let t = std::time::Instant::now();
    apply(&volume, &b);
    println!("unlink: {:?} per file", t.elapsed() / 100_000);
    let _ = ROOT;
}
