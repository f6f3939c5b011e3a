//! The judge: sends a request, finds the call that it is in the document, and holds both what was sent
//! and what came back against it.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

use super::http::{Client, Reply};
use super::process::Server;

/// A client whose every answer must be described.
pub struct Judge {
    client: Client,
    /// The key that it asks with, once there is one.
    pub token: Option<String>,
    pub document: Value,
    /// The components, with every object closed.
    components: Value,
    validators: BTreeMap<String, Validator>,
    /// Calls by name that were answered with success.
    pub succeeded: BTreeSet<String>,
    /// Calls by name that were answered with a problem.
    pub refused: BTreeSet<String>,
}

impl Judge {
    pub fn of(server: &Server) -> Self {
        let mut client = server.client();
        let document = client.get("/openapi.json").with(200);
        let mut components = document["components"].clone();
        let schemas = components["schemas"].as_object_mut().expect("schemas");
        for schema in schemas.values_mut().filter(|schema| schema["properties"].is_object()) {
            schema["additionalProperties"] = false.into();
        }
        let (succeeded, refused) = (BTreeSet::new(), BTreeSet::new());
        Self {
            client,
            token: None,
            document,
            components,
            validators: BTreeMap::new(),
            succeeded,
            refused,
        }
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.call("GET", path, None)
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, Some(body))
    }

    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.call_with(method, path, &[], body)
    }

    /// The same with headers.
    pub fn call_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        let mut headers = headers.to_vec();
        let text = body.map(Value::to_string).unwrap_or_default();
        if body.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let reply = self.client.send(method, path, &headers, text.as_bytes());
        self.judge(method, path, body, &reply);
        reply
    }

    /// Whatever came back is described, and what was sent was, if it was taken.
    fn judge(&mut self, method: &str, path: &str, body: Option<&Value>, reply: &Reply) {
        let (template, operation) = self.operation(method, path);
        let name = operation["operationId"].as_str().expect("a name").to_owned();
        let whence = format!("{method} {template} ({name}), {}: {}", reply.status, reply.text());
        let described = self.resolved(&operation["responses"][reply.status.to_string()]);
        assert!(described.is_object(), "an answer of no described status: {whence}");
        if reply.status == 101 {
            // Another protocol begins: its messages are followed in `tests/streams`.
            assert_eq!(reply.header("upgrade"), Some("websocket"), "{whence}");
            self.succeeded.insert(name);
            return;
        }
        let kind = reply.header("content-type").unwrap_or_default();
        let content = &described["content"][kind];
        assert!(content.is_object(), "an answer of no described type {kind}: {whence}");
        if kind.ends_with("json") {
            let place = format!("{name} {}", reply.status);
            self.check(&place, &content["schema"], &reply.value()).expect(&whence);
        }
        let taken = (200..300).contains(&reply.status);
        // In a batch, what breaks a rule of form is answered in its place.
        if let Some(body) = body.filter(|_| taken && name != "swapBatch") {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            self.check(&format!("{name} body"), schema, body).expect(&whence);
        }
        if taken {
            self.succeeded.insert(name);
        } else {
            self.refused.insert(name);
        }
    }

    /// Holds a value against a schema; `name` stands for that schema.
    pub fn check(&mut self, name: &str, schema: &Value, value: &Value) -> Result<(), String> {
        if !self.validators.contains_key(name) {
            let whole = json!({"components": self.components, "allOf": [schema]});
            let options = jsonschema::options().with_draft(Draft::Draft202012);
            let validator = options.should_validate_formats(true).build(&whole);
            self.validators.insert(name.to_owned(), validator.expect("a schema"));
        }
        let errors = self.validators[name].iter_errors(value);
        let errors: Vec<String> =
            errors.map(|error| format!("{error} at {}", error.instance_path())).collect();
        if errors.is_empty() { Ok(()) } else { Err(format!("{name}: {}", errors.join("; "))) }
    }

    /// A call by its name: its path's template, its method, what the document says of it.
    pub fn named(&self, name: &str) -> (String, String, Value) {
        let all = self.operations();
        let found = all.into_iter().find(|(.., operation)| operation["operationId"] == name);
        found.unwrap_or_else(|| panic!("the document has no {name}"))
    }

    /// Every call of the document.
    pub fn operations(&self) -> Vec<(String, String, Value)> {
        let paths = self.document["paths"].as_object().expect("paths");
        let each = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").iter();
            methods.map(|(method, it)| (path.clone(), method.to_uppercase(), it.clone()))
        });
        each.collect()
    }

    fn operation(&self, method: &str, path: &str) -> (String, Value) {
        let path = path.split('?').next().unwrap_or_default();
        let fits = |template: &str| {
            let (parts, given) = (template.split('/'), path.split('/'));
            parts.clone().count() == given.clone().count()
                && parts.zip(given).all(|(part, given)| part == given || part.starts_with('{'))
        };
        let all = self.operations().into_iter();
        let mut found = all.filter(|(template, it, _)| it == method && fits(template));
        let (template, _, operation) =
            found.next().unwrap_or_else(|| panic!("{method} {path} is not in the document"));
        (template, operation)
    }

    fn resolved(&self, response: &Value) -> Value {
        let place = response["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
        place.map_or(response, |place| self.document.pointer(place).expect("it is there")).clone()
    }
}
