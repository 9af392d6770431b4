//! TOML, whose comments and order `toml_edit` keeps.

use pyro_contract::{Error, ErrorCode, Result};
use serde_json::{Map, Value};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value as Toml_, value};

use super::{Format, Outcome};

pub(super) struct Toml;

fn parse(text: &str) -> Result<DocumentMut> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        invalid(format!("it is not valid TOML: {}", error.to_string().trim()))
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}

fn to_toml(value: &Value) -> Toml_ {
    match value {
        Value::Null => Toml_::from(""),
        Value::Bool(value) => Toml_::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Toml_::from(number),
            None => Toml_::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Toml_::from(text.as_str()),
        Value::Array(items) => Toml_::Array(items.iter().map(to_toml).collect::<Array>()),
        Value::Object(object) => {
            let pairs = object.iter().map(|(name, value)| (name.as_str(), to_toml(value)));
            Toml_::InlineTable(pairs.collect::<InlineTable>())
        }
    }
}

fn to_json(item: &Item) -> Value {
    if let Some(table) = item.as_table_like() {
        return table.iter().map(|(name, item)| (name.to_owned(), to_json(item))).collect();
    }
    match item.as_value() {
        Some(Toml_::String(text)) => text.value().clone().into(),
        Some(Toml_::Integer(number)) => (*number.value()).into(),
        Some(Toml_::Float(number)) => (*number.value()).into(),
        Some(Toml_::Boolean(flag)) => (*flag.value()).into(),
        Some(Toml_::Array(items)) => {
            items.iter().map(|item| to_json(&Item::Value(item.clone()))).collect()
        }
        Some(other) => other.to_string().into(),
        None => Value::Null,
    }
}

/// The table of a name, if there is one.
fn below<'a>(table: &'a mut dyn TableLike, name: &str) -> Result<Option<&'a mut dyn TableLike>> {
    match table.get_mut(name) {
        None => Ok(None),
        Some(item) => match item.as_table_like_mut() {
            Some(table) => Ok(Some(table)),
            None => Err(invalid(format!("{name} is not a table"))),
        },
    }
}

fn names<'a>(path: &[&'a str]) -> Result<(&'a str, &'a str)> {
    match path {
        [servers, name] => Ok((servers, name)),
        _ => Err(invalid("an entry of TOML stands in a table of a table")),
    }
}

impl Format for Toml {
    fn put(
        &self,
        text: &str,
        path: &[&str],
        entry: &Map<String, Value>,
    ) -> Result<Option<(String, Outcome)>> {
        let (servers, name) = names(path)?;
        let mut document = parse(text)?;
        let top = document.as_table_mut();
        if below(top, servers)?.is_none() {
            // Only its tables have headers: `[mcp_servers.pyro]`.
            let mut table = Table::new();
            table.set_implicit(true);
            top.insert(servers, Item::Table(table));
        }
        let Some(table) = below(top, servers)? else { return Ok(None) };
        let outcome = match below(table, name)? {
            Some(kept) => {
                let is_right = |(name, value): (&String, &Value)| {
                    kept.get(name).is_some_and(|item| to_json(item) == *value)
                };
                if entry.iter().all(is_right) {
                    return Ok(None);
                }
                for (name, new) in entry {
                    kept.insert(name, value(to_toml(new)));
                }
                Outcome::Updated
            }
            None => {
                let mut new = Table::new();
                for (name, each) in entry {
                    new.insert(name, value(to_toml(each)));
                }
                table.insert(name, Item::Table(new));
                Outcome::Added
            }
        };
        Ok(Some((document.to_string(), outcome)))
    }

    fn take(&self, text: &str, path: &[&str]) -> Result<Option<String>> {
        let (servers, name) = names(path)?;
        let mut document = parse(text)?;
        let top = document.as_table_mut();
        let Some(table) = below(top, servers)? else { return Ok(None) };
        if table.remove(name).is_none() {
            return Ok(None);
        }
        if table.is_empty() {
            top.remove(servers);
        }
        Ok(Some(document.to_string()))
    }

    fn get(&self, text: &str, path: &[&str]) -> Result<Option<Value>> {
        let (servers, name) = names(path)?;
        let mut document = parse(text)?;
        let Some(table) = below(document.as_table_mut(), servers)? else { return Ok(None) };
        Ok(table.get(name).map(to_json))
    }

    fn is_empty(&self, text: &str) -> bool {
        text.trim().is_empty()
    }
}
