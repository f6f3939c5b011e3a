//! Runs `tests/scripts/journal`: readable commands, then the bytes that they come to, pinned.
//!
//! A script that fails prints what it came to. Before that goes into the file: bytes that change
//! are another format, with another version.

use std::fmt::Write;
use std::fs;
use std::str::FromStr;

use super::*;
use crate::address::{Address, Link};
use crate::error::Reject;
use crate::message::Txn;
use crate::request::{
    Action, AssetSpec, Prepare, Purpose, Read, Request, Resolve, Swap, Transact, Transfer,
};
use crate::types::{AccountId, Amount, ChainId, ChainKind, Key, Leg, Subject};

/// What one line says, word by word; anything unexpected panics.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn text(&mut self) -> &'a str {
        self.0.next().expect("another word")
    }

    fn number<T: FromStr>(&mut self) -> T {
        number(self.text())
    }

    /// Words until `end` or the end of the line.
    fn until(&mut self, end: &str) -> Vec<&'a str> {
        self.0.by_ref().take_while(|word| *word != end).collect()
    }
}

fn number<T: FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("{word:?} should be a number"))
}

fn pair<'a>(word: &'a str, between: &str) -> (&'a str, &'a str) {
    word.split_once(between).unwrap_or_else(|| panic!("{word:?} should have a {between:?}"))
}

fn leg(words: &[&str]) -> Leg {
    let (from, to) = pair(words[0], "->");
    let (asset, amount) = pair(words[1], ":");
    Leg {
        from: AccountId::new(number(from)),
        to: AccountId::new(number(to)),
        asset: AssetId::new(number(asset)),
        amount: Amount::new(number(amount)),
    }
}

fn transfer(words: &mut Words<'_>) -> Transfer {
    let account = AccountId::new(words.number());
    let (asset, amount) = pair(words.text(), ":");
    let (asset, amount) = (AssetId::new(number(asset)), Amount::new(number(amount)));
    Transfer { account, asset, amount, reference: words.until("=").concat().into() }
}

fn time(word: &str) -> Time {
    if word == "-" { Time::NEVER } else { Time::new(number(word)) }
}

fn token(words: &mut Words<'_>) -> Token {
    Token::of(RequestId::new(words.number()))
}

/// `[exclusive] LEG...` until `end`: the legs, and whether it says so.
fn legs(words: &mut Words<'_>, end: &str) -> (Vec<Leg>, bool) {
    let mut said = words.until(end);
    let exclusive = said.first() == Some(&"exclusive");
    said.drain(..usize::from(exclusive));
    (said.chunks(2).map(leg).collect(), exclusive)
}

/// `since SEQ until TIME|- withdraw TRANSFER` or `... [exclusive] LEG...`.
fn hold(token: Token, withdrawal: bool, words: &mut Words<'_>) -> Hold {
    assert_eq!(words.text(), "since");
    let since = CommitSeq::new(words.number());
    assert_eq!(words.text(), "until");
    let expires_at = time(words.text());
    let (purpose, exclusive) = if withdrawal {
        (Purpose::Withdrawal(transfer(words)), false)
    } else {
        let (legs, exclusive) = legs(words, "=");
        (Purpose::Swap(Swap::new(legs).unwrap()), exclusive)
    };
    Hold { token, purpose, exclusive, expires_at, since }
}

fn subject(word: &str) -> Subject {
    match word.split_once('/') {
        None => Subject::Key(Key::new(word.as_bytes())),
        Some((account, asset)) => {
            let (account, asset) = (AccountId::new(number(account)), number(asset));
            Subject::Balance(BalanceKey { account, asset: AssetId::new(asset) })
        }
    }
}

/// `SUBJECT@VERSION... set KEY:VALUE... KEY... move LEG...`
fn transact(words: &mut Words<'_>) -> Transact {
    let read = |word: &str| {
        let (of, version) = pair(word, "@");
        Read { subject: subject(of), version: CommitSeq::new(number(version)) }
    };
    let write = |word: &str| {
        let (key, value) = word.split_once(':').unwrap_or((word, ""));
        let value = (!value.is_empty()).then(|| value.as_bytes().into());
        super::Write { key: Key::new(key.as_bytes()), value }
    };
    Transact {
        reads: words.until("set").into_iter().map(read).collect(),
        writes: words.until("move").into_iter().map(write).collect(),
        transfers: words.until("=").chunks(2).map(leg).collect(),
    }
}

