//! Runs script files, and speaks their little language of names.
//!
//! A file is sections: commands, `---`, the output expected of them, an empty line. What one section
//! did, the next one finds. `#` begins a remark. `UPDATE_SCRIPTS=1 cargo test` writes what is said
//! now into the files; look at the difference before you keep it.
//!
//! Accounts `alice` to `erin` live on shard 0 of 2, `xena`, `yuri` and `zoe` on shard 1; all exist and
//! are linked everywhere at the start, but for `mallory`, who does not exist. Requests read
//!
//! ```text
//! alice pays bob 80 ETH, bob pays alice 5 SOL
//! pay alice 80 ETH                   a swap of which only this is shard 0's
//! deposit alice 10 ETH               `... reference tx1`, if it has one
//! withdraw alice 10 ETH              set aside until the withdrawal is confirmed or cancelled
//! prepare alice pays bob 80 ETH, bob pays alice 5 SOL
//! prepare exclusively ...
//! transact reads k at 0, reads alice ETH at 10, writes k, deletes j, alice pays bob 5 ETH
//! link alice addr on 2
//! unlink alice on 2
//! asset NEW on 4
//! ```
//!
//! Keys whose names begin with `far` are shard 1's, all others shard 0's.

use std::path::Path;

use crate::address::{Address, Link};
use crate::directory::Directory;
use crate::error::Reject;
use crate::request::{AssetSpec, Command, Prepare, Read, Swap, Transact, Transfer, Write};
use crate::types::{
    AccountId, Amount, AssetId, BalanceKey, ChainId, ChainKind, CommitSeq, Key, Leg, Subject,
};

/// Something that scripts command.
pub(crate) trait Script {
    /// As it is at the start of a file.
    fn start() -> Self;

    /// Carries out one command and says what came of it, a line each.
    fn command(&mut self, line: &str) -> Vec<String>;
}

/// Runs every file of a folder below `tests/scripts`.
pub(crate) fn run_folder<S: Script>(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("a folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scripts in {}", folder.display());
    for file in files {
        // Shown when a command panics: then the last line printed is at fault.
        println!("{}", file.display());
        let text = std::fs::read_to_string(&file).expect("a script");
        let said = run_text::<S>(&text);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&file, said).expect("written");
        } else {
            let line = text.lines().zip(said.lines()).take_while(|(old, new)| old == new).count();
            let place = format!("{}:{}", file.display(), line + 1);
            assert!(text == said, "{place}: expected\n\n{text}\n\nbut it says\n\n{said}");
        }
    }
}

/// The script with what it says now in place of what is expected.
fn run_text<S: Script>(text: &str) -> String {
    let mut script = S::start();
    let mut said = String::new();
    let mut lines = text.lines();
    let mut output: Vec<String> = Vec::new();
    while let Some(line) = lines.next() {
        said += line;
        said.push('\n');
        if line == "---" {
            for line in output.drain(..) {
                said += &line;
                said.push('\n');
            }
            // The old output, up to the empty line that ends it.
            if lines.by_ref().any(str::is_empty) {
                said.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            println!("    {line}");
            output.extend(script.command(line));
        }
    }
    assert!(output.is_empty(), "a last section without ---");
    said
}

const NEAR: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];
const FAR: [&str; 3] = ["xena", "yuri", "zoe"];
/// Assets by number, each with its chain.
pub(crate) const ASSETS: [(&str, u64); 5] =
    [("ETH", 1), ("USDC", 1), ("SOL", 2), ("BTC", 3), ("NEW", 4)];
/// How many of them exist at the start.
const ASSETS_AT_START: usize = 4;

/// The directory at the start of a script.
pub(crate) fn directory() -> Directory {
    let directory = Directory::new();
    for (name, chain) in &ASSETS[..ASSETS_AT_START] {
        directory.insert_asset(asset_spec(name, *chain));
    }
    for name in NEAR.iter().chain(&FAR) {
        let links: Vec<Link> = (1..=3).map(|chain| link(chain, &format!("{name}'s"))).collect();
        directory.insert_account(account(name), &links);
    }
    directory
}

fn asset_spec(name: &str, chain: u64) -> AssetSpec {
    AssetSpec {
        name: name.into(),
        chain: ChainId::new(chain),
        chain_kind: ChainKind::Other,
        token: "native".into(),
        decimals: 0,
    }
}

fn link(chain: u64, address: &str) -> Link {
    Link { chain: ChainId::new(chain), address: Address::from_canonical(address) }
}

/// The account of that name.
pub(crate) fn account(name: &str) -> AccountId {
    let of_shard = |shard, place: usize| {
        let mut accounts = (1..).map(AccountId::new).filter(|it: &AccountId| it.shard(2) == shard);
        accounts.nth(place).expect("there are many")
    };
    if let Some(place) = NEAR.iter().position(|near| *near == name) {
        return of_shard(0, place);
    }
    if let Some(place) = FAR.iter().position(|far| *far == name) {
        return of_shard(1, place);
    }
    assert_eq!(name, "mallory", "a name of the cast");
    of_shard(0, NEAR.len())
}

fn name(of: AccountId) -> &'static str {
    let mut cast = NEAR.into_iter().chain(FAR);
    cast.find(|name| account(name) == of).unwrap_or("mallory")
}

/// The asset of that name.
pub(crate) fn asset(name: &str) -> AssetId {
    let number = ASSETS.iter().position(|(known, _)| *known == name);
    AssetId::new(number.unwrap_or_else(|| panic!("no asset {name}")) as u32)
}

/// An amount in digits, or `max` for the largest and `cap` for the largest supply.
pub(crate) fn amount(text: &str) -> Amount {
    match text {
        "max" => Amount::new(u128::MAX),
        "cap" => Amount::new(u128::MAX / 2),
        digits => digits.parse().expect("an amount"),
    }
}

