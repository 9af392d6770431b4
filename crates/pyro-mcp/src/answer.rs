//! A result as a model is given it: structured, beside it the same as text, neither too long.

use std::fmt::Write as _;

use pyro_contract::Error;
use pyro_contract::operation::CATALOGUE;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Map, Value, json};

use crate::kept::{Kept, Thing};
use crate::table::Entry;
use crate::tools::Tools;

/// The most bytes of one text in a result.
const TEXT_BYTES: usize = 12 << 10;
/// Of a command's output so much is its beginning; the end, where errors are, gets the rest.
const HEAD_BYTES: usize = 4 << 10;
/// The most items of one list in a result, and their bytes.
const LIST_ITEMS: usize = 200;
const LIST_BYTES: usize = 32 << 10;

/// What `continued` is called, in which a result says what of it was cut.
pub(crate) const CONTINUED: &str = "continued";

/// A result that went well.
pub(crate) fn success(entry: &Entry, result: Value, kept: &Kept) -> CallToolResult {
    let mut object = match result {
        Value::Object(object) => object,
        Value::Array(items) => Map::from_iter([(entry.list.to_owned(), Value::Array(items))]),
        other => Map::from_iter([("result".to_owned(), other)]),
    };
    drop_noise(&mut object);
    let mut cuts = Cuts { kept, made: Vec::new() };
    for (name, value) in &mut object {
        cuts.shorten(name, value);
    }
    let cuts = cuts.made;
    if !cuts.is_empty() {
        object.insert(CONTINUED.into(), cuts.into());
    }
    let text = text_of(&object);
    let mut answer = CallToolResult::structured(Value::Object(object));
    answer.content = vec![ContentBlock::text(text)];
    answer
}

/// An error, which is for the model to read and act on.
pub(crate) fn failure(error: &Error, tools: &Tools) -> CallToolResult {
    let mut error = error.clone();
    error.hint = error.hint.map(|hint| in_tools(&hint, tools));
    let mut text = format!("{}: {}", error.code, error.message);
    if let Some(cause) = &error.cause {
        let _ = write!(text, "\ncause: {cause}");
    }
    if let Some(hint) = &error.hint {
        let _ = write!(text, "\nhint: {hint}");
    }
    let mut answer = CallToolResult::error(vec![ContentBlock::text(text)]);
    answer.structured_content = serde_json::to_value(&error).ok();
    answer
}

/// Hints speak of commands; a model has tools. `pyro workspace list` is `workspace_list` to it.
fn in_tools(hint: &str, tools: &Tools) -> String {
    let mut words: Vec<_> = CATALOGUE.iter().filter(|one| tools.find(one.name).is_some()).collect();
    // The longer command first: `workspace status` is not `workspace`.
    words.sort_by_key(|one| std::cmp::Reverse(one.name.len()));
    words.iter().fold(hint.to_owned(), |hint, operation| {
        hint.replace(
            &format!("pyro {}`", operation.command.join(" ")),
            &format!("{}`", operation.name),
        )
    })
}

/// What says nothing to a model: nulls, empty maps, digests, and exact bytes beside their readable form.
fn drop_noise(object: &mut Map<String, Value>) {
    object.retain(|name, value| {
        let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        !is_empty && !name.ends_with("_base64") && !name.ends_with("_digest")
    });
    for value in object.values_mut() {
        match value {
            Value::Object(inner) => drop_noise(inner),
            Value::Array(items) => {
                items.iter_mut().filter_map(Value::as_object_mut).for_each(drop_noise);
            }
            _ => {}
        }
    }
}

struct Cuts<'a> {
    kept: &'a Kept,
    made: Vec<Value>,
}

