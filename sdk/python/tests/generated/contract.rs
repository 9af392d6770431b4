//! The contract's document, read into types that the writers can walk.

use std::collections::BTreeMap;

use serde_json::Value;

/// Everything the writers need to know.
pub(crate) struct Contract {
    pub(crate) types: BTreeMap<String, Type>,
    pub(crate) operations: Vec<Operation>,
}

pub(crate) struct Type {
    pub(crate) about: String,
    pub(crate) shape: Shape,
}

pub(crate) enum Shape {
    /// An object with these fields.
    Record(Vec<Field>),
    /// One word of these.
    Choice(Vec<Word>),
    /// One of several objects, told apart by the field `tag`.
    Union { tag: String, variants: Vec<Variant> },
    /// Something that JSON has itself.
    Plain(Kind),
}

pub(crate) struct Word {
    pub(crate) value: String,
    pub(crate) about: String,
}

pub(crate) struct Variant {
    pub(crate) word: String,
    pub(crate) about: String,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    pub(crate) default: Value,
    pub(crate) about: String,
}

#[derive(Clone, PartialEq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Number,
    Flag,
    Anything,
    List(Box<Kind>),
    Map(Box<Kind>),
    Named(String),
    Maybe(Box<Kind>),
}

pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) workspace_method: Option<String>,
    pub(crate) summary: String,
    pub(crate) request: Vec<Field>,
    pub(crate) result: Kind,
}

impl Contract {
    pub(crate) fn read(document: &Value) -> Self {
        let types: BTreeMap<String, Type> = document["types"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.clone(), read_type(name, schema)))
            .collect();
        let fields = |request: &Value| match read_kind(request) {
            Kind::Named(name) => match &types[&name].shape {
                Shape::Record(fields) => fields.clone(),
                _ => panic!("the request {name} is no object"),
            },
            _ => panic!("a request has no name: {request}"),
        };
        let operations = list(&document["operations"]).iter().map(|operation| Operation {
            name: text(&operation["name"]),
            method: text(&operation["method"]),
            workspace_method: operation["workspace_method"].as_str().map(str::to_owned),
            summary: text(&operation["summary"]),
            request: fields(&operation["request"]),
            result: read_kind(&operation["result"]),
        });
        let operations = operations.collect();
        Self { types, operations }
    }

    /// What a kind comes down to: names of plain things are resolved.
    pub(crate) fn plain(&self, kind: &Kind) -> Kind {
        match kind {
            Kind::Named(name) => match &self.types[name].shape {
                Shape::Plain(kind) => self.plain(kind),
                _ => kind.clone(),
            },
            Kind::List(item) => Kind::List(Box::new(self.plain(item))),
            Kind::Map(value) => Kind::Map(Box::new(self.plain(value))),
            Kind::Maybe(real) => Kind::Maybe(Box::new(self.plain(real))),
            other => other.clone(),
        }
    }

    pub(crate) fn record(&self, kind: &Kind) -> Option<&[Field]> {
        let Kind::Named(name) = kind else { return None };
        match &self.types[name].shape {
            Shape::Record(fields) => Some(fields),
            _ => None,
        }
    }
}

fn read_type(name: &str, schema: &Value) -> Type {
    let variants = list(&schema["oneOf"]);
    let shape = if schema["properties"].is_object() {
        // A union that was flattened into an object: any of its fields may be there.
        let mut fields = read_fields(schema);
        for variant in variants {
            for mut field in read_fields(variant) {
                if fields.iter().any(|known| known.name == field.name) {
                    continue;
                }
                let told = variant["properties"][&field.name]["const"].is_string();
                field.required = told;
                if told {
                    field.about = "Which form it has.".to_owned();
                }
                if !told && !matches!(field.kind, Kind::Maybe(_)) {
                    field.kind = Kind::Maybe(Box::new(field.kind));
                }
                fields.push(field);
            }
        }
        // Required ones first, as they stand in a signature.
        fields.sort_by_key(|field| !field.required);
        Shape::Record(fields)
    } else if variants.iter().any(|variant| variant["properties"].is_object()) {
        read_union(name, variants)
    } else if !variants.is_empty() {
        Shape::Choice(variants.iter().flat_map(words).collect())
    } else if schema["type"] == "object" && !schema["additionalProperties"].is_object() {
        Shape::Record(Vec::new())
    } else {
        Shape::Plain(read_kind(schema))
    };
    Type { about: text(&schema["description"]), shape }
}

