//! The tools of one offer: the catalogue's operations in a model's words, and `output_read`.

use std::sync::Arc;

use pyro_contract::operation::{CATALOGUE, Operation};
use rmcp::model::{Tool, ToolAnnotations};
use serde_json::{Map, Value, json};

use crate::answer::CONTINUED;
use crate::profile::{Offer, Profile};
use crate::schema;
use crate::table::{Entry, Offered, entry};

/// The tool that reads on where a result was cut. No operation: it is about how results are shown.
pub(crate) const OUTPUT_READ: &str = "output_read";

/// One operation as it is offered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offering {
    pub(crate) operation: &'static Operation,
    pub(crate) entry: &'static Entry,
}

/// What a server offers, made once.
#[derive(Debug)]
pub(crate) struct Tools {
    offerings: Vec<Offering>,
    listed: Vec<Tool>,
}

/// True if this entry belongs to the offer.
fn belongs(entry: &Entry, offer: Offer) -> bool {
    match (entry.offered, offer) {
        (Offered::Never(_), _) => false,
        (Offered::As { .. }, Offer::Profile(Profile::Full)) => true,
        (Offered::As { profiles, .. }, Offer::Profile(profile)) => profiles.contains(&profile),
        (Offered::As { modes, .. }, Offer::Mode(mode)) => modes.contains(&mode),
    }
}

impl Tools {
    pub(crate) fn of(offer: Offer) -> Self {
        let offerings: Vec<Offering> = CATALOGUE
            .iter()
            .filter_map(|operation| Some(Offering { operation, entry: entry(operation.name)? }))
            .filter(|offering| belongs(offering.entry, offer))
            .collect();
        let listed = offerings.iter().map(Offering::tool).chain([output_read()]).collect();
        Self { offerings, listed }
    }

    pub(crate) fn listed(&self) -> &[Tool] {
        &self.listed
    }

    pub(crate) fn find(&self, name: &str) -> Option<Offering> {
        self.offerings.iter().find(|one| one.operation.name == name).copied()
    }

    /// True if all of these are offered.
    pub(crate) fn suffice_for(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.find(name).is_some())
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.listed.iter().map(|tool| &*tool.name).collect()
    }
}

impl Offering {
    fn tool(&self) -> Tool {
        let Offered::As { description, .. } = self.entry.offered else { return Tool::default() };
        let operation = self.operation;
        let mut output = schema::output(operation, self.entry);
        if let Some(Value::Object(properties)) = output.get_mut("properties") {
            properties.insert(CONTINUED.into(), json!({"type": "array"}));
        }
        let input = schema::input(operation, self.entry);
        Tool::new(operation.name, description, Arc::new(input))
            .with_raw_output_schema(Arc::new(output))
            .with_annotations(annotations(operation))
    }
}

/// The protocol's own defaults are the worst of each; only what differs from them is said.
fn annotations(operation: &Operation) -> ToolAnnotations {
    let hints = ToolAnnotations::new();
    if operation.read_only {
        return hints.read_only(true);
    }
    let hints = hints.destructive(operation.destructive);
    if operation.idempotent { hints.idempotent(true) } else { hints }
}

fn output_read() -> Tool {
    let description = "Read on where a result was cut: pass token and next_offset from its \
                       `continued`. Repeat with next_offset until there is none.";
    let input = json!({
        "type": "object",
        "properties": {"token": {"type": "string"}, "offset": {"type": "integer"}},
        "required": ["token"],
    });
    let output = json!({
        "type": "object",
        "properties": {
            "text": {"type": "string"}, "items": {"type": "array"},
            "next_offset": {"type": "integer"},
        },
    });
    let object = |value: Value| match value {
        Value::Object(object) => Arc::new(object),
        _ => Arc::new(Map::new()),
    };
    Tool::new(OUTPUT_READ, description, object(input))
        .with_raw_output_schema(object(output))
        .with_annotations(ToolAnnotations::new().read_only(true))
}

/// What a model pays for a list of tools, in tokens: bytes of the JSON by 3.5.
///
/// With `o200k_base` and `cl100k_base` pyro's lists have 4.2 to 4.6 bytes a token, so this estimate is
/// on the safe side, and needs no tokenizer.
#[must_use]
pub fn estimated_tokens(offer: Offer) -> usize {
    let bytes = serde_json::to_vec(Tools::of(offer).listed()).map_or(usize::MAX, |json| json.len());
    bytes.saturating_mul(2).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Mode;

    /// What the core profile may cost a model.
    const CORE_TOKENS: usize = 6_000;

    #[test]
    fn the_core_profile_costs_a_model_less_than_its_budget() {
        let tokens = estimated_tokens(Offer::default());
        assert!(tokens < CORE_TOKENS, "core costs {tokens} tokens");
        for mode in Mode::ALL {
            let tokens = estimated_tokens(Offer::Mode(*mode));
            assert!(tokens < CORE_TOKENS, "{} costs {tokens} tokens", mode.as_str());
        }
    }

    #[test]
    fn the_full_profile_has_every_operation_that_is_not_refused() {
        let tools = Tools::of(Offer::Profile(Profile::Full));
        for operation in CATALOGUE {
            let entry = entry(operation.name).unwrap();
            let refused = matches!(entry.offered, Offered::Never(_));
            assert_eq!(tools.find(operation.name).is_none(), refused, "{}", operation.name);
        }
        assert!(tools.names().contains(&OUTPUT_READ));
    }

    #[test]
    fn a_job_that_only_looks_has_only_tools_that_change_nothing() {
        let tools = Tools::of(Offer::Mode(Mode::Inspect));
        for tool in tools.listed() {
            let hints = tool.annotations.as_ref().unwrap();
            assert_eq!(hints.read_only_hint, Some(true), "{}", tool.name);
        }
    }

    #[test]
    fn what_destroys_says_so() {
        let tools = Tools::of(Offer::default());
        let hints = |name: &str| {
            tools
                .listed()
                .iter()
                .find(|tool| tool.name == name)
                .unwrap()
                .annotations
                .clone()
                .unwrap()
        };
        assert_eq!(hints("workspace_delete").destructive_hint, Some(true));
        assert_eq!(hints("workspace_exec").destructive_hint, Some(false));
        assert_eq!(hints("workspace_stop").idempotent_hint, Some(true));
        assert_eq!(hints("workspace_diff").read_only_hint, Some(true));
    }
}
