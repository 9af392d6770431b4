//! Every door against the catalogue: each operation, field, default, error code, entry of the
//! documentation and example is in each of them. Most of it is about the command line, which alone
//! is written by hand: every field of every request has an argument, with the same default.

mod python;
mod rest;

use clap::{Arg, ArgAction, Command, CommandFactory as _};
use pyro_contract::document::contract;
use pyro_contract::operation::CATALOGUE;
use serde_json::Value;

use crate::cli::Cli;

/// Fields whose argument has another name, or that have none, and why.
const OTHERWISE: &[(&str, &[&str])] = &[
    // One argument for each form that a seed has.
    ("seed", &["seed_path", "seed_git"]),
    // The command line passes its own stdin on whenever that is no terminal.
    ("stdin", &[]),
    // An argument of the operating system holds any bytes.
    ("path_base64", &[]),
    // So does stdin.
    ("data_base64", &[]),
    ("from_base64", &[]),
    ("to_base64", &[]),
    ("patch_base64", &["patch_file"]),
];

/// Arguments about how a result is shown or where it goes, which other doors leave to the caller.
const SHOWING: &[&str] = &[
    "id_only",
    "stat",
    "name_only",
    "nul",
    "output",
    "attach",
    "detach_keys",
    "interactive",
    "tty",
    "content_only",
    "follow",
    WATCH,
];

/// An operation ends with its result; who wants to keep pushing repeats it.
const WATCH: &str = "watch";

/// What no door can offer with this operation, and why.
const REFUSED: &[(&str, &str)] = &[
    // The workspace is deleted as soon as its one command ends.
    ("run", "detach"),
    // The one command may take what its machine may.
    ("run", "memory_mib"),
    ("run", "cpu_percent"),
];

/// A door, and what of the contract's document it lacks, one line each.
type Door = (&'static str, fn(&Value) -> Vec<String>);

/// All of them.
const DOORS: &[Door] = &[
    ("the command line", |document| lacking(document, &Cli::command())),
    ("the examples of the command line", |document| {
        rest::without_example(document, &Cli::command())
    }),
    ("the Python SDK", python::lacking),
    ("the MCP server", rest::undecided),
    ("the Rust SDK", rest::not_performed),
    ("the reference", rest::not_in_the_reference),
    ("the examples", rest::doors_without_example),
];

#[test]
fn every_door_has_all_of_the_catalogue() {
    let document = contract();
    let lacking = |(door, lacks): &Door| {
        lacks(&document).into_iter().map(|what| format!("{door}: {what}")).collect::<Vec<_>>()
    };
    let lacking: Vec<String> = DOORS.iter().flat_map(lacking).collect();
    assert!(lacking.is_empty(), "`make reference` writes what is generated; {lacking:#?}");
}

#[test]
fn what_only_the_catalogue_has_is_missed_in_every_door() {
    let mut document = contract();
    let mut fly = document["operations"][0].clone();
    fly["name"] = "workspace_fly".into();
    fly["command"] = serde_json::json!(["workspace", "fly"]);
    fly["method"] = "fly_workspace".into();
    document["operations"].as_array_mut().unwrap().push(fly);
    document["types"]["ShapeRequest"]["properties"]["gpu_count"] =
        serde_json::json!({"type": "integer", "default": 1});
    document["types"]["DiffRequest"]["properties"]["max_patch_bytes"]["default"] = 7.into();
    let code = serde_json::json!({"const": "crashed", "description": "It fell."});
    document["types"]["ErrorCode"]["oneOf"].as_array_mut().unwrap().push(code);
    let expected: &[(&str, &[&str])] = &[
        ("the command line", &["workspace fly: the command", "workspace create: gpu_count"]),
        ("the examples of the command line", &["workspace fly"]),
        (
            "the Python SDK",
            &[
                "Operations.fly_workspace",
                "AsyncOperations.fly_workspace",
                "Operations.create_workspace: gpu_count",
                "Operations.diff_workspace: max_patch_bytes is 1048576, not 7",
                "CrashedError",
            ],
        ),
        ("the MCP server", &["workspace_fly"]),
        ("the Rust SDK", &["workspace_fly"]),
        ("the reference", &["workspace_fly", "workspace_create: gpu_count", "crashed"]),
    ];
    for (door, whats) in expected {
        let (_, lacks) = DOORS.iter().find(|(name, _)| name == door).unwrap();
        let found = lacks(&document);
        for what in *whats {
            assert!(found.iter().any(|one| one == what), "{door}: {what} in {found:#?}");
        }
    }
}

#[test]
fn every_field_of_every_request_has_an_argument() {
    let missing = lacking(&contract(), &Cli::command());
    assert!(missing.is_empty(), "the command line lacks {missing:#?}");
}

#[test]
fn an_operation_or_field_without_a_command_or_argument_is_found() {
    let mut document = contract();
    document["types"]["ShapeRequest"]["properties"]["gpu_count"] =
        serde_json::json!({"type": "integer"});
    document["types"]["ShapeRequest"]["properties"]["mem_mib"]["minimum"] = 1.into();
    document["types"]["CreateRequest"]["properties"]["shape"]["default"]["mem_mib"] = 7.into();
    let mut fly = document["operations"][0].clone();
    fly["command"] = serde_json::json!(["workspace", "fly"]);
    document["operations"].as_array_mut().unwrap().push(fly);
    let missing = lacking(&document, &Cli::command());
    let expected = ["workspace create: gpu_count", "workspace fly: the command"];
    for one in expected {
        assert!(missing.iter().any(|found| found == one), "{one} in {missing:?}");
    }
}

#[test]
fn the_catalogue_names_what_the_command_line_names() {
    for operation in CATALOGUE {
        assert!(find(&Cli::command(), operation.command).is_some(), "{}", operation.name);
    }
}

#[test]
fn every_argument_is_a_field_of_the_request() {
    let document = contract();
    for operation in CATALOGUE {
        let Some(command) = find(&Cli::command(), operation.command) else { continue };
        let entry = entry(&document, operation.name);
        let mut known: Vec<String> = Vec::new();
        for field in fields(&entry["request"], &document["types"]) {
            match OTHERWISE.iter().find(|(name, _)| *name == field.name) {
                Some((_, names)) => known.extend(names.iter().map(ToString::to_string)),
                None => known.push(field.name),
            }
        }
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let shown = SHOWING.contains(&name) || known.iter().any(|known| known == name);
            assert!(shown, "{}: --{name} is in no other door", operation.name);
        }
    }
}

