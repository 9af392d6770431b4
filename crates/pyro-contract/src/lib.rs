//! The public contract: every name, request, result and error that crosses a door of pyro, once.
//!
//! Everything here is a plain type: no I/O, no clock, no engine. Values that a rule constrains
//! (ids, names, references) cannot be constructed invalid; they are parsed at the edge and trusted
//! inside. The CLI, the supervisor's socket and every later door speak these types, and
//! [`operation::CATALOGUE`] lists the operations they must all offer.

pub mod apply;
pub mod command;
pub mod diff;
pub mod disk;
pub mod document;
pub mod env_vars;
pub mod environment;
pub mod error;
mod exact;
pub mod exec;
pub mod file;
pub mod journal;
pub mod key;
pub mod limits;
mod method;
pub mod name;
pub mod operation;
pub mod patch;
pub mod path;
pub mod progress;
pub mod shell;
pub mod signal;
pub mod sync;
pub mod template;
pub mod update;
pub mod workspace;

pub use error::{Error, ErrorCode, Result};
