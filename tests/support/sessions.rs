//! Scripts of named sessions over real transactions, a line for each thing that one does, with what
//! it must come to:
//!
//! ```text
//! t1: get x -> 10           what it reads
//! t1: set x 11              seen by t1, and by others once it has committed
//! t1: commit -> ok          or: conflict key x, the subject that had changed
//! now: x -> 11              what everybody sees
//! ```
//!
//! A session begins with its first line, or with `begin`.

use std::collections::BTreeMap;

use crosslatch::engine::{Engine, TransactError, Transaction};
use crosslatch::error::Reject;
use crosslatch::types::{AssetId, Key};

use crate::support::{ETH, SOL, account, leg};

/// The key of that name.
pub fn key(name: &str) -> Key {
    Key::new(name.as_bytes().to_vec())
}

/// What a script speaks of by name.
fn account_of(name: &str) -> u64 {
    ["alice", "bob"].iter().position(|known| *known == name).expect("alice or bob") as u64
}

fn asset_of(name: &str) -> AssetId {
    if name == "SOL" { SOL } else { ETH }
}

/// The sessions of a script that have begun and not ended.
struct Stage<'a> {
    engine: &'a Engine,
    sessions: BTreeMap<String, Transaction>,
}

impl Stage<'_> {
    /// Does what a line says; returns what it came to, in the words of a script.
    fn act(&mut self, name: &str, words: &[&str]) -> String {
        if name == "now" {
            // A transaction of its own.
            let mut now = self.engine.begin().expect("it runs");
            return read(&mut now, words);
        }
        let begun = self.sessions.remove(name);
        let mut session = begun.unwrap_or_else(|| self.engine.begin().expect("it runs"));
        let mut said = String::new();
        match words {
            ["begin"] => {}
            ["commit"] => return committed(session),
            ["abort"] => {
                session.abort();
                return said;
            }
            ["drop"] => {
                drop(session);
                return said;
            }
            ["set", of, value] => session.set(key(of), value.as_bytes()),
            ["delete", of] => session.delete(key(of)),
            ["transfer", from, to, asset, amount] => {
                let (from, to) = (account_of(from), account_of(to));
                let amount = amount.parse().expect("a number");
                session.transfer(leg(from, to, asset_of(asset), amount));
            }
            _ => said = read(&mut session, words),
        }
        self.sessions.insert(name.to_owned(), session);
        said
    }
}

fn read(session: &mut Transaction, words: &[&str]) -> String {
    match words {
        ["balance", of, asset] => {
            let of = account(account_of(of));
            session.balance(of, asset_of(asset)).expect("it runs").available.to_string()
        }
        ["get", of] | [of] => {
            let value = session.get(&key(of)).expect("it runs");
            value.map_or("nothing".into(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
        }
        other => panic!("{other:?}"),
    }
}

fn committed(session: Transaction) -> String {
    match session.commit() {
        Ok(_) => "ok".into(),
        Err(TransactError::Conflict(Reject::Conflict { subject })) => format!("conflict {subject}"),
        Err(TransactError::Conflict(reject) | TransactError::Rejected(reject)) => {
            reject.code().into()
        }
        Err(TransactError::Failed(error)) => panic!("{error}"),
    }
}

/// Plays a script.
pub fn play(engine: &Engine, script: &str) {
    let mut stage = Stage { engine, sessions: BTreeMap::new() };
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (act, expected) = line.split_once(" -> ").unwrap_or((line, ""));
        let (name, words) = act.split_once(": ").expect("a name and what it does");
        let said = stage.act(name, &words.split(' ').collect::<Vec<_>>());
        assert_eq!(said, expected, "in {line:?} of {script}");
    }
}
