//! The rest of what was too long for one result.
//!
//! A model is shown the beginning (of a command's output also the end) and a token; `output_read`
//! gives the rest in pieces. It is kept in memory, bounded, and forgotten oldest first.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pyro_contract::{Error, ErrorCode, Result};
use serde_json::{Value, json};

/// Bytes of one piece.
pub(crate) const PIECE_BYTES: usize = 16 << 10;
/// Items of one piece of a list.
pub(crate) const PIECE_ITEMS: usize = 100;
/// All that is kept together.
const KEPT_BYTES: usize = 64 << 20;

/// What is kept for whom.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    bytes: usize,
    things: VecDeque<(String, Thing, usize)>,
}

/// Something long.
#[derive(Debug, Clone)]
pub(crate) enum Thing {
    /// Text, read by bytes.
    Text(std::sync::Arc<str>),
    /// A list, read by items.
    List(std::sync::Arc<[Value]>),
}

impl Thing {
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(items) => items.iter().map(|item| item.to_string().len()).sum(),
        }
    }
}

impl Kept {
    /// Keeps something; the token by which it is had again.
    pub(crate) fn keep(&self, thing: Thing) -> String {
        let token = format!("out_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 9]>()));
        let size = thing.size();
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.bytes += size;
        shelf.things.push_back((token.clone(), thing, size));
        while shelf.bytes > KEPT_BYTES && shelf.things.len() > 1 {
            if let Some((_, _, size)) = shelf.things.pop_front() {
                shelf.bytes -= size;
            }
        }
        token
    }

    /// The piece at an offset: bytes of a text, items of a list.
    pub(crate) fn read(&self, token: &str, offset: usize) -> Result<Value> {
        let found = {
            let shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.things.iter().find(|(kept, ..)| kept == token).map(|(_, thing, _)| thing.clone())
        };
        match found {
            Some(Thing::Text(text)) => Ok(piece_of_text(&text, offset)),
            Some(Thing::List(items)) => Ok(piece_of_list(&items, offset)),
            None => Err(Error::new(
                ErrorCode::NotFound,
                format!("there is no output kept as {token:?}"),
            )
            .with_cause("it was of another server process, or newer output took its place")
            .with_hint("call the tool again whose result named it")),
        }
    }
}

fn piece_of_text(text: &str, offset: usize) -> Value {
    let start = text.ceil_char_boundary(offset.min(text.len()));
    let end = text.floor_char_boundary((start + PIECE_BYTES).min(text.len()));
    let piece = text.get(start..end).unwrap_or_default();
    let mut answer = json!({"text": piece, "offset": start, "total_bytes": text.len()});
    if end < text.len() {
        answer["next_offset"] = end.into();
    }
    answer
}

fn piece_of_list(items: &[Value], offset: usize) -> Value {
    let start = offset.min(items.len());
    let mut size = 0;
    let room = |item: &&Value| {
        size += item.to_string().len();
        size <= PIECE_BYTES
    };
    let fitting = items[start..].iter().take(PIECE_ITEMS).take_while(room).count();
    // One that is too long by itself must not stop the reader for ever.
    let end = (start + fitting.max(1)).min(items.len());
    let piece = items.get(start..end).unwrap_or_default();
    let mut answer = json!({"items": piece, "offset": start, "total_items": items.len()});
    if end < items.len() {
        answer["next_offset"] = end.into();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_not_kept_is_refused_with_what_to_do() {
        let error = Kept::default().read("out_none", 0).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
        assert!(error.hint.is_some());
    }

    #[test]
    fn the_oldest_goes_first_when_there_is_too_much() {
        let kept = Kept::default();
        let half: std::sync::Arc<str> = "x".repeat(KEPT_BYTES / 2).into();
        let tokens: Vec<_> = (0..3).map(|_| kept.keep(Thing::Text(half.clone()))).collect();
        assert!(kept.read(&tokens[0], 0).is_err());
        assert!(kept.read(&tokens[2], 0).is_ok());
    }

    #[test]
    fn a_list_is_read_to_its_end() {
        let items: Vec<Value> = (0..250).map(|n| json!({"n": n, "pad": "x".repeat(300)})).collect();
        let kept = Kept::default();
        let token = kept.keep(Thing::List(items.clone().into()));
        let (mut read, mut offset) = (Vec::new(), Some(0));
        while let Some(at) = offset {
            let piece = kept.read(&token, at).unwrap();
            read.extend(piece["items"].as_array().unwrap().clone());
            offset = piece["next_offset"].as_u64().map(|next| next as usize);
        }
        assert_eq!(read, items);
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_text_are_the_text(text in "(\\PC{0,9}ü){0,9000}", ) {
            let kept = Kept::default();
            let token = kept.keep(Thing::Text(text.as_str().into()));
            let (mut read, mut offset) = (String::new(), Some(0));
            while let Some(at) = offset {
                let piece = kept.read(&token, at).unwrap();
                read += piece["text"].as_str().unwrap();
                offset = piece["next_offset"].as_u64().map(|next| next as usize);
            }
            prop_assert_eq!(read, text);
        }
    }
}
