//! The document's examples are one story: sent in their order to a server that knows nothing, each is
//! accepted, and so is what the document shows as its answer.

use serde_json::Value;
use tempfile::TempDir;

use super::document::Judge;
use super::http::Reply;
use super::process::{Server, output};

const EXAMPLES: &str = include_str!("../../src/server/openapi/examples.json");

/// A server after the story, and its judge.
pub fn told() -> (TempDir, Server, Judge) {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(&data.path().join("data"));
    let mut judge = Judge::of(&server);
    let examples: Vec<Value> = serde_json::from_str(EXAMPLES).expect("JSON");
    for mut example in examples {
        if example["call"] == "backUp" {
            let place = data.path().join("backup");
            example["body"]["to"] = place.to_str().expect("a plain path").into();
        }
        let reply = send(&mut judge, &example);
        assert_eq!(reply.status, 200, "{example}: {}", reply.text());
        if example["body"]["name"] == "operator" {
            // From the first key on everything needs one.
            let token = reply.value()["token"].as_str().expect("a token").to_owned();
            judge.token = Some(token);
        }
    }
    (data, server, judge)
}

/// Sends an example as a client would that has read the document.
fn send(judge: &mut Judge, example: &Value) -> Reply {
    let name = example["call"].as_str().expect("a call");
    let (mut path, method, operation) = judge.named(name);
    let (mut query, mut headers) = (Vec::new(), Vec::new());
    for parameter in operation["parameters"].as_array().expect("a list") {
        let name = parameter["name"].as_str().expect("a name");
        let Some(value) = example["parameters"].get(name) else { continue };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match parameter["in"].as_str() {
            Some("path") => path = path.replace(&format!("{{{name}}}"), &text),
            Some("query") => query.push(format!("{name}={text}")),
            _ => headers.push((name, text)),
        }
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    judge.call_with(&method, &path, &headers, example.get("body"))
}

#[test]
fn the_document_is_written_as_it_is_served() {
    let (_data, _server, judge) = told();
    let done = output(&["openapi"]);
    let written: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(written, judge.document);
}

#[test]
fn every_example_is_accepted_and_every_answer_that_is_shown_is_one() {
    let (_data, _server, mut judge) = told();
    for (path, method, operation) in judge.operations() {
        let name = operation["operationId"].as_str().expect("a name").to_owned();
        let content = &operation["responses"]["200"]["content"]["application/json"];
        let Some(answer) = content.get("example") else { continue };
        let checked = judge.check(&format!("{name} 200"), &content["schema"], answer);
        assert_eq!(checked, Ok(()), "{method} {path}");
        for parameter in operation["parameters"].as_array().expect("a list") {
            let Some(example) = parameter.get("example") else { continue };
            let place = format!("{name} {}", parameter["name"]);
            assert_eq!(judge.check(&place, &parameter["schema"], example), Ok(()));
        }
    }
}

#[test]
fn the_judge_is_strict() {
    let (_data, _server, mut judge) = told();
    let (.., swap) = judge.named("swap");
    let content = &swap["responses"]["200"]["content"]["application/json"];
    for (member, value) in [("more", 1.into()), ("status", "done".into()), ("legs", Value::Null)] {
        let mut answer = content["example"].clone();
        answer[member] = value;
        assert!(judge.check("swap 200", &content["schema"], &answer).is_err(), "{member}");
    }
    let (.., outcome) = judge.named("getOutcome");
    let refused = &outcome["responses"]["422"]["content"]["application/problem+json"]["schema"];
    let mut problem = serde_json::json!({"status": "rejected", "title": "", "detail": "",
        "code": "not_linked"});
    assert_eq!(judge.check("outcome 422", refused, &problem), Ok(()));
    problem["code"] = "conflict".into();
    assert!(judge.check("outcome 422", refused, &problem).is_err(), "another status' code");
}
