//! `types.py`: what operations take and give, as dataclasses and enumerations.

use std::fmt::Write as _;

use serde_json::Value;

use crate::contract::{Contract, Field, Kind, Shape, Type, Variant, Word};
use crate::python::{HEAD, constant, docstring, given, literal, name, pascal, read};

const IMPORTS: &str = r#"from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Mapping

from .. import _extras
from .._json import exact_bytes, maybe
from .errors import PyroError, error_from_json
"#;

/// `extras` is the text of `_extras.py`, whose classes are mixed in.
pub(crate) fn write(contract: &Contract, requests: &[String], extras: &str) -> String {
    let mut page = format!("{HEAD}\"\"\"What operations take and give.\"\"\"\n\n{IMPORTS}");
    let mut names = Vec::new();
    for (name, one) in &contract.types {
        // The errors have a module of their own, and the fields of requests are parameters.
        if name == "Error" || name == "ErrorCode" || requests.contains(name) {
            continue;
        }
        write_type(&mut page, name, one, contract, extras, &mut names);
    }
    names.sort();
    page.push_str("\n\n__all__ = [\n");
    for name in names {
        let _ = writeln!(page, "    {name:?},");
    }
    page.push_str("]\n");
    page
}

fn write_type(
    page: &mut String,
    name: &str,
    one: &Type,
    contract: &Contract,
    extras: &str,
    names: &mut Vec<String>,
) {
    match &one.shape {
        Shape::Plain(_) => return,
        Shape::Choice(words) => write_choice(page, name, &one.about, words),
        Shape::Record(fields) => {
            let mixed = extras.contains(&format!("\nclass {name}Extras"));
            let base = if mixed { format!("(_extras.{name}Extras)") } else { String::new() };
            write_record(page, &format!("{name}{base}"), &one.about, None, fields, contract);
        }
        Shape::Union { tag, variants } => {
            names.extend(variants.iter().map(|variant| variant_name(name, variant)));
            write_union(page, name, &one.about, tag, variants, contract);
        }
    }
    names.push(name.to_owned());
}

fn write_choice(page: &mut String, name: &str, about: &str, words: &[Word]) {
    let parts: Vec<_> =
        words.iter().map(|word| (constant(&word.value), word.about.clone())).collect();
    let _ = write!(page, "\n\nclass {name}(str, Enum):\n");
    page.push_str(&docstring("    ", about, "Values", &parts));
    page.push('\n');
    for word in words {
        let _ = writeln!(page, "    {} = {:?}", constant(&word.value), word.value);
    }
    page.push_str("\n    def __str__(self) -> str:\n        return self.value\n");
}

fn write_record(
    page: &mut String,
    class: &str,
    about: &str,
    tag: Option<(&str, &str)>,
    fields: &[Field],
    contract: &Contract,
) {
    let parts: Vec<_> =
        fields.iter().map(|field| (name(&field.name), field.about.clone())).collect();
    let _ = write!(page, "\n\n@dataclass(frozen=True)\nclass {class}:\n");
    page.push_str(&docstring("    ", about, "Attributes", &parts));
    page.push('\n');
    for field in fields {
        let (kind, default) = (settled(field, contract), default(field, contract));
        let _ = writeln!(page, "    {}: {}{default}", name(&field.name), given(&kind));
    }
    if let Some((tag, word)) = tag {
        let tag = name(tag);
        let _ =
            writeln!(page, "    {tag}: Literal[{word:?}] = field(default={word:?}, init=False)");
    }
    let bare = class.split('(').next().unwrap_or(class);
    let _ = write!(
        page,
        "\n    @classmethod\n    def from_json(cls, json: Mapping[str, Any]) -> {bare}:\n        \
         return cls("
    );
    for field in fields {
        let value = read(&settled(field, contract), &access(field, contract), contract);
        let _ = write!(page, "\n            {}={value},", name(&field.name));
    }
    page.push_str(if fields.is_empty() { ")\n" } else { "\n        )\n" });
    for field in fields {
        write_exact(page, field, fields);
    }
}

