// SPDX-License-Identifier: GPL-2.0-or-later
//! What the tests of the engine share: scratch directories, images made by `mkfs.btrfs`, loop mounts that Linux
//! serves, and `btrfs check` as the judge. Everything cleans up after itself when dropped, also on a panic.
//!
//! Only tests use it, so what goes wrong is a panic that shows the output of the program that failed. Every program runs
//! under a time limit. Mounting needs root; that tests run as root is a condition, not something they skip over.

mod fill;
pub mod history;

pub use fill::{colliding_names, fill_with_everything, pattern, sync};

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seconds that any one program may run: far above what the slowest check needs on a loaded machine.
const PROGRAM_SECONDS: u32 = 300;

/// A directory of its own for one test; removed when dropped.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
}

/// Makes an empty directory below the system's temporary directory.
pub fn scratch_dir() -> ScratchDir {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("crfs-test-{}-{number}", std::process::id()));
    std::fs::create_dir(&path).expect("the name is not used twice while its process lives");
    ScratchDir { path }
}

impl ScratchDir {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // A leftover in the temporary directory is no reason to fail a test that passed.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Runs a program and returns its output; panics with it when the program fails.
pub fn run<I, S>(program: &str, args: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_os_string()).collect();
    let output = output_of(program, &args);
    let text = text_of(&output);
    assert!(output.status.success(), "{program} {args:?} failed ({}):\n{text}", output.status);
    text
}

/// Runs a program that may fail; returns whether it succeeded, and its output.
pub fn try_run<I, S>(program: &str, args: I) -> (bool, String)
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_os_string()).collect();
    let output = output_of(program, &args);
    (output.status.success(), text_of(&output))
}

fn output_of(program: &str, args: &[OsString]) -> Output {
    Command::new("timeout")
        .arg(PROGRAM_SECONDS.to_string())
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} could not be started: {error}"))
}

fn text_of(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// Makes a sparse image of `size` bytes with `mkfs.btrfs` and the given further arguments.
pub fn mkfs_btrfs(image: &Path, size: u64, args: &[&str]) {
    let file = std::fs::File::create(image).expect("the scratch directory is writable");
    file.set_len(size).expect("a sparse file takes no space");
    let mut all: Vec<&OsStr> = ["-q", "-f"].iter().map(OsStr::new).collect();
    all.extend(args.iter().map(OsStr::new));
    all.push(image.as_os_str());
    run("mkfs.btrfs", all);
}

/// Judges an image with `btrfs check`: original mode with every data checksum, then lowmem mode. Panics with the output
/// if either complains.
pub fn btrfs_check(image: &Path) {
    for mode in [&["--check-data-csum"][..], &["--mode=lowmem"]] {
        if let Err(text) = check_in_mode(image, mode) {
            panic!("btrfs check {mode:?} {} complains:\n{text}", image.display());
        }
    }
}

/// The original mode alone, for tests that judge hundreds of images; the complaint is returned.
pub fn btrfs_check_quick(image: &Path) -> Result<(), String> {
    check_in_mode(image, &["--check-data-csum"])
}

fn check_in_mode(image: &Path, mode: &[&str]) -> Result<(), String> {
    let mut args: Vec<&OsStr> = vec![OsStr::new("check")];
    args.extend(mode.iter().map(OsStr::new));
    args.push(image.as_os_str());
    let (passed, text) = try_run("btrfs", args);
    // Some complaints leave the exit status at 0.
    let suspicious = ["ERROR", "WARNING", "error(s) found", "mismatch", "cache and super generation"];
    let clean =
        passed && text.contains("no error found") && !suspicious.iter().any(|word| text.contains(word));
    if clean { Ok(()) } else { Err(text) }
}

/// A loop device over an image; detached when dropped.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loop3`
    path: PathBuf,
}

