//! The typed Python classes are written from the catalogue of operations. This holds them against
//! it, and writes them anew with `PYRO_WRITE_REFERENCE` set (`make reference`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // all of this crate is a test

mod contract;
mod errors;
mod operations;
mod python;
mod types;

use std::path::Path;

use contract::Contract;
use pyro_contract::document;

/// `make reference` sets this to write the files instead of comparing them.
const BLESS: &str = "PYRO_WRITE_REFERENCE";

fn package() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/python/pyro_workspaces"))
}

/// Each file of the package that is written, with what has to be in it.
fn written() -> Vec<(&'static str, String)> {
    let document = document::contract();
    let contract = Contract::read(&document);
    let extras = std::fs::read_to_string(package().join("_extras.py")).unwrap();
    let requests = requests(&document);
    vec![
        ("errors.py", errors::write(&contract)),
        ("types.py", types::write(&contract, &requests, &extras)),
        ("operations.py", operations::write(&contract)),
    ]
}

/// The types that are requests, or parts of them whose fields are parameters, and nothing else.
fn requests(document: &serde_json::Value) -> Vec<String> {
    let operations = document["operations"].as_array().unwrap();
    let of = |part: &'static str| {
        operations.iter().filter_map(move |one| one[part]["$ref"].as_str().map(str::to_owned))
    };
    let results: Vec<String> = of("result").collect();
    let requests = of("request").filter(|name| !results.contains(name));
    requests.map(|name| name.trim_start_matches("#/types/").to_owned()).collect()
}

#[test]
fn the_python_classes_say_what_the_catalogue_does() {
    for (name, text) in written() {
        let path = package().join("_generated").join(name);
        if std::env::var_os(BLESS).is_some() {
            std::fs::write(path, text).unwrap();
            continue;
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let difference = kept.lines().zip(text.lines()).find(|(kept, made)| kept != made);
        assert!(kept == text, "run `make reference`; {name} differs at {difference:?}");
    }
}

#[test]
fn an_operation_or_field_that_is_new_gets_its_method_and_parameter() {
    let mut document = document::contract();
    let mut fly = document["operations"][0].clone();
    fly["name"] = "workspace_fly".into();
    fly["method"] = "fly_workspace".into();
    document["operations"].as_array_mut().unwrap().push(fly);
    document["types"]["ShapeRequest"]["properties"]["gpu_count"] =
        serde_json::json!({"type": ["integer", "null"], "description": "How many."});
    let page = operations::write(&Contract::read(&document));
    assert!(page.contains("    def fly_workspace("));
    assert!(page.contains("gpu_count: int | None = None"));
    assert!(page.contains("gpu_count: How many."));
}
