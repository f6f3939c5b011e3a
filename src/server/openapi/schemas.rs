//! Schemas of the OpenAPI document: those of single values by hand, those of objects from the structs
//! that are sent.
//!
//! A value has two schemas where it has two spellings: what is taken (`...In`: a decimal string or an
//! integer) and what is given (a decimal string). Objects that are given come from `derive(ToSchema)`
//! on what serde writes, objects that are taken from the structs of [`super::requests`].
//!
//! utoipa describes a flattened part as `allOf`, and whatever may be missing as nullable.
//! [`Schemas::finish`] makes of that what is true here: one flat object, and an answer's members are
//! there or not, but never `null` unless they must be there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use crate::access::Scope;
use crate::address::{Address, Link};
use crate::config::{
    ADDRESS_BYTES_MAX, ASSET_NAME_BYTES_MAX, CLIENT_ORDER_ID_BYTES_MAX, KEY_ACCOUNTS_MAX,
    KEY_NAME_BYTES_MAX, REFERENCE_BYTES_MAX,
};
use crate::types::{
    AccountId, Amount, ChainId, ChainKind, Operation, RequestId, Resolution, Token,
};

use crate::server::problem::CODES;
use crate::server::trading::{SELF_TRADES, SIDES, TYPES};

/// Where schemas are found in the document.
const PLACE: &str = "#/components/schemas/";

/// Declares types that stand for values in schemas, unless they exist, and their schemas.
macro_rules! values {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {
        $(
            $(#[$doc])*
            pub(in crate::server) enum $name {}
            values!(of $name = $schema;);
        )*
    };
    ($(of $name:ident = $schema:expr;)*) => {
        $(
            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    serde_json::from_value($schema).expect("a schema")
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }
            }
        )*
    };
}

values! {
    of Amount = digits("A whole number of an asset's smallest units, as a decimal string: it may exceed 2^53.");
    of AccountId = number("The number of an account.");
    of ChainId = number("The number of a chain.");
    of ChainKind = words(["evm", "solana", "bitcoin", "other"], "The family of a chain: it decides how an address is written.");
    of Address = text(1, ADDRESS_BYTES_MAX, "An address in its chain's one spelling.");
    of RequestId = uuid("The id of a request. Sent twice, it takes effect once. UUIDv7 is best, any unique id is right.");
    of Token = uuid("Names a hold: the id of the request that made it.");
    of Resolution = words(Resolution::ALL.map(Resolution::name), "What became of a hold.");
    of Link = json!({
        "type": "object",
        "description": "An account's address on one chain.",
        "required": ["chain_id", "address"],
        "properties": {"chain_id": reference("ChainId"), "address": reference("Address")},
    });
}