/// Beside a text that may have lost bytes stands one that has not.
fn write_exact(page: &mut String, field: &Field, fields: &[Field]) {
    let exact = format!("{}_base64", field.name);
    if !fields.iter().any(|other| other.name == exact) {
        return;
    }
    let optional = matches!(field.kind, Kind::Maybe(_));
    // A class may have a field of that name.
    let kind = if optional { "builtins.bytes | None" } else { "builtins.bytes" };
    let plain = name(&field.name);
    let call = format!("exact_bytes(self.{plain}, self.{exact})");
    let value = if optional { format!("None if self.{plain} is None else {call}") } else { call };
    let _ = write!(
        page,
        "\n    @property\n    def {plain}_bytes(self) -> {kind}:\n        \
         \"\"\"`{plain}` with the exact bytes that it has.\"\"\"\n        return {value}\n"
    );
}

fn variant_name(name: &str, variant: &Variant) -> String {
    format!("{name}{}", pascal(&variant.word))
}

fn write_union(
    page: &mut String,
    name: &str,
    about: &str,
    tag: &str,
    variants: &[Variant],
    contract: &Contract,
) {
    for variant in variants {
        let class = variant_name(name, variant);
        let tag = Some((tag, variant.word.as_str()));
        write_record(page, &class, &variant.about, tag, &variant.fields, contract);
    }
    let classes: Vec<_> = variants.iter().map(|variant| variant_name(name, variant)).collect();
    let _ = write!(page, "\n\n{name} = {}\n\"\"\"{about}\"\"\"\n", classes.join(" | "));
    let _ = write!(
        page,
        "\n\ndef read_{}(json: Mapping[str, Any]) -> {name}:\n    \
         \"\"\"The form that `{tag}` names.\"\"\"\n    match json[{tag:?}]:\n",
        name.to_ascii_lowercase()
    );
    for (variant, class) in variants.iter().zip(&classes) {
        let word = &variant.word;
        let _ =
            write!(page, "        case {word:?}:\n            return {class}.from_json(json)\n");
    }
    let _ = write!(
        page,
        "        case other:\n            raise ValueError(f\"{name} has no form {{other!r}}\")\n"
    );
}

/// What a field holds once it is read: one that may be missing has its default, or is `None`.
fn settled(field: &Field, contract: &Contract) -> Kind {
    let kind = contract.plain(&field.kind);
    let scalar = matches!(field.default, Value::Bool(_) | Value::Number(_) | Value::String(_));
    let missing = !field.required && !scalar && empty(&kind).is_none();
    match kind {
        Kind::Maybe(_) => kind,
        kind if missing => Kind::Maybe(Box::new(kind)),
        kind => kind,
    }
}

/// Where the JSON value of a field is.
fn access(field: &Field, contract: &Contract) -> String {
    let key = &field.name;
    match (field.required, &field.default, empty(&contract.plain(&field.kind))) {
        (true, ..) => format!("json[{key:?}]"),
        (_, Value::Bool(_) | Value::Number(_) | Value::String(_), _) => {
            format!("json.get({key:?}, {})", literal(&field.default))
        }
        (_, _, Some((_, empty))) => format!("json.get({key:?}, {empty})"),
        _ => format!("json.get({key:?})"),
    }
}

fn default(field: &Field, contract: &Contract) -> String {
    let kind = contract.plain(&field.kind);
    match (field.required, &field.default, empty(&kind)) {
        (true, ..) => String::new(),
        (_, Value::String(word), _) if matches!(kind, Kind::Named(_)) => match &kind {
            Kind::Named(name) => format!(" = {name}({word:?})"),
            _ => String::new(),
        },
        (_, Value::Bool(_) | Value::Number(_) | Value::String(_), _) => {
            format!(" = {}", literal(&field.default))
        }
        (_, _, Some((made, _))) => format!(" = {made}"),
        _ => " = None".to_owned(),
    }
}

/// What stands for a value that is left out because it is empty: in a dataclass, and in JSON.
fn empty(kind: &Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::List(_) => Some(("field(default_factory=list)", "[]")),
        Kind::Map(_) => Some(("field(default_factory=dict)", "{}")),
        Kind::Integer | Kind::Number => Some(("0", "0")),
        Kind::Flag => Some(("False", "False")),
        Kind::Text | Kind::Anything | Kind::Named(_) | Kind::Maybe(_) => None,
    }
}
