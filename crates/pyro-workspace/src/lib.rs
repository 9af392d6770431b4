//! Workspaces: the heart of pyro, and its SDK for Rust.
//!
//! ```no_run
//! use pyro_contract::exec::ExecRequest;
//! use pyro_contract::workspace::{CreateRequest, Seed};
//! use pyro_workspace::{ExecEvent, Pyro, Watch};
//!
//! # async fn example() -> pyro_contract::Result<()> {
//! // The program becomes the supervisor of the workspaces that are started: there is no daemon.
//! let pyro = Pyro::from_environment("/usr/local/bin/pyro".into())?;
//! let request = CreateRequest {
//!     seed: Seed::Path { path: ".".to_owned() },
//!     ..CreateRequest::new("debian:12".parse()?)
//! };
//! let workspace = pyro.create_workspace(request, &Watch::default()).await?;
//!
//! let mut command = workspace.exec(&ExecRequest::new(["make", "test"])).await?;
//! while let Some(event) = command.output.next().await? {
//!     match event {
//!         ExecEvent::Output(stream, bytes) => println!("{stream:?}: {} bytes", bytes.len()),
//!         ExecEvent::Exit(outcome) => println!("exit code {}", outcome.shell_code()),
//!     }
//! }
//! println!("{}", workspace.diff().await?.patch.unwrap_or_default());
//! workspace.delete().await?;
//! # Ok(()) }
//! ```
//!
//! [`Pyro`] has every operation of the catalogue; [`Workspace`] has those on one workspace, for a
//! caller who holds one. What goes in and comes out are the types of `pyro_contract`, and every
//! error is a [`pyro_contract::Error`]: a stable code, a message, a cause, and what to do next.
//! `examples/` has programs to start from.
//!
//! # How it works
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
#[cfg(fuzzing)]
pub mod fuzzing;
mod handle;
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
mod update;
mod warm;
mod watch;

pub use client::{AttachEvent, AttachInput, AttachOutput, Attachment};
pub use client::{ExecEvent, ExecInput, ExecOutput, ExecSession};
pub use handle::Workspace;
pub use home::Home;
pub use journal::JournalBounds;
pub use perform::{Call, Collected};
pub use pyro::files::{FilePart, WriteOptions};
pub use pyro::{Ephemeral, FollowFrom, Followed, Follower, Listing, Pyro};
pub use review::{Detail, ExportTarget, Review};
pub use settings::{Programs, Settings, Templates};
pub use watch::{Interrupt, Watch};

#[cfg(doctest)]
#[doc = include_str!("../../../docs/rust.md")]
struct PageOnRust;
