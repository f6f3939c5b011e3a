//! What is taken, as the OpenAPI document describes it: no request is read into these structs.
//!
//! Requests are read field by field (`json`), which tells the caller more than a deserializer would;
//! `tests/conformance` holds both against one another. Fields that are not named are refused; those
//! that may be left out may be `null`. A `request_id` may be in the `Idempotency-Key` header instead.

#![expect(dead_code, reason = "they are read by derive(ToSchema) alone")]

use utoipa::ToSchema;

use crate::config::{
    BATCH_REQUESTS_MAX, KEY_NETWORKS_MAX, LINKS_PER_REQUEST_MAX, SWAP_LEGS_MAX, SWAP_LEGS_MIN,
    TRANSACTION_KEYS_MAX, TRANSFERS_MAX,
};
use crate::types::{ChainKind, RequestId};

use super::schemas::{
    AmountIn, Base64, ClientOrderId, KeyAccountsIn, KeyName, KeyScope, Name, NumberIn,
    OperationState, OrderType, Reference, SelfTrade, Side, SignedIn, TimeIn, TimeInForce,
};

// Attributes take literals only.
const _: () = assert!(SWAP_LEGS_MIN == 2 && SWAP_LEGS_MAX == 16 && TRANSFERS_MAX == 16);
const _: () = assert!(LINKS_PER_REQUEST_MAX == 64 && TRANSACTION_KEYS_MAX == 256);
const _: () = assert!(BATCH_REQUESTS_MAX == 8_192 && KEY_NETWORKS_MAX == 32);

/// A request that says no more than its id.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainRequest {
    request_id: Option<RequestId>,
}

/// What the venue is to take.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OperationRequest {
    request_id: Option<RequestId>,
    #[schema(value_type = OperationState)]
    state: String,
}

/// An API key.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiKeyRequest {
    request_id: Option<RequestId>,
    name: KeyName,
    #[schema(min_items = 1)]
    scopes: Vec<KeyScope>,
    accounts: KeyAccountsIn,
    /// Where it may be used from, as in `192.0.2.0/24`; from everywhere, if there are none.
    #[schema(max_items = 32)]
    networks: Option<Vec<String>>,
    limits: Option<KeyLimitsRequest>,
    /// An RFC 3339 time.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// How much may be asked with an API key; 0, or none, for no limit.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyLimitsRequest {
    requests_per_second: Option<NumberIn>,
    /// Requests at once.
    in_flight: Option<NumberIn>,
    open_holds: Option<NumberIn>,
    open_orders: Option<NumberIn>,
}

/// An asset.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AssetRequest {
    request_id: Option<RequestId>,
    /// The chain that it is on.
    chain_id: NumberIn,
    chain_kind: ChainKind,
    /// `native` for a chain's own coin, or the address of the token's contract or mint.
    #[schema(min_length = 1)]
    token: String,
    /// How many decimals of a whole one its smallest unit is; at most 255.
    decimals: NumberIn,
}

/// An account, or links to add to it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountRequest {
    request_id: Option<RequestId>,
    #[schema(max_items = 64)]
    links: Option<Vec<LinkRequest>>,
}

/// An address on a chain.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkRequest {
    chain_id: NumberIn,
    /// Checked for its chain's kind: EIP-55, base58 of 32 bytes, bech32 or base58check.
    #[schema(min_length = 1)]
    address: String,
}

/// One link to add.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLinkRequest {
    request_id: Option<RequestId>,
    chain_id: NumberIn,
    /// Checked for its chain's kind.
    #[schema(min_length = 1)]
    address: String,
}

/// Value that enters or leaves.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferRequest {
    request_id: Option<RequestId>,
    account: NumberIn,
    asset: Name,
    amount: AmountIn,
    /// What the caller knows it by. A deposit's is credited once an asset.
    reference: Option<Reference>,
}

/// One leg: `from` pays `to`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LegRequest {
    from: NumberIn,
    to: NumberIn,
    asset: Name,
    amount: AmountIn,
}

