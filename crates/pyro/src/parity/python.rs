//! The generated classes of the Python SDK, read as text. That they are what the catalogue makes of
//! them is tested where they are made; this does not trust whoever makes them.

use serde_json::Value;

use super::{REFUSED, fields};

const OPERATIONS: &str =
    include_str!("../../../../sdk/python/python/pyro_workspaces/_generated/operations.py");
const ERRORS: &str =
    include_str!("../../../../sdk/python/python/pyro_workspaces/_generated/errors.py");

/// Words of the language, which get an underscore as parameters (PEP 8).
const KEYWORDS: &[&str] = &["from"];

/// What is no parameter, and why.
fn is_left_out(operation: &str, field: &str, known: &[super::Field]) -> bool {
    // A call with one answer sends no input; `Workspace.exec` takes it by itself.
    let is_input = field == "stdin";
    // A path may be bytes.
    let is_the_same_exactly = field
        .strip_suffix("_base64")
        .is_some_and(|text| known.iter().any(|other| other.name == text));
    is_input || is_the_same_exactly || REFUSED.contains(&(operation, field))
}

pub(super) fn lacking(document: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    for operation in document["operations"].as_array().into_iter().flatten() {
        let name = operation["name"].as_str().unwrap_or_default();
        let of_client = (&operation["method"], "Operations", true);
        let of_workspace = (&operation["workspace_method"], "WorkspaceOperations", false);
        for (method, class, with_defaults) in [of_client, of_workspace] {
            // The one that streams gives no defaults of the contract's: `run` does.
            let Some(method) = method.as_str() else { continue };
            let method = if method == "exec" { "run" } else { method };
            for class in [class.to_owned(), format!("Async{class}")] {
                let place = format!("{class}.{method}");
                let Some(found) = Method::find(&class, method) else {
                    missing.push(place);
                    continue;
                };
                if !found.documentation.contains(operation["summary"].as_str().unwrap_or("?")) {
                    missing.push(format!("{place}: its summary"));
                }
                let known = fields(&operation["request"], &document["types"]);
                for field in &known {
                    let bound = field.name == "workspace" && !with_defaults;
                    if bound || is_left_out(name, &field.name, &known) {
                        continue;
                    }
                    missing.extend(
                        found.lacks(field, with_defaults).map(|what| format!("{place}: {what}")),
                    );
                }
            }
        }
    }
    for code in document["types"]["ErrorCode"]["oneOf"].as_array().into_iter().flatten() {
        let words = code["const"].as_str().unwrap_or_default().split('_');
        let class: String = words
            .map(|word| word.get(..1).unwrap_or("").to_uppercase() + word.get(1..).unwrap_or(""))
            .collect();
        if !ERRORS.contains(&format!("\nclass {class}Error(PyroError):")) {
            missing.push(format!("{class}Error"));
        }
    }
    missing
}

struct Method {
    signature: String,
    documentation: String,
}

impl Method {
    fn find(class: &str, method: &str) -> Option<Self> {
        let (_, class) = OPERATIONS.split_once(&format!("\nclass {class}(ABC):"))?;
        let class = class.split("\nclass ").next()?;
        let (_, method) = class.split_once(&format!("def {method}("))?;
        let (signature, body) = method.split_once(") -> ")?;
        let documentation = body.split("\"\"\"").nth(1)?;
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(Self { signature: words(signature) + ",", documentation: words(documentation) })
    }

    /// What is missing of a field.
    fn lacks(&self, field: &super::Field, with_defaults: bool) -> Option<String> {
        let is_keyword = KEYWORDS.contains(&field.name.as_str());
        let name = if is_keyword { format!("{}_", field.name) } else { field.name.clone() };
        let Some((_, parameter)) = self.signature.split_once(&format!(" {name}: ")) else {
            return Some(name);
        };
        if !self.documentation.contains(&format!("{name}: ")) {
            return Some(format!("what {name} means"));
        }
        let meant = match &field.default {
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            plain @ (Value::Number(_) | Value::String(_)) => plain.to_string(),
            // What is not said is left out of the request, and has its default there.
            _ => return None,
        };
        let stated = parameter.split(" = ").nth(1)?.split(',').next()?;
        (with_defaults && stated != meant)
            .then(|| format!("{} is {stated}, not {meant}", field.name))
    }
}
