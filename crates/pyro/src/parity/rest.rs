//! The doors that are not looked into argument by argument.

use std::path::Path;

use clap::Command;
use serde_json::Value;

use super::{fields, find};

const REFERENCE: &str = include_str!("../../../../docs/public-contract.md");

/// For each door, a program that does the main job through it, and what runs it.
const MAIN_JOB: &[(&str, &str, &str)] = &[
    ("the command line", "scripts/demo", "Makefile"),
    (
        "the Rust SDK",
        "crates/pyro-workspace/examples/main_job.rs",
        "crates/pyro/tests/e2e/examples.rs",
    ),
    ("the Python SDK", "examples/python/main_job.py", "sdk/python/tests/test_package.py"),
    ("the MCP server", "examples/mcp/main_job.py", "crates/pyro/tests/e2e/mcp/sessions.rs"),
];

fn names(document: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let operations = document["operations"].as_array().into_iter().flatten();
    operations.map(|operation| (operation["name"].as_str().unwrap_or_default(), operation))
}

pub(super) fn without_example(document: &Value, root: &Command) -> Vec<String> {
    let commands = names(document).map(|(_, operation)| {
        let words = operation["command"].as_array().into_iter().flatten();
        words.filter_map(Value::as_str).collect::<Vec<_>>()
    });
    let has_example = |words: &[&str]| {
        let help =
            find(root, words).and_then(|found| found.get_after_help().map(ToString::to_string));
        help.is_some_and(|help| help.contains(&format!("pyro {}", words.join(" "))))
    };
    commands.filter(|words| !has_example(words)).map(|words| words.join(" ")).collect()
}

pub(super) fn undecided(document: &Value) -> Vec<String> {
    let names = names(document).map(|(name, _)| name);
    names.filter(|name| !pyro_mcp::decides(name)).map(str::to_owned).collect()
}

pub(super) fn not_performed(document: &Value) -> Vec<String> {
    let performed: Vec<&str> = pyro_workspace::perform::operations().collect();
    let names = names(document).map(|(name, _)| name);
    names.filter(|name| !performed.contains(name)).map(str::to_owned).collect()
}

pub(super) fn not_in_the_reference(document: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, operation) in names(document) {
        let Some((_, entry)) = REFERENCE.split_once(&format!("\n### {name}\n")) else {
            missing.push(name.to_owned());
            continue;
        };
        let entry = entry.split("\n### ").next().unwrap_or_default();
        let method = operation["method"].as_str().unwrap_or("?");
        if !entry.contains(&format!("`Pyro.{method}`")) {
            missing.push(format!("{name}: its method"));
        }
        for field in fields(&operation["request"], &document["types"]) {
            // The fields of a part stand where its type is described.
            let row = format!("\n| `{}` | ", field.name);
            let part_has_it = |part: &str| {
                let part = REFERENCE.split_once(&format!("\n### {part}\n"));
                part.is_some_and(|(_, text)| {
                    text.split("\n### ").next().unwrap_or("").contains(&row)
                })
            };
            let parts = ["ShapeRequest", "ExecRequest", "CommandLimits", "WorkspaceLimits"];
            if !entry.contains(&row) && !parts.iter().any(|part| part_has_it(part)) {
                missing.push(format!("{name}: {}", field.name));
            }
        }
    }
    for code in document["types"]["ErrorCode"]["oneOf"].as_array().into_iter().flatten() {
        let code = code["const"].as_str().unwrap_or_default();
        if !REFERENCE.contains(&format!("| `{code}` | ")) {
            missing.push(code.to_owned());
        }
    }
    missing
}

pub(super) fn doors_without_example(_: &Value) -> Vec<String> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let is_run = |example: &str, runner: &str| {
        let name = Path::new(example).file_stem().and_then(|stem| stem.to_str()).unwrap_or("?");
        let text = std::fs::read_to_string(root.join(runner)).unwrap_or_default();
        root.join(example).exists() && text.contains(name)
    };
    let lacking = MAIN_JOB.iter().filter(|(_, example, runner)| !is_run(example, runner));
    lacking.map(|(door, example, runner)| format!("{door}: {example}, run by {runner}")).collect()
}
