// SPDX-License-Identifier: GPL-2.0-or-later
//! Writing a frozen commit: blocks in the order of addresses, a flush, the primary superblock, then the mirrors. Needs no hold
//! on the running transaction.
//!
//! Until the primary superblock is on the device, nothing of this is visible after a crash; from then on all of it is.

use super::commit::Frozen;
use crate::block_reader::BlockReader;
use crate::error::{EngineError, Result};
use crate::superblock;
use crfs_disk::constants::SUPER_OFFSETS;
use crfs_disk::header::seal;
use crfs_disk::{Header, Superblock};

/// Neighbouring blocks are written together up to this size.
const WRITE_BYTES_MAX: usize = 1 << 20;

pub fn write_commit(reader: &BlockReader, frozen: &Frozen) -> Result<()> {
    let io = |what: &'static str| move |source| EngineError::Io { what: what.into(), source };
    write_nodes(reader, frozen)?;
    let device = reader.device();
    device.flush().map_err(io("flushing the commit"))?;
    write_superblocks(reader, &frozen.superblock)?;
    reader.set_generation(frozen.generation);
    Ok(())
}

fn write_nodes(reader: &BlockReader, frozen: &Frozen) -> Result<()> {
    let geometry = reader.geometry();
    let nodesize = geometry.nodesize as usize;
    let mut buffer = Vec::with_capacity(WRITE_BYTES_MAX);
    let mut start = 0;
    for sealed in &frozen.nodes {
        let bytenr = sealed.node.address();
        let follows = start + buffer.len() as u64 == bytenr && buffer.len() < WRITE_BYTES_MAX;
        let joins = follows && same_chunk(reader, start, bytenr);
        if !joins && !buffer.is_empty() {
            reader.write_logical(start, &buffer)?;
            buffer.clear();
        }
        if buffer.is_empty() {
            start = bytenr;
        }
        let at = buffer.len();
        buffer.resize(at + nodesize, 0);
        let header = Header {
            csum: [0; 32],
            fsid: geometry.metadata_id,
            bytenr,
            flags: Header::WRITTEN_FLAGS,
            chunk_tree_uuid: frozen.chunk_tree_uuid,
            generation: frozen.generation,
            owner: sealed.tree,
            nritems: 0,
            level: 0,
        };
        let block = &mut buffer[at..];
        sealed.node.encode_into(&header, block);
        seal(block, geometry.checksum);
        if cfg!(debug_assertions) {
            verify_sealed(block, sealed, &geometry)?;
        }
    }
    if !buffer.is_empty() {
        reader.write_logical(start, &buffer)?;
    }
    Ok(())
}

fn same_chunk(reader: &BlockReader, one: u64, other: u64) -> bool {
    reader.chunks().find(one).is_some_and(|chunk| chunk.contains(other))
}

/// Tests judge every block by the rules that a reader applies.
fn verify_sealed(block: &[u8], sealed: &super::commit::Sealed, geometry: &crfs_disk::Geometry) -> Result<()> {
    let expect = crfs_disk::Expect {
        bytenr: sealed.node.address(),
        level: Some(sealed.node.level()),
        owner: Some(sealed.tree),
        ..crfs_disk::Expect::default()
    };
    crfs_disk::verify_block(block, &expect, geometry).map_err(|error| EngineError::Corrupt(error.0))
}

fn write_superblocks(reader: &BlockReader, sb: &Superblock) -> Result<()> {
    let device = reader.device();
    let kind = reader.geometry().checksum;
    let mut copies = superblock::copies(sb.dev_item.total_bytes);
    let primary = copies.next().unwrap_or(SUPER_OFFSETS[0]);
    device
        .write_fua(primary, &sb.seal_for(primary, kind))
        .map_err(|source| EngineError::Io { what: format!("writing the superblock at {primary}"), source })?;
    for at in copies {
        // The commit stands already; nobody but a rescue tool reads this copy.
        if let Err(error) = device.write_at(at, &sb.seal_for(at, kind)) {
            reader.log(&format!("writing the superblock copy at {at}: {error}"));
        }
    }
    Ok(())
}
