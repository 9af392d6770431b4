//! Unpacking whatever a kernel or a module was compressed with.

use std::io::{self, Read};

/// No kernel or module is larger; a header that claims otherwise is wrong.
const LIMIT: u64 = 512 << 20;

/// The magic number of the legacy LZ4 frame, the only one the kernel's build makes
/// (`doc/lz4_Frame_format.md`, "Legacy frame").
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// Every block of a legacy LZ4 frame but the last holds this much.
const LZ4_BLOCK: usize = 8 << 20;

/// Unpacks `bytes`, told by their first bytes: ELF (not compressed), LZ4, zstd, xz or gzip.
///
/// What follows the compressed data is ignored, for the kernel's build appends the unpacked size to
/// all but gzip (`size_append` in `scripts/Makefile.lib`).
pub(super) fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => Ok(bytes.to_vec()),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            read_all(zstd::stream::read::Decoder::with_buffer(bytes)?.single_frame())
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => read_all(liblzma::read::XzDecoder::new(bytes)),
        [0x1f, 0x8b, ..] => read_all(flate2::read::GzDecoder::new(bytes)),
        _ => match bytes.strip_prefix(&LZ4_LEGACY) {
            Some(blocks) => lz4_legacy(blocks),
            None => Err(invalid("it is compressed in an unknown way")),
        },
    }
}

fn read_all(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    reader.take(LIMIT + 1).read_to_end(&mut unpacked)?;
    if unpacked.len() as u64 > LIMIT {
        return Err(invalid("it is too large"));
    }
    Ok(unpacked)
}

/// Blocks of `size: u32 LE, LZ4 block`, until only the appended size or nothing is left.
fn lz4_legacy(mut rest: &[u8]) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    while let Some((size, after)) = rest.split_first_chunk() {
        if after.is_empty() {
            break;
        }
        if *size == LZ4_LEGACY {
            // Frames may be joined.
            rest = after;
            continue;
        }
        let size = u32::from_le_bytes(*size) as usize;
        let (packed, after) =
            after.split_at_checked(size).ok_or_else(|| invalid("it ends too early"))?;
        let length = lz4_flex::block::decompress_into(packed, &mut block)
            .map_err(|error| invalid(&error.to_string()))?;
        unpacked.extend_from_slice(&block[..length]);
        if unpacked.len() as u64 > LIMIT {
            return Err(invalid("it is too large"));
        }
        rest = after;
    }
    Ok(unpacked)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// More than one LZ4 block, neither empty nor uniform.
    fn sample() -> Vec<u8> {
        (0..20u32 << 20).map(|i| (i / 7 % 251) as u8).collect()
    }

    fn legacy_frame(bytes: &[u8]) -> Vec<u8> {
        let mut frame = LZ4_LEGACY.to_vec();
        for block in bytes.chunks(LZ4_BLOCK) {
            let packed = lz4_flex::block::compress(block);
            frame.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
            frame.extend_from_slice(&packed);
        }
        frame
    }

    fn with_size(mut packed: Vec<u8>, bytes: &[u8]) -> Vec<u8> {
        packed.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        packed
    }

    #[test]
    fn every_codec_comes_back_with_and_without_the_appended_size() {
        let bytes = sample();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&bytes).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&bytes).unwrap();
        let codecs = [
            ("lz4", legacy_frame(&bytes)),
            ("zstd", zstd::encode_all(bytes.as_slice(), 1).unwrap()),
            ("gzip", gzip.finish().unwrap()),
            ("xz", xz.finish().unwrap()),
        ];
        for (codec, packed) in codecs {
            assert!(decompress(&packed).unwrap() == bytes, "{codec}");
            assert!(decompress(&with_size(packed, &bytes)).unwrap() == bytes, "{codec} with size");
        }
    }

    #[test]
    fn joined_lz4_frames_are_one() {
        let joined = [legacy_frame(b"one "), legacy_frame(b"two")].concat();
        assert_eq!(decompress(&joined).unwrap(), b"one two");
    }

    #[test]
    fn what_is_not_compressed_is_left_alone_and_nonsense_is_refused() {
        assert_eq!(decompress(b"\x7fELFxyz").unwrap(), b"\x7fELFxyz");
        for nonsense in
            [b"".as_slice(), b"MZ", b"\x1f\x8bgarbage", b"\x02\x21\x4c\x18\xff\xff\xff\xffx"]
        {
            assert!(decompress(nonsense).is_err(), "{nonsense:?}");
        }
        let cut = &legacy_frame(&sample())[..1000];
        assert!(decompress(cut).is_err());
    }
}
