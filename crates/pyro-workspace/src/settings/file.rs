//! The configuration file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use pyro_contract::env_vars::PYRO_CONFIG;
use pyro_contract::workspace::{EngineChoice, ShapeRequest};
use pyro_contract::{Error, ErrorCode, Result};
use serde::Deserialize;

use crate::journal::JournalBounds;

use super::{Programs, Settings, Templates};

/// No configuration file is longer.
const MAX_BYTES: u64 = 1 << 20;

/// Every key, for whoever wrote another.
pub(super) const KEYS: &[&str] = &[
    "engine",
    "shape.vcpu_count",
    "shape.mem_mib",
    "shape.disk_mib",
    "templates.enabled",
    "templates.warm_mib",
    "journal.command_mib",
    "journal.workspace_mib",
    "programs.qemu",
    "programs.firecracker",
    "programs.jailer",
    "programs.oci_runtime",
];

/// The file as it is written; whatever is absent is left to the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Text {
    engine: Option<EngineChoice>,
    shape: ShapeRequest,
    templates: TemplatesText,
    journal: JournalText,
    programs: Programs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TemplatesText {
    enabled: Option<bool>,
    warm_mib: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JournalText {
    command_mib: Option<u32>,
    workspace_mib: Option<u32>,
}

impl JournalText {
    fn bounds(&self, path: &Path) -> Result<JournalBounds> {
        let built_in = JournalBounds::default();
        let bounds = JournalBounds {
            command_mib: self.command_mib.unwrap_or(built_in.command_mib),
            workspace_mib: self.workspace_mib.unwrap_or(built_in.workspace_mib),
        };
        if bounds.command_mib == 0 || bounds.workspace_mib < bounds.command_mib {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{}: the bounds of the journal make no sense", path.display()),
            )
            .with_hint(
                "journal.command_mib is at least 1, journal.workspace_mib at least as much",
            ));
        }
        Ok(bounds)
    }
}

/// What the file says. If it is not there: the defaults, unless somebody named it.
pub(super) fn read(path: &Path, required: bool) -> Result<Settings> {
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {
            return Ok(Settings::default());
        }
        Err(error) => {
            return Err(Error::io(format!("cannot read {}", path.display()), &error)
                .with_hint(format!("make it readable, or let {PYRO_CONFIG} name another file")));
        }
    };
    let said: Text = toml::from_str(&text).map_err(|error| wrong(path, &text, &error))?;
    let built_in = Templates::default();
    let shape = said.shape.or(Settings::default().shape);
    shape.validate().map_err(|error| {
        // The flag's words, under the key's name.
        let words = error.message.trim_start_matches("--").replace('-', "_");
        Error { message: format!("{}: {words}", path.display()), ..error }
    })?;
    Ok(Settings {
        file: Some(path.to_owned()),
        engine: said.engine.unwrap_or_default(),
        shape,
        templates: Templates {
            enabled: said.templates.enabled.unwrap_or(built_in.enabled),
            warm_mib: said.templates.warm_mib.unwrap_or(built_in.warm_mib),
        },
        journal: said.journal.bounds(path)?,
        programs: said.programs,
    })
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than any configuration"));
    }
    Ok(text)
}

fn wrong(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
    Error::new(
        ErrorCode::InvalidArgument,
        format!("{}, line {line}: {}", path.display(), error.message()),
    )
    .with_cause(shown)
    .with_hint(format!("correct or remove it; the keys are {}", KEYS.join(", ")))
}
