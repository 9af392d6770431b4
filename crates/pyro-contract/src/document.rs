//! The whole contract as one JSON document: what `pyro contract` prints, and what doors that are
//! not written in Rust are tested against.

use schemars::{Schema, schema_for};
use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorCode};
use crate::operation::{CATALOGUE, Operation};

/// `{version, operations, types, error_codes}`. Schemas refer to `types` as `#/types/NAME`.
///
/// ```
/// let document = pyro_contract::document::contract();
/// let first = &document["operations"][0];
/// assert_eq!(first["name"], "run");
/// assert!(document["types"]["Shape"]["properties"]["mem_mib"].is_object());
/// ```
#[must_use]
pub fn contract() -> Value {
    let mut types = Map::new();
    let operations: Vec<Value> =
        CATALOGUE.iter().map(|operation| entry(operation, &mut types)).collect();
    // The error is in no result, yet every door shows it.
    take(schema_for!(Error), &mut types);
    let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "operations": operations,
        "types": types,
        "error_codes": codes,
    })
}

fn entry(operation: &Operation, types: &mut Map<String, Value>) -> Value {
    json!({
        "name": operation.name,
        "command": operation.command,
        "method": operation.method(),
        "workspace_method": operation.workspace_method(),
        "summary": operation.summary,
        "read_only": operation.read_only,
        "destructive": operation.destructive,
        "idempotent": operation.idempotent,
        "request": take((operation.request)(), types),
        "result": take((operation.result)(), types),
    })
}

/// Moves a schema and its definitions to the common ones, and leaves a reference to it. A list has
/// no name of its own and stays as it is.
fn take(schema: Schema, types: &mut Map<String, Value>) -> Value {
    let mut schema = schema.to_value();
    relink(&mut schema);
    let Some(object) = schema.as_object_mut() else { return schema };
    object.remove("$schema");
    if let Some(Value::Object(definitions)) = object.remove("$defs") {
        types.extend(definitions);
    }
    match object.remove("title") {
        Some(Value::String(name)) if object.get("type") == Some(&json!("object")) => {
            let reference = json!({ "$ref": format!("#/types/{name}") });
            types.insert(name, schema);
            reference
        }
        _ => schema,
    }
}

fn relink(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(target)) = object.get_mut("$ref") {
                *target = target.replacen("#/$defs/", "#/types/", 1);
            }
            object.values_mut().for_each(relink);
        }
        Value::Array(items) => items.iter_mut().for_each(relink),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two types of one name would silently become one.
    #[test]
    fn a_name_means_one_type() {
        let mut seen: Map<String, Value> = Map::new();
        for operation in CATALOGUE {
            for schema in [(operation.request)(), (operation.result)()] {
                let mut types = Map::new();
                take(schema, &mut types);
                for (name, definition) in types {
                    let before = seen.insert(name.clone(), definition.clone());
                    assert!(before.is_none_or(|before| before == definition), "{name}");
                }
            }
        }
        assert!(seen.contains_key("Shape"));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, types: &Value) {
            match value {
                Value::Object(object) => {
                    if let Some(target) = object.get("$ref").and_then(Value::as_str) {
                        let name = target.strip_prefix("#/types/").unwrap();
                        assert!(types[name].is_object(), "{target}");
                    }
                    object.values().for_each(|value| check(value, types));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, types)),
                _ => {}
            }
        }
        let document = contract();
        check(&document, &document["types"]);
    }
}
