//! From what a model says to what the contract asks for.

use pyro_contract::operation::Operation;
use pyro_contract::{Error, ErrorCode, Result};
use serde_json::{Map, Value, json};

use crate::table::Entry;

/// The request of an operation, from a tool's arguments. Host paths and a missing seed are not
/// looked at yet.
pub(crate) fn request(
    operation: &Operation,
    entry: &Entry,
    mut arguments: Map<String, Value>,
) -> Result<Map<String, Value>> {
    // Some clients send null for what was left out.
    arguments.retain(|_, value| !value.is_null());
    for (name, reason) in entry.withheld {
        if arguments.contains_key(*name) {
            return Err(invalid(format!("{name} cannot be set here: {reason}"))
                .with_hint(format!("leave out {name}")));
        }
    }
    for (name, json) in entry.presets {
        if !arguments.contains_key(*name) {
            let value = serde_json::from_str(json).unwrap_or_default();
            arguments.insert((*name).to_owned(), value);
        }
    }
    let schema = (operation.request)();
    let asked = schema.as_value();
    let properties = &asked["properties"];
    if properties["argv"].is_object() || properties["exec"].is_object() {
        // Of the operations that take arguments only those that also take a line cannot do without.
        let is_needed = properties["exec"].is_object() || properties["shell"].is_object();
        settle_command(&mut arguments, is_needed)?;
    }
    settle_variables(&mut arguments);
    refuse_strangers(operation, entry, &arguments)?;
    if properties["exec"].is_object() && properties["argv"].is_null() {
        put_command_apart(&mut arguments, properties);
    }
    Ok(arguments)
}

/// A single line runs in a shell; exact arguments run as they are.
fn settle_command(arguments: &mut Map<String, Value>, is_needed: bool) -> Result<()> {
    let line = match (arguments.remove("command"), arguments.remove("argv")) {
        (None, Some(Value::Array(argv))) | (Some(Value::Array(argv)), None) => {
            arguments.insert("argv".into(), argv.into());
            return Ok(());
        }
        (Some(Value::String(line)), None) | (None, Some(Value::String(line))) => line,
        (None, None) => {
            if !is_needed {
                return Ok(());
            }
            return Err(invalid("there is no command to run")
                .with_hint("give command, a line for the shell, such as \"make test\""));
        }
        (Some(_), Some(_)) => {
            return Err(invalid("command and argv are two ways to say the same")
                .with_hint("give command (a line for the shell) or argv (exact arguments)"));
        }
        _ => {
            return Err(invalid("the command is neither a text nor a list of texts")
                .with_hint("give command (a line for the shell) or argv (exact arguments)"));
        }
    };
    if line.trim().is_empty() {
        return Err(invalid("the command is empty").with_hint("give a line for the shell"));
    }
    arguments.insert("argv".into(), json!(["sh", "-lc", line]));
    Ok(())
}

/// `{"A": "1"}` as the list of the contract, `[{"name": "A", "value": "1"}]`.
fn settle_variables(arguments: &mut Map<String, Value>) {
    if let Some(Value::Object(variables)) = arguments.get_mut("env") {
        let pairs = std::mem::take(variables).into_iter().map(|(name, value)| {
            // Models write numbers and booleans where the environment has only text.
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            json!({"name": name, "value": text})
        });
        let list: Value = pairs.collect();
        arguments.insert("env".into(), list);
    }
}

/// A misspelt argument would be told by the operation too, in the contract's words.
fn refuse_strangers(
    operation: &Operation,
    entry: &Entry,
    arguments: &Map<String, Value>,
) -> Result<()> {
    let known = crate::schema::fields(&operation.request);
    let Some(stranger) = arguments.keys().find(|name| !known.contains(name)) else { return Ok(()) };
    let offered = crate::schema::input(operation, entry);
    let names: Vec<&str> = match &offered["properties"] {
        Value::Object(properties) => properties.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let hint = match names.as_slice() {
        [] => "it takes no arguments".to_owned(),
        names => format!("it takes {}", names.join(", ")),
    };
    Err(invalid(format!("{} has no argument named {stranger:?}", entry.operation)).with_hint(hint))
}

/// `run` has the command in a part of its own.
fn put_command_apart(arguments: &mut Map<String, Value>, properties: &Value) {
    let all = std::mem::take(arguments);
    let mut exec = Map::new();
    for (name, value) in all {
        if properties[&name].is_object() {
            arguments.insert(name, value);
        } else {
            exec.insert(name, value);
        }
    }
    arguments.insert("exec".into(), exec.into());
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::entry;
    use pyro_contract::operation::CATALOGUE;

    fn ask(name: &str, arguments: Value) -> Result<Value> {
        let operation = CATALOGUE.iter().find(|one| one.name == name).unwrap();
        let Value::Object(arguments) = arguments else { panic!() };
        request(operation, entry(name).unwrap(), arguments).map(Value::Object)
    }

    #[test]
    fn a_line_runs_in_a_shell_and_arguments_as_they_are() {
        let line = ask("workspace_exec", json!({"workspace": "w", "command": "a && b"})).unwrap();
        assert_eq!(line["argv"], json!(["sh", "-lc", "a && b"]));
        let exact = ask("workspace_exec", json!({"workspace": "w", "argv": ["a", "b c"]})).unwrap();
        assert_eq!(exact["argv"], json!(["a", "b c"]));
        let either = ask("workspace_exec", json!({"workspace": "w", "argv": "a b"})).unwrap();
        assert_eq!(either["argv"], json!(["sh", "-lc", "a b"]));
        let neither = ask("workspace_exec", json!({"workspace": "w"})).unwrap_err();
        assert!(neither.hint.unwrap().contains("command"));
        assert!(ask("workspace_exec", json!({"command": "a", "argv": ["a"]})).is_err());
        assert!(ask("workspace_exec", json!({"command": " "})).is_err());
    }

    #[test]
    fn variables_are_a_map() {
        let made =
            ask("workspace_exec", json!({"command": "a", "env": {"A": "1", "B": 2}})).unwrap();
        let expected = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
        assert_eq!(made["env"], expected);
    }

    #[test]
    fn the_command_of_a_run_is_put_where_it_belongs() {
        let made =
            ask("run", json!({"environment": "debian:12", "command": "a", "cwd": "x"})).unwrap();
        let expected = json!({
            "environment": "debian:12", "exec": {"argv": ["sh", "-lc", "a"], "cwd": "x"},
        });
        assert_eq!(made, expected);
    }

    #[test]
    fn what_a_model_may_not_set_is_refused_with_the_reason() {
        let error = ask("doctor", json!({"fix": true})).unwrap_err();
        assert!(error.message.contains("pyro doctor --fix"), "{error}");
        let error = ask("workspace_exec", json!({"command": "a", "timeout": 5})).unwrap_err();
        assert!(error.message.contains("timeout"), "{error}");
        assert!(error.hint.unwrap().contains("timeout_seconds"));
    }

    #[test]
    fn what_is_left_out_is_what_models_want() {
        assert_eq!(ask("workspace_diff", json!({"workspace": "w"})).unwrap()["patch"], true);
        let named = ask("workspace_diff", json!({"workspace": "w", "patch": false})).unwrap();
        assert_eq!(named["patch"], false);
    }
}
