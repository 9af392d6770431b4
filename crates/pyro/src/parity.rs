//! The command line against the catalogue: every field of every request has an argument, with the
//! same default.

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
];

/// Arguments about how a result is shown or where it goes, which other doors leave to the caller.
const SHOWING: &[&str] = &["id_only", "stat", "name_only", "nul", "output", "content_only"];

/// What no door can offer with this operation, and why.
const REFUSED: &[(&str, &str)] = &[
    // The workspace is deleted as soon as its one command ends.
    ("run", "detach"),
];

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
