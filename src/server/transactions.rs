//! `POST /v1/transactions`: what was read, what is to be written, what is to move; all of it
//! happens if nothing that was read has changed, or none of it does.

use std::sync::Arc;

use crate::config::TRANSACTION_KEYS_MAX;
use crate::directory::Directory;
use crate::error::Malformed;
use crate::request::{Command, Read, Request, Transact, Write};
use crate::types::{AccountId, BalanceKey, CommitSeq, Subject, Time};

use super::bytes;
use super::extract::{INLINE_BYTES_MAX, JsonBody, Key, State};
use super::json::{self, Object, Value, within};
use super::legs;
use super::names::Names;
use super::problem::Problem;
use super::receipt::Answer;
use super::state::{App, Asked};

/// `{request_id, deadline?, reads?, writes?, transfers?}` → the receipt.
pub(super) async fn transact(
    State(app): State<App>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let small = body.len() <= INLINE_BYTES_MAX;
    let reader = app.clone();
    let read = move || reader.counted("transaction", read(&body, key, reader.engine().directory()));
    let asked = if small { read() } else { app.reading(read).await? }?;
    app.settle(asked).await
}

fn read(body: &JsonBody, key: Key, directory: &Directory) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    let mut names = Names::default();
    let (transact, deadline) = read_rest(object, directory, &mut names)
        .map_err(|malformed| Problem::from(malformed).of(id))?;
    let command = Command::Transact(Box::new(transact));
    Ok(Asked::new(Request { deadline, ..Request::new(id, command) }, names))
}

fn read_rest(
    mut object: Object<'_>,
    directory: &Directory,
    names: &mut Names,
) -> Result<(Transact, Time), Malformed> {
    let deadline = object.optional("deadline", json::time)?.unwrap_or(Time::NEVER);
    let reads = object.optional("reads", json::list)?.unwrap_or_default();
    let writes = object.optional("writes", json::list)?.unwrap_or_default();
    let transfers = object.optional("transfers", json::list)?.unwrap_or_default();
    object.finish()?;
    let transact = Transact {
        reads: each("reads", reads, |value| read_read(value, directory, names))?,
        writes: each("writes", writes, read_write)?,
        transfers: legs::read("transfers", transfers, directory, names)?.into_vec(),
    };
    transact.validate()?;
    Ok((transact, deadline))
}

/// Reads the elements of the list `field`, as far as there may be any.
fn each<'a, T>(
    field: &str,
    values: Vec<Value<'a>>,
    mut read: impl FnMut(Object<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    // One too many is enough for the refusal.
    let values = values.into_iter().take(TRANSACTION_KEYS_MAX + 1).enumerate();
    let read = values.map(|(index, value)| {
        let object = Object::of(value).map_err(|why| Malformed::new("", why));
        object
            .and_then(&mut read)
            .map_err(|malformed| within(format_args!("{field}[{index}]"), malformed))
    });
    read.collect()
}

/// `{key, version}` or `{account, asset, version}`.
fn read_read(
    mut object: Object<'_>,
    directory: &Directory,
    names: &mut Names,
) -> Result<Read, Malformed> {
    let subject = if object.has("account") || object.has("asset") {
        Subject::Balance(BalanceKey {
            account: AccountId::new(object.required("account", json::number)?),
            asset: names.resolve(&object.required("asset", json::asset)?, directory),
        })
    } else {
        Subject::Key(object.required("key", bytes::key)?)
    };
    let version = CommitSeq::new(object.required("version", json::number)?);
    object.finish()?;
    Ok(Read { subject, version })
}

/// `{key, value}`, where `null` for a value deletes.
fn read_write(mut object: Object<'_>) -> Result<Write, Malformed> {
    let key = object.required("key", bytes::key)?;
    let value = object.nullable("value", bytes::read)?.map(Arc::from);
    object.finish()?;
    Ok(Write { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Key as Name;

    fn transact(body: &str) -> Result<Transact, Malformed> {
        let object = Object::parse(body).expect("json");
        read_rest(object, &Directory::new(), &mut Names::default()).map(|(transact, _)| transact)
    }

    #[test]
    fn keys_and_balances_are_read_keys_are_written_or_deleted() {
        let read = transact(
            r#"{"reads": [{"key": "YQ==", "version": "7"}, {"key": "Yg==", "version": 0}],
                "writes": [{"key": "YQ==", "value": ""}, {"key": "Yg==", "value": null}]}"#,
        );
        let key = |text: &str| Name::new(text.as_bytes());
        let of = |text, version| Read {
            subject: Subject::Key(key(text)),
            version: CommitSeq::new(version),
        };
        let to = |text, value: Option<&[u8]>| Write { key: key(text), value: value.map(Arc::from) };
        let expected = Transact {
            reads: vec![of("a", 7), of("b", 0)],
            writes: vec![to("a", Some(b"")), to("b", None)],
            transfers: vec![],
        };
        assert_eq!(read, Ok(expected));
        let balance = transact(r#"{"reads": [{"account": 1, "asset": "ETH", "version": 3}]}"#);
        assert!(matches!(&balance.expect("a read").reads[0].subject, Subject::Balance(_)));
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (body, field) in [
            ("{}", "reads"),
            (r#"{"reads": 7}"#, "reads"),
            (r#"{"reads": [7]}"#, "reads[0]"),
            (r#"{"reads": [{"version": 1}]}"#, "reads[0].key"),
            (r#"{"reads": [{"key": "a", "version": 1}]}"#, "reads[0].key"),
            (r#"{"reads": [{"key": "", "version": 1}]}"#, "reads[0].key"),
            (r#"{"reads": [{"key": "YQ=="}]}"#, "reads[0].version"),
            (r#"{"reads": [{"asset": "ETH", "version": 1}]}"#, "reads[0].account"),
            (
                r#"{"reads": [{"account": 1, "asset": "E", "key": "YQ==", "version": 1}]}"#,
                "reads[0].key",
            ),
            (r#"{"writes": [{"key": "YQ=="}]}"#, "writes[0].value"),
            (r#"{"writes": [{"key": "YQ==", "value": 5}]}"#, "writes[0].value"),
            (r#"{"writes": [{"key": "YQ==", "value": "x"}]}"#, "writes[0].value"),
            (
                r#"{"writes": [{"key": "YQ==", "value": null}, {"key": "YQ==", "value": ""}]}"#,
                "writes[1]",
            ),
            (
                r#"{"transfers": [{"from": 1, "to": 1, "asset": "E", "amount": 5}]}"#,
                "transfers[0].to",
            ),
            (
                r#"{"transfers": [{"from": 1, "to": 2, "asset": "E", "amount": 0}]}"#,
                "transfers[0].amount",
            ),
            (r#"{"transfer": []}"#, "transfer"),
        ] {
            assert_eq!(transact(body).expect_err(body).field, field, "{body}");
        }
        let read = |n: usize| format!(r#"{{"account": {n}, "asset": "E", "version": 0}}"#);
        let many: Vec<String> = (0..=TRANSACTION_KEYS_MAX).map(read).collect();
        let body = format!(r#"{{"reads": [{}]}}"#, many.join(","));
        assert!(transact(&body).expect_err("too many").why.contains("at most 256"));
    }
}
