//! Valid calls, as the OpenAPI document shows them.

use std::sync::LazyLock;

use serde_json::Value;

/// A call that would be answered.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    pub target: String,
    /// Null for none.
    pub body: Value,
}

/// What would end the test if it were done: the first writes files anywhere, the second closes the venue to
/// honest clients, the third gives it keys.
const LEFT_OUT: [&str; 3] = ["/v1/backups", "/v1/operate", "/v1/api-keys"];

/// All of them.
pub static CALLS: LazyLock<Vec<Call>> = LazyLock::new(|| {
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let document = read(include_str!("../../openapi.json"));
    let examples = read(include_str!("../../src/server/openapi/examples.json"));
    let paths = document["paths"].as_object().expect("paths");
    let mut calls = Vec::new();
    for (path, methods) in paths {
        for (method, about) in methods.as_object().expect("methods") {
            let of = examples.as_array().expect("examples").iter();
            let of = of.filter(|example| example["call"] == about["operationId"]);
            calls.extend(of.map(|example| call(method, path, example)));
        }
    }
    calls.retain(|call| !LEFT_OUT.iter().any(|left_out| call.target.starts_with(left_out)));
    assert!(calls.len() > 40, "the document has more calls: {}", calls.len());
    calls
});

fn call(method: &str, path: &str, example: &Value) -> Call {
    let (mut target, mut query) = (path.to_owned(), Vec::new());
    for (name, value) in example["parameters"].as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let place = format!("{{{name}}}");
        if target.contains(&place) {
            target = target.replace(&place, &text);
        } else {
            query.push(format!("{name}={text}"));
        }
    }
    if !query.is_empty() {
        target = format!("{target}?{}", query.join("&"));
    }
    Call { method: method.to_uppercase(), target, body: example["body"].clone() }
}