impl Cuts<'_> {
    fn shorten(&mut self, name: &str, value: &mut Value) {
        match value {
            Value::String(text) if text.len() > TEXT_BYTES => {
                let whole = std::mem::take(text);
                let total = whole.len();
                let (shown, next) = match name {
                    "stdout" | "stderr" | "text" => ends(&whole),
                    _ => head(&whole, TEXT_BYTES),
                };
                *text = shown;
                let token = self.kept.keep(Thing::Text(whole.into()));
                self.made.push(json!({
                    "field": name, "token": token, "next_offset": next, "total_bytes": total,
                }));
            }
            Value::Array(items) => {
                // Long texts within the items of a list, such as the output of one command of many.
                for item in items.iter_mut() {
                    self.shorten_within(item);
                }
                let mut size = 0;
                let room = |item: &&Value| {
                    size += item.to_string().len();
                    size <= LIST_BYTES
                };
                let fitting = items.iter().take(LIST_ITEMS).take_while(room).count().max(1);
                if fitting < items.len() {
                    let whole = std::mem::take(items);
                    *items = whole.iter().take(fitting).cloned().collect();
                    let total = whole.len();
                    let token = self.kept.keep(Thing::List(whole.into()));
                    self.made.push(json!({
                        "field": name, "token": token, "next_offset": fitting, "total_items": total,
                    }));
                }
            }
            Value::Object(inner) => {
                for (name, value) in inner {
                    self.shorten(name, value);
                }
            }
            _ => {}
        }
    }

    fn shorten_within(&mut self, item: &mut Value) {
        if let Value::Object(object) = item {
            for (name, value) in object {
                self.shorten(name, value);
            }
        }
    }
}

/// The beginning, and where it ends.
fn head(text: &str, bytes: usize) -> (String, usize) {
    let end = text.floor_char_boundary(bytes);
    (text.get(..end).unwrap_or_default().to_owned(), end)
}

/// The beginning and the end, and where the beginning ends.
fn ends(text: &str) -> (String, usize) {
    let (mut shown, next) = head(text, HEAD_BYTES);
    let start = text.ceil_char_boundary(text.len() - (TEXT_BYTES - HEAD_BYTES));
    let _ = write!(shown, "\n… {} bytes left out …\n", start - next);
    shown += text.get(start..).unwrap_or_default();
    (shown, next)
}

/// What a model reads best: a command's output as it was, a patch as it is, the rest as JSON.
fn text_of(object: &Map<String, Value>) -> String {
    let mut text = if object.contains_key("stdout") && object.contains_key("sequence") {
        command(object)
    } else if let Some(patch) = object.get("patch").and_then(Value::as_str) {
        diff(object, patch)
    } else if let Some(content) = object.get("content").and_then(Value::as_str) {
        file(object, content)
    } else if let Some(commands) = object.get("commands").and_then(Value::as_array) {
        crate::journal::text(commands)
    } else {
        return Value::Object(object.clone()).to_string();
    };
    for cut in object.get(CONTINUED).and_then(Value::as_array).into_iter().flatten() {
        let _ = write!(
            text,
            "\n[{} was cut: output_read {{\"token\": {}, \"offset\": {}}} goes on]",
            cut["field"].as_str().unwrap_or_default(),
            cut["token"],
            cut["next_offset"]
        );
    }
    text
}