/// What the command line lacks, one line each.
fn lacking(document: &Value, root: &Command) -> Vec<String> {
    let mut missing = Vec::new();
    for operation in document["operations"].as_array().into_iter().flatten() {
        let words: Vec<&str> =
            operation["command"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let Some(command) = find(root, &words) else {
            missing.push(format!("{}: the command", words.join(" ")));
            continue;
        };
        for field in fields(&operation["request"], &document["types"]) {
            if REFUSED.contains(&(words.join("_").as_str(), field.name.as_str())) {
                continue;
            }
            let names = OTHERWISE.iter().find(|(name, _)| *name == field.name);
            let names = names.map_or(vec![field.name.as_str()], |(_, names)| names.to_vec());
            for name in names {
                match argument(&command, name) {
                    None => missing.push(format!("{}: {name}", words.join(" "))),
                    Some(argument) => {
                        missing.extend(other_default(&field, argument, &words.join(" ")));
                    }
                }
            }
        }
    }
    missing
}

struct Field {
    name: String,
    default: Value,
}

/// The fields of a request; those of its parts (`shape`, `exec`) count as its own.
fn fields(request: &Value, types: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    let request = resolve(request, types);
    for (name, schema) in request["properties"].as_object().into_iter().flatten() {
        let inner = resolve(schema, types);
        if inner["properties"].is_object() {
            found.extend(fields(inner, types).into_iter().map(|mut field| {
                let default = &schema["default"][field.name.as_str()];
                if !default.is_null() {
                    field.default = default.clone();
                }
                field
            }));
        } else {
            found.push(Field { name: name.clone(), default: schema["default"].clone() });
        }
    }
    found
}

fn resolve<'a>(schema: &'a Value, types: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|target| target.strip_prefix("#/types/")) {
        Some(name) => &types[name],
        None => schema,
    }
}

fn entry<'a>(document: &'a Value, name: &str) -> &'a Value {
    let mut operations = document["operations"].as_array().unwrap().iter();
    operations.find(|operation| operation["name"] == name).unwrap()
}

fn find(root: &Command, words: &[&str]) -> Option<Command> {
    words.iter().try_fold(root.clone(), |at, word| at.find_subcommand(word).cloned())
}

fn argument<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| argument.get_id() == name)
}

/// A default that the help states must be the contract's; where it states none, the contract's holds.
fn other_default(field: &Field, argument: &Arg, command: &str) -> Option<String> {
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        return None;
    }
    let stated = argument.get_default_values().first()?.to_str()?;
    let meant = match &field.default {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (stated != meant).then(|| format!("{command}: {} is {stated}, not {meant}", field.name))
}
