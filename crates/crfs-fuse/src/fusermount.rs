// SPDX-License-Identifier: GPL-2.0-or-later
//! Mounts and unmounts for ordinary users, by fusermount3(1), which may do what they may not.
//!
//! fusermount3 opens /dev/fuse, checks that the user may write to the mount point, mounts, and sends the descriptor back over
//! a socket whose number stands in `_FUSE_COMMFD`. What it refuses it says in a line on stderr, and that line is what
//! the user gets to read. It always adds nosuid and nodev, and `allow_other` needs `user_allow_other` in /etc/fuse.conf.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::error::{FuseError, Result};

const PROGRAM: &str = "fusermount3";

/// Flags of mount(8) that fusermount3 has no word for, and the kernel's default.
const DEFAULT_FLAG: &str = "relatime";

/// Mounts on `target` with the generic `flags` and the file system's own `data`. The kernel's INIT request waits in the
/// returned descriptor, which does not block.
pub fn mount(source: &str, target: &Path, flags: &[String], data: &str) -> Result<OwnedFd> {
    let (ours, theirs) = socket_pair()?;
    let mut options: Vec<&str> =
        flags.iter().map(String::as_str).filter(|&flag| flag != DEFAULT_FLAG).collect();
    let name = format!("fsname={},subtype=crfs", escaped(source));
    options.extend([data, &name]);
    // Its standard input is the socket: the one descriptor that a child has without further ado.
    let output = run(&["-o", &options.join(",")], target, Stdio::from(theirs), &[("_FUSE_COMMFD", "0")])?;
    if !output.status.success() {
        return Err(FuseError::Refused(said(&output)));
    }
    let device = receive(&ours).map_err(|cause| FuseError::Io { what: "receive /dev/fuse", cause })?;
    // SAFETY: setting the flags of a descriptor touches no memory.
    if unsafe { libc::fcntl(device.as_raw_fd(), libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK) } < 0 {
        let cause = io::Error::last_os_error();
        return Err(FuseError::Io { what: "make /dev/fuse non-blocking", cause });
    }
    Ok(device)
}

/// Unmounts, with `lazy` even what is in use. May wait for requests to be answered.
pub fn unmount(target: &Path, lazy: bool) -> io::Result<()> {
    let flags: &[&str] = if lazy { &["-u", "-z"] } else { &["-u"] };
    let output = run(flags, target, Stdio::null(), &[]).map_err(|error| match error {
        FuseError::NoHelper(cause) => cause,
        other => io::Error::from_raw_os_error(other.errno()),
    })?;
    if output.status.success() {
        return Ok(());
    }
    // It tells the cause only in words, always in English.
    let is_busy = said(&output).contains("busy");
    Err(io::Error::from_raw_os_error(if is_busy { libc::EBUSY } else { libc::EPERM }))
}

fn run(arguments: &[&str], target: &Path, input: Stdio, variables: &[(&str, &str)]) -> Result<Output> {
    Command::new(PROGRAM)
        .args(arguments)
        .arg("--")
        .arg(target)
        .envs(variables.iter().copied())
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(FuseError::NoHelper)
}

/// What it said, as one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    if line.is_empty() { format!("{PROGRAM} failed: {}", output.status) } else { line }
}

/// A comma in the source would end the option.
fn escaped(source: &str) -> String {
    source.replace('\\', "\\\\").replace(',', "\\,")
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0i32; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for both descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) } != 0 {
        return Err(FuseError::Io { what: "create a socket pair", cause: io::Error::last_os_error() });
    }
    let [ours, theirs] = fds;
    // SAFETY: socketpair returned both to us alone.
    Ok(unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) })
}

/// Takes the descriptor that came with a byte of data.
fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = 0u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // Words, so that it is aligned as a cmsghdr must be; room for more than one descriptor.
    let mut control = [0u64; 8];
    // SAFETY: all of msghdr may be zero.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: the message's buffers live until the call returns.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled the control buffer, and the macros stay inside the length that it set.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_SOCKET
            || (*header).cmsg_type != libc::SCM_RIGHTS
        {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no descriptor came"));
        }
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_with_a_comma_stays_one_option() {
        assert_eq!(escaped("unix:/a,b\\c:/"), "unix:/a\\,b\\\\c:/");
    }

    #[test]
    fn nothing_but_a_descriptor_is_taken_for_one() {
        let (ours, theirs) = socket_pair().unwrap();
        // SAFETY: one live byte.
        assert_eq!(unsafe { libc::write(theirs.as_raw_fd(), [0u8].as_ptr().cast(), 1) }, 1);
        assert_eq!(receive(&ours).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        drop(theirs);
        assert_eq!(receive(&ours).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
