//! Commands that ran, as a model reads them best.

use std::fmt::Write as _;

use serde_json::Value;

/// The most bytes of text; older commands give way.
const MOST_BYTES: usize = 1 << 20;

/// The commands of the journal, oldest first; of too many the newest.
pub(crate) fn text(commands: &[Value]) -> String {
    let mut shown = Vec::new();
    let mut size = 0;
    for command in commands.iter().rev() {
        let text = one(command);
        size += text.len();
        if size > MOST_BYTES && !shown.is_empty() {
            shown.push(format!("… {} earlier commands left out\n", commands.len() - shown.len()));
            break;
        }
        shown.push(text);
    }
    shown.reverse();
    if shown.is_empty() { "no command has run\n".to_owned() } else { shown.concat() }
}

fn one(command: &Value) -> String {
    let mut text = format!(
        "#{} {} $ {} [{}]\n",
        command["sequence"],
        command["started_at"].as_str().and_then(|time| time.get(..19)).unwrap_or_default(),
        line(&command["argv"]),
        ending(command)
    );
    let omitted = command["omitted_bytes"].as_u64().unwrap_or_default();
    for (index, chunk) in command["output"].as_array().into_iter().flatten().enumerate() {
        let mark = if chunk["stream"] == "stderr" { "! " } else { "  " };
        for line in chunk["text"].as_str().unwrap_or_default().lines() {
            let _ = writeln!(text, "{mark}{line}");
        }
        if index == 0 && omitted > 0 {
            let _ = writeln!(text, "  … {omitted} bytes left out …");
        }
    }
    text
}

/// A line for the shell as it was given; exact arguments as JSON.
fn line(argv: &Value) -> String {
    match argv.as_array().map(Vec::as_slice) {
        Some([sh, flag, line]) if sh == "sh" && flag == "-lc" => {
            line.as_str().unwrap_or_default().to_owned()
        }
        _ => argv.to_string(),
    }
}

fn ending(command: &Value) -> String {
    let outcome = &command["outcome"];
    if outcome["timed_out"] == true {
        return "timed out".to_owned();
    }
    if outcome["oom_killed"] == true {
        return "killed: out of memory".to_owned();
    }
    match (&outcome["exit_code"], &outcome["signal"], command["error"].as_str()) {
        (Value::Number(code), ..) => format!("exit {code}"),
        (_, Value::Number(signal), _) => format!("signal {signal}"),
        (.., Some(error)) => error.to_owned(),
        _ if outcome.is_object() => "ended".to_owned(),
        _ => "running".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_command_is_shown_with_its_end_and_its_output() {
        let commands = [
            json!({
                "sequence": 1, "argv": ["sh", "-lc", "make test"], "started_at": "2026-11-24T11:50:47Z",
                "outcome": {"exit_code": 2}, "omitted_bytes": 7,
                "output": [{"stream": "stdout", "text": "a\nb\n"}, {"stream": "stderr", "text": "c\n"}],
            }),
            json!({"sequence": 2, "argv": ["sleep", "9"]}),
        ];
        let expected = "#1 2026-11-24T11:50:47 $ make test [exit 2]\n  a\n  b\n  … 7 bytes left out …\n\
                        ! c\n#2  $ [\"sleep\",\"9\"] [running]\n";
        assert_eq!(text(&commands), expected);
    }

    #[test]
    fn of_too_much_the_newest_is_shown() {
        let long = "x".repeat(MOST_BYTES / 2);
        let command = |n| json!({"sequence": n, "argv": [], "output": [{"text": long}]});
        let shown = text(&[command(1), command(2), command(3)]);
        assert!(shown.starts_with("… 2 earlier commands left out\n#3"), "{}", &shown[..80]);
    }
}
