//! Words of Python.

use serde_json::Value;

use crate::contract::{Contract, Kind, Shape};

pub(crate) const HEAD: &str = "\
# Written by `make reference` from the catalogue of operations; a test fails while it differs from
# them. Do not edit.
";

/// How wide the lines are.
pub(crate) const WIDTH: usize = 99;

const KEYWORDS: &[&str] = &[
    "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif",
    "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda",
    "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// A name that Python takes; an underscore is added to its own words.
pub(crate) fn name(word: &str) -> String {
    if KEYWORDS.contains(&word) { format!("{word}_") } else { word.to_owned() }
}

/// `not_found` as `NotFound`.
pub(crate) fn pascal(words: &str) -> String {
    let mut chars = words.split(['_', '-', '.']).map(str::chars);
    chars
        .by_ref()
        .flat_map(|mut word| word.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(word))
        .collect()
}

/// `hardware_vm` as `HARDWARE_VM`.
pub(crate) fn constant(words: &str) -> String {
    words.replace(['-', '.'], "_").to_ascii_uppercase()
}

/// A value as Python writes it.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(_) | Value::Number(_) => value.to_string(),
        _ => "None".to_owned(),
    }
}

/// The type of a value that pyro gives.
pub(crate) fn given(kind: &Kind) -> String {
    match kind {
        Kind::Text => "str".to_owned(),
        Kind::Integer => "int".to_owned(),
        Kind::Number => "float".to_owned(),
        Kind::Flag => "bool".to_owned(),
        Kind::Anything => "Any".to_owned(),
        Kind::List(item) => format!("list[{}]", given(item)),
        Kind::Map(value) => format!("dict[str, {}]", given(value)),
        Kind::Named(name) if name == "Error" => "PyroError".to_owned(),
        Kind::Named(name) => name.clone(),
        Kind::Maybe(real) => format!("{} | None", given(real)),
    }
}

/// The type of a value that pyro takes.
pub(crate) fn taken(kind: &Kind, contract: &Contract) -> String {
    match kind {
        Kind::List(item) => format!("Sequence[{}]", taken(item, contract)),
        Kind::Map(value) => format!("Mapping[str, {}]", taken(value, contract)),
        Kind::Maybe(real) => format!("{} | None", taken(real, contract)),
        Kind::Named(name) => match &contract.types[name].shape {
            Shape::Choice(words) => {
                let words: Vec<String> =
                    words.iter().map(|word| format!("{:?}", word.value)).collect();
                format!("{name} | Literal[{}]", words.join(", "))
            }
            _ => name.clone(),
        },
        other => given(other),
    }
}

/// What makes a Python value of a JSON one.
pub(crate) fn read(kind: &Kind, json: &str, contract: &Contract) -> String {
    match kind {
        Kind::Text | Kind::Integer | Kind::Number | Kind::Flag | Kind::Anything => json.to_owned(),
        Kind::List(item) if is_json(item) => format!("list({json})"),
        Kind::List(item) => format!("[{} for item in {json}]", read(item, "item", contract)),
        Kind::Map(value) if is_json(value) => format!("dict({json})"),
        Kind::Map(value) => {
            format!("{{key: {} for key, value in {json}.items()}}", read(value, "value", contract))
        }
        Kind::Named(_) => format!("{}({json})", reader(kind, contract)),
        Kind::Maybe(real) if is_json(real) => json.to_owned(),
        Kind::Maybe(real) => format!("maybe({json}, {})", reader(real, contract)),
    }
}

/// The function that makes a Python value of a JSON one.
fn reader(kind: &Kind, contract: &Contract) -> String {
    match kind {
        Kind::Named(name) if name == "Error" => "error_from_json".to_owned(),
        Kind::Named(name) => match contract.types[name].shape {
            Shape::Choice(_) => name.clone(),
            Shape::Union { .. } => format!("read_{}", name.to_ascii_lowercase()),
            Shape::Record(_) | Shape::Plain(_) => format!("{name}.from_json"),
        },
        other => format!("lambda value: {}", read(other, "value", contract)),
    }
}

fn is_json(kind: &Kind) -> bool {
    match kind {
        Kind::Text | Kind::Integer | Kind::Number | Kind::Flag | Kind::Anything => true,
        Kind::Maybe(real) => is_json(real),
        Kind::List(_) | Kind::Map(_) | Kind::Named(_) => false,
    }
}

/// A docstring: what it is, then the parts that it has.
pub(crate) fn docstring(
    indent: &str,
    about: &str,
    title: &str,
    parts: &[(String, String)],
) -> String {
    let mut lines = wrap(about, indent, "");
    if !parts.is_empty() {
        lines.push(String::new());
        lines.push(format!("{indent}{title}:"));
        for (name, about) in parts {
            lines.extend(wrap(&format!("{name}: {about}"), &format!("{indent}    "), "    "));
        }
    }
    let body = lines.join("\n").trim_start().replace('\\', "\\\\");
    match lines.len() {
        1 if indent.len() + body.len() + 6 <= WIDTH => format!("{indent}\"\"\"{body}\"\"\"\n"),
        _ => format!("{indent}\"\"\"{body}\n{indent}\"\"\"\n"),
    }
}

/// Lines of text; all but the first have `hanging` besides the indent.
fn wrap(text: &str, indent: &str, hanging: &str) -> Vec<String> {
    let mut lines = vec![indent.to_owned()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            let begun = !line.trim().is_empty();
            // Three more for the quotes that a first line begins with.
            if begun && line.len() + 1 + word.len() + 3 > WIDTH {
                lines.push(format!("{indent}{hanging}{word}"));
                continue;
            }
            if begun {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A call or signature, on one line if it fits, else one argument a line.
pub(crate) fn call(indent: &str, before: &str, arguments: &[String], after: &str) -> String {
    let line = format!("{indent}{before}({}){after}", arguments.join(", "));
    if line.len() <= WIDTH {
        return line + "\n";
    }
    let mut text = format!("{indent}{before}(\n");
    for argument in arguments {
        let line = format!("{indent}    {argument},");
        text += &line;
        text.push('\n');
    }
    text + &format!("{indent}){after}\n")
}
