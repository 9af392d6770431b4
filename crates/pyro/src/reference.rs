//! `docs/public-contract.md`, written from the catalogue and the command line, so that it cannot
//! say anything else than they do.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};
use pyro_contract::document::contract;
use serde_json::Value;

use crate::cli::Cli;

const HEAD: &str = "\
# The public contract

<!-- Written by `make reference` from the catalogue of operations and the command line; a test
     fails while it differs from them. Do not edit. -->

Every operation has one name, one request, one result and the same errors in every door. The tool of
the MCP server has the operation's name; the command and the methods of the Python SDK are given with
it ([python.md](python.md)), and in Rust `Pyro::perform` takes the name ([rust.md](rust.md)). What a
request or result refers to is under [Types](#types).

JSON goes to stdout alone (`--json`), everything else to stderr. Where a path may hold bytes that are
not UTF-8, `path` shows it readably and `path_base64` holds the exact bytes.
";

/// The whole page.
pub(crate) fn markdown() -> String {
    let document = contract();
    let types = &document["types"];
    let mut page = HEAD.to_owned();
    page.push_str("\n## Operations\n");
    for operation in list(&document["operations"]) {
        write_operation(&mut page, operation, types);
    }
    page.push_str("\n## Errors\n\nEvery error is an [`Error`](#error) with one of these codes.\n");
    write_type_body(&mut page, &types["ErrorCode"]);
    page.push_str("\n## Environment variables\n\n");
    page.push_str("A flag outranks its variable, a variable the configuration file\n");
    page.push_str("([configuration.md](configuration.md)), and that the built-in default.\n\n");
    page.push_str("| variable | meaning |\n|---|---|\n");
    for variable in pyro_contract::env_vars::ALL {
        let _ = writeln!(page, "| `{}` | {} |", variable.name, variable.about);
    }
    page.push_str("\n## Types\n");
    let shown = types.as_object().into_iter().flatten().filter(|(name, schema)| {
        // Requests stand with their operation, the codes above.
        name.as_str() != "ErrorCode" && !is_request(&document, name) && schema.is_object()
    });
    for (name, schema) in shown {
        let _ = write!(page, "\n### {name}\n\n{}\n", text(&schema["description"]));
        write_type_body(&mut page, schema);
    }
    page
}

fn write_operation(page: &mut String, operation: &Value, types: &Value) {
    let words: Vec<&str> = list(&operation["command"]).iter().filter_map(Value::as_str).collect();
    let _ = write!(page, "\n### {}\n\n{}", text(&operation["name"]), text(&operation["summary"]));
    page.push_str(match (&operation["read_only"], &operation["destructive"]) {
        (Value::Bool(true), _) => " Changes nothing.\n",
        (_, Value::Bool(true)) => " What it removes is gone.\n",
        _ => "\n",
    });
    if let Some(command) = find(&words) {
        let mut command = command.bin_name(format!("pyro {}", words.join(" ")));
        let usage = command.render_usage().to_string();
        let _ = write!(page, "\n```text\n{}\n```\n", usage.trim_start_matches("Usage: ").trim());
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = examples.lines().filter_map(|line| line.strip_prefix("  "));
        let lines: Vec<&str> = lines.collect();
        if !lines.is_empty() {
            let _ = write!(page, "\n```sh\n{}\n```\n", lines.join("\n"));
        }
    }
    let _ = write!(page, "\nPython: `Pyro.{}`", text(&operation["method"]));
    match operation["workspace_method"].as_str() {
        Some(method) => {
            let _ = writeln!(page, ", `Workspace.{method}`");
        }
        None => page.push('\n'),
    }
    let request = resolve(&operation["request"], types);
    if properties(request).is_empty() {
        page.push_str("\nRequest: nothing.\n");
    } else {
        page.push('\n');
        write_fields(page, request, "request");
    }
    let _ = write!(page, "\nResult: {}.\n", kind(&operation["result"]));
}

/// The command of these words, with its global flags.
fn find(words: &[&str]) -> Option<Command> {
    let mut root = Cli::command();
    root.build();
    words.iter().try_fold(root, |command, word| command.find_subcommand(word).cloned())
}

fn write_type_body(page: &mut String, schema: &Value) {
    let variants = list(&schema["oneOf"]);
    if !variants.is_empty() {
        page.push_str("\n| value | meaning |\n|---|---|\n");
        for variant in variants {
            let value = match &variant["const"] {
                Value::String(word) => format!("`{word}`"),
                _ => fields_of_variant(variant),
            };
            let _ = writeln!(page, "| {value} | {} |", cell(&variant["description"]));
        }
    } else if properties(schema).is_empty() {
        let _ = write!(page, "\nIn JSON: {}.\n", kind(schema));
    } else {
        page.push('\n');
        write_fields(page, schema, "field");
    }
}

/// `kind` `path`, path: what tells this form from the others, then what it carries.
fn fields_of_variant(variant: &Value) -> String {
    let named = properties(variant).into_iter().map(|(name, field)| match &field["const"] {
        Value::String(word) => format!("`\"{name}\": \"{word}\"`"),
        _ => format!("`{name}` ({})", kind(field)),
    });
    named.collect::<Vec<_>>().join(", ")
}

fn write_fields(page: &mut String, schema: &Value, title: &str) {
    let required: Vec<&str> = list(&schema["required"]).iter().filter_map(Value::as_str).collect();
    let _ = writeln!(page, "| {title} | type | default | meaning |\n|---|---|---|---|");
    for (name, field) in properties(schema) {
        let default = match &field["default"] {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Value::Null => String::new(),
            Value::Array(items) if items.is_empty() => String::new(),
            Value::Object(fields) if fields.is_empty() => String::new(),
            value => format!("`{value}`"),
        };
        let _ = writeln!(
            page,
            "| `{name}` | {} | {default} | {} |",
            kind(field),
            cell(&field["description"])
        );
    }
}

/// A schema in words: `list of [EnvVar](#envvar)`.
fn kind(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let alternatives = list(&schema["anyOf"]);
    if let Some(real) = alternatives.iter().find(|one| one["type"] != "null") {
        return kind(real);
    }
    match first_type(schema) {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map to {}", kind(&schema["additionalProperties"]))
        }
        "integer" => match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
            (Some(low), Some(high)) => format!("integer, {low} to {high}"),
            _ => "integer".to_owned(),
        },
        "" => "anything".to_owned(),
        plain => plain.to_owned(),
    }
}

