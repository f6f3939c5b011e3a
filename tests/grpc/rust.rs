//! The Rust example, as a reader of the README would run it: no error, and both legs on either side.

use crosslatch::client::Client;
use crosslatch::types::AccountId;

use super::process::Server;

#[path = "../../examples/swap.rs"]
#[expect(dead_code, reason = "who starts it here knows the address")]
mod example;

#[tokio::test]
async fn the_rust_example_settles_its_swap() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let address = format!("grpc://{}", server.grpc);
    example::trade(&address).await.expect("both legs latch");
    let client = Client::connect(&address).await.expect("it runs");
    let balances = client.balances(AccountId::new(2)).await.expect("Bob's").balances;
    let available = balances
        .iter()
        .map(|it| (it.asset.as_str(), it.available.expect("an amount").units().get()));
    let expected = [("ETH", 2_000_000_000_000_000_000), ("SOL", 460_000_000_000)];
    assert_eq!(available.collect::<Vec<_>>(), expected);
}
