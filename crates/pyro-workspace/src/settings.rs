//! The defaults of this host's owner: from environment variables, else from the configuration
//! file, else built in. What a request says itself outranks them all.

mod file;

use std::ffi::OsString;
use std::path::PathBuf;

use pyro_contract::env_vars::{
    PYRO_CONFIG, PYRO_DISK_MIB, PYRO_ENGINE, PYRO_FIRECRACKER, PYRO_JAILER, PYRO_MEM_MIB,
    PYRO_OCI_RUNTIME, PYRO_QEMU, PYRO_TEMPLATES, PYRO_VCPU_COUNT, PYRO_WARM_MIB, XDG_CONFIG_HOME,
};
use pyro_contract::workspace::{EngineChoice, Shape, ShapeRequest};
use pyro_contract::{Error, ErrorCode, Result};
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::journal::JournalBounds;
use crate::setup;

/// What holds where nobody says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// What isolates.
    pub engine: EngineChoice,
    /// The machine's size.
    pub shape: Shape,
    /// Machines that start from a frozen one.
    pub templates: Templates,
    /// Programs that are not to be looked for in PATH.
    pub programs: Programs,
    /// How much output is kept.
    #[serde(default)]
    pub journal: JournalBounds,
}

/// Machines that start from a frozen one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Templates {
    /// Whether templates are made and used.
    pub enabled: bool,
    /// How much memory the machines may take that wait warm, in MiB.
    pub warm_mib: u32,
}

impl Default for Templates {
    fn default() -> Self {
        Self { enabled: true, warm_mib: 512 }
    }
}

/// Programs to run instead of those in PATH: a path, or a name to look for there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Programs {
    /// `qemu-system-x86_64`.
    pub qemu: Option<PathBuf>,
    /// `firecracker`.
    pub firecracker: Option<PathBuf>,
    /// Firecracker's `jailer`.
    pub jailer: Option<PathBuf>,
    /// `runc`, `crun`, `runsc` or another.
    pub oci_runtime: Option<PathBuf>,
}

