//! A first swap from Rust: two assets, two accounts, and both legs latch or neither moves.
//!
//! ```text
//! cargo run --release --no-default-features --example swap grpc://127.0.0.1:7401
//! ```
//!
//! Only a server needs RocksDB: without the default features it is not compiled.

use std::error::Error;

use crosslatch::client::{Client, Outcome, deposit, leg, swap};
use crosslatch::proto::{ChainKind, Link, PutAccount, PutAsset};
use crosslatch::types::AccountId;

/// An ETH in wei, and a SOL in lamports: amounts are whole numbers of the smallest unit.
const ETH: u128 = 1_000_000_000_000_000_000;
const SOL: u128 = 1_000_000_000;

/// Where they are on Ethereum, and on Solana.
const ALICE: (&str, &str) =
    ("0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "DYw8jCTfwHNRJhhmFcbXvVDTqWMEVFBX6ZKUmG5CNSKK");
const BOB: (&str, &str) =
    ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "7EcDhSYGxXyscszYEp35KHN8vvw3svAuLKTzXwCFLtV");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    trade(address.as_deref().unwrap_or("grpc://127.0.0.1:7401")).await
}

/// What a program of your own would do with the server at `address`.
///
/// # Errors
/// There is no server, or it refuses what has to be there before they can trade.
pub async fn trade(address: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(address).await?;
    set_up(&client).await?;

    // Alice sells 2 ETH to Bob for 40 SOL.
    let legs = [leg(1, 2, "ETH", 2 * ETH), leg(2, 1, "SOL", 40 * SOL)];
    let id = client.fresh_id(); // To be kept until the outcome is known: sent again, it counts once.
    match client.submit(swap(id, legs)).await? {
        Outcome::Settled(receipt) => println!("settled as seq {}", receipt.commit_seq),
        Outcome::Problem(problem) => println!("refused: {}", problem.detail),
    }

    // What cannot be paid is refused, and nothing moves.
    let legs = [leg(1, 2, "ETH", 1_000_000_000 * ETH), leg(2, 1, "SOL", 1)];
    if let Outcome::Problem(problem) = client.submit(swap(client.fresh_id(), legs)).await? {
        println!("refused: {}", problem.detail);
    }

    for balance in client.balances(AccountId::new(2)).await?.balances {
        let available = balance.available.unwrap_or_default().units();
        println!("Bob has {available} {}", balance.asset);
    }
    Ok(())
}

/// Two assets on two chains, Alice (1) and Bob (2) with an address on each; 10 ETH and 500 SOL.
async fn set_up(client: &Client) -> Result<(), Box<dyn Error>> {
    let mut exchange = client.exchange();
    let assets = [("ETH", 1, ChainKind::Evm, 18), ("SOL", 101, ChainKind::Solana, 9)];
    for (asset, chain_id, chain_kind, decimals) in assets {
        let (asset, token, chain_kind) = (asset.into(), "native".into(), chain_kind.into());
        let put = PutAsset { asset, chain_id, chain_kind, token, decimals, ..PutAsset::default() };
        exchange.put_asset(put).await?;
    }
    for (account, (evm, solana)) in [(1, ALICE), (2, BOB)] {
        let link = |chain_id, address: &str| Link { chain_id, address: address.into() };
        let links = vec![link(1, evm), link(101, solana)];
        exchange.put_account(PutAccount { account, links, ..PutAccount::default() }).await?;
    }
    for (account, asset, amount) in [(1, "ETH", 10 * ETH), (2, "SOL", 500 * SOL)] {
        let deposit = deposit(client.fresh_id(), account, asset, amount, "");
        if let Outcome::Problem(problem) = client.submit(deposit).await? {
            return Err(problem.detail.into());
        }
    }
    Ok(())
}