/// A documented word stands alone (`const`), others together (`enum`).
fn words(variant: &Value) -> Vec<Word> {
    let about = text(&variant["description"]);
    match variant["const"].as_str() {
        Some(value) => vec![Word { value: value.to_owned(), about }],
        None => list(&variant["enum"])
            .iter()
            .map(|value| Word { value: text(value), about: about.clone() })
            .collect(),
    }
}

fn read_union(name: &str, variants: &[Value]) -> Shape {
    let tag_of = |variant: &Value| {
        let properties = variant["properties"].as_object();
        let mut tags =
            properties.into_iter().flatten().filter(|(_, field)| field["const"].is_string());
        tags.next().map(|(tag, field)| (tag.clone(), text(&field["const"])))
    };
    let tag = variants.first().and_then(tag_of).map(|(tag, _)| tag);
    let tag = tag.unwrap_or_else(|| panic!("the forms of {name} have no tag"));
    let variants = variants.iter().map(|variant| {
        let (_, word) = tag_of(variant).unwrap_or_else(|| panic!("a form of {name} has no tag"));
        let mut fields = read_fields(variant);
        fields.retain(|field| field.name != tag);
        Variant { word, about: text(&variant["description"]), fields }
    });
    Shape::Union { variants: variants.collect(), tag }
}

/// The fields of an object: the required ones in the order of the contract, then the others.
fn read_fields(schema: &Value) -> Vec<Field> {
    let required: Vec<&str> = list(&schema["required"]).iter().filter_map(Value::as_str).collect();
    let place = |name: &str| required.iter().position(|known| *known == name);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut fields: Vec<Field> = properties
        .map(|(name, field)| Field {
            name: name.clone(),
            kind: read_kind(field),
            required: place(name).is_some(),
            default: field["default"].clone(),
            about: text(&field["description"]),
        })
        .collect();
    fields.sort_by_key(|field| place(&field.name).unwrap_or(usize::MAX));
    fields
}

fn read_kind(schema: &Value) -> Kind {
    if let Some(name) = schema["$ref"].as_str() {
        return Kind::Named(name.trim_start_matches("#/types/").to_owned());
    }
    let alternatives = list(&schema["anyOf"]);
    if !alternatives.is_empty() {
        let mut real = alternatives.iter().filter(|one| one["type"] != "null");
        return match (real.next(), real.next()) {
            (Some(one), None) => Kind::Maybe(Box::new(read_kind(one))),
            _ => panic!("no Python for {schema}"),
        };
    }
    if let Some(names) = schema["type"].as_array() {
        let mut bare = schema.clone();
        bare["type"] = names.iter().find(|name| *name != "null").cloned().unwrap_or_default();
        return Kind::Maybe(Box::new(read_kind(&bare)));
    }
    match schema["type"].as_str() {
        Some("string") => Kind::Text,
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Flag,
        Some("array") => Kind::List(Box::new(read_kind(&schema["items"]))),
        Some("object") if schema["additionalProperties"].is_object() => {
            Kind::Map(Box::new(read_kind(&schema["additionalProperties"])))
        }
        None => Kind::Anything,
        Some(_) => panic!("no Python for {schema}"),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The first paragraph: what follows is about Rust.
fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.split("\n\n").next().unwrap_or_default().replace('\n', " ")
}
