//! Before the load: assets on two chains, accounts linked on both, what they start with, and markets.

use std::collections::VecDeque;

use anyhow::{Context, bail};

use crate::address::{Address, Link};
use crate::clock::{Clock, SystemClock};
use crate::config::BATCH_REQUESTS_MAX;
use crate::engine::{Brief, Engine, Pending};
use crate::request::{AssetSpec, Command, Request, Transfer};
use crate::types::{AccountId, AssetId, ChainId, ChainKind, RequestId};

use super::alarm::Alarm;
use super::workload::Workload;

/// Assets take turns on these.
const CHAINS: [(ChainId, ChainKind); 2] =
    [(ChainId::new(1), ChainKind::Evm), (ChainId::new(101), ChainKind::Solana)];
/// Submissions on their way at once.
const IN_FLIGHT: usize = 8;

/// Creates assets, accounts and markets, and deposits what accounts start with. Ends early when `stop` goes off.
///
/// # Errors
/// A refusal: the data directory has something else under these names. Or the engine's end.
pub(super) fn run(
    engine: &Engine,
    workload: &Workload,
    assets: u32,
    stop: &Alarm,
) -> anyhow::Result<()> {
    let mut setup = Setup { engine, stop, sent: 0 };
    let mut phases = commands(workload, assets).into_iter();
    phases.next().map_or(Ok(()), |assets| setup.all(assets))?;
    for number in 0..assets {
        let id = engine.directory().asset_by_name(&name(number));
        if id.is_some_and(|id| id != AssetId::new(number)) {
            bail!("the data directory has assets of its own; give another --data");
        }
    }
    phases.try_for_each(|commands| setup.all(commands))
}

/// What one after the other is needed before a load: each may name what the ones before it create.
pub(super) fn commands(
    workload: &Workload,
    assets: u32,
) -> Vec<Box<dyn Iterator<Item = Command> + '_>> {
    let put = |account| Command::PutAccount {
        account,
        links: CHAINS.map(|(chain, kind)| link(account, chain, kind)).into(),
    };
    let mut phases: Vec<Box<dyn Iterator<Item = Command>>> = vec![
        Box::new((0..assets).map(|number| Command::PutAsset(asset(number)))),
        Box::new(workload.accounts().map(put)),
    ];
    if let Some(flow) = workload.flow() {
        let account = workload.fee_account();
        phases.push(Box::new([put(account)].into_iter()));
        let markets = flow.specs(account).map(|spec| Command::PutMarket(Box::new(spec)));
        phases.push(Box::new(markets));
    }
    let amount = workload.balance();
    phases.push(Box::new(workload.accounts().flat_map(move |account| {
        let assets = (0..assets).map(AssetId::new);
        let deposit = move |asset| Transfer { account, asset, amount, reference: "".into() };
        assets.map(move |asset| Command::Deposit(deposit(asset)))
    })));
    phases
}

struct Setup<'a> {
    engine: &'a Engine,
    stop: &'a Alarm,
    /// Commands sent so far: with the time, it makes ids that are unique.
    sent: u128,
}

impl Setup<'_> {
    /// Sends all of them, a few submissions at a time, and waits for all answers.
    fn all(&mut self, mut commands: impl Iterator<Item = Command>) -> anyhow::Result<()> {
        let mut pending = VecDeque::with_capacity(IN_FLIGHT);
        while !self.stop.has_rung() {
            let now = SystemClock.wall().millis();
            let request = |command| {
                self.sent += 1;
                Request::new(RequestId::v7(now, self.sent), command)
            };
            let batch: Vec<_> = commands.by_ref().take(BATCH_REQUESTS_MAX).map(request).collect();
            if batch.is_empty() {
                break;
            }
            pending.push_back(self.engine.submit(batch).context("setting up")?);
            if pending.len() == IN_FLIGHT {
                pending.pop_front().map_or(Ok(()), all_settled)?;
            }
        }
        pending.into_iter().try_for_each(all_settled)
    }
}

fn all_settled(pending: Pending) -> anyhow::Result<()> {
    let answers = pending.wait().context("setting up")?;
    for index in 0..answers.len() {
        if let Brief::Rejected(reject) = answers.brief(index) {
            bail!("cannot set up the load in this data directory: {reject}; give another --data");
        }
    }
    Ok(())
}

fn name(asset: u32) -> String {
    format!("A{asset}")
}

fn asset(number: u32) -> AssetSpec {
    let (chain, chain_kind) = CHAINS[number as usize % CHAINS.len()];
    let is_native = (number as usize) < CHAINS.len();
    // Servers look whether it is an address.
    let token = if is_native { "native".into() } else { address(number.into(), chain_kind) };
    let (name, token) = (name(number).into(), token.into());
    AssetSpec { name, chain, chain_kind, token, decimals: 9 }
}

fn link(account: AccountId, chain: ChainId, kind: ChainKind) -> Link {
    Link { chain, address: Address::from_canonical(&address(account.get(), kind)) }
}

/// An address that nobody has but that is valid, and cheap to make.
fn address(number: u64, kind: ChainKind) -> String {
    match kind {
        // Without a letter there is no case to carry a checksum.
        ChainKind::Evm => format!("0x{number:040}"),
        _ => {
            let mut bytes = [0; 32];
            bytes[24..].copy_from_slice(&number.to_be_bytes());
            bs58::encode(bytes).into_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_valid_canonical_and_distinct() {
        let mut seen = std::collections::HashSet::new();
        for account in [1, 2, 57, 58, 256, 100_000, 10_000_000, u64::MAX] {
            for (chain, kind) in CHAINS {
                let link = link(AccountId::new(account), chain, kind);
                let parsed = Address::parse(kind, link.address.as_str());
                assert_eq!(parsed, Ok(link.address.clone()));
                assert!(seen.insert(link));
            }
        }
    }

    #[test]
    fn assets_take_turns_on_the_chains() {
        let assets = [asset(0), asset(1), asset(2)];
        assets.iter().for_each(|it| Command::PutAsset(it.clone()).validate().unwrap());
        assert_eq!((&*assets[0].name, assets[0].chain_kind), ("A0", ChainKind::Evm));
        assert_eq!((&*assets[1].name, assets[1].chain_kind), ("A1", ChainKind::Solana));
        assert_eq!(
            (&*assets[2].token, assets[2].chain),
            (&*format!("0x{:040}", 2), assets[0].chain)
        );
        for number in 2..9 {
            let AssetSpec { token, chain_kind, .. } = asset(number);
            assert!(Address::parse(chain_kind, &token).is_ok(), "a server takes {token}");
        }
    }
}
