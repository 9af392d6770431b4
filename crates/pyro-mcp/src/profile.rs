//! What a server offers: a profile of tools, or the narrower set of one job.

use std::str::FromStr;

use pyro_contract::{Error, ErrorCode};

/// How much of the catalogue a model is shown. Every tool costs it attention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// One command in a workspace of its own, and nothing that stays.
    Run,
    /// The life of a workspace: create, use, review, take out, delete.
    #[default]
    Core,
    /// Every operation that a model may call.
    Full,
}

/// A job that has its own tools and its own prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reproduce a bug in a copy of the project, fix it, and hand over a patch.
    ReproFix,
    /// Look at a workspace that is there, and change nothing.
    Inspect,
    /// Find out whether a fresh checkout works by following its own instructions.
    ColdStart,
    /// Judge what somebody did in a workspace.
    ReviewEval,
}

impl Profile {
    /// Every profile.
    pub const ALL: &[Self] = &[Self::Run, Self::Core, Self::Full];

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Core => "core",
            Self::Full => "full",
        }
    }
}

impl Mode {
    /// Every mode.
    pub const ALL: &[Self] = &[Self::ReproFix, Self::Inspect, Self::ColdStart, Self::ReviewEval];

    /// Its name on the command line, which is also its prompt's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReproFix => "repro-fix",
            Self::Inspect => "inspect",
            Self::ColdStart => "cold-start",
            Self::ReviewEval => "review-eval",
        }
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|one| one.as_str() == text);
        found.copied().ok_or_else(|| unknown("profile", text, "run, core, full"))
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|one| one.as_str() == text);
        let names = "repro-fix, inspect, cold-start, review-eval";
        found.copied().ok_or_else(|| unknown("mode", text, names))
    }
}

fn unknown(what: &str, text: &str, names: &str) -> Error {
    Error::new(ErrorCode::InvalidArgument, format!("there is no {what} named {text:?}"))
        .with_hint(format!("choose one of {names}"))
}

/// What one server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// A profile, with the prompts of every job that its tools suffice for.
    Profile(Profile),
    /// One job.
    Mode(Mode),
}

impl Default for Offer {
    fn default() -> Self {
        Self::Profile(Profile::Core)
    }
}

impl Offer {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Profile(profile) => profile.as_str(),
            Self::Mode(mode) => mode.as_str(),
        }
    }

    /// True if workspaces outlive a call of it, and so can be looked at as resources.
    pub(crate) fn has_workspaces(self) -> bool {
        self != Self::Profile(Profile::Run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_written() {
        for profile in Profile::ALL {
            assert_eq!(profile.as_str().parse(), Ok(*profile));
        }
        for mode in Mode::ALL {
            assert_eq!(mode.as_str().parse(), Ok(*mode));
        }
        assert!("everything".parse::<Profile>().unwrap_err().hint.unwrap().contains("core"));
    }
}
