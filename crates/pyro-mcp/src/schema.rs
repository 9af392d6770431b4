//! The contract's JSON schemas, as small as a model needs them.
//!
//! Titles, formats, nulls and defaults that go without saying are dropped, references written out,
//! descriptions cut to their first sentence. Of results only the outline is left.

use pyro_contract::operation::Operation;
use schemars::Schema;
use serde_json::{Map, Value, json};

use crate::table::Entry;

/// No schema refers to itself so far; one that did would end here.
const MAX_DEPTH: usize = 12;

/// The schema of a tool's arguments.
pub(crate) fn input(operation: &Operation, entry: &Entry) -> Map<String, Value> {
    let mut schema = Simplifier::new((operation.request)(), true).root();
    flatten_command(&mut schema);
    let mut properties = take_object(&mut schema, "properties");
    for (name, _) in entry.withheld {
        properties.remove(*name);
    }
    // Exact names of any bytes are taken, but no model has to hear of them.
    properties.retain(|name, _| !name.ends_with("_base64"));
    for (name, words) in entry.words {
        if let Some(Value::Object(property)) = properties.get_mut(*name) {
            property.insert("description".into(), (*words).into());
        }
    }
    if properties.contains_key("argv") {
        // The contract's own name for a line of the shell, which is taken too.
        properties.remove("shell");
        offer_shell(&mut properties, &mut schema);
    }
    if let Some(env) = properties.get_mut("env")
        && env["type"] == "array"
    {
        let words = env["description"].clone();
        *env = json!({
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": words,
        });
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name.as_str().is_some_and(|name| properties.contains_key(name)));
    }
    if schema.get("required").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        schema.remove("required");
    }
    schema.remove("description");
    schema.insert("properties".into(), Value::Object(properties));
    schema
}

/// The outline of a tool's result, which is an object.
///
/// It requires nothing: clients hold errors against it too, which are `{code, message, …}`.
pub(crate) fn output(operation: &Operation, entry: &Entry) -> Map<String, Value> {
    let mut schema = Simplifier::new((operation.result)(), false).root();
    if schema.get("type") == Some(&json!("array")) {
        let list = json!({"type": "array", "items": {"type": "object"}});
        schema = object([
            ("type", "object".into()),
            ("properties", object([(entry.list, list)]).into()),
        ]);
    }
    schema.remove("description");
    schema.remove("required");
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.retain(|name, _| !name.ends_with("_base64") && !name.ends_with("_digest"));
    }
    schema
}

/// The names of the fields of a request; those of the command in it count as its own.
pub(crate) fn fields(request: &fn() -> Schema) -> Vec<String> {
    let mut schema = Simplifier::new(request(), true).root();
    flatten_command(&mut schema);
    take_object(&mut schema, "properties").into_iter().map(|(name, _)| name).collect()
}

/// `run` has its command in a part of its own; a model finds it easier beside the rest.
fn flatten_command(schema: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    if !properties.get("exec").is_some_and(|exec| exec["properties"]["argv"].is_object()) {
        return;
    }
    let Some(Value::Object(mut exec)) = properties.remove("exec") else { return };
    for (name, property) in take_object(&mut exec, "properties") {
        properties.entry(name).or_insert(property);
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name != "exec");
    }
}

/// A line for the shell is what models mostly have; exact arguments are there for the rest.
fn offer_shell(properties: &mut Map<String, Value>, schema: &mut Map<String, Value>) {
    let words = json!("A line for the shell (sh -lc).");
    properties.insert("command".into(), json!({"type": "string", "description": words}));
    if let Some(Value::Object(argv)) = properties.get_mut("argv") {
        argv.insert("description".into(), "Instead of command: exact arguments, no shell.".into());
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name != "argv");
    }
}

