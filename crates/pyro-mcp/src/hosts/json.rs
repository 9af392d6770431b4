//! JSON with comments and trailing commas, as editors write it.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use pyro_contract::{Error, ErrorCode, Result};
use serde_json::{Map, Value};

use super::{Format, Outcome};

pub(super) struct Json;

/// Comments and trailing commas; nothing that only other dialects know.
const DIALECT: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

fn parse(text: &str) -> Result<CstRootNode> {
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    CstRootNode::parse(text, &DIALECT)
        .map_err(|error| invalid(format!("it is not valid JSON: {error}")))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}

fn top(root: &CstRootNode) -> Result<CstObject> {
    root.object_value().ok_or_else(|| invalid("it does not hold an object"))
}

/// The objects on the way to the entry, outermost first; fewer if the way ends early.
fn way(top: CstObject, path: &[&str]) -> Result<Vec<CstObject>> {
    let mut way = vec![top];
    for name in path {
        let Some(property) = way.last().and_then(|at| at.get(name)) else { break };
        way.push(
            property.object_value().ok_or_else(|| invalid(format!("{name:?} is not an object")))?,
        );
    }
    Ok(way)
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(value) => CstInputValue::Number(value.to_string()),
        Value::String(value) => CstInputValue::String(value.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(object) => CstInputValue::Object(
            object.iter().map(|(name, value)| (name.clone(), input(value))).collect(),
        ),
    }
}

impl Format for Json {
    fn put(
        &self,
        text: &str,
        path: &[&str],
        entry: &Map<String, Value>,
    ) -> Result<Option<(String, Outcome)>> {
        let root = parse(text)?;
        let way = way(top(&root)?, path)?;
        let Some(mut at) = way.last().cloned() else { return Ok(None) };
        let missing = path.get(way.len() - 1..).unwrap_or_default();
        let outcome = match missing.split_last() {
            Some((name, between)) => {
                for name in between {
                    at = at
                        .object_value_or_create(name)
                        .ok_or_else(|| invalid("it is no object"))?;
                }
                at.append(name, input(&Value::Object(entry.clone())));
                Outcome::Added
            }
            None => {
                let kept = at.to_serde_value().unwrap_or_default();
                if entry.iter().all(|(name, value)| kept.get(name) == Some(value)) {
                    return Ok(None);
                }
                for (name, value) in entry {
                    match at.get(name) {
                        Some(property) => property.set_value(input(value)),
                        None => drop(at.append(name, input(value))),
                    }
                }
                Outcome::Updated
            }
        };
        Ok(Some((root.to_string(), outcome)))
    }

    fn take(&self, text: &str, path: &[&str]) -> Result<Option<String>> {
        let root = parse(text)?;
        let mut way = way(top(&root)?, path)?;
        if way.len() <= path.len() {
            return Ok(None);
        }
        way.pop();
        for (at, name) in way.iter().zip(path).rev() {
            if let Some(property) = at.get(name) {
                property.remove();
            }
            if !is_bare(at) {
                break;
            }
        }
        Ok(Some(root.to_string()))
    }

    fn get(&self, text: &str, path: &[&str]) -> Result<Option<Value>> {
        let root = parse(text)?;
        let way = way(top(&root)?, path)?;
        let found = way.get(path.len());
        Ok(found.and_then(CstObject::to_serde_value))
    }

    fn is_empty(&self, text: &str) -> bool {
        text.split_whitespace().collect::<String>() == "{}"
    }
}

/// Neither property nor comment.
fn is_bare(object: &CstObject) -> bool {
    object.to_string().split_whitespace().collect::<String>() == "{}"
}
