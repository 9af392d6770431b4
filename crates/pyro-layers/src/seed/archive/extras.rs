//! What a PAX header says beyond, or instead of, a member's own header.

use std::io;

use super::reader::senseless;
use crate::erofs::Xattr;

#[derive(Default)]
pub(super) struct Extras {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    /// Bytes that are stored.
    pub(super) size: Option<u64>,
    /// Bytes of content of a sparse file whose map comes before its data.
    pub(super) sparse_size: Option<u64>,
    pub(super) mtime: Option<i64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) xattrs: Vec<Xattr>,
}

impl Extras {
    /// Records of `LENGTH SP KEY = VALUE NEWLINE`, where the length counts all of it, and the
    /// value may be any bytes.
    pub(super) fn parse(mut raw: &[u8]) -> io::Result<Self> {
        let mut extras = Self::default();
        let mut sparse_name = None;
        while !raw.is_empty() && raw[0] != 0 {
            let space = raw.iter().position(|byte| *byte == b' ').ok_or_else(senseless)?;
            let len = number(&raw[..space])? as usize;
            let record = raw.get(space + 1..len).ok_or_else(senseless)?;
            raw = &raw[len..];
            let record = record.strip_suffix(b"\n").ok_or_else(senseless)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(senseless)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => extras.path = Some(value.to_vec()),
                b"linkpath" => extras.target = Some(value.to_vec()),
                b"size" => extras.size = Some(number(value)?),
                b"uid" => extras.uid = Some(number(value)?),
                b"gid" => extras.gid = Some(number(value)?),
                b"mtime" => extras.mtime = Some(seconds(value)?),
                // The member's own name is one that older programs are to unpack it as.
                b"GNU.sparse.name" => sparse_name = Some(value.to_vec()),
                b"GNU.sparse.realsize" => extras.sparse_size = Some(number(value)?),
                b"GNU.sparse.numblocks" | b"GNU.sparse.map" => {
                    return Err(io::Error::other(
                        "it has a sparse file in an old form of PAX; tar --format=gnu makes others",
                    ));
                }
                key => {
                    let name = key.strip_prefix(b"SCHILY.xattr.");
                    extras.xattrs.extend(name.and_then(|name| Xattr::new(name, value)));
                }
            }
        }
        extras.path = sparse_name.or(extras.path);
        Ok(extras)
    }
}

fn number(digits: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(senseless)
}

/// A time with a fraction, rounded down as the kernel does.
fn seconds(value: &[u8]) -> io::Result<i64> {
    let text = std::str::from_utf8(value).map_err(|_| senseless())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().map_err(|_| senseless())?;
    let below = text.starts_with('-') && fraction.bytes().any(|digit| digit != b'0');
    Ok(whole.saturating_sub(i64::from(below)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_may_be_any_bytes() {
        let raw = b"15 path=a\nb=\xff\n\n27 SCHILY.xattr.user.x=\n\0\n\n";
        let extras = Extras::parse(raw).unwrap();
        assert_eq!(extras.path.unwrap(), b"a\nb=\xff\n");
        assert_eq!(extras.xattrs, [Xattr::new(b"user.x", b"\n\0\n").unwrap()]);
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, expected) in [("5", 5), ("5.9", 5), ("-5", -5), ("-5.5", -6), ("-0.1", -1)] {
            assert_eq!(seconds(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Extras::parse(&raw);
            let _ = Extras::parse(&[b"9 ", raw.as_slice()].concat());
        }
    }
}
