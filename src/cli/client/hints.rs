//! What to try next, after a refusal or where there is no server.

use serde_json::Value;

use super::super::nearest::nearest;
use super::ServerArgs;
use super::http::{self, Call};

/// At most so many names are listed where none is like the one that was asked for.
const NAMES_MAX: usize = 12;

/// Where nobody listens.
pub(in crate::cli) fn unreachable(url: &str) -> String {
    format!(
        "nobody listens at {url}: start a server with `crosslatch serve`, or say where it is with \
         --url http://HOST:PORT or CROSSLATCH_URL"
    )
}

/// What may help after a refusal; asks the server for names where one was not known.
pub(super) fn of(server: &ServerArgs, problem: &Value) -> Option<String> {
    hint(problem, |path| {
        let answer = http::send(&server.url, &server.access, &Call::get(path)).ok();
        answer.filter(|answer| answer.is_done).map(|answer| answer.body)
    })
}

fn hint(problem: &Value, ask: impl FnOnce(&str) -> Option<Value>) -> Option<String> {
    let account = &problem["account"];
    match problem["code"].as_str()? {
        "unknown_asset" => Some(known("asset", problem, &ask("/v1/assets")?)),
        "unknown_market" => Some(known("market", problem, &ask("/v1/markets")?)),
        "unknown_account" => {
            Some(format!("create it: crosslatch account put {account} --link CHAIN=ADDRESS"))
        }
        "not_linked" => {
            let chain = &problem["chain_id"];
            Some(format!("link one: crosslatch account put {account} --link {chain}=ADDRESS"))
        }
        "market_halted" => {
            let market = problem["market"].as_str().unwrap_or("MARKET");
            Some(format!("resume it: crosslatch market resume {market}"))
        }
        "conflict" | "lock_timeout" => {
            Some("look again, and send it under a new request id".into())
        }
        "recovering" => Some("wait for it: crosslatch status says how far it is".into()),
        _ => None,
    }
}

/// Which names there are of a kind, best the one that was meant.
fn known(kind: &str, problem: &Value, list: &Value) -> String {
    let rows = list[format!("{kind}s")].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = rows.iter().filter_map(|row| row[kind].as_str()).collect();
    let asked = problem[kind].as_str().unwrap_or_default();
    if let Some(meant) = nearest(asked, names.iter().copied()) {
        return format!("did you mean {meant}?");
    }
    match names.len() {
        0 => format!("there is no {kind} yet; create one: crosslatch {kind} put NAME ..."),
        1..=NAMES_MAX => format!("there are: {}", names.join(", ")),
        more => {
            let show = if kind == "asset" { "show" } else { "list" };
            format!("there are {more}; see: crosslatch {kind} {show}")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(problem: Value, list: Value) -> Option<String> {
        hint(&problem, |_| Some(list))
    }

    #[test]
    fn names_that_exist_are_suggested() {
        let markets = json!({"markets": [{"market": "ETH-SOL"}, {"market": "BTC-SOL"}]});
        let problem = json!({"code": "unknown_market", "market": "ETH-SLO"});
        assert_eq!(after(problem, markets).as_deref(), Some("did you mean ETH-SOL?"));
        let problem = json!({"code": "unknown_asset", "asset": "DOGE"});
        let assets = json!({"assets": [{"asset": "ETH"}, {"asset": "SOL"}]});
        assert_eq!(after(problem.clone(), assets).as_deref(), Some("there are: ETH, SOL"));
        let none = after(problem.clone(), json!({"assets": []})).unwrap();
        assert!(none.starts_with("there is no asset yet; create one: "), "{none}");
        let many: Vec<Value> = (0..20).map(|n| json!({"asset": format!("A{n}")})).collect();
        let many = after(problem, json!({"assets": many})).unwrap();
        assert_eq!(many, "there are 20; see: crosslatch asset show");
    }

    #[test]
    fn refusals_that_a_command_mends_name_it() {
        let link = json!({"code": "not_linked", "account": 3, "chain_id": 101});
        let said = after(link, json!({})).unwrap();
        assert_eq!(said, "link one: crosslatch account put 3 --link 101=ADDRESS");
        assert_eq!(after(json!({"code": "insufficient_funds"}), json!({})), None);
        // Where the server does not say which there are, nothing is made up.
        assert_eq!(hint(&json!({"code": "unknown_asset", "asset": "E"}), |_| None), None);
    }
}
