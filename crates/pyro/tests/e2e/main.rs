//! End-to-end tests: the built `pyro`, driven as a person would, on real machines.
//!
//! They use the environments of the store that `PYRO_TEST_HOME` names (`make test` fills it) and keep everything else
//! in a home of their own, which must be empty of workspaces, processes and mounts afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used)] // all of this crate is a test

mod apply;
mod configuration;
mod containers;
mod crash;
mod diff;
mod disk;
mod examples;
mod exec;
mod export;
mod failures;
mod firecracker;
mod harness;
mod journal;
mod lifecycle;
mod mcp;
mod output;
mod person;
mod rootless;
mod run;
mod seeds;
mod shells;
mod store;
mod sync;
mod template;
mod together;
mod user;