impl Settings {
    /// What this process's environment and the user's configuration file say.
    pub fn from_environment() -> Result<Self> {
        Self::load(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// With the Firecracker that pyro fetched for itself, where neither the file nor a variable names
    /// one. Its jailer is used only if it is named: pyro has a jail of its own.
    pub(crate) fn with_installed(mut self, home: &Home) -> Self {
        let program = &mut self.programs.firecracker;
        if program.is_none() {
            *program = setup::installed_firecracker(&home.programs());
        }
        self
    }

    fn load(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let mut settings = match place(variable) {
            Some((path, required)) => file::read(&path, required)?,
            None => Self::default(),
        };
        settings.outrank(variable)?;
        Ok(settings)
    }

    /// Lets environment variables overrule the file.
    fn outrank(&mut self, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<()> {
        let text = |name: &str| -> Result<Option<String>> {
            let Some(value) = variable(name) else { return Ok(None) };
            value.into_string().map(Some).map_err(|_| invalid(name, "is not UTF-8"))
        };
        if let Some(engine) = text(PYRO_ENGINE)? {
            self.engine = engine.parse().map_err(|error: Error| Error {
                message: format!("{PYRO_ENGINE}: {}", error.message),
                ..error
            })?;
        }
        let shape = ShapeRequest {
            vcpu_count: number(PYRO_VCPU_COUNT, text(PYRO_VCPU_COUNT)?)?,
            mem_mib: number(PYRO_MEM_MIB, text(PYRO_MEM_MIB)?)?,
            disk_mib: number(PYRO_DISK_MIB, text(PYRO_DISK_MIB)?)?,
        };
        self.shape = shape.or(self.shape);
        match text(PYRO_TEMPLATES)?.as_deref() {
            None => {}
            Some("on") => self.templates.enabled = true,
            Some("off") => self.templates.enabled = false,
            Some(_) => return Err(invalid(PYRO_TEMPLATES, "takes `on` or `off`")),
        }
        if let Some(mib) = number(PYRO_WARM_MIB, text(PYRO_WARM_MIB)?)? {
            self.templates.warm_mib = mib;
        }
        let programs = &mut self.programs;
        for (name, program) in [
            (PYRO_QEMU, &mut programs.qemu),
            (PYRO_FIRECRACKER, &mut programs.firecracker),
            (PYRO_JAILER, &mut programs.jailer),
            (PYRO_OCI_RUNTIME, &mut programs.oci_runtime),
        ] {
            if let Some(path) = variable(name) {
                *program = Some(path.into());
            }
        }
        Ok(())
    }
}

/// Where the file is to be, and whether it must.
fn place(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<(PathBuf, bool)> {
    if let Some(named) = variable(PYRO_CONFIG) {
        return Some((named.into(), true));
    }
    let directory = variable(XDG_CONFIG_HOME)
        .map(PathBuf::from)
        // The standard has relative paths ignored.
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some((directory.join("pyro/config.toml"), false))
}

fn number<T: std::str::FromStr>(name: &str, text: Option<String>) -> Result<Option<T>> {
    let parse = |text: String| text.trim().parse();
    text.map(parse).transpose().map_err(|_| invalid(name, "is not a number that fits"))
}

fn invalid(name: &str, what: &str) -> Error {
    Error::new(ErrorCode::InvalidArgument, format!("the environment variable {name} {what}"))
        .with_hint(format!("correct it, or `unset {name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;

    struct World {
        temp: tempfile::TempDir,
        variables: BTreeMap<&'static str, OsString>,
    }

    impl World {
        fn new(text: &str) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("pyro");
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("config.toml"), text).unwrap();
            let variables = BTreeMap::from([(XDG_CONFIG_HOME, temp.path().into())]);
            Self { temp, variables }
        }

        fn with(mut self, name: &'static str, value: &str) -> Self {
            self.variables.insert(name, value.into());
            self
        }

        fn load(&self) -> Result<Settings> {
            Settings::load(&|name| self.variables.get(name).cloned())
        }
    }

    #[test]
    fn without_a_file_or_variables_the_built_in_defaults_hold() {
        let nothing = Settings::load(&|_| None).unwrap();
        assert_eq!(nothing, Settings::default());
        assert_eq!(nothing.shape, Shape::default());
        let elsewhere = Settings::load(&|name| (name == "HOME").then(|| "/nowhere".into()));
        assert_eq!(elsewhere.unwrap(), Settings::default());
    }

    #[test]
    fn a_variable_outranks_the_file_and_the_file_what_is_built_in() {
        let world = World::new(
            "engine = \"qemu\"\n[shape]\nmem_mib = 2048\nvcpu_count = 2\n[templates]\n\
             enabled = false\n[programs]\nqemu = \"/opt/qemu\"\njailer = \"/opt/jailer\"\n",
        )
        .with(PYRO_MEM_MIB, "512")
        .with(PYRO_QEMU, "/usr/local/bin/qemu")
        .with(PYRO_WARM_MIB, "0");
        let settings = world.load().unwrap();
        assert_eq!(settings.file, Some(world.temp.path().join("pyro/config.toml")));
        assert_eq!(settings.engine, EngineChoice::Qemu);
        let shape = Shape { mem_mib: 512, vcpu_count: 2, ..Shape::default() };
        assert_eq!(settings.shape, shape);
        assert_eq!(settings.templates, Templates { enabled: false, warm_mib: 0 });
        assert_eq!(settings.programs.qemu, Some("/usr/local/bin/qemu".into()));
        assert_eq!(settings.programs.jailer, Some("/opt/jailer".into()));
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line_the_key_and_the_keys_there_are() {
        for (text, line, word) in [
            ("engine = \"qemu\"\nmemory = 1\n", 2, "memory"),
            ("\n\n[shape]\nmem_mb = 1\n", 4, "mem_mb"),
            ("engine = \"docker\"\n", 1, "docker"),
            ("[shape]\nvcpu_count = \"two\"\n", 2, "vcpu_count"),
            ("[shape]\nvcpu_count = 900\n", 2, "vcpu_count"),
            ("[shape\n", 1, "[shape"),
        ] {
            let error = World::new(text).load().unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            let whole = format!("{} {}", error.message, error.cause.unwrap());
            assert!(whole.contains(&format!("config.toml, line {line}:")), "{text}: {whole}");
            assert!(whole.contains(word), "{text}: {whole}");
            let hint = error.hint.unwrap();
            for key in ["engine", "shape.mem_mib", "templates.warm_mib", "programs.oci_runtime"] {
                assert!(hint.contains(key), "{hint}");
            }
        }
        let error = World::new("[shape]\nmem_mib = 1\n").load().unwrap_err();
        assert!(error.message.contains("config.toml: mem_mib 1 is out of range"), "{error:?}");
    }

    #[test]
    fn a_wrong_variable_is_refused_by_name() {
        for (name, value) in [
            (PYRO_ENGINE, "docker"),
            (PYRO_MEM_MIB, "much"),
            (PYRO_VCPU_COUNT, "900"),
            (PYRO_TEMPLATES, "maybe"),
            (PYRO_CONFIG, "/no/such/file"),
        ] {
            let error = World::new("").with(name, value).load().unwrap_err();
            let whole = format!("{} {}", error.message, error.hint.as_deref().unwrap());
            assert!(whole.contains(name), "{error:?}");
        }
    }

    #[test]
    fn the_hint_names_every_key_and_only_keys_that_are_taken() {
        for key in file::KEYS {
            let value = match *key {
                "engine" => "\"auto\"",
                "templates.enabled" => "true",
                key if key.starts_with("programs.") => "\"/x\"",
                _ => "1024",
            };
            let value = if *key == "shape.vcpu_count" { "2" } else { value };
            World::new(&format!("{key} = {value}\n")).load().unwrap();
        }
    }
}