fn chain(text: &str) -> u64 {
    text.parse().expect("a chain")
}

/// The key of that name.
pub(crate) fn key(name: &str) -> Key {
    let shard = usize::from(name.starts_with("far"));
    let mut spellings = (0..).map(|n| Key::new(format!("{name}#{n}").into_bytes()));
    spellings.find(|key| key.shard(2) == shard).expect("every other one")
}

/// Something with a version, by its name.
pub(crate) fn subject_name(of: &Subject) -> String {
    match of {
        Subject::Key(key) => {
            let spelling = String::from_utf8_lossy(key.bytes()).into_owned();
            spelling.split('#').next().unwrap_or_default().into()
        }
        Subject::Balance(key) => balance_name(*key),
    }
}

/// A balance, as in `alice ETH`.
pub(crate) fn balance_name(of: BalanceKey) -> String {
    format!("{} {}", name(of.account), ASSETS[of.asset.get() as usize].0)
}

/// How long a prepared swap stands.
const HOLD_MS: u64 = 60_000;

/// What a request asks for.
pub(crate) fn request(text: &str) -> Command {
    let words: Vec<&str> = text.split_whitespace().collect();
    let transfer = |whose: &str, units: &str, of: &str, reference: &str| Transfer {
        account: account(whose),
        asset: asset(of),
        amount: amount(units),
        reference: reference.into(),
    };
    match words[..] {
        ["deposit", whose, units, of] => Command::Deposit(transfer(whose, units, of, "")),
        ["deposit", whose, units, of, "reference", name] => {
            Command::Deposit(transfer(whose, units, of, name))
        }
        ["withdraw", whose, units, of] => Command::Withdraw(transfer(whose, units, of, "")),
        ["pay", whose, units, of] => {
            Command::Swap(swap(&format!("{whose} pays zoe {units} {of}, zoe pays yuri 1 {of}")))
        }
        ["prepare", "exclusively", ..] => {
            prepare(text.trim_start_matches("prepare exclusively "), true)
        }
        ["prepare", ..] => prepare(text.trim_start_matches("prepare "), false),
        ["transact", ..] => {
            Command::Transact(Box::new(transact(text.trim_start_matches("transact "))))
        }
        ["link", whose, address, "on", on] => {
            Command::PutAccount { account: account(whose), links: vec![link(chain(on), address)] }
        }
        ["unlink", whose, "on", on] => {
            Command::RemoveLink { account: account(whose), chain: ChainId::new(chain(on)) }
        }
        ["asset", of, "on", on] => Command::PutAsset(asset_spec(of, chain(on))),
        _ => Command::Swap(swap(text)),
    }
}

fn prepare(legs: &str, exclusive: bool) -> Command {
    let prepare = Prepare { swap: swap(legs), expires_in_ms: HOLD_MS, exclusive };
    Command::Prepare(Box::new(prepare))
}

fn swap(legs: &str) -> Swap {
    Swap::new(legs.split(", ").map(leg)).expect("a well-formed swap")
}

fn transact(text: &str) -> Transact {
    let mut transact = Transact::default();
    for part in text.split(", ") {
        let words: Vec<&str> = part.split_whitespace().collect();
        let version = |text: &str| CommitSeq::new(text.parse().expect("a version"));
        match words[..] {
            ["reads", name, "at", seq] => {
                let (subject, version) = (Subject::Key(key(name)), version(seq));
                transact.reads.push(Read { subject, version });
            }
            ["reads", whose, of, "at", seq] => {
                let balance = BalanceKey { account: account(whose), asset: asset(of) };
                let (subject, version) = (Subject::Balance(balance), version(seq));
                transact.reads.push(Read { subject, version });
            }
            ["writes", name] => {
                let value = Some((*b"a value").into());
                transact.writes.push(Write { key: key(name), value });
            }
            ["deletes", name] => transact.writes.push(Write { key: key(name), value: None }),
            _ => transact.transfers.push(leg(part)),
        }
    }
    transact
}

fn leg(text: &str) -> Leg {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [from, "pays", to, units, of] = words[..] else {
        panic!("not a request: {text}");
    };
    let (from, to) = (account(from), account(to));
    Leg { from, to, asset: asset(of), amount: amount(units) }
}

/// A refusal in the script's names.
pub(crate) fn reason(reject: &Reject) -> String {
    match reject {
        Reject::InsufficientFunds { account, asset, short_by, seq } => {
            let (asset, _) = ASSETS[asset.get() as usize];
            format!("{} is short of {short_by} {asset} at seq {seq}", name(*account))
        }
        Reject::NotLinked { account, chain } => {
            format!("{} is not linked on {chain}", name(*account))
        }
        Reject::UnknownAccount(account) => format!("{} does not exist", name(*account)),
        Reject::UnknownAsset(asset) => {
            format!("{} does not exist", ASSETS[asset.get() as usize].0)
        }
        Reject::SupplyExceeded(asset) => {
            format!("above the cap of {}", ASSETS[asset.get() as usize].0)
        }
        Reject::Conflict { subject } => format!("{} has changed", subject_name(subject)),
        Reject::HeldShareExceeded { account, asset, max_percent } => {
            let balance = balance_name(BalanceKey { account: *account, asset: *asset });
            format!("more than {max_percent}% of {balance} would be held")
        }
        Reject::AlreadyCredited { asset, seq } => {
            let (asset, _) = ASSETS[asset.get() as usize];
            format!("credited already for {asset} at seq {seq}")
        }
        Reject::AlreadyLinked(_) => "already linked".into(),
        Reject::AlreadyExists(_) => "already exists".into(),
        other => other.code().into(),
    }
}