/// A swap.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SwapRequest {
    request_id: Option<RequestId>,
    #[schema(min_items = 2, max_items = 16)]
    legs: Vec<LegRequest>,
    deadline: Option<TimeIn>,
}

/// Many swaps, each under an id of its own.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
    /// What breaks a rule of form here is answered in its place, and spoils nothing for the others.
    #[schema(max_items = 8192)]
    swaps: Vec<SwapRequest>,
}

/// A swap in two phases.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PrepareRequest {
    request_id: Option<RequestId>,
    #[schema(min_items = 2, max_items = 16)]
    legs: Vec<LegRequest>,
    deadline: Option<TimeIn>,
    /// After this many milliseconds the amounts go back by themselves; a minute, unless the server is
    /// set up otherwise.
    expires_in_ms: Option<NumberIn>,
    /// Whether nobody else may spend what these accounts have of these assets meanwhile.
    exclusive: Option<bool>,
}

/// What was read, what is to be written, what is to move.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransactionRequest {
    request_id: Option<RequestId>,
    deadline: Option<TimeIn>,
    #[schema(max_items = 256)]
    reads: Option<Vec<ReadRequest>>,
    #[schema(max_items = 256)]
    writes: Option<Vec<WriteRequest>>,
    #[schema(max_items = 16)]
    transfers: Option<Vec<LegRequest>>,
}

/// Something that was read, with its version then.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum ReadRequest {
    Key(KeyReadRequest),
    Balance(BalanceReadRequest),
}

/// A key that was read.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyReadRequest {
    key: Base64,
    /// Its version then; 0 for one that was never written.
    version: NumberIn,
}

/// A balance that was read.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BalanceReadRequest {
    account: NumberIn,
    asset: Name,
    /// Its version then; 0 for one that never was.
    version: NumberIn,
}

/// A value to be.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteRequest {
    key: Base64,
    /// `null` deletes.
    #[schema(required = true)]
    value: Option<Base64>,
}

/// A market.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MarketRequest {
    request_id: Option<RequestId>,
    base: Name,
    quote: Name,
    /// Prices are multiples of it.
    tick_size: NumberIn,
    /// Quantities are multiples of it, in base's smallest units.
    lot_size: NumberIn,
    /// In ten-thousandths; below zero for a rebate, which is paid out of the taker's.
    maker_fee_bps: SignedIn,
    /// In ten-thousandths.
    taker_fee_bps: SignedIn,
    fee_account: NumberIn,
    /// What an order must be worth at least, in quote's smallest units.
    min_notional: Option<AmountIn>,
    /// How far from the last trade's price a limit may be, in ten-thousandths of it; 0 for no limit.
    price_band_bps: Option<NumberIn>,
}

/// An order.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderRequest {
    request_id: Option<RequestId>,
    account: NumberIn,
    market: Name,
    side: Side,
    #[serde(rename = "type")]
    order_type: OrderType,
    /// `gtc` unless said; of a market order, `ioc`.
    time_in_force: Option<TimeInForce>,
    /// In quote's smallest units per lot; only a market order may have none.
    price: Option<NumberIn>,
    /// In base's smallest units; only a market order that buys for `funds` has none.
    quantity: Option<AmountIn>,
    /// What a market order that buys may cost at most, fee included, in quote's smallest units.
    funds: Option<AmountIn>,
    /// With `gtd`: how long it stands.
    expires_in_ms: Option<NumberIn>,
    /// `none` unless said.
    self_trade: Option<SelfTrade>,
    client_order_id: Option<ClientOrderId>,
    deadline: Option<TimeIn>,
}

/// What is to change of an order: its price, its quantity or both.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AmendRequest {
    request_id: Option<RequestId>,
    price: Option<NumberIn>,
    /// All of it, what was filled included.
    quantity: Option<AmountIn>,
    deadline: Option<TimeIn>,
}

/// Where a backup goes.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupRequest {
    /// An absolute path on the server's file system.
    #[schema(pattern = "^/")]
    to: String,
}
