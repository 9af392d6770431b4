//! Changing what a workspace is called and how long it lives.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::name::{Name, WorkspaceName, WorkspaceRef};

/// Changes a workspace, running or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// What is to be different.
    #[serde(flatten)]
    pub changes: Changes,
}

/// What is to be different. All of it happens, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// A new name. The machine's own host name stays until it is started again.
    #[serde(default)]
    pub name: Option<WorkspaceName>,
    /// Take its name away; its id remains.
    #[serde(default)]
    pub clear_name: bool,
    /// Labels to set.
    #[serde(default)]
    pub labels: BTreeMap<Name, String>,
    /// Keys of labels to remove.
    #[serde(default)]
    pub clear_labels: Vec<Name>,
    /// A new time to live: counted from now if it runs, else from its next start.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// Let it run without a time to live.
    #[serde(default)]
    pub clear_ttl: bool,
}

impl Changes {
    /// Refuses what contradicts itself, and what changes nothing.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |message: &str, hint: &str| {
            Err(Error::new(ErrorCode::InvalidArgument, message).with_hint(hint))
        };
        if self.fields().is_empty() {
            return invalid(
                "there is nothing to change",
                "give a name, labels or a time to live, or say what to clear",
            );
        }
        if self.name.is_some() && self.clear_name {
            return invalid("a name is both set and cleared", "do one of the two");
        }
        if self.ttl_seconds.is_some() && self.clear_ttl {
            return invalid("a time to live is both set and cleared", "do one of the two");
        }
        if self.ttl_seconds == Some(0) {
            return invalid(
                "a time to live of 0 seconds leaves no time",
                "`pyro workspace stop` stops it now; clear_ttl takes the limit away",
            );
        }
        if self.labels.keys().any(|key| self.clear_labels.contains(key)) {
            return invalid("a label is both set and cleared", "do one of the two");
        }
        Ok(())
    }

    /// True if the time to live is another afterwards, or begins anew.
    #[must_use]
    pub fn sets_ttl(&self) -> bool {
        self.ttl_seconds.is_some() || self.clear_ttl
    }

    /// The names of what is given.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        let given = [
            ("name", self.name.is_some() || self.clear_name),
            ("labels", !self.labels.is_empty() || !self.clear_labels.is_empty()),
            ("ttl_seconds", self.sets_ttl()),
        ];
        given.iter().filter(|(_, given)| *given).map(|(name, _)| (*name).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_and_nothing_at_all_are_refused() {
        let name: WorkspaceName = "a".parse().unwrap();
        let key: Name = "k".parse().unwrap();
        let label = BTreeMap::from([(key.clone(), "v".to_owned())]);
        assert!(Changes::default().validate().is_err());
        let good =
            Changes { name: Some(name), labels: label, ttl_seconds: Some(5), ..Changes::default() };
        assert!(good.validate().is_ok());
        assert_eq!(good.fields(), ["name", "labels", "ttl_seconds"]);
        assert!(Changes { clear_name: true, ..good.clone() }.validate().is_err());
        assert!(Changes { clear_ttl: true, ..good.clone() }.validate().is_err());
        assert!(Changes { clear_labels: vec![key], ..good.clone() }.validate().is_err());
        assert!(Changes { ttl_seconds: Some(0), ..good }.validate().is_err());
    }
}
