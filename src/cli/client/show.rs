//! Answers for people: what happened in the first line, then one member a line, lists as tables.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// The order in which members are shown; what is not here comes after, by name.
const ORDER: [&str; 70] = [
    "id",
    "request_id",
    "name",
    "token",
    "trade_id",
    "order_id",
    "client_order_id",
    "market",
    "state",
    "generation",
    "scopes",
    "accounts",
    "networks",
    "limits",
    "status",
    "reason",
    "seq",
    "commit_seq",
    "time",
    "kind",
    "account",
    "side",
    "type",
    "time_in_force",
    "price",
    "quantity",
    "orders",
    "funds",
    "filled",
    "remaining",
    "notional",
    "fee",
    "base",
    "quote",
    "tick_size",
    "lot_size",
    "last_price",
    "from",
    "to",
    "asset",
    "amount",
    "available_before",
    "available",
    "held_before",
    "held",
    "version",
    "before",
    "after",
    "from_before",
    "from_after",
    "to_before",
    "to_after",
    "reference",
    "exclusive",
    "since",
    "expires_at",
    "value",
    "chain_id",
    "chain_kind",
    "address",
    "decimals",
    "code",
    "title",
    "detail",
    "field",
    "short_by",
    "next",
    "legs",
    "links",
    "balances",
];
/// In a table these come last, as they are long.
const LONG: [&str; 5] = ["request_id", "order_id", "client_order_id", "maker_order_id", "token"];

/// Writes an answer.
///
/// # Errors
/// Nothing can be written there.
pub(super) fn answer(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    let Value::Object(members) = answer else { return writeln!(out, "{answer}") };
    let member = |name: &str| members.get(name).map(plain).unwrap_or_default();
    match members.get("status").and_then(Value::as_str) {
        Some("settled") => {
            writeln!(out, "settled at seq {}, {}", member("commit_seq"), member("time"))?;
            all(members, &["status", "commit_seq", "time"], out)
        }
        Some(status) => {
            writeln!(out, "{status}")?;
            all(members, &["status"], out)
        }
        None => all(members, &[], out),
    }
}

/// Members one a line, then lists.
fn all(members: &Map<String, Value>, but: &[&str], out: &mut dyn Write) -> io::Result<()> {
    let shown = || in_order(members.keys()).into_iter().filter(|name| !but.contains(name));
    let is_list = |name: &&str| members[*name].is_array();
    let width = shown().filter(|name| !is_list(name)).map(str::len).max().unwrap_or(0);
    for name in shown().filter(|name| !is_list(name)) {
        let line = format!("{name:width$}  {}", plain(&members[name]));
        writeln!(out, "{}", line.trim_end())?;
    }
    for name in shown().filter(is_list) {
        let rows = members[name].as_array().map(Vec::as_slice).unwrap_or_default();
        if rows.is_empty() {
            writeln!(out, "no {name}")?;
        } else {
            table(rows, out)?;
        }
    }
    Ok(())
}

fn in_order<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    // Stable: what has no place stays sorted by name.
    names.sort_by_key(|name| place(name));
    names
}

/// One row a line, under the names of its members.
fn table(rows: &[Value], out: &mut dyn Write) -> io::Result<()> {
    let mut columns: Vec<&String> =
        rows.iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    columns.sort();
    columns.dedup();
    let mut columns = in_order(columns.into_iter());
    columns.sort_by_key(|name| LONG.contains(name));
    let cell = |row: &Value, name: &str| row.get(name).map(plain).unwrap_or_default();
    let width = |name: &&str| {
        rows.iter().map(|row| cell(row, name).chars().count()).max().unwrap_or(0).max(name.len())
    };
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let line = |cells: Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    writeln!(out, "{}", line(columns.iter().map(|name| name.to_uppercase()).collect()))?;
    for row in rows {
        writeln!(out, "{}", line(columns.iter().map(|name| cell(row, name)).collect()))?;
    }
    Ok(())
}

/// A value without quotes; nothing for `null`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(value: Value) -> String {
        let mut out = Vec::new();
        answer(&value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_receipt_begins_with_what_happened() {
        let receipt = json!({
            "status": "settled", "request_id": "u", "commit_seq": "9", "time": "T",
            "legs": [{"from": 1, "to": 2, "asset": "ETH", "amount": "5"}],
        });
        let expected = "settled at seq 9, T\nrequest_id  u\nFROM  TO  ASSET  AMOUNT\n\
                        1     2   ETH    5\n";
        assert_eq!(shown(receipt), expected);
        assert_eq!(
            shown(json!({"status": "pending", "request_id": "u"})),
            "pending\nrequest_id  u\n"
        );
    }

    #[test]
    fn tables_have_a_column_a_member_and_long_ones_last() {
        let history = json!({"account": 1, "next": null, "changes": [
            {"seq": "7", "kind": "deposit", "request_id": "u", "held": "0"},
            {"seq": "12", "kind": "swap", "request_id": "v", "held": "0", "token": "t"},
        ]});
        let expected = "account  1\nnext     -\nSEQ  KIND     HELD  REQUEST_ID  TOKEN\n\
                        7    deposit  0     u\n12   swap     0     v           t\n";
        assert_eq!(shown(history), expected);
        assert_eq!(shown(json!({"changes": []})), "no changes\n");
    }
}