values! {
    /// A seq in an answer.
    Seq = digits("The number of a commit: one order of everything that happened. A decimal string: it may exceed 2^53.");
    /// Any other number in an answer that may exceed 2^53.
    Digits = digits("A whole number, as a decimal string: it may exceed 2^53.");
    /// The same where it may be below zero.
    SignedDigits = json!({"type": "string", "pattern": "^-?[0-9]+$",
        "description": "A whole number, below zero for what is received, as a decimal string."});
    /// A time in an answer.
    Timestamp = json!({"type": "string", "format": "date-time",
        "description": "An RFC 3339 time in UTC, with microseconds.",
        "examples": ["2026-01-31T12:00:00.000000Z"]});
    /// A name of an asset or a market.
    Name = json!({"type": "string", "minLength": 1, "maxLength": ASSET_NAME_BYTES_MAX,
        "pattern": "^[A-Za-z0-9._-]+$", "description": "The name of an asset or a market.",
        "examples": ["ETH", "USDC.eth", "ETH-SOL"]});
    /// A name of an API key.
    KeyName = json!({"type": "string", "minLength": 1, "maxLength": KEY_NAME_BYTES_MAX,
        "pattern": "^[A-Za-z0-9_-]+$", "description": "The name of an API key.",
        "examples": ["desk"]});
    /// A scope of an API key.
    KeyScope = words(Scope::ALL.map(Scope::name), "What an API key may ask for.");
    /// The accounts of an API key.
    KeyAccounts = json!({"description": "The accounts that an API key is for.", "oneOf": [
        {"type": "string", "enum": ["all"]}, {"type": "array", "items": reference("AccountId")}]});
    /// The accounts of an API key, in a request.
    KeyAccountsIn = json!({"description": "The accounts that an API key is for.", "oneOf": [
        {"type": "string", "enum": ["all"]},
        {"type": "array", "maxItems": KEY_ACCOUNTS_MAX, "items": reference("NumberIn")}]});
    /// How an API key is.
    KeyState = words(["standing", "revoked"], "How an API key is.");
    /// Bytes.
    Base64 = json!({"type": "string", "contentEncoding": "base64",
        "description": "Bytes in base64 (RFC 4648, standard alphabet, padded)."});
    /// An amount in a request.
    AmountIn = either("A whole number of an asset's smallest units: a decimal string, or an integer.");
    /// A number in a request.
    NumberIn = either("A whole number below 2^64: a decimal string, or an integer.");
    /// A number in a request that may be below zero.
    SignedIn = json!({"description": "A whole number: a decimal string, or an integer.",
        "oneOf": [{"type": "string", "pattern": "^-?[0-9]+$"}, {"type": "integer"}]});
    /// A deadline.
    TimeIn = json!({"type": "string", "format": "date-time",
        "description": "An RFC 3339 time. A request whose turn comes after it is refused as `expired`."});
    /// A caller's reference.
    Reference = text(0, REFERENCE_BYTES_MAX, "What the caller knows a transfer by, in bytes of UTF-8 at most.");
    /// A caller's name for an order.
    ClientOrderId = json!({"type": "string", "maxLength": CLIENT_ORDER_ID_BYTES_MAX,
        "pattern": "^[!-~]*$", "description": "The caller's own name for an order: visible ASCII."});
    /// The side of an order.
    Side = words(SIDES.map(|(word, _)| word), "The side of an order.");
    /// How an order may trade.
    OrderType = words(TYPES.map(|(word, _)| word), "How an order may trade.");
    /// What happens when an order meets one of the same account.
    SelfTrade = words(SELF_TRADES.map(|(word, _)| word), "What happens when an order meets one of the same account.");
    /// How long an order stands.
    TimeInForce = words(["gtc", "gtd", "ioc", "fok"], "How long an order stands.");
    /// How an order is.
    OrderStatus = words(["new", "partially_filled", "filled", "canceled", "expired", "rejected"], "How an order is.");
    /// Why an order is over.
    OrderReason = words(["asked", "time", "unfilled", "out_of_funds", "self_trade", "would_take"],
        "Why an order is over with some of it left.");
    /// What a venue takes.
    OperationState = words(Operation::ALL.map(Operation::name), "What the venue takes.");
    /// Of a request that was settled.
    Settled = words(["settled"], "It happened, and is on disk.");
    /// Of one that is not decided.
    Pending = words(["pending"], "It is not decided yet: ask again.");
    /// Of what is done.
    Finished = words(["done"], "It is done.");
    /// Of a live or ready server.
    Health = words(["live", "ready"], "How the server is.");
    /// Of a withdrawal.
    WithdrawalState = words(["open", "confirmed", "canceled"], "What became of a withdrawal.");
    /// Of a prepared swap.
    PreparedState = words(["open", "committed", "rolled_back", "expired"], "What became of a prepared swap.");
    /// Of a problem.
    ProblemStatus = words(["rejected", "failed", "unknown"],
        "What became of the request: refused, so that nothing changed; not known, as the engine stopped; or what was asked about is not known.");
    /// The stable code of a problem.
    ProblemCode = words(CODES.map(|code| code.name), "Why, as a word that never changes. Of several reasons the first in this order is given.");
}

fn digits(description: &str) -> Value {
    json!({"type": "string", "pattern": "^[0-9]+$", "description": description})
}

fn either(description: &str) -> Value {
    json!({"description": description,
        "oneOf": [{"type": "string", "pattern": "^[0-9]+$"}, {"type": "integer", "minimum": 0}]})
}

fn number(description: &str) -> Value {
    json!({"type": "integer", "format": "uint64", "minimum": 0, "description": description})
}

