//! The `id` of a message that is not kept, found while its bytes go by.

use rmcp::model::RequestId;

/// An id is a number or a short text.
const MAX_ID: usize = 256;

/// Follows JSON just closely enough to know what stands at its top.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// The text or bare word that is being read at the top.
    word: Vec<u8>,
    /// The key whose value comes next.
    key: Vec<u8>,
    after_colon: bool,
    id: Option<Vec<u8>>,
    has_method: bool,
}

impl Envelope {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    /// The id, if there is one that can be one.
    pub(super) fn id(&self) -> Option<RequestId> {
        serde_json::from_slice(self.id.as_deref()?).ok()
    }

    /// True if it asked for no answer.
    pub(super) fn is_notification(&self) -> bool {
        self.has_method && self.id.is_none()
    }

    fn step(&mut self, byte: u8) {
        if self.in_text {
            self.keep(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_text = true;
                self.keep(byte);
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.end_value();
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => {
                self.key = std::mem::take(&mut self.word);
                self.after_colon = true;
            }
            b',' => self.end_value(),
            byte if byte.is_ascii_whitespace() => {}
            byte => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.word.len() < MAX_ID {
            self.word.push(byte);
        }
    }

    fn end_value(&mut self) {
        if self.depth != 1 {
            return;
        }
        let value = std::mem::take(&mut self.word);
        if std::mem::take(&mut self.after_colon) {
            match self.key.as_slice() {
                b"\"id\"" => self.id = Some(value),
                b"\"method\"" => self.has_method = true,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn id_of(text: &str) -> Option<Value> {
        let mut envelope = Envelope::default();
        envelope.feed(text.as_bytes());
        envelope.id().map(|id| serde_json::to_value(id).unwrap())
    }

    #[test]
    fn only_the_id_at_the_top_counts() {
        assert_eq!(
            id_of(r#"{"params": {"id": 1}, "a": [{"id": 2}], "id" : "x\"y" }"#),
            Some(json!("x\"y"))
        );
        assert_eq!(id_of(r#"{"a": "\"id\": 3", "id":4}"#), Some(json!(4)));
        assert_eq!(id_of(r#"{"id": null}"#), None);
        assert_eq!(id_of(r#"{"id": {"a": 1}}"#), None);
        assert_eq!(id_of("[[[["), None);
    }

    proptest! {
        #[test]
        fn the_id_is_found_in_any_order(
            id in any::<i32>(), text in "\\PC{0,40}", first in any::<bool>(),
        ) {
            let other = json!({"deep": [{"id": 1}, text], "id": text}).to_string();
            let message = match first {
                true => format!(r#"{{"id":{id},"params":{other}}}"#),
                false => format!(r#"{{"params":{other},"id":{id}}}"#),
            };
            prop_assert_eq!(id_of(&message), Some(json!(id)));
        }

        #[test]
        fn any_bytes_are_followed_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut envelope = Envelope::default();
            envelope.feed(&bytes);
            let _ = envelope.id();
        }
    }
}
