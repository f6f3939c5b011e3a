//! What the tests of the engine share: a small venue, and short words for what is asked of it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, bounded};

use crosslatch::address::{Address, Link};
use crosslatch::clock::{Clock, SystemClock};
use crosslatch::engine::{Audit, Engine};
use crosslatch::request::{Action, AssetSpec, Command, Prepare, Request, Resolve, Swap, Transfer};
use crosslatch::types::{AccountId, Amount, AssetId, ChainId, ChainKind, Leg, RequestId, Token};
use tempfile::TempDir;

/// The assets of [`opening`], by the numbers that they get.
pub const ETH: AssetId = AssetId::new(0);
pub const SOL: AssetId = AssetId::new(1);
pub const USDC: AssetId = AssetId::new(2);

/// Their chains: USDC is on ETH's.
pub const ETHEREUM: ChainId = ChainId::new(1);
pub const SOLANA: ChainId = ChainId::new(900);

/// A directory of its own on the disk that the build is on: `/tmp` may be memory, where an fsync
/// costs nothing and proves nothing.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written")
}

pub fn account(number: u64) -> AccountId {
    AccountId::new(number)
}

pub fn asset(name: &str, chain: ChainId, chain_kind: ChainKind) -> Command {
    let token = "native".into();
    Command::PutAsset(AssetSpec { name: name.into(), chain, chain_kind, token, decimals: 9 })
}

/// The address of an account on one of the two chains; no two accounts share one.
pub fn link(number: u64, chain: ChainId) -> Link {
    let (kind, text) = if chain == SOLANA {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        (ChainKind::Solana, bs58::encode(bytes).into_string())
    } else {
        (ChainKind::Evm, format!("0x{number:040x}"))
    };
    Link { chain, address: Address::parse(kind, &text).expect("a valid address") }
}

/// An account linked on both chains.
pub fn put_account(number: u64) -> Command {
    let links = vec![link(number, ETHEREUM), link(number, SOLANA)];
    Command::PutAccount { account: account(number), links }
}

/// Three assets on two chains, and that many accounts, numbered from 0, linked on both.
pub fn opening(accounts: u64) -> Vec<Command> {
    let mut commands = vec![
        asset("ETH", ETHEREUM, ChainKind::Evm),
        asset("SOL", SOLANA, ChainKind::Solana),
        asset("USDC.eth", ETHEREUM, ChainKind::Evm),
    ];
    commands.extend((0..accounts).map(put_account));
    commands
}

pub fn leg(from: u64, to: u64, asset: AssetId, amount: u128) -> Leg {
    Leg { from: account(from), to: account(to), asset, amount: Amount::new(amount) }
}

pub fn swap(legs: impl IntoIterator<Item = Leg>) -> Command {
    Command::Swap(Swap::new(legs).expect("a well-formed swap"))
}

pub fn transfer(number: u64, asset: AssetId, amount: u128) -> Transfer {
    Transfer { account: account(number), asset, amount: Amount::new(amount), reference: "".into() }
}

pub fn deposit(number: u64, asset: AssetId, amount: u128) -> Command {
    Command::Deposit(transfer(number, asset, amount))
}

/// A withdrawal, which stays open until it is confirmed or cancelled.
pub fn withdraw(number: u64, asset: AssetId, amount: u128) -> Command {
    Command::Withdraw(transfer(number, asset, amount))
}

/// A swap in two phases.
pub fn prepare(
    legs: impl IntoIterator<Item = Leg>,
    expires_in_ms: u64,
    exclusive: bool,
) -> Command {
    let swap = Swap::new(legs).expect("a well-formed swap");
    Command::Prepare(Box::new(Prepare { swap, expires_in_ms, exclusive }))
}

pub fn resolve(token: Token, action: Action) -> Command {
    Command::Resolve(Resolve { token, action })
}

/// The wall clock, in milliseconds since the Unix epoch.
pub fn now_millis() -> u64 {
    SystemClock.wall().millis()
}

/// An id that no request of this process has.
pub fn fresh_id() -> RequestId {
    static GIVEN: AtomicU64 = AtomicU64::new(1);
    RequestId::v7(now_millis(), u128::from(GIVEN.fetch_add(1, Ordering::Relaxed)))
}

/// Each command under an id of its own, without a deadline.
pub fn fresh(commands: impl IntoIterator<Item = Command>) -> Vec<Request> {
    commands.into_iter().map(|command| Request::new(fresh_id(), command)).collect()
}

/// The seed of a random test: `CROSSLATCH_SEED`, or the one given. A test that fails shows it.
pub fn seed(default: u64) -> u64 {
    let seed =
        std::env::var("CROSSLATCH_SEED").map_or(default, |text| text.parse().expect("a number"));
    eprintln!("CROSSLATCH_SEED={seed}");
    seed
}

/// The engine's own audit, which must find every asset conserved.
pub fn audit(engine: &Engine) -> Audit {
    let audit = block_on(engine.audit()).expect("a running engine");
    assert!(audit.is_conserved(), "value was created or destroyed: {audit:?}");
    audit
}

/// What takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Runs it on a thread of its own, and fails if that hangs.
pub fn in_time<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, waits) = bounded(1);
    let thread = std::thread::spawn(move || {
        let result = body();
        // Who waited may have lost patience.
        let _ = done.send(());
        result
    });
    // Disconnected, it has failed, and says so itself.
    assert_ne!(waits.recv_timeout(PATIENCE), Err(RecvTimeoutError::Timeout), "it hangs");
    thread.join().expect("it does not fail")
}

/// Waits on this thread for a future that other threads finish.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
