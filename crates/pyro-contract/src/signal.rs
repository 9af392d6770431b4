//! Signals, by name.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};

/// A signal of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct SignalName(#[schemars(with = "String")] i32);

/// signal(7), the numbers of x86 and ARM.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("WINCH", 28),
];

impl SignalName {
    /// SIGHUP.
    pub const HANGUP: Self = Self(1);

    /// SIGTERM.
    #[must_use]
    pub fn terminate() -> Self {
        Self(15)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

impl FromStr for SignalName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let known = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let number = known.or_else(|| text.parse().ok().filter(|number| (1..=64).contains(number)));
        number.map(Self).ok_or_else(|| {
            Error::new(ErrorCode::InvalidArgument, format!("{text:?} is not a signal"))
                .with_hint("name one such as INT, TERM, KILL, HUP or USR1, or give its number")
        })
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<String> for SignalName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<SignalName> for String {
    fn from(signal: SignalName) -> Self {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_name_and_by_number() {
        for text in ["INT", "SIGINT", "sigint", "2"] {
            assert_eq!(text.parse::<SignalName>().unwrap().number(), 2, "{text}");
        }
        assert_eq!("SIGINT".parse::<SignalName>().unwrap().to_string(), "INT");
        assert_eq!("35".parse::<SignalName>().unwrap().to_string(), "35");
        for bad in ["", "0", "65", "-1", "SIG", "BOOM"] {
            assert!(bad.parse::<SignalName>().is_err(), "{bad}");
        }
    }
}
