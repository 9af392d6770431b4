//! Root filesystem images.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use pyro_contract::environment::Package;
use pyro_contract::progress::{Progress, Report};
use pyro_layers::erofs::{ErofsLayer, ErofsWriter};
use pyro_layers::seed::{ArchiveKind, pack_archive};
use pyro_layers::{Layer, LayerError};

use crate::{EnvironmentError, Result};

/// Where dpkg lists what is installed.
const STATUS: [&str; 4] = ["var", "lib", "dpkg", "status"];

/// dpkg's list of a large installation is a few MB.
const STATUS_LIMIT: u64 = 64 << 20;

/// Writes the image of the root filesystem in `archive`, with all owners, devices and attributes.
pub(crate) fn write(archive: &mut dyn Read, path: &Path, progress: &dyn Progress) -> Result<()> {
    let failed =
        |source| EnvironmentError::Image { attempt: "cannot write the image".to_owned(), source };
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(path)
        .map_err(EnvironmentError::at("create", path))?;
    let mut image = ErofsWriter::create(file).map_err(failed)?;
    // An archive has a header of half a KiB per file; a pipe should be read in larger pieces.
    let archive = BufReader::with_capacity(1 << 18, archive);
    let quiet = Quiet(progress);
    pack_archive(archive, &mut image, ArchiveKind::RootFilesystem, &quiet).map_err(failed)?;
    image.finish().map_err(failed)?;
    Ok(())
}

/// Passes on the wish to stop and nothing else: whoever reads the stream reports its progress.
struct Quiet<'a>(&'a dyn Progress);

impl Progress for Quiet<'_> {
    fn report(&self, _: Report) {}

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// What is installed in an image, ordered by name.
pub(crate) fn packages(image: &Path) -> Result<Vec<Package>> {
    let failed = |source| EnvironmentError::Image {
        attempt: "cannot read the list of packages in the new image".to_owned(),
        source,
    };
    let layer = ErofsLayer::open(image).map_err(failed)?;
    Ok(parse_status(&read_status(&layer).map_err(failed)?))
}

fn read_status(layer: &dyn Layer) -> std::result::Result<String, LayerError> {
    let mut node = layer.root();
    for name in STATUS {
        node = layer
            .lookup(node, name.as_bytes())?
            .ok_or_else(|| LayerError::NotFound(STATUS.join("/")))?;
    }
    let size = layer.meta(node)?.size;
    if size > STATUS_LIMIT {
        return Err(LayerError::TooLarge("dpkg's list of packages is too large".to_owned()));
    }
    let mut bytes = vec![0; size as usize];
    let mut done = 0;
    while done < bytes.len() {
        match layer.read_at(node, done as u64, &mut bytes[done..])? {
            0 => break,
            count => done += count,
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..done]).into_owned())
}

/// Reads dpkg's status file: paragraphs of `Field: value`, see deb822(5).
fn parse_status(text: &str) -> Vec<Package> {
    let mut packages: Vec<_> = text
        .split("\n\n")
        .filter_map(|paragraph| {
            let field = |name: &str| {
                paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            let installed = field("Status")?.ends_with(" installed");
            let (name, version) = (field("Package")?.to_owned(), field("Version")?.to_owned());
            installed.then_some(Package { name, version })
        })
        .collect();
    packages.sort();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_listed_and_removed_ones_are_not() {
        let status = "Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.2.13\n\
            Description: compression\n Package: not a field\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b2\n";
        let listed: Vec<_> = parse_status(status)
            .into_iter()
            .map(|package| format!("{} {}", package.name, package.version))
            .collect();
        assert_eq!(listed, ["bash 5.2.15-2+b2", "zlib1g 1:1.2.13"]);
    }
}