/// The type besides `null`.
fn first_type(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(name) => name,
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default()
        }
        _ => "",
    }
}

fn resolve<'a>(schema: &'a Value, types: &'a Value) -> &'a Value {
    reference(schema).map_or(schema, |name| &types[name])
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/types/")
}

fn is_request(document: &Value, name: &str) -> bool {
    let uses = |part: &str| {
        list(&document["operations"]).iter().any(|one| reference(&one[part]) == Some(name))
    };
    uses("request") && !uses("result")
}

fn properties(schema: &Value) -> Vec<(&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten().collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text for one cell of a table.
fn cell(value: &Value) -> String {
    text(value).replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `make reference` sets this to write the page instead of comparing it.
    const BLESS: &str = "PYRO_WRITE_REFERENCE";

    #[test]
    fn the_reference_says_what_the_code_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/public-contract.md");
        let page = markdown();
        if std::env::var_os(BLESS).is_some() {
            std::fs::write(path, page).unwrap();
            return;
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        let difference = kept.lines().zip(page.lines()).find(|(kept, made)| kept != made);
        assert!(kept == page, "run `make reference`; the first difference: {difference:?}");
    }

    #[test]
    fn every_operation_and_every_code_has_its_entry() {
        let page = markdown();
        for operation in pyro_contract::operation::CATALOGUE {
            assert!(page.contains(&format!("\n### {}\n", operation.name)), "{}", operation.name);
        }
        for code in pyro_contract::ErrorCode::ALL {
            assert!(page.contains(&format!("| `{code}` | ")), "{code}");
        }
    }

    #[test]
    fn every_environment_variable_that_pyro_reads_is_declared() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut pending: Vec<_> = std::fs::read_dir(crates)
            .unwrap()
            .flat_map(|each| {
                ["src", "build.rs"].map(|part| each.as_ref().unwrap().path().join(part))
            })
            .collect();
        let mut read = 0;
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            read += 1;
            for word in text.split('"').filter(|word| word.starts_with("PYRO_")) {
                let name = word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
                // What tests are told, and what a build script tells its crate.
                let own = word.starts_with("PYRO_TEST_")
                    || [BLESS, "PYRO_", "PYRO_GUEST_AGENT"].contains(&word);
                let declared = pyro_contract::env_vars::ALL.iter().any(|known| known.name == word);
                assert!(!name || own || declared, "{word} in {}", path.display());
            }
        }
        assert!(read > 50);
    }

    #[test]
    fn the_page_on_configuration_names_every_key_and_its_variable() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        for variable in pyro_contract::env_vars::ALL {
            let outranks = variable.about.split('`').nth_back(1);
            let Some(key) = outranks.filter(|_| variable.about.contains("outranks")) else {
                continue;
            };
            let leaf = key.rsplit('.').next().unwrap();
            let line = page.lines().find(|line| line.contains(variable.name));
            assert!(line.is_some_and(|line| line.starts_with(leaf)), "{key}: {line:?}");
        }
    }
}
