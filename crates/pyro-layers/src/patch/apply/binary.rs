//! Binary content of git patches: base 85, deflated, whole or as copies from the old file.

use std::io::Read as _;

use diffy::binary::{BinaryBlockKind, BinaryPatch};
use flate2::read::ZlibDecoder;
use pyro_contract::path::BytePath;
use sha1::{Digest as _, Sha1};

use super::PatchError;
use crate::patch::base85;

/// New content, or how to make it out of the old.
#[derive(Debug)]
pub(super) struct Binary {
    is_delta: bool,
    size: u64,
    deflated: Vec<u8>,
    /// Git's checksums of old and new content, in hex.
    index: Option<(Vec<u8>, Vec<u8>)>,
}

fn malformed(path: &[u8], what: &str) -> PatchError {
    PatchError::Malformed(format!("the binary content of {} {what}", BytePath::new(path)))
}

impl Binary {
    pub(super) fn of(
        patch: &BinaryPatch<'_>,
        index: Option<(Vec<u8>, Vec<u8>)>,
        path: &[u8],
    ) -> Result<Self, PatchError> {
        let BinaryPatch::Full { forward, .. } = patch else {
            return Err(PatchError::Unsupported {
                path: BytePath::new(path),
                reason: "the patch only says that it differs; make it with `git diff --binary`",
            });
        };
        let deflated =
            base85::decode(forward.data.data).ok_or_else(|| malformed(path, "is not base 85"))?;
        let is_delta = forward.kind == BinaryBlockKind::Delta;
        Ok(Self { is_delta, size: forward.data.size, deflated, index })
    }

    /// The new content; `None` if the old one is not what it was made from.
    pub(super) fn apply(
        &self,
        old: &[u8],
        most: u64,
        path: &[u8],
    ) -> Result<Option<Vec<u8>>, PatchError> {
        let too_large = || {
            PatchError::TooLarge(format!("{} would have over {most} bytes", BytePath::new(path)))
        };
        if let Some((sum, _)) = &self.index
            && !old.is_empty()
            && *sum != blob_sum(old)
        {
            return Ok(None);
        }
        if self.size > most {
            return Err(too_large());
        }
        let mut inflated = Vec::new();
        ZlibDecoder::new(&self.deflated[..])
            .take(self.size + 1)
            .read_to_end(&mut inflated)
            .map_err(|_| malformed(path, "cannot be inflated"))?;
        if inflated.len() as u64 != self.size {
            return Err(malformed(path, "has another length than it says"));
        }
        if !self.is_delta {
            return Ok(Some(inflated));
        }
        let mut delta = Delta(&inflated);
        let wrong = || malformed(path, "is damaged");
        if delta.size().ok_or_else(wrong)? != old.len() as u64 {
            return Ok(None);
        }
        let size = delta.size().ok_or_else(wrong)?;
        if size > most {
            return Err(too_large());
        }
        delta.run(old, size).map(Some).ok_or_else(wrong)
    }
}

fn blob_sum(content: &[u8]) -> Vec<u8> {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", content.len()));
    hash.update(content);
    hash.finalize().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Git's pack format: copies from the old content, and bytes to insert (gitformat-pack(5)).
struct Delta<'a>(&'a [u8]);

impl Delta<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn size(&mut self) -> Option<u64> {
        let mut size = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            size |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(size);
            }
        }
        None
    }

    /// Never more than `size` bytes.
    fn run(mut self, old: &[u8], size: u64) -> Option<Vec<u8>> {
        let size = usize::try_from(size).ok()?;
        let mut new = Vec::new();
        while let Some(code) = self.byte() {
            let piece = match code {
                0 => return None,
                1..0x80 => {
                    let (piece, rest) = self.0.split_at_checked(code.into())?;
                    self.0 = rest;
                    piece
                }
                _ => {
                    let mut number = |bits: std::ops::Range<u32>| {
                        let mut number = 0_usize;
                        for (place, bit) in bits.enumerate() {
                            if code & (1 << bit) != 0 {
                                number |= usize::from(self.byte()?) << (8 * place);
                            }
                        }
                        Some(number)
                    };
                    let offset = number(0..4)?;
                    let length = match number(4..7)? {
                        0 => 0x1_0000,
                        length => length,
                    };
                    old.get(offset..offset.checked_add(length)?)?
                }
            };
            if new.len() + piece.len() > size {
                return None;
            }
            new.extend_from_slice(piece);
        }
        (new.len() == size).then_some(new)
    }
}