/// A file's content as it is, and below it what else is known that one goes on with.
fn file(object: &Map<String, Value>, content: &str) -> String {
    let known =
        ["size", "sha256", "encoding", "next_offset", "next_line"].iter().filter_map(|name| {
            let value = object.get(*name).filter(|value| *value != "text")?;
            Some(format!(
                "{name} {}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            ))
        });
    let known = known.collect::<Vec<_>>().join(", ");
    format!("{}\n[{known}]", content.trim_end_matches('\n'))
}

fn command(object: &Map<String, Value>) -> String {
    let flag = |name: &str| object.get(name).and_then(Value::as_bool).unwrap_or(false);
    let number = |name: &str| object.get(name).and_then(Value::as_i64);
    let sequence = number("sequence").unwrap_or_default();
    let mut text = match (number("exit_code"), number("signal")) {
        _ if flag("timed_out") => "timed out: it and all it started were ended".to_owned(),
        _ if flag("oom_killed") => "killed: the machine ran out of memory".to_owned(),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => format!("command {sequence} runs on; workspace_logs shows its output"),
    };
    let stream = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    for name in ["stdout", "stderr"] {
        let written = stream(name);
        if !written.is_empty() {
            let _ = write!(text, "\n--- {name}\n{}", written.trim_end_matches('\n'));
        }
    }
    match object.get("continuation") {
        Some(continuation) => {
            let _ = write!(text, "\n[there is more: continuation {continuation}]");
        }
        None if flag("truncated") => {
            text +=
                "\n[there was more than can be kept; write it to a file, and read that in parts]";
        }
        None => {}
    }
    text
}

fn diff(object: &Map<String, Value>, patch: &str) -> String {
    let entries = object.get("entries").and_then(Value::as_array);
    let count = entries.map_or(0, Vec::len);
    if count == 0 {
        return "nothing changed".to_owned();
    }
    let lines = |name: &str| object.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut text = format!(
        "{count} paths changed, {} lines added, {} removed\n",
        lines("insertions"),
        lines("deletions")
    );
    for path in object.get("not_in_patch").and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(text, "not in the patch: {}", path["path"].as_str().unwrap_or_default());
    }
    text + patch.trim_end_matches('\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyro_contract::ErrorCode;

    fn made(name: &str, result: Value) -> (Value, String, Kept) {
        let kept = Kept::default();
        let answer = success(crate::table::entry(name).unwrap(), result, &kept);
        let text = answer.content[0].as_text().unwrap().text.clone();
        (answer.structured_content.unwrap(), text, kept)
    }

    #[test]
    fn output_is_shown_as_it_was_with_its_end() {
        let long = format!("start\n{}end\n", "x\n".repeat(40_000));
        let result = json!({
            "sequence": 3, "exit_code": 1, "signal": null, "timed_out": false, "oom_killed": false,
            "duration_ms": 5, "stdout": long, "stderr": "oh\n", "truncated": false,
        });
        let (structured, text, kept) = made("workspace_exec", result);
        assert!(text.starts_with("exit code 1\n--- stdout\nstart\n"), "{text}");
        assert!(text.contains("end\n--- stderr\noh\n[stdout was cut: output_read {\"token\": "));
        assert!(text.len() < 14_000);
        let cut = &structured["continued"][0];
        let next = cut["next_offset"].as_u64().unwrap() as usize;
        let piece = kept.read(cut["token"].as_str().unwrap(), next).unwrap();
        assert_eq!(piece["total_bytes"], long.len());
        assert!(long[next..].starts_with(piece["text"].as_str().unwrap()));
        assert!(structured.get("signal").is_none());
    }

    #[test]
    fn a_file_is_shown_as_it_is_with_where_to_go_on() {
        let read =
            json!({"path": "/workspace/a", "content": "x\n\"y\"\n", "size": 9, "next_offset": 6});
        let (_, text, _) = made("workspace_disk_read", read);
        assert_eq!(text, "x\n\"y\"\n[size 9, next_offset 6]");
    }

    #[test]
    fn a_long_list_is_cut_and_goes_on() {
        let items: Vec<Value> = (0..1000).map(|n| json!({"id": n})).collect();
        let (structured, _, kept) = made("workspace_list", items.into());
        assert_eq!(structured["workspaces"].as_array().unwrap().len(), LIST_ITEMS);
        let cut = &structured["continued"][0];
        let piece = kept.read(cut["token"].as_str().unwrap(), LIST_ITEMS).unwrap();
        assert_eq!(piece["items"][0]["id"], LIST_ITEMS);
    }

    #[test]
    fn an_error_says_what_to_do_in_both_forms() {
        let hint = "`pyro workspace list` shows them, `pyro env list` others";
        let error = Error::new(ErrorCode::NotFound, "there is no 'x'").with_hint(hint);
        let answer = failure(&error, &Tools::of(crate::profile::Offer::default()));
        assert_eq!(answer.is_error, Some(true));
        assert_eq!(answer.structured_content.unwrap()["code"], "not_found");
        let text = &answer.content[0].as_text().unwrap().text;
        let expected =
            "not_found: there is no 'x'\nhint: `workspace_list` shows them, `pyro env list` others";
        assert_eq!(text, expected);
    }
}
