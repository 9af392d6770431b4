//! What the agent says on the console: little, for the host keeps only the last lines.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::sys;

/// One line. Failing to say something is no reason to fail.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "pyro-guest: {text}");
}

/// Says why the machine cannot go on, with every cause, and resets it. The engine runs machines
/// that may not reboot, so it sees a machine that died and shows the console's last lines.
pub(crate) fn fatal(error: &dyn std::error::Error) -> ! {
    line(&format!("fatal: {}", chain(error)));
    sys::reset()
}

/// An error with every cause.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
