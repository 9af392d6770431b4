//! Who is let in over HTTP.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::json;

use super::wire::{OverHttp, TOKEN, answer_of, host, pyro};

fn list() -> serde_json::Value {
    json!({"name": "workspace_list", "arguments": {}})
}

#[test]
fn only_the_token_opens() {
    let (host, _) = host();
    let http = OverHttp::start(&host, &[]);
    let status =
        |header: &str| answer_of(http.post("tools/call", list(), &[("Authorization", header)])).0;
    assert_eq!(status(&format!("Bearer {TOKEN}")), 200);
    for wrong in [
        "",
        "Bearer",
        "Bearer x",
        &TOKEN[1..],
        &format!("Basic {TOKEN}"),
        &format!("Bearer {TOKEN}x"),
    ] {
        assert_eq!(status(wrong), 401, "{wrong}");
    }
}

#[test]
fn a_page_and_a_name_that_lead_here_by_dns_are_turned_away() {
    let (host, _) = host();
    let allowed = ["--allow-origin", "https://app.example.org", "--allow-host", "box.example.org"];
    let http = OverHttp::start(&host, &allowed);
    let port = http.address().rsplit(':').next().unwrap().to_owned();
    let status =
        |name: &str, value: &str| answer_of(http.post("tools/call", list(), &[(name, value)])).0;
    assert_eq!(status("Host", "evil.example.org"), 403);
    assert_eq!(status("Host", &format!("evil.example.org:{port}")), 403);
    assert_eq!(status("Host", &format!("localhost:{port}")), 200);
    assert_eq!(status("Host", "box.example.org"), 200);
    assert_eq!(status("Origin", "http://evil.example.org"), 403);
    assert_eq!(status("Origin", &format!("http://localhost:{port}")), 403);
    assert_eq!(status("Origin", "null"), 403);
    assert_eq!(status("Origin", "https://app.example.org"), 200);
}

#[test]
fn other_machines_are_let_in_only_on_demand() {
    let (host, _) = host();
    let error = host.error(["mcp", "serve", "--http", "0.0.0.0:0"], 1);
    assert!(error["hint"].as_str().unwrap().contains("--allow-remote"), "{error}");
    host.error(["mcp", "serve", "--http", "[::]:0"], 1);
}

#[test]
fn without_a_token_of_its_own_the_server_makes_one_for_one_reader() {
    let (host, _) = host();
    let start = || {
        let mut command = pyro(&host, &["--json", "mcp", "serve", "--http", "127.0.0.1:0"]);
        command.env_remove("PYRO_MCP_TOKEN").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut child = start().spawn().unwrap();
    let file = host.home().join("mcp-token");
    let deadline = std::time::Instant::now() + super::wire::PATIENCE;
    while std::fs::read_to_string(&file).map_or(0, |text| text.len()) < 32 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = start().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("chmod 600"));
}
