//! File names as git writes and as git accepts them.

/// A name with its prefix (`a/` or `b/`), in quotes with C escapes if it needs them: the style of
/// `core.quotePath=true` (git's `quote_c_style`).
pub(super) fn quoted(prefix: &str, path: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if path.iter().all(plain) {
        return [prefix.as_bytes(), path].concat();
    }
    let mut out = vec![b'"'];
    out.extend_from_slice(prefix.as_bytes());
    for &byte in path {
        let letter = match byte {
            0x07 => b'a',
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0b => b'v',
            0x0c => b'f',
            b'\r' => b'r',
            b'"' | b'\\' => byte,
            b' '..=b'~' => {
                out.push(byte);
                continue;
            }
            _ => {
                out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
    out.push(b'"');
    out
}

/// What follows a name in a `---` or `+++` line: a tab if the name has a space, so that tools
/// which expect a time stamp there do not cut the name (git's `emit_rewrite_diff`).
pub(super) fn terminator(path: &[u8]) -> &'static str {
    if path.contains(&b' ') { "\t\n" } else { "\n" }
}

/// What of this path git refuses to have in a repository, `None` if nothing: the path up to a name
/// that it reserves for itself with all that is in it, or the whole path of a link.
///
/// From git's `verify_path`: `.git` in any case, and what HFS+ or NTFS would take for it
/// (`core.protectNTFS` is on everywhere since CVE-2019-1353, `core.protectHFS` on macOS, where the
/// patch may well be applied); also links at or below `.gitmodules`. In doubt a name is refused:
/// one refused name would make git reject the whole patch.
pub(super) fn refused_by_git(path: &[u8], is_link: bool) -> Option<&[u8]> {
    let mut end = 0;
    for name in path.split(|&byte| byte == b'/') {
        end += name.len();
        if stands_for(name, is_dot_git) {
            return Some(&path[..end]);
        }
        end += 1;
    }
    let mut names = path.split(|&byte| byte == b'/');
    (is_link && names.any(|name| stands_for(name, is_dot_gitmodules))).then_some(path)
}

fn is_dot_git(name: &[u8]) -> bool {
    name == b".git" || name == b"git~1"
}

/// The short names that NTFS may give to `.gitmodules` (git's `is_ntfs_dotgitmodules`).
fn is_dot_gitmodules(name: &[u8]) -> bool {
    let short: [&[u8]; 4] = [b"gitmod~", b"gi7eba~", b"gi7eb~", b"gi7e~"];
    name == b".gitmodules" || short.iter().any(|start| name.starts_with(start))
}

/// True if some filesystem would take a name for one that is `reserved`.
fn stands_for(name: &[u8], reserved: fn(&[u8]) -> bool) -> bool {
    let lower = without_ignorables(name).to_ascii_lowercase();
    // To NTFS a backslash parts names as well, a colon begins the name of a stream, and dots and
    // spaces at the end do not count.
    lower.split(|&byte| byte == b'\\').any(|part| {
        let bare = part.split(|&byte| byte == b':').next().unwrap_or(part);
        let end = bare.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |at| at + 1);
        reserved(&bare[..end])
    })
}

/// Drops the code points that HFS+ ignores in names (`next_hfs_char` in git's `utf8.c`).
fn without_ignorables(name: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let ignored = matches!(c,
                '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{206a}'..='\u{206f}' | '\u{feff}');
            if !ignored {
                kept.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        kept.extend_from_slice(chunk.invalid());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_git_quotes_them() {
        for (name, expected) in [
            (&b"plain name"[..], &b"a/plain name"[..]),
            (b"tab\there", b"\"a/tab\\there\""),
            (b"\"q\\\n", b"\"a/\\\"q\\\\\\n\""),
            ("ü".as_bytes(), b"\"a/\\303\\274\""),
            (b"\x01\x7f\xff", b"\"a/\\001\\177\\377\""),
        ] {
            assert_eq!(
                quoted("a/", name).escape_ascii().to_string(),
                expected.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn whatever_git_takes_for_its_own_directory_is_refused() {
        for name in [
            ".git",
            ".GIT",
            "a/.git",
            "a/.git/b",
            ".git ",
            ".git..",
            "git~1",
            "GIT~1",
            ".git::$INDEX",
            "a\\.git",
            ".g\u{200c}it",
            ".git:x",
        ] {
            assert!(refused_by_git(name.as_bytes(), false).is_some(), "{name}");
        }
        for name in [".gitignore", "a.git", ".gitmodules", ".git2", "git", "git~2", "...", ".gi/t"]
        {
            assert!(refused_by_git(name.as_bytes(), false).is_none(), "{name}");
        }
        assert_eq!(refused_by_git(b".gitmodules/link", true), Some(&b".gitmodules/link"[..]));
        assert_eq!(refused_by_git(b"a/.Git/b/.git", false), Some(&b"a/.Git"[..]));
    }
}
