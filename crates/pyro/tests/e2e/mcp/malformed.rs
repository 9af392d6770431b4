//! What is no message, or too long to be one.

use serde_json::{Value, json};

use super::wire::{OverHttp, OverStdio, TOKEN, answer_of, host};

#[test]
fn what_makes_no_sense_is_answered_and_the_server_goes_on() {
    let (host, _) = host();
    let mut server = OverStdio::start(&host, &[]);
    for (line, code) in [
        ("{", -32700),
        ("not json", -32700),
        ("[]", -32600),
        ("null", -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"no/such/method"}"#, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fly"}}"#, -32602),
    ] {
        server.say(line);
        let answer = server.answer_to_anything();
        assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
    }
    // A notification that nobody knows asks for no answer.
    server.say(r#"{"jsonrpc":"2.0","method":"notifications/unheard-of"}"#);
    assert_eq!(server.ok("workspace_list", json!({}))["workspaces"], json!([]));
}

#[test]
fn arguments_of_fifty_megabytes_are_refused_and_the_server_goes_on() {
    let (host, _) = host();
    let long = "x".repeat(50 << 20);
    let mut server = OverStdio::start(&host, &[]);
    let id = server.ask_tool("workspace_exec", json!({"workspace": "w", "command": long}));
    let answer = server.answer();
    assert_eq!(answer["id"], id);
    assert!(answer["error"]["message"].as_str().unwrap().contains("longer than"), "{answer}");
    // What is long and can be taken is refused by what it is.
    let refused =
        server.error("workspace_exec", json!({"workspace": "w", "command": "x".repeat(1 << 20)}));
    assert_eq!(refused["code"], "invalid_argument");
    let peak = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 200 << 10, "{kib} KiB were taken for a message that was refused");

    let http = OverHttp::start(&host, &[]);
    let call = json!({"name": "workspace_exec", "arguments": {"workspace": "w", "command": long}});
    let (status, _) = answer_of(http.post("tools/call", call, &[]));
    assert_eq!(status, 413);
    let (status, body) =
        answer_of(http.post("tools/call", json!({"name": "workspace_list", "arguments": {}}), &[]));
    assert_eq!(status, 200, "{body}");
}

#[test]
fn over_http_too_what_makes_no_sense_is_answered() {
    let (host, _) = host();
    let http = OverHttp::start(&host, &[]);
    let authorization = format!("Bearer {TOKEN}");
    let headers = [
        ("Host", http.address()),
        ("Authorization", &*authorization),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
    ];
    for body in ["{", "[]", "not json", r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#] {
        let (status, said) = answer_of(http.send(&headers, body.as_bytes()));
        assert!((400..500).contains(&status), "{body}: {status} {said}");
    }
    let (status, _) =
        answer_of(http.post("tools/call", json!({"name": "workspace_list", "arguments": {}}), &[]));
    assert_eq!(status, 200);
}

#[test]
fn a_misspelt_argument_and_an_operation_that_is_not_offered_are_explained() {
    let (host, _) = host();
    let mut server = OverStdio::start(&host, &[]);
    let error = server.error("workspace_status", json!({"workspcae": "w"}));
    assert!(error["hint"].as_str().unwrap().contains("workspace"), "{error}");
    let error = server.error("workspace_exec", json!({"workspace": "w"}));
    assert!(error["hint"].as_str().unwrap().contains("command"), "{error}");
    let refused = |server: &mut OverStdio, tool: &str| -> Value {
        server.request("tools/call", json!({"name": tool, "arguments": {}}))["error"].clone()
    };
    let error = refused(&mut server, "doctor");
    assert!(error["message"].as_str().unwrap().contains("not offered in core"), "{error}");
    let error = refused(&mut server, "setup_firecracker");
    assert!(error["message"].as_str().unwrap().contains("its owner"), "{error}");
}
