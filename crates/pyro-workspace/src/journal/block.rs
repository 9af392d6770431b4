//! How a block of output lies in a file: one zstd frame of pieces, each a byte for the stream, its
//! length in four bytes, and its bytes.

use std::io;

use pyro_contract::exec::Stream;

use super::recorder::{BLOCK_BYTES, Piece};

/// More than any block is long once unpacked, whatever a damaged file claims.
const LONGEST: usize = 8 * BLOCK_BYTES;

/// Quick, and for text nearly as small as the next levels.
const LEVEL: i32 = 1;

const HEAD: usize = 5;

pub(super) fn pack(pieces: &[Piece]) -> io::Result<Vec<u8>> {
    let length: usize = pieces.iter().map(|piece| piece.bytes.len() + HEAD).sum();
    let mut plain = Vec::with_capacity(length);
    for piece in pieces {
        plain.push(number(piece.stream));
        let length = u32::try_from(piece.bytes.len()).map_err(io::Error::other)?;
        plain.extend_from_slice(&length.to_le_bytes());
        plain.extend_from_slice(&piece.bytes);
    }
    zstd::bulk::compress(&plain, LEVEL)
}

/// The pieces of a block that begins at `start`.
pub(super) fn unpack(packed: &[u8], mut start: u64) -> io::Result<Vec<Piece>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a block of output is damaged");
    let plain = zstd::bulk::decompress(packed, LONGEST)?;
    let mut rest = plain.as_slice();
    let mut pieces = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
        let [stream, length @ ..] = *head;
        let length = u32::from_le_bytes(length) as usize;
        let stream = stream_of(i64::from(stream)).ok_or_else(damaged)?;
        let (bytes, after) = after.split_at_checked(length).ok_or_else(damaged)?;
        pieces.push(Piece { start, stream, bytes: bytes.to_vec() });
        start += length as u64;
        rest = after;
    }
    if rest.is_empty() { Ok(pieces) } else { Err(damaged()) }
}

/// A stream's number, as in Unix.
pub(super) fn number(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}

pub(super) fn stream_of(number: i64) -> Option<Stream> {
    match number {
        1 => Some(Stream::Stdout),
        2 => Some(Stream::Stderr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_comes_back(
            written in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 0..20),
            start in 0u64..1 << 40,
        ) {
            let mut at = start;
            let mut pieces = Vec::new();
            for (error, bytes) in written {
                let stream = if error { Stream::Stderr } else { Stream::Stdout };
                let length = bytes.len() as u64;
                pieces.push(Piece { start: at, stream, bytes });
                at += length;
            }
            prop_assert_eq!(unpack(&pack(&pieces).unwrap(), start).unwrap(), pieces);
        }

        #[test]
        fn damage_is_an_error_and_nothing_worse(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = unpack(&bytes, 0);
            if let Ok(packed) = zstd::bulk::compress(&bytes, LEVEL) {
                let _ = unpack(&packed, 0);
            }
        }
    }
}
