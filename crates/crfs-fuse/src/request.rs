// SPDX-License-Identifier: GPL-2.0-or-later
//! Checks one request as it was read and finds its parts.
//!
//! `Channel` calls it for every request before anybody else sees it. What it returns are offsets that lie inside the
//! request, so that the caller reads fields and names without further checks. The caller still judges values.

use crate::abi::{IN_HEADER_BYTES, op};
use crate::bytes::{name_at, u32_at};

/// Where the parts of a request lie, in bytes from the start of its header. A missing part has offset and length 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub opcode: u32,
    /// First name: offset and length without the NUL.
    pub name: (usize, usize),
    /// Second name (RENAME: the new name, SYMLINK: the target).
    pub second: (usize, usize),
    /// Payload of WRITE, value of SETXATTR, records of BATCH_FORGET.
    pub data: (usize, usize),
}

/// A request whose lengths contradict each other, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Fixed part after the header, bytes, and the number of names after it. Unknown requests have neither: they are
/// answered ENOSYS by the caller.
fn layout(opcode: u32) -> (usize, usize) {
    match opcode {
        op::LOOKUP | op::UNLINK | op::RMDIR | op::REMOVEXATTR => (0, 1),
        op::SYMLINK => (0, 2),
        op::FORGET | op::OPEN | op::OPENDIR | op::LISTXATTR | op::ACCESS | op::INTERRUPT | op::SYNCFS => {
            (8, 0)
        }
        op::BATCH_FORGET => (8, 0),
        op::MKDIR | op::LINK | op::GETXATTR => (8, 1),
        op::RENAME => (8, 2),
        op::GETATTR | op::FSYNC | op::FSYNCDIR | op::BMAP => (16, 0),
        // That of SETXATTR_EXT, which the handshake insists on.
        op::MKNOD | op::CREATE | op::TMPFILE | op::SETXATTR => (16, 1),
        op::RENAME2 => (16, 2),
        op::RELEASE | op::RELEASEDIR | op::FLUSH | op::POLL | op::LSEEK | op::STATX => (24, 0),
        op::IOCTL | op::FALLOCATE => (32, 0),
        op::READ | op::READDIR | op::READDIRPLUS | op::WRITE => (40, 0),
        op::GETLK | op::SETLK | op::SETLKW => (48, 0),
        op::COPY_FILE_RANGE => (56, 0),
        op::SETATTR => (88, 0),
        _ => (0, 0),
    }
}

/// Returns the parts of the request in `bytes`, which is exactly what one read(2) returned.
pub fn parse(bytes: &[u8]) -> Result<Shape, Malformed> {
    if bytes.len() < IN_HEADER_BYTES || u32_at(bytes, 0) != Some(bytes.len() as u32) {
        return Err(Malformed("the header's length is not what was read"));
    }
    let opcode = u32_at(bytes, 4).ok_or(Malformed("no header"))?;
    let (fixed, names) = layout(opcode);
    let mut shape = Shape { opcode, ..Shape::default() };
    let mut at = IN_HEADER_BYTES + fixed;
    if at > bytes.len() {
        return Err(Malformed("the fixed part is cut off"));
    }
    for index in 0..names {
        let length = name_at(bytes, at).ok_or(Malformed("a name has no end"))?;
        if index == 0 {
            shape.name = (at, length);
        } else {
            shape.second = (at, length);
        }
        at += length + 1;
    }
    shape.data = payload(bytes, opcode, at)?;
    Ok(shape)
}

/// Returns offset and length of the payload that starts at `at`.
fn payload(bytes: &[u8], opcode: u32, at: usize) -> Result<(usize, usize), Malformed> {
    let cut_off = Malformed("the payload is cut off");
    let length = match opcode {
        op::WRITE => u32_at(bytes, IN_HEADER_BYTES + 16).ok_or(cut_off)? as usize,
        op::SETXATTR => u32_at(bytes, IN_HEADER_BYTES).ok_or(cut_off)? as usize,
        op::BATCH_FORGET => {
            let count = u32_at(bytes, IN_HEADER_BYTES).ok_or(cut_off)? as usize;
            count.checked_mul(16).ok_or(cut_off)?
        }
        _ => return Ok((0, 0)),
    };
    if at.checked_add(length).is_none_or(|end| end > bytes.len()) {
        return Err(cut_off);
    }
    Ok((at, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request with a right header around `body`.
    fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; IN_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&((IN_HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn finds_one_and_two_names() {
        let lookup = parse(&request(op::LOOKUP, b"abc\0")).unwrap();
        assert_eq!(lookup.name, (40, 3));
        let mut body = vec![0u8; 16];
        body.extend_from_slice(b"old\0newer\0");
        let rename = parse(&request(op::RENAME2, &body)).unwrap();
        assert_eq!((rename.name, rename.second), ((56, 3), (60, 5)));
    }

    #[test]
    fn finds_payloads() {
        let mut body = vec![0u8; 40];
        body[16..20].copy_from_slice(&5u32.to_ne_bytes());
        body.extend_from_slice(b"hello");
        assert_eq!(parse(&request(op::WRITE, &body)).unwrap().data, (80, 5));
        let mut body = 2u32.to_ne_bytes().to_vec();
        body.extend_from_slice(&[0; 4 + 32]);
        assert_eq!(parse(&request(op::BATCH_FORGET, &body)).unwrap().data, (48, 32));
        let mut body = 3u32.to_ne_bytes().to_vec();
        body.extend_from_slice(b"\0\0\0\0\0\0\0\0\0\0\0\0user.a\0xyz");
        assert_eq!(parse(&request(op::SETXATTR, &body)).unwrap().data, (63, 3));
    }

    #[test]
    fn refuses_every_truncation() {
        let mut write = vec![0u8; 40];
        write[16..20].copy_from_slice(&5u32.to_ne_bytes());
        write.extend_from_slice(b"hello");
        let mut forgets = 2u32.to_ne_bytes().to_vec();
        forgets.extend_from_slice(&[0; 4 + 32]);
        let wholes = [
            (op::WRITE, write),
            (op::BATCH_FORGET, forgets),
            (op::SETATTR, vec![0; 88]),
            (op::UNLINK, b"a\0".to_vec()),
        ];
        for (opcode, body) in wholes {
            assert!(parse(&request(opcode, &body)).is_ok());
            for keep in 0..body.len() {
                assert!(parse(&request(opcode, &body[..keep])).is_err(), "opcode {opcode} with {keep} bytes");
            }
        }
    }

    #[test]
    fn refuses_lengths_that_lie() {
        assert!(parse(&[]).is_err());
        assert!(parse(&[0; 39]).is_err());
        let mut bytes = request(op::LOOKUP, b"abc\0");
        bytes[0] += 1;
        assert!(parse(&bytes).is_err());
        let mut body = u32::MAX.to_ne_bytes().to_vec();
        body.extend_from_slice(&[0; 36]);
        assert!(parse(&request(op::BATCH_FORGET, &body)).is_err());
    }

    #[test]
    fn mutated_requests_stay_inside() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..50_000 {
            let length = (random() % 160) as usize;
            let mut bytes: Vec<u8> = (0..length).map(|_| (random() % 5) as u8).collect();
            if length >= 8 {
                bytes[0..4].copy_from_slice(&(length as u32).to_ne_bytes());
                bytes[4..8].copy_from_slice(&((random() % 56) as u32).to_ne_bytes());
            }
            if let Ok(shape) = parse(&bytes) {
                for (offset, size) in [shape.name, shape.second, shape.data] {
                    assert!(offset + size <= bytes.len());
                }
            }
        }
    }
}