fn action(kind: &str) -> Option<Action> {
    Some(match kind {
        "commit" => Action::Commit,
        "rollback" => Action::Rollback,
        "confirm" => Action::Confirm,
        "cancel" => Action::Cancel,
        "expire" => Action::Expire,
        _ => return None,
    })
}

fn link(word: &str) -> Link {
    let (chain, address) = pair(word, "=");
    Link { chain: ChainId::new(number(chain)), address: Address::from_canonical(address) }
}

fn chain_kind(word: &str) -> ChainKind {
    match word {
        "evm" => ChainKind::Evm,
        "solana" => ChainKind::Solana,
        "bitcoin" => ChainKind::Bitcoin,
        "other" => ChainKind::Other,
        _ => panic!("{word:?} is no kind of chain"),
    }
}

fn command(kind: &str, words: &mut Words<'_>) -> Command {
    match kind {
        "swap" => Command::Swap(Swap::new(legs(words, "=").0).unwrap()),
        "prepare" => {
            let (legs, exclusive) = legs(words, "for");
            let (swap, expires_in_ms) = (Swap::new(legs).unwrap(), words.number());
            Command::Prepare(Box::new(Prepare { swap, expires_in_ms, exclusive }))
        }
        "transact" => Command::Transact(Box::new(transact(words))),
        "deposit" => Command::Deposit(transfer(words)),
        "withdraw" => Command::Withdraw(transfer(words)),
        "asset" => Command::PutAsset(AssetSpec {
            name: words.text().into(),
            chain: ChainId::new(words.number()),
            chain_kind: chain_kind(words.text()),
            token: words.text().into(),
            decimals: words.number(),
        }),
        "account" => Command::PutAccount {
            account: AccountId::new(words.number()),
            links: words.until("=").into_iter().map(link).collect(),
        },
        "unlink" => Command::RemoveLink {
            account: AccountId::new(words.number()),
            chain: ChainId::new(words.number()),
        },
        _ => panic!("{kind:?} is no command"),
    }
}

fn reject(words: &mut Words<'_>) -> Reject {
    match words.text() {
        "request_id_reused" => Reject::RequestIdReused,
        "expired" => Reject::Expired,
        "unknown_token" => Reject::UnknownToken(token(words)),
        "already_resolved" => Reject::AlreadyResolved {
            token: token(words),
            how: resolution(words.text()),
            seq: CommitSeq::new(words.number()),
        },
        "unknown_asset" => Reject::UnknownAsset(AssetId::new(words.number())),
        "unknown_chain" => Reject::UnknownChain(ChainId::new(words.number())),
        "unknown_account" => Reject::UnknownAccount(AccountId::new(words.number())),
        "already_exists" => Reject::AlreadyExists(words.until("=").join(" ")),
        "already_linked" => Reject::AlreadyLinked(words.until("=").join(" ")),
        "already_credited" => Reject::AlreadyCredited {
            asset: AssetId::new(words.number()),
            seq: CommitSeq::new(words.number()),
        },
        "conflict" => Reject::Conflict { subject: subject(words.text()) },
        "held_share_exceeded" => Reject::HeldShareExceeded {
            account: AccountId::new(words.number()),
            asset: AssetId::new(words.number()),
            max_percent: words.number(),
        },
        "too_many_holds" => {
            let account = words.text();
            let account = (account != "all").then(|| AccountId::new(number(account)));
            Reject::TooManyHolds { account, max: words.number() }
        }
        "lock_timeout" => Reject::LockTimeout { token: token(words) },
        "not_linked" => Reject::NotLinked {
            account: AccountId::new(words.number()),
            chain: ChainId::new(words.number()),
        },
        "supply_exceeded" => Reject::SupplyExceeded(AssetId::new(words.number())),
        "insufficient_funds" => Reject::InsufficientFunds {
            account: AccountId::new(words.number()),
            asset: AssetId::new(words.number()),
            short_by: Amount::new(words.number()),
            seq: CommitSeq::new(words.number()),
        },
        code => panic!("{code:?} is no reason"),
    }
}

fn resolution(word: &str) -> Resolution {
    Resolution::ALL.into_iter().find(|how| how.name() == word).expect("a way to end a hold")
}

