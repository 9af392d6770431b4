//! Reading and replacing a file that belongs to another program.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use pyro_contract::{Error, ErrorCode, Result};

/// No configuration is longer.
const MOST_BYTES: u64 = 64 << 20;

/// The text; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    let failed =
        |error: &std::io::Error| Error::io(format!("cannot read {}", path.display()), error);
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::new(
            ErrorCode::TooLarge,
            format!("{} is longer than a configuration should be", path.display()),
        )
        .with_hint("look whether it is the right file"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| {
        Error::new(
            ErrorCode::InvalidArgument,
            format!("{} is not UTF-8; nothing was written", path.display()),
        )
        .with_hint("save it as UTF-8, or add what `pyro mcp print-config` prints by hand")
    })
}

/// Puts a whole file in the place of another in one step. Its mode and owner stay; a link to it too.
pub(super) fn write(path: &Path, text: &str, private: bool) -> Result<()> {
    let target = real(path)?;
    let failed =
        |error: &std::io::Error| Error::io(format!("cannot write {}", path.display()), error);
    let parent = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| failed(&error))?;
    let mut new = tempfile::NamedTempFile::new_in(parent).map_err(|error| failed(&error))?;
    let written = new.write_all(text.as_bytes()).and_then(|()| {
        match fs::metadata(&target) {
            Ok(old) => {
                std::os::unix::fs::chown(new.path(), Some(old.uid()), Some(old.gid()))?;
                new.as_file().set_permissions(old.permissions())?;
            }
            // Such files may come to hold tokens.
            Err(_) if private => new.as_file().set_permissions(Permissions::from_mode(0o600))?,
            Err(_) => new.as_file().set_permissions(Permissions::from_mode(0o644))?,
        }
        new.as_file().sync_all()
    });
    written.map_err(|error| failed(&error))?;
    new.persist(&target).map_err(|error| failed(&error.error)).map(drop)
}

/// Removes a file in which nothing is left; of a link, what it leads to.
pub(super) fn remove(path: &Path) -> Result<()> {
    fs::remove_file(real(path)?)
        .map_err(|error| Error::io(format!("cannot remove {}", path.display()), &error))
}

fn real(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(Error::io(format!("cannot find {}", path.display()), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_link_stay() {
        let temp = tempfile::tempdir().unwrap();
        let (real, link) = (temp.path().join("dotfiles.json"), temp.path().join("link.json"));
        fs::write(&real, "{}").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, "{\"a\": 1}", true).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "{\"a\": 1}");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_new_file_of_the_user_is_his_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b/c.json");
        write(&path, "{}", true).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&temp.path().join("none")).unwrap(), None);
        fs::write(&path, b"\xff").unwrap();
        assert!(read(&path).is_err());
    }
}
