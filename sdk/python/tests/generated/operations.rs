//! `operations.py`: a method for each operation, on clients and on handles of one workspace,
//! blocking and not.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::contract::{Contract, Field, Kind, Operation};
use crate::python::{HEAD, WIDTH, call, docstring, given, literal, name, read, taken};

const IMPORTS: &str = r#"from __future__ import annotations

from abc import ABC, abstractmethod
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Mapping, Sequence

from .._json import argv_of, env_of, path_of, request, seed_of
from .types import *

if TYPE_CHECKING:
    from .._aio import AsyncCommand, AsyncWorkspace
    from .._sync import Command, Workspace
"#;

/// Fields that are no parameters, of one operation or all (`*`), and why.
const LEFT_OUT: &[(&str, &str)] = &[
    // A call with one answer sends no input; `Workspace.exec` takes it by itself.
    ("*", "stdin"),
    // The workspace is deleted as soon as its one command ends.
    ("run", "detach"),
    // The one command may take what its machine may.
    ("run", "memory_mib"),
    ("run", "cpu_percent"),
];

/// May be given by its place even where it may be left out.
const POSITIONAL: &str = "argv";

/// What a handle gives where nothing is said, because its user is about to look at it.
fn handle_default(operation: &str, field: &str) -> Option<Value> {
    match (operation, field) {
        ("workspace_diff", "patch") => Some(json!(true)),
        // Half a patch is of no use to a program; what does not fit is counted all the same.
        ("workspace_diff", "max_patch_bytes") => Some(json!(64 << 20)),
        _ => None,
    }
}

/// The operation that makes a workspace gives a handle of it.
const MAKES_A_HANDLE: &str = "workspace_create";

/// The operation whose output can be listened to while it comes.
const STREAMS: &str = "workspace_exec";

/// Fields that name a place on the host.
const HOST_PATHS: &[&str] = &["output"];

#[derive(Clone, Copy, PartialEq)]
enum On {
    Client,
    Workspace,
}

#[derive(Clone, Copy)]
struct Door {
    on: On,
    asynchronous: bool,
}

struct Parameter {
    name: String,
    annotation: String,
    default: Option<String>,
    about: String,
}

/// `request(…)`, with the requests of its parts inside.
struct Request(Vec<Argument>);

enum Argument {
    Plain(String),
    Part(String, Request),
}

impl Request {
    /// On one line if that fits, else one argument a line.
    fn lines(&self, indent: &str, before: &str, after: &str) -> String {
        let line = format!("{indent}{before}{}{after}", self.line());
        if line.len() <= WIDTH {
            return line + "\n";
        }
        let deeper = format!("{indent}    ");
        let arguments: String = self
            .0
            .iter()
            .map(|argument| match argument {
                Argument::Plain(text) => format!("{deeper}{text},\n"),
                Argument::Part(name, part) => part.lines(&deeper, &format!("{name}="), ","),
            })
            .collect();
        format!("{indent}{before}request(\n{arguments}{indent}){after}\n")
    }

    fn line(&self) -> String {
        let arguments: Vec<String> = self
            .0
            .iter()
            .map(|argument| match argument {
                Argument::Plain(text) => text.clone(),
                Argument::Part(name, part) => format!("{name}={}", part.line()),
            })
            .collect();
        format!("request({})", arguments.join(", "))
    }
}

pub(crate) fn write(contract: &Contract) -> String {
    let mut page = format!("{HEAD}\"\"\"Every operation, as a method.\"\"\"\n\n{IMPORTS}");
    for asynchronous in [false, true] {
        for on in [On::Client, On::Workspace] {
            write_class(&mut page, contract, Door { on, asynchronous });
        }
    }
    page
}

