//! One suite for every engine: what a workspace is, whatever isolates it.
//!
//! Each case runs once for every engine, as `ENGINE::CASE`. An engine that this host cannot run is
//! skipped, and the skip says why in the words of `pyro doctor`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // all of this crate is a test

mod commands;
mod editing;
mod files;
#[path = "../e2e/harness.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests, which need more of it")]
mod harness;
mod isolation;
mod life;
mod limits;
mod pause;
mod running;
mod shells;
mod sync;
mod uniqueness;
#[path = "../e2e/user.rs"]
mod user;

use std::ffi::OsStr;
use std::ops::Deref;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Host, is_root, skip};

/// A host whose workspaces all have one engine.
pub(crate) struct Bench {
    host: Host,
    engine: &'static str,
    /// Nothing bounds what a workspace writes but the host's own disk.
    boundless: bool,
}

impl Deref for Bench {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Bench {
    /// Creates a workspace on the engine under test; its id.
    #[track_caller]
    pub(crate) fn create<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let engine = ["--engine", self.engine].map(OsStr::new);
        self.host.create(engine.into_iter().chain(args.iter().map(|arg| &**arg)))
    }

    /// Its clock is the host's, by 50 ms: however long the host takes to ask, the answer lies
    /// between the question and its return.
    #[track_caller]
    pub(crate) fn assert_clock(&self, workspace: &str) {
        const SLACK: f64 = 0.05;
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let before = now();
        let clock: f64 = self.sh(workspace, "date +%s.%N").trim().parse().unwrap();
        let after = now();
        assert!((before - SLACK..=after + SLACK).contains(&clock), "{before} {clock} {after}");
    }

    /// True if each machine has a kernel of its own.
    pub(crate) fn is_virtual_machine(&self) -> bool {
        self.engine != "container"
    }
}

/// Why this host cannot run the engine, if it cannot.
fn unusable(host: &Host, engine: &str) -> Option<String> {
    let output = host.output(["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = format!("engine {engine}");
    let Some(check) = checks.as_array().unwrap().iter().find(|check| check["name"] == *name) else {
        return Some(format!("this build has no {engine} engine"));
    };
    let cannot = check["status"] == "failed" || check["status"] == "unavailable";
    cannot.then(|| format!("{}: {}", check["found"], check["why"]))
}

fn on(engine: &'static str, case: fn(&Bench)) {
    let host = Host::new();
    match unusable(&host, engine) {
        Some(why) => skip(&format!("the {engine} engine cannot run here: {why}")),
        None => case(&Bench { host, engine, boundless: false }),
    }
}

/// The same as an ordinary user, with cgroups of his own.
fn as_a_user_on(engine: &'static str, case: fn(&Bench)) {
    if !is_root() {
        return skip("this user runs the other cases; to become one more it takes root");
    }
    let host = Host::of_a_user_with_cgroups();
    match unusable(&host, engine) {
        Some(why) => skip(&format!("an ordinary user's {engine} engine cannot run here: {why}")),
        None => case(&Bench { host, engine, boundless: true }),
    }
}

/// Every case on every engine.
macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => {
        cases!(@engine firecracker, $($module::$case),*);
        cases!(@engine qemu, $($module::$case),*);
        cases!(@engine container, $($module::$case),*);
        mod container_of_a_user {
            $(#[test]
            fn $case() {
                crate::as_a_user_on("container", crate::$module::$case);
            })*
        }
    };
    (@engine $engine:ident, $($module:ident::$case:ident),*) => {
        mod $engine {
            $(#[test]
            fn $case() {
                crate::on(stringify!($engine), crate::$module::$case);
            })*
        }
    };
}

cases! {
    life::it_is_created_used_stopped_started_and_deleted,
    life::a_supervisor_that_is_killed_takes_its_machine_along_and_keeps_the_disk,
    life::several_are_created_at_once,
    pause::what_runs_is_held_still_and_goes_on,
    pause::a_paused_workspace_stops_starts_and_is_deleted,
    pause::a_paused_workspace_can_be_killed,
    pause::time_to_live_runs_on_while_paused,
    pause::pausing_and_resuming_at_once_ends_in_one_state,
    running::streams_and_exit_codes_are_the_commands,
    running::signals_and_timeouts_end_the_whole_group,
    running::a_user_a_directory_variables_and_stdin_are_taken,
    running::many_commands_run_at_once,
    shells::a_shell_outlives_its_clients_and_is_read_by_cursor,
    shells::a_shell_has_a_terminal_of_its_own,
    shells::python_is_driven_by_its_screen,
    shells::closing_a_shell_ends_all_that_runs_in_it,
    shells::shells_close_when_the_workspace_stops,
    shells::a_shell_that_nobody_reads_goes_on,
    commands::a_detached_command_is_listed_waited_for_and_signalled,
    commands::a_long_output_is_continued,
    commands::a_commands_own_memory_limit_is_named,
    commands::a_commands_own_process_limit_is_named,
    commands::a_commands_processor_time_is_limited,
    commands::open_files_are_limited_per_command_and_per_workspace,
    commands::a_workspaces_process_limit_holds_and_a_full_disk_is_named,
    files::a_seed_arrives_and_the_patch_gives_it_back_changed,
    files::owners_links_and_odd_names_survive_an_export,
    files::packages_can_be_installed,
    sync::a_tree_arrives_and_comes_back_the_same,
    sync::only_what_changed_is_sent_and_what_is_excluded_stays,
    sync::an_edit_in_the_workspace_is_never_taken_for_unchanged,
    sync::a_pull_loses_nothing_of_the_hosts_unasked,
    editing::a_file_is_written_read_edited_moved_and_removed,
    editing::what_has_changed_since_it_was_read_is_not_overwritten,
    editing::names_and_content_of_any_bytes_come_back,
    editing::links_and_special_files_lead_nowhere,
    editing::a_giant_sparse_file_is_read_in_parts,
    editing::lists_are_filtered_bounded_and_continued,
    editing::a_patch_of_everything_applies_or_nothing_of_it,
    editing::a_patch_stays_in_its_directory,
    editing::what_is_protected_or_mounted_is_not_changed,
    limits::a_fork_bomb_stays_inside,
    limits::a_memory_bomb_stays_inside,
    limits::a_full_disk_is_the_commands_problem,
    limits::files_in_memory_are_bounded,
    isolation::nothing_of_the_host_is_seen,
    isolation::nothing_of_the_host_is_reached_by_devices_or_mounts,
    isolation::the_kernels_settings_of_the_host_stay,
    isolation::the_agent_cannot_be_taken_over,
    isolation::no_descriptor_leads_out,
    isolation::user_namespaces_give_no_way_out,
    isolation::workspaces_do_not_see_each_other,
    isolation::there_is_no_network,
    isolation::root_in_a_container_has_little_of_a_kernel,
    uniqueness::identities_differ,
}
