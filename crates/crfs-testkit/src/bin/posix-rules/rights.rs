// SPDX-License-Identifier: GPL-2.0-or-later
//! Rights: what directories hand down, which bits a change clears, who may remove.

use crate::ground::{Ground, NOBODY, Said, as_nobody, fails, same};
use crate::support::sys::{Fd, c, chmod_at, mkdir_at, open_at, pwrite, truncate, unlink_at};
use crate::support::{Result, set_mode, set_xattr, xattrs as list_xattrs};

pub fn setgid_directories(ground: &Ground) -> Result<()> {
    let dir = ground.a.join("dir");
    std::fs::create_dir(&dir).said("mkdir")?;
    std::os::unix::fs::chown(&dir, None, Some(1_234)).said("chown")?;
    set_mode(&dir, 0o2777).said("chmod")?;
    as_nobody(&ground.at_a, || {
        mkdir_at(&Fd::CWD, c"dir/below", 0o755).said("mkdir")?;
        open_at(&Fd::CWD, c"dir/file", libc::O_CREAT | libc::O_WRONLY, 0o644).said("create").map(|_| ())
    })?;
    let (below, file) = (ground.stat_b("dir/below")?, ground.stat_b("dir/file")?);
    same("groups in B", (below.gid, file.gid, file.uid), (1_234, 1_234, NOBODY))?;
    ground.mode_is("a directory below", "dir/below", 0o2755)?;
    ground.mode_is("a file below", "dir/file", 0o644)
}

/// Writes and cuts as an ordinary user, and looks at what is left of `mode`.
fn cleared(ground: &Ground, mode: u32, want: u32) -> Result<()> {
    let set = || chmod_at(&ground.at_a, c"file", mode).said("chmod");
    let open = || open_at(&Fd::CWD, c"file", libc::O_RDWR, 0).said("open");
    set()?;
    as_nobody(&ground.at_a, || pwrite(&open()?, b"x", 0).said("write").map(|_| ()))?;
    ground.mode_is("after a write", "file", want)?;
    set()?;
    as_nobody(&ground.at_a, || truncate(&open()?, 0).said("truncate"))?;
    ground.mode_is("after a truncate", "file", want)
}

pub fn suid_clearing(ground: &Ground) -> Result<()> {
    ground.file("file")?;
    cleared(ground, 0o6777, 0o777)?;
    let set = || chmod_at(&ground.at_a, c"file", 0o6777).said("chmod");
    set()?;
    std::os::unix::fs::chown(ground.a.join("file"), Some(1), Some(1)).said("chown")?;
    ground.mode_is("after a chown by root", "file", 0o777)?;
    set()?;
    pwrite(&open_at(&ground.at_a, c"file", libc::O_RDWR, 0).said("open")?, b"x", 0).said("write")?;
    ground.mode_is("after a write by root", "file", 0o6777)
}

/// Without the group's x the bit does not give rights, but Linux takes it from a writer who is not of the group.
pub fn sgid_without_x(ground: &Ground) -> Result<()> {
    ground.file("file")?;
    cleared(ground, 0o2767, 0o767)
}

pub fn sticky_directories(ground: &Ground) -> Result<()> {
    mkdir_at(&ground.at_a, c"dir", 0o755).said("mkdir")?;
    set_mode(&ground.a.join("dir"), 0o1777).said("chmod")?;
    ground.file("dir/of-root")?;
    as_nobody(&ground.at_b, || {
        fails("unlink of another's", unlink_at(&Fd::CWD, c"dir/of-root"), libc::EPERM)?;
        open_at(&Fd::CWD, c"dir/own", libc::O_CREAT | libc::O_WRONLY, 0o644).said("create")?;
        unlink_at(&Fd::CWD, c"dir/own").said("unlink of an own one")
    })
}

/// `system.posix_acl_*`: version 2, then tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

const ANY: u32 = u32::MAX;
const OWNER: u16 = 1;
const USER: u16 = 2;
const GROUP: u16 = 4;
const MASK: u16 = 16;
const OTHER: u16 = 32;

pub fn acl_access(ground: &Ground) -> Result<()> {
    ground.file("file")?;
    let entries = [(OWNER, 6, ANY), (USER, 6, NOBODY), (GROUP, 0, ANY), (MASK, 6, ANY), (OTHER, 0, ANY)];
    set_xattr(&ground.a.join("file"), b"system.posix_acl_access", &acl(&entries)).said("set the ACL")?;
    ground.mode_is("the mask is the group's bits", "file", 0o660)?;
    let open = || open_at(&Fd::CWD, c"file", libc::O_RDWR, 0);
    as_nobody(&ground.at_b, || open().said("open as the named user").map(|_| ()))?;
    chmod_at(&ground.at_a, c"file", 0o640).said("chmod")?;
    as_nobody(&ground.at_b, || fails("open with a smaller mask", open(), libc::EACCES))
}

pub fn acl_default(ground: &Ground) -> Result<()> {
    mkdir_at(&ground.at_a, c"dir", 0o755).said("mkdir")?;
    let entries = [(OWNER, 7, ANY), (USER, 7, NOBODY), (GROUP, 7, ANY), (MASK, 7, ANY), (OTHER, 5, ANY)];
    set_xattr(&ground.a.join("dir"), b"system.posix_acl_default", &acl(&entries)).said("set the ACL")?;
    open_at(&ground.at_a, c"dir/file", libc::O_CREAT | libc::O_WRONLY, 0o666).said("create")?;
    mkdir_at(&ground.at_a, c"dir/below", 0o777).said("mkdir")?;
    ground.mode_is("the umask does not count: file", "dir/file", 0o664)?;
    ground.mode_is("the umask does not count: directory", "dir/below", 0o775)?;
    let names = list_xattrs(&ground.b.join("dir/below")).said("list")?;
    let names: Vec<_> = names.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    same("ACLs in B", names, vec!["system.posix_acl_access".into(), "system.posix_acl_default".into()])
}

pub fn xattrs(ground: &Ground) -> Result<()> {
    ground.file("file")?;
    let (a, b) = (ground.a.join("file"), ground.b.join("file"));
    for name in ["user.one", "trusted.two", "security.three"] {
        set_xattr(&a, name.as_bytes(), name.as_bytes()).said(name)?;
        let want = (name.as_bytes().to_vec(), name.as_bytes().to_vec());
        same(name, list_xattrs(&b).said("list")?.contains(&want), true)?;
    }
    let errno = |name: &[u8], value: &[u8]| {
        set_xattr(&a, name, value).map_err(|error| error.raw_os_error().unwrap_or(0))
    };
    fails("a namespace that is none", errno(b"other.name", b"x"), libc::EOPNOTSUPP)?;
    fails("a value of 64 KiB and one", errno(b"user.long", &[0; 65_537]), libc::E2BIG)?;
    fails("a name of 256 bytes", errno(format!("user.{}", "x".repeat(251)).as_bytes(), b"x"), libc::ERANGE)?;
    let named = |name: &str| crate::support::sys::get_xattr(&c("file"), &c(name));
    as_nobody(&ground.at_b, || fails("trusted of an ordinary user", named("trusted.two"), libc::ENODATA))
}