fn uuid(description: &str) -> Value {
    json!({"type": "string", "format": "uuid", "description": description})
}

fn text(min: usize, max: usize, description: &str) -> Value {
    json!({"type": "string", "minLength": min, "maxLength": max, "description": description})
}

fn words<const N: usize>(words: [&str; N], description: &str) -> Value {
    json!({"type": "string", "enum": words.as_slice(), "description": description})
}

/// A reference to a schema by its name.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("{PLACE}{name}")})
}

/// The schemas that the document's calls refer to.
#[derive(Debug, Default)]
pub(super) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Adds a type with all that it refers to; a reference to it.
    pub(super) fn of<T: ToSchema>(&mut self) -> Value {
        let mut found = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        for (name, schema) in found {
            let schema = serde_json::to_value(schema).expect("plain members always serialize");
            self.add(name, schema);
        }
        reference(&T::name())
    }

    /// Adds an object that has the members of all these; a reference to it.
    pub(super) fn merged(&mut self, name: &str, parts: Vec<Value>) -> Value {
        self.add(name.to_owned(), json!({"allOf": parts}));
        reference(name)
    }

    fn add(&mut self, name: String, schema: Value) {
        if let Some(other) = self.0.get(&name) {
            assert_eq!(*other, schema, "two schemas go by the name {name}");
        }
        self.0.insert(name, schema);
    }

    /// All that `document` refers to, as clients know them.
    pub(super) fn finish(&mut self, document: &Value) -> Value {
        // Some refer to these where utoipa is not told so.
        self.of::<ChainId>();
        self.of::<Address>();
        self.of::<AccountId>();
        self.of::<NumberIn>();
        let mut finished = Map::new();
        let mut wanted = Vec::new();
        references(document, &mut wanted);
        while let Some(name) = wanted.pop() {
            if !finished.contains_key(&name) {
                let mut schema = self.flat(&self.0[&name]);
                never_null(&mut schema);
                references(&schema, &mut wanted);
                finished.insert(name, schema);
            }
        }
        Value::Object(finished)
    }

    /// The schema without `allOf`: one object with the members of all its parts.
    fn flat(&self, schema: &Value) -> Value {
        let Some(parts) = schema.get("allOf").and_then(Value::as_array) else {
            return schema.clone();
        };
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for part in parts {
            let (part, optional) = optional(part);
            let part = self.resolved(part);
            let part = self.flat(&part);
            let members = part["properties"].as_object().expect("an object has members");
            properties.extend(members.clone());
            let needed = part["required"].as_array().filter(|_| !optional);
            required.extend(needed.into_iter().flatten().cloned());
        }
        let mut whole = json!({"type": "object", "required": required, "properties": properties});
        if let Some(description) = schema.get("description") {
            whole["description"] = description.clone();
        }
        whole
    }

    fn resolved(&self, schema: &Value) -> Value {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(place) => self.0[place.trim_start_matches(PLACE)].clone(),
            None => schema.clone(),
        }
    }
}

/// The names of all schemas that `value` refers to.
fn references(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let place = members.get("$ref").and_then(Value::as_str);
            names.extend(place.and_then(|it| it.strip_prefix(PLACE)).map(str::to_owned));
            members.values().for_each(|member| references(member, names));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a part is, if it is there, and whether it may be missing.
fn optional(part: &Value) -> (&Value, bool) {
    let null = json!({"type": "null"});
    match part.get("oneOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([first, other]) if *first == null => (other, true),
        Some([other, last]) if *last == null => (other, true),
        _ => (part, false),
    }
}

/// Of what is given, members that may be missing are never `null`. Of what is taken, they may be.
fn never_null(schema: &mut Value) {
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        return;
    }
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required =
        |name: &str| required.as_array().is_some_and(|all| all.iter().any(|it| it == name));
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (_, member) in properties.iter_mut().filter(|(name, _)| !is_required(name)) {
        if let (only, true) = optional(member) {
            *member = only.clone();
        } else if let Some(kinds) = member.get_mut("type").filter(|kinds| kinds.is_array()) {
            let kept = kinds.as_array().and_then(|kinds| kinds.iter().find(|it| *it != "null"));
            *kinds = kept.cloned().expect("a type beside null");
        }
    }
}
