// SPDX-License-Identifier: GPL-2.0-or-later
//! Every device keeps the same promises; the recorder and the fault injector do what crash tests rest on.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

use crfs_device::{Access, BlockDevice, FaultyDevice, FileDevice, MemoryDevice, RecordedOp, RecordingDevice};
use std::io::{ErrorKind, IoSlice};
use std::path::PathBuf;

const SIZE: u64 = 1 << 20;

/// A path of its own in the temporary directory, removed when dropped.
struct TempPath(PathBuf);

impl TempPath {
    fn new(name: &str) -> TempPath {
        TempPath(std::env::temp_dir().join(format!("crfs-device-{}-{name}", std::process::id())))
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn read(device: &dyn BlockDevice, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xee; len];
    device.read_at(offset, &mut buf).unwrap();
    buf
}

fn keeps_its_promises(device: &dyn BlockDevice) {
    assert_eq!((device.size(), device.is_read_only()), (SIZE, false));
    assert_eq!(read(device, 12_345, 100), [0; 100]);
    device.write_at(16_380, b"across a page border").unwrap();
    assert_eq!(read(device, 16_380, 20), b"across a page border");
    let parts: Vec<Vec<u8>> = (0..3000_usize).map(|n| vec![n as u8; n % 7]).collect();
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    device.write_vectored_at(100_001, &slices).unwrap();
    let whole = parts.concat();
    assert_eq!(read(device, 100_001, whole.len()), whole);
    device.write_fua(SIZE - 4096, &[9; 4096]).unwrap();
    assert_eq!(read(device, SIZE - 4096, 4096), [9; 4096]);
    device.flush().unwrap();
    device.punch(SIZE - 4096, 4096).unwrap();
    for (offset, len) in [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1)] {
        let mut buf = vec![0; len];
        assert_eq!(device.read_at(offset, &mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(device.write_at(offset, &buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(device.write_fua(offset, &buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(device.write_vectored_at(offset, &[IoSlice::new(&buf)]).is_err());
    }
}

#[test]
fn all_devices_keep_their_promises() {
    keeps_its_promises(&MemoryDevice::new(SIZE));
    keeps_its_promises(&RecordingDevice::new(MemoryDevice::new(SIZE)));
    keeps_its_promises(&FaultyDevice::new(MemoryDevice::new(SIZE)));
    let path = TempPath::new("promises");
    keeps_its_promises(&FileDevice::create(&path.0, SIZE).unwrap());
}

#[test]
fn a_punched_file_gives_its_blocks_back() {
    use std::os::unix::fs::MetadataExt;
    let path = TempPath::new("punch");
    let device = FileDevice::create(&path.0, SIZE).unwrap();
    device.write_at(0, &vec![1; SIZE as usize]).unwrap();
    device.flush().unwrap();
    device.punch(65_536, 524_288).unwrap();
    assert_eq!(read(&device, 65_536, 524_288), vec![0; 524_288]);
    assert_eq!(read(&device, 0, 65_536), vec![1; 65_536]);
    assert!(std::fs::metadata(&path.0).unwrap().blocks() * 512 < SIZE);
}

#[test]
fn a_file_is_created_grown_but_never_shortened() {
    let path = TempPath::new("create");
    FileDevice::create(&path.0, 4096).unwrap().write_at(0, b"kept").unwrap();
    let device = FileDevice::create(&path.0, SIZE).unwrap();
    assert_eq!((device.size(), read(&device, 0, 4)), (SIZE, b"kept".to_vec()));
    drop(device);
    let error = FileDevice::create(&path.0, 4096).unwrap_err();
    assert!(error.to_string().contains("more than the 4096 asked for"), "{error}");
}

#[test]
fn what_is_no_image_is_refused() {
    let error = FileDevice::open(&std::env::temp_dir(), Access::ReadOnly).unwrap_err();
    assert!(error.to_string().contains("neither a regular file nor a block device"), "{error}");
    assert_eq!(FileDevice::open("/dev/null".as_ref(), Access::ReadWrite).unwrap_err().errno(), libc::EINVAL);
    assert_eq!(
        FileDevice::open("/nonexistent".as_ref(), Access::ReadOnly).unwrap_err().errno(),
        libc::ENOENT
    );
}

#[test]
fn a_read_only_device_takes_no_writes() {
    let path = TempPath::new("readonly");
    drop(FileDevice::create(&path.0, SIZE).unwrap());
    let device = FileDevice::open(&path.0, Access::ReadOnly).unwrap();
    assert!(device.is_read_only());
    let errors = [device.write_at(0, &[1]), device.write_fua(0, &[1]), device.punch(0, 4096)];
    for error in errors {
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
    device.flush().unwrap();
}

#[test]
fn a_memory_image_survives_the_way_through_a_file() {
    let path = TempPath::new("memory");
    let device = MemoryDevice::new(SIZE + 777);
    device.write_at(SIZE + 700, &[5; 77]).unwrap();
    device.write_at(300_000, &[6; 50_000]).unwrap();
    device.to_file(&path.0).unwrap();
    let again = MemoryDevice::from_file(&path.0).unwrap();
    assert_eq!(read(&again, 0, SIZE as usize + 777), read(&device, 0, SIZE as usize + 777));
    // A copy does not see later writes.
    let copy = device.clone();
    device.write_at(300_000, &[7]).unwrap();
    assert_eq!((read(&copy, 300_000, 1), read(&device, 300_000, 1)), (vec![6], vec![7]));
}

#[test]
fn the_recorder_rebuilds_what_a_power_cut_leaves() {
    let base = MemoryDevice::new(SIZE);
    base.write_at(0, b"base").unwrap();
    let device = RecordingDevice::new(base);
    device.write_at(0, b"1").unwrap();
    device.flush().unwrap();
    device.write_at(1, b"2").unwrap();
    device.write_fua(2, b"3").unwrap();
    device.write_at(3, b"4").unwrap();
    assert_eq!(device.position(), 5);
    assert_eq!(device.boundaries(), [1, 2, 3, 4, 5]);
    assert_eq!(device.ops()[1], RecordedOp::Flush);
    let first = |image: MemoryDevice| read(&image, 0, 4);
    assert_eq!(first(device.image_at(0)), b"base");
    assert_eq!(first(device.image_at(5)), b"1234");
    // Nothing unflushed arrived, but what was flushed or written with FUA did.
    assert_eq!(first(device.crash_image(5, |_| false)), b"1a3e");
    assert_eq!(first(device.crash_image(5, |at| at == 4)), b"1a34");
    // Before the flush was complete, nothing was promised.
    assert_eq!(first(device.crash_image(1, |_| false)), b"base");
    assert_eq!(first(device.crash_image(2, |_| false)), b"1ase");
}

#[test]
fn chosen_operations_fail_once() {
    let device = FaultyDevice::new(MemoryDevice::new(SIZE));
    device.fail_write_after(1);
    device.write_at(0, &[1]).unwrap();
    assert_eq!(device.write_fua(1, &[1]).unwrap_err().raw_os_error(), Some(libc::EIO));
    device.write_at(2, &[1]).unwrap();
    assert_eq!(read(&device, 0, 3), [1, 0, 1]);
    device.fail_flush_after(0);
    assert!(device.flush().is_err() && device.flush().is_ok());
    device.fail_read_after(0);
    assert!(device.read_at(0, &mut [0]).is_err() && device.inner().read_at(0, &mut [0]).is_ok());
}