fn take_object(map: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match map.remove(key) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn object<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

struct Simplifier {
    root: Value,
    definitions: Value,
    /// Keep words and constraints, which only arguments need.
    in_full: bool,
}

impl Simplifier {
    fn new(schema: Schema, in_full: bool) -> Self {
        let mut root = schema.to_value();
        let definitions = root.as_object_mut().and_then(|root| root.remove("$defs"));
        Self { root, definitions: definitions.unwrap_or_default(), in_full }
    }

    fn root(&self) -> Map<String, Value> {
        self.simplify(&self.root, 0)
    }

    fn simplify(&self, schema: &Value, depth: usize) -> Map<String, Value> {
        let Value::Object(written) = schema else { return Map::new() };
        let merged = self.resolve(written);
        if depth > MAX_DEPTH || (!self.in_full && depth > 0 && merged.contains_key("properties")) {
            return object([("type", "object".into())]);
        }
        let mut simple = Map::new();
        for (key, value) in &merged {
            match (key.as_str(), value) {
                ("type", Value::Array(types)) => {
                    let named = types.iter().find(|one| *one != "null");
                    simple.extend(named.map(|one| ("type".to_owned(), one.clone())));
                }
                // Which names a result may hold is learnt from results.
                ("enum", _) if !self.in_full => {}
                ("type" | "enum" | "const" | "required", _) => {
                    simple.insert(key.clone(), value.clone());
                }
                ("minimum", Value::Number(least)) if least.as_f64() == Some(0.0) => {}
                ("minimum" | "maximum" | "minItems" | "maxItems", _) if self.in_full => {
                    simple.insert(key.clone(), value.clone());
                }
                ("description", Value::String(words)) if self.in_full => {
                    simple.insert(key.clone(), first_sentence(words).into());
                }
                ("properties", Value::Object(properties)) => {
                    let each = |(name, property)| {
                        (String::clone(name), Value::Object(self.simplify(property, depth + 1)))
                    };
                    simple
                        .insert(key.clone(), Value::Object(properties.iter().map(each).collect()));
                }
                ("items" | "additionalProperties", Value::Object(_)) => {
                    simple.insert(key.clone(), Value::Object(self.simplify(value, depth + 1)));
                }
                ("oneOf" | "anyOf", Value::Array(choices)) => {
                    self.choose(key, choices, depth, &mut simple);
                }
                _ => {}
            }
        }
        if simple.contains_key("const") {
            simple.remove("type");
        }
        simple
    }

    /// A choice with nothing, of names alone, or of shapes.
    fn choose(&self, key: &str, choices: &[Value], depth: usize, simple: &mut Map<String, Value>) {
        let real: Vec<&Value> = choices.iter().filter(|one| one["type"] != "null").collect();
        if let [only] = real.as_slice() {
            for (name, value) in self.simplify(only, depth) {
                simple.entry(name).or_insert(value);
            }
            return;
        }
        let names: Vec<Value> = real
            .iter()
            .flat_map(|one| match (&one["const"], &one["enum"]) {
                (name @ Value::String(_), _) => vec![name.clone()],
                (_, Value::Array(names)) => names.clone(),
                _ => vec![Value::Null],
            })
            .collect();
        if names.iter().all(Value::is_string) {
            simple.insert("type".into(), "string".into());
            if self.in_full {
                simple.insert("enum".into(), names.into());
            }
        } else if !self.in_full && depth > 0 {
            simple.insert("type".into(), "object".into());
        } else {
            let shapes = real.iter().map(|one| Value::Object(self.simplify(one, depth + 1)));
            simple.insert(key.to_owned(), shapes.collect());
        }
    }

    /// The schema with what it refers to; words beside a reference outrank those behind it.
    fn resolve(&self, written: &Map<String, Value>) -> Map<String, Value> {
        let target = written.get("$ref").and_then(Value::as_str);
        let Some(name) = target.and_then(|target| target.strip_prefix("#/$defs/")) else {
            return written.clone();
        };
        let mut merged = match &self.definitions[name] {
            Value::Object(definition) => self.resolve(definition),
            _ => Map::new(),
        };
        let beside = written.iter().filter(|(key, _)| *key != "$ref");
        merged.extend(beside.map(|(key, value)| (key.clone(), value.clone())));
        merged
    }
}

fn first_sentence(words: &str) -> String {
    let words = words.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let end = words.find(". ").map_or(words.len(), |at| at + 1);
    words.get(..end).unwrap_or(&words).replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::entry;
    use pyro_contract::operation::CATALOGUE;

    fn input_of(name: &str) -> Value {
        let operation = CATALOGUE.iter().find(|one| one.name == name).unwrap();
        input(operation, entry(name).unwrap()).into()
    }

    #[test]
    fn an_exec_takes_a_line_or_arguments_and_no_stdin() {
        let schema = input_of("workspace_exec");
        assert_eq!(schema["required"], json!(["workspace"]));
        assert_eq!(schema["properties"]["command"]["type"], "string");
        assert_eq!(schema["properties"]["argv"]["items"], json!({"type": "string"}));
        assert_eq!(schema["properties"]["env"]["additionalProperties"], json!({"type": "string"}));
        assert!(schema["properties"]["stdin"].is_null());
    }

    #[test]
    fn a_run_has_its_command_beside_the_rest() {
        let schema = input_of("run");
        assert!(schema["properties"]["exec"].is_null());
        assert!(schema["properties"]["cwd"].is_object());
        assert_eq!(schema["required"], json!(["environment"]));
    }

    #[test]
    fn nothing_is_left_that_a_model_does_not_need() {
        for operation in CATALOGUE {
            let Some(entry) = entry(operation.name) else { continue };
            for schema in [input(operation, entry), output(operation, entry)] {
                let text = Value::Object(schema.clone()).to_string();
                for word in ["$ref", "$defs", "\"title\"", "\"format\"", "\"null\"", "\"default\""]
                {
                    assert!(!text.contains(word), "{}: {word} in {text}", operation.name);
                }
                assert_eq!(schema["type"], "object", "{}", operation.name);
            }
        }
    }

    #[test]
    fn a_choice_of_names_is_a_list_of_names() {
        let engine = &input_of("workspace_create")["properties"]["engine"];
        assert_eq!(engine["enum"], json!(["auto", "firecracker", "qemu", "container"]));
        let seed = &input_of("workspace_create")["properties"]["seed"];
        assert_eq!(seed["oneOf"][2]["properties"]["kind"], json!({"const": "git"}));
    }

    #[test]
    fn an_error_fits_every_output_schema() {
        for operation in CATALOGUE {
            let Some(entry) = entry(operation.name) else { continue };
            let schema = output(operation, entry);
            assert!(!schema.contains_key("required"), "{}", operation.name);
            for field in ["code", "message", "cause", "hint"] {
                let taken = &schema["properties"][field];
                assert!(
                    taken.is_null() || taken["type"] == "string",
                    "{}: {field}",
                    operation.name
                );
            }
        }
    }

    #[test]
    fn descriptions_are_cut_after_their_first_sentence() {
        assert_eq!(first_sentence("One `two`. Three.\n\nFour"), "One two.");
        assert_eq!(first_sentence("v1.2 is\nfine"), "v1.2 is fine");
    }
}
