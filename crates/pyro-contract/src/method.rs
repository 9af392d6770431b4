//! What an operation is called in an SDK.

use crate::operation::Operation;

impl Operation {
    /// The method of a client, the verb first: `exec_workspace`, `read_workspace_file`, `pull_env`.
    ///
    /// ```
    /// use pyro_contract::operation::CATALOGUE;
    /// let exec = CATALOGUE.iter().find(|operation| operation.name == "workspace_exec").unwrap();
    /// assert_eq!(exec.method(), "exec_workspace");
    /// assert_eq!(exec.workspace_method().as_deref(), Some("exec"));
    /// ```
    #[must_use]
    pub fn method(&self) -> String {
        verb_first(self.command)
    }

    /// The method of a handle of one workspace: `exec`, `read_file`. `None` for an operation that
    /// is not about one.
    #[must_use]
    pub fn workspace_method(&self) -> Option<String> {
        let schema = (self.request)();
        schema.get("properties")?.get("workspace")?;
        let (first, rest) = self.command.split_first()?;
        (*first == "workspace").then(|| verb_first(rest))
    }
}

/// Commands name the thing, then what is done with it; `setup` alone is a verb in the first place.
fn verb_first(words: &[&str]) -> String {
    match words.split_last() {
        Some((verb, things)) if words.first() != Some(&"setup") => {
            let words: Vec<&str> = std::iter::once(*verb).chain(things.iter().copied()).collect();
            words.join("_")
        }
        _ => words.join("_"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::operation::CATALOGUE;

    #[test]
    fn the_verb_comes_first() {
        assert_eq!(verb_first(&["doctor"]), "doctor");
        assert_eq!(verb_first(&["env", "pull"]), "pull_env");
        assert_eq!(verb_first(&["setup", "firecracker"]), "setup_firecracker");
        assert_eq!(verb_first(&["workspace", "file", "read"]), "read_workspace_file");
        assert_eq!(verb_first(&["file", "read"]), "read_file");
    }

    #[test]
    fn no_two_operations_share_a_method() {
        let mut methods = BTreeSet::new();
        let mut of_workspaces = BTreeSet::new();
        for operation in CATALOGUE {
            assert!(methods.insert(operation.method()), "{}", operation.name);
            if let Some(method) = operation.workspace_method() {
                assert!(of_workspaces.insert(method), "{}", operation.name);
            }
        }
        assert!(of_workspaces.contains("status"));
    }
}