fn write_class(page: &mut String, contract: &Contract, door: Door) {
    let (prefix, def, workspace, command) = match door.asynchronous {
        false => ("", "def", "Workspace", "Command"),
        true => ("Async", "async def", "AsyncWorkspace", "AsyncCommand"),
    };
    let (class, about) = match door.on {
        On::Client => ("Operations", "The operations, as methods of a client."),
        On::Workspace => ("WorkspaceOperations", "The operations on one workspace."),
    };
    let _ = write!(page, "\n\nclass {prefix}{class}(ABC):\n    \"\"\"{about}\"\"\"\n");
    let _ = write!(
        page,
        "\n    @abstractmethod\n    {def} _perform(self, operation: str, request: dict[str, Any]) \
         -> Any: ...\n"
    );
    let more = match door.on {
        On::Client => {
            format!(
                "    def _made(self, status: WorkspaceStatus, keep: bool) -> {workspace}: ...\n"
            )
        }
        On::Workspace => format!(
            "    {def} _start(self, request: dict[str, Any], stdin: bytes | str | bool) -> {command}: ...\n\n    \
             @property\n    @abstractmethod\n    def id(self) -> str:\n        \
             \"\"\"The permanent id.\"\"\"\n"
        ),
    };
    let _ = write!(page, "\n    @abstractmethod\n{more}");
    for operation in &contract.operations {
        match (door.on, &operation.workspace_method) {
            (On::Client, _) => {
                write_method(page, contract, operation, &operation.method, door);
            }
            (On::Workspace, Some(_)) if operation.name == STREAMS => {
                write_method(page, contract, operation, "run", door);
                write_stream(page, contract, operation, door);
            }
            (On::Workspace, Some(method)) => {
                write_method(page, contract, operation, method, door);
            }
            (On::Workspace, None) => {}
        }
    }
}

fn write_method(
    page: &mut String,
    contract: &Contract,
    operation: &Operation,
    method: &str,
    door: Door,
) {
    let makes_a_handle = operation.name == MAKES_A_HANDLE;
    let mut parameters = Vec::new();
    let request = request(contract, operation, &operation.request, door, &mut parameters);
    if makes_a_handle {
        parameters.push(Parameter {
            name: "keep".to_owned(),
            annotation: "bool".to_owned(),
            default: Some("False".to_owned()),
            about: "Leave it in place when a `with` block over it ends.".to_owned(),
        });
    }
    let kind = contract.plain(&operation.result);
    let result = match (makes_a_handle, door.asynchronous) {
        (true, false) => "Workspace".to_owned(),
        (true, true) => "AsyncWorkspace".to_owned(),
        _ => given(&kind),
    };
    write_head(page, method, &parameters, &result, door, &operation.summary);
    let wait = if door.asynchronous { "await " } else { "" };
    let before = format!("result = {wait}self._perform({:?}, ", operation.name);
    page.push_str(&request.lines("        ", &before, ")"));
    let value = read(&kind, "result", contract);
    let value = if makes_a_handle { format!("self._made({value}, keep)") } else { value };
    let _ = writeln!(page, "        return {value}");
}

/// The same with its output as it comes.
fn write_stream(page: &mut String, contract: &Contract, operation: &Operation, door: Door) {
    let mut parameters = Vec::new();
    let fields: Vec<Field> =
        operation.request.iter().filter(|field| field.name != "detach").cloned().collect();
    let request = request(contract, operation, &fields, door, &mut parameters);
    parameters.push(Parameter {
        name: "stdin".to_owned(),
        annotation: "bytes | str | bool".to_owned(),
        default: Some("False".to_owned()),
        about: "Its input, whole; or true to send it with `write` as it goes.".to_owned(),
    });
    let (result, wait) = match door.asynchronous {
        false => ("Command", ""),
        true => ("AsyncCommand", "await "),
    };
    let about = "Start a command in a workspace, and listen to it while it runs.";
    write_head(page, "exec", &parameters, result, door, about);
    page.push_str(&request.lines("        ", &format!("return {wait}self._start("), ", stdin)"));
}

fn write_head(
    page: &mut String,
    method: &str,
    parameters: &[Parameter],
    result: &str,
    door: Door,
    summary: &str,
) {
    let mut signature = vec!["self".to_owned()];
    let (mut placed, named): (Vec<_>, Vec<_>) = parameters
        .iter()
        .partition(|parameter| parameter.default.is_none() || parameter.name == POSITIONAL);
    placed.sort_by_key(|parameter| parameter.default.is_some());
    let declared = |parameter: &&Parameter| match &parameter.default {
        None => format!("{}: {}", parameter.name, parameter.annotation),
        Some(default) => format!("{}: {} = {default}", parameter.name, parameter.annotation),
    };
    signature.extend(placed.iter().map(declared));
    if !named.is_empty() {
        signature.push("*".to_owned());
    }
    signature.extend(named.iter().map(declared));
    let def = if door.asynchronous { "async def" } else { "def" };
    page.push('\n');
    page.push_str(&call("    ", &format!("{def} {method}"), &signature, &format!(" -> {result}:")));
    let parts: Vec<_> = placed
        .iter()
        .chain(&named)
        .map(|parameter| (parameter.name.clone(), parameter.about.clone()))
        .collect();
    page.push_str(&docstring("        ", summary, "Args", &parts));
}