impl LoopDevice {
    pub fn new(image: &Path) -> LoopDevice {
        let text = run("losetup", [OsStr::new("--find"), OsStr::new("--show"), image.as_os_str()]);
        // Warnings may follow the name.
        let name = text.lines().next().unwrap_or_default().trim();
        assert!(name.starts_with("/dev/loop"), "losetup answered {text:?}");
        LoopDevice { path: PathBuf::from(name) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `loop3`
    fn name(&self) -> &str {
        self.path.file_name().and_then(OsStr::to_str).unwrap_or_default()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        try_run("losetup", [OsStr::new("-d"), self.path.as_os_str()]);
        // Detaching is lazy while somebody (udev) has the device open; the image counts as busy until it is done.
        let backing = Path::new("/sys/block").join(self.name()).join("loop/backing_file");
        for _ in 0..500 {
            if !backing.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// An image that Linux serves through a loop device; unmounted and detached when dropped.
#[derive(Debug)]
pub struct LoopMount {
    dir: PathBuf,
    device: LoopDevice,
    mounted: bool,
}

impl LoopMount {
    /// Mounts the image with the given mount options (`""` for none), on a directory beside it.
    pub fn new(image: &Path, options: &str) -> LoopMount {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut name = image.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".mnt{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let dir = image.with_file_name(name);
        std::fs::create_dir(&dir).expect("the directory beside the image is writable");
        let mut mount = LoopMount { dir, device: LoopDevice::new(image), mounted: false };
        mark_kernel_log(&mount.mark());
        let mut args: Vec<&OsStr> = vec![OsStr::new("-t"), OsStr::new("btrfs")];
        if !options.is_empty() {
            args.extend([OsStr::new("-o"), OsStr::new(options)]);
        }
        args.extend([mount.device.path.as_os_str(), mount.dir.as_os_str()]);
        run("mount", args);
        mount.mounted = true;
        mount
    }

    /// Where the image's top directory is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The device behind it, `/dev/loop3`.
    pub fn loop_device(&self) -> &Path {
        self.device.path()
    }

    /// Unmounts and detaches; panics when Linux refuses, or wrote a BTRFS warning or error into the kernel log while the
    /// image was mounted.
    pub fn unmount(mut self) {
        let (done, text) = self.leave();
        assert!(done, "unmounting {} failed:\n{text}", self.dir.display());
        // Only now: errors of the last writes are among them.
        let complaints = self.kernel_complaints();
        assert!(
            complaints.is_empty(),
            "the kernel complained about {}:\n{complaints:#?}",
            self.dir.display()
        );
    }

    /// What Linux's btrfs wrote into the kernel log about this mount at level warning or above.
    pub fn kernel_complaints(&self) -> Vec<String> {
        let name = self.device.name();
        let about_us = [format!("device {name}"), format!("on {name}")];
        let text = run("dmesg", ["--level", "emerg,alert,crit,err,warn"]);
        let mark = self.mark();
        let since = text.rsplit_once(mark.as_str()).map_or("", |(_, since)| since);
        since
            .lines()
            .filter(|line| {
                line.contains("BTRFS") && about_us.iter().any(|words| line.contains(words.as_str()))
            })
            .map(str::to_string)
            .collect()
    }

    /// A line of its own in the kernel log, since names of loop devices are used again.
    fn mark(&self) -> String {
        format!("test mount of {}", self.dir.display())
    }

    fn leave(&mut self) -> (bool, String) {
        if !std::mem::take(&mut self.mounted) {
            return (true, String::new());
        }
        let answer = try_run("umount", [self.dir.as_os_str()]);
        if !answer.0 {
            // A test that panicked may have left a file open; the loop device must not stay.
            try_run("umount", [OsStr::new("-l"), self.dir.as_os_str()]);
        }
        // A leftover in the temporary directory is no reason to fail a test that passed.
        let _ = std::fs::remove_dir(&self.dir);
        answer
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        self.leave();
    }
}

fn mark_kernel_log(mark: &str) {
    use std::io::Write;
    let mut log = std::fs::OpenOptions::new().write(true).open("/dev/kmsg").expect("tests run as root");
    // <4> is the level warning, so that the mark is among the lines that are looked at.
    log.write_all(format!("<4>{mark}\n").as_bytes()).expect("the kernel log takes a line from root");
}