fn balance(word: &str) -> Balance {
    let (available, held) = word.split_once('+').unwrap_or((word, "0"));
    Balance { available: Amount::new(number(available)), held: Amount::new(number(held)) }
}

/// `KIND ID DEADLINE|- ... = BALANCE...`, `expire TOKEN HOLD = BALANCE...`,
/// `refuse ID SEQ REASON ...` or `repeat ID SEQ FIRST`.
pub(super) fn add(line: &str, builder: &mut BlockBuilder) {
    let mut words = Words(line.split_whitespace());
    let (kind, id) = (words.text(), RequestId::new(words.number()));
    if kind == "refuse" || kind == "repeat" {
        let seq = CommitSeq::new(words.number());
        let (account, chain) = (AccountId::new(1), ChainId::new(1));
        let request = Request::new(id, Command::RemoveLink { account, chain });
        let txn = Txn::new(request, 0x0102_0304_0506_0708, 1).unwrap();
        match kind {
            "refuse" => builder.refusal(&txn, (&reject(&mut words), seq)),
            _ => builder.repeat(&txn, CommitSeq::new(words.number()), seq),
        }
        return;
    }
    let txn = commit(kind, id, &mut words);
    builder.commit(&txn, words.until("").into_iter().filter(|word| *word != "=").map(balance));
}

/// A transaction as it was decided.
fn commit(kind: &str, id: RequestId, words: &mut Words<'_>) -> Txn {
    if kind == "expire" {
        return Txn::expiry(Box::new(hold(Token::of(id), false, words)), 1);
    }
    let deadline = time(words.text());
    let mut ended = None;
    let command = if let Some(action) = action(kind) {
        let token = token(words);
        let withdrawal = matches!(action, Action::Confirm | Action::Cancel);
        ended = Some(Box::new(hold(token, withdrawal, words)));
        Command::Resolve(Resolve { token, action })
    } else {
        command(kind, words)
    };
    let digest = digest(&command, deadline, &mut Vec::new());
    let mut txn = Txn::new(Request { deadline, ..Request::new(id, command) }, digest, 1).unwrap();
    if let Some(hold) = ended {
        txn.attach(hold, 1);
    }
    if kind == "prepare" {
        assert_eq!(words.text(), "until");
        txn.expires_at = time(words.text());
    }
    txn
}

/// The bytes of a block, part by part.
fn dump(block: &Block) -> String {
    let mut text = String::new();
    let bytes = block.bytes();
    let mut part = |name: &str, from: usize, to: usize| {
        writeln!(text, "{from:4} {name:9} {}", hex::encode(&bytes[from..to])).unwrap();
    };
    let header =
        ["magic", "version", "crc32c", "number", "first_seq", "commits", "refusals", "time"];
    let begins = [0, 4, 6, 10, 18, 26, 30, 34, 42];
    for (name, span) in header.iter().zip(begins.windows(2)) {
        part(name, span[0], span[1]);
    }
    part("previous", 42, HEADER_LEN);
    for index in 0..block.records.offsets.len() as u32 {
        let (begin, end) = (block.record(index).at(), block.record(index + 1).at());
        part(if index < block.header.commits { "commit" } else { "refusal" }, begin, begin + 16);
        part("  digest", begin + 16, begin + 24);
        part("  rest", begin + 24, end);
    }
    text
}

#[test]
fn blocks_are_laid_out_as_the_scripts_say() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts/journal");
    let mut scripts = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let script = fs::read_to_string(&path).unwrap();
        let (lines, expected) = script.split_once("---\n").expect("commands, ---, bytes");
        let mut builder = BlockBuilder::new();
        builder.begin(BlockNumber::new(3), CommitSeq::new(10), BlockHash::new([0xAA; 32]));
        let is_command = |line: &&str| !line.is_empty() && !line.starts_with('#');
        lines.lines().filter(is_command).for_each(|line| add(line, &mut builder));
        let block = builder.finish(Time::new(1_700_000_000_000_000), vec![]);
        let found = dump(&block);
        assert_eq!(found, expected, "{} comes to\n{found}", path.display());
        Block::decode(block.bytes().to_vec()).expect("what was written is read");
        scripts += 1;
    }
    assert!(scripts > 0, "no scripts in {directory}");
}