/// The parameters for these fields, and the expression that makes the request of them. The fields
/// of a part (`shape`, `exec`) are parameters as its own are, as they are on the command line.
fn request(
    contract: &Contract,
    operation: &Operation,
    fields: &[Field],
    door: Door,
    parameters: &mut Vec<Parameter>,
) -> Request {
    let mut arguments = Vec::new();
    let part_of = |field: &Field| contract.record(&field.kind).filter(|part| part.len() > 1);
    let (mut parts, plain): (Vec<_>, Vec<_>) =
        fields.iter().partition(|one| part_of(one).is_some());
    // What is said of the machine goes before what is said of a command in it.
    parts.sort_by_key(|part| part.required);
    for field in plain {
        let left_out = LEFT_OUT
            .iter()
            .any(|(of, left)| *left == field.name && (*of == "*" || *of == operation.name));
        let exact_bytes_of_another = field
            .name
            .strip_suffix("_base64")
            .is_some_and(|text| fields.iter().any(|other| other.name == text));
        if left_out || exact_bytes_of_another {
            continue;
        }
        if field.name == "workspace" && door.on == On::Workspace {
            arguments.push(Argument::Plain("workspace=self.id".to_owned()));
            continue;
        }
        let parameter = name(&field.name);
        // A part may have a field of the same name and meaning: said once, meant once.
        if parameters.iter().any(|known| known.name == parameter) {
            continue;
        }
        let exact = fields.iter().any(|other| other.name == format!("{}_base64", field.name));
        let (annotation, argument, more) = parameter_of(contract, field, &parameter, exact);
        arguments.push(Argument::Plain(argument));
        let default = match door.on {
            On::Workspace => handle_default(&operation.name, &field.name),
            On::Client => None,
        };
        let default = default.as_ref().unwrap_or(&field.default);
        let annotation = match (field.required, literal(default).as_str()) {
            (false, "None") if !annotation.ends_with(" | None") => format!("{annotation} | None"),
            _ => annotation,
        };
        parameters.push(Parameter {
            name: parameter,
            annotation,
            default: (!field.required).then(|| literal(default)),
            about: match exact {
                true => "The path; bytes name what is not UTF-8.".to_owned(),
                false => format!("{}{more}", field.about),
            },
        });
    }
    for part in parts {
        let fields = part_of(part).unwrap_or_default();
        let inner = request(contract, operation, fields, door, parameters);
        arguments.push(Argument::Part(part.name.clone(), inner));
    }
    Request(arguments)
}

/// The type of a parameter, the argument that it becomes, and what there is to say of that.
fn parameter_of(
    contract: &Contract,
    field: &Field,
    name: &str,
    exact: bool,
) -> (String, String, &'static str) {
    if exact {
        let annotation = "str | bytes | PathLike[str]".to_owned();
        return (annotation, format!("**path_of({:?}, {name})", field.name), "");
    }
    let kind = contract.plain(&field.kind);
    match &kind {
        Kind::List(item) if field.name == "argv" && **item == Kind::Text => (
            "str | Sequence[str]".to_owned(),
            format!("{name}=argv_of({name})"),
            " One string is a script, run by `sh -lc`.",
        ),
        Kind::List(item) if **item == Kind::Named("EnvVar".to_owned()) => (
            "Mapping[str, str] | Sequence[EnvVar]".to_owned(),
            format!("{name}=env_of({name})"),
            "",
        ),
        Kind::Named(named) if named == "Seed" => (
            "Seed | str | PathLike[str]".to_owned(),
            format!("{name}=seed_of({name})"),
            " A path alone means `SeedPath`.",
        ),
        Kind::Text if HOST_PATHS.contains(&field.name.as_str()) => {
            ("str | PathLike[str]".to_owned(), format!("{name}={name}"), "")
        }
        kind => (taken(kind, contract), format!("{name}={name}"), ""),
    }
}
