//! Workspaces: the heart of pyro.
//!
//! A workspace is one directory (`home.rs`) that explains itself: a record, a journal, a baseline
//! and a disk. While it runs, one supervisor process ([`supervisor`]) owns it and serves a control
//! socket; at rest, whoever takes its lock may work on it. [`Pyro`] is the facade that every door
//! uses: it creates, finds, starts, stops and deletes workspaces, runs commands in them and opens
//! them for review. There is no daemon and no shared catalogue.
//!
//! Nothing here knows which door is asking, or which engine runs the machine.

mod agent;
mod caller;
mod client;
pub mod doctor;
mod engines;
mod files;
mod home;
mod journal;
mod lock;
pub mod perform;
mod possession;
mod process;
mod protocol;
mod pyro;
mod reconcile;
mod record;
mod review;
mod seed;
mod settings;
mod setup;
pub mod supervisor;
mod sync;
mod warm;
mod watch;

pub use client::{ExecEvent, ExecInput, ExecOutput, ExecSession};
pub use home::Home;
pub use perform::{Call, Collected};
pub use pyro::files::{FilePart, WriteOptions};
pub use pyro::{Ephemeral, Listing, Pyro};
pub use review::{Detail, ExportTarget, Review};
pub use settings::{Programs, Settings, Templates};
pub use watch::{Interrupt, Watch};
