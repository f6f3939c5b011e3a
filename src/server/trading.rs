//! What became of orders, as JSON.
//!
//! A receipt of an order says all of it: the order as it was asked for and as it is now, its trades,
//! and what they left of the orders that it met. Quantities are in base's smallest units, prices in
//! quote's smallest units per lot, and what trades moved and cost in quote's smallest units.

use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::Directory;
use crate::error::OrderFault;
use crate::market::order::{Ended, Lots, Price, SelfTrade, Side};
use crate::market::{Fill, MarketSpec, OrderState, OrderUpdate, Settlement, Standing};
use crate::request::{Command, OrderType, PlaceOrder, Stands};
use crate::types::{AccountId, Amount, MarketId, RequestId};

use super::json::{self, Value};
use super::openapi::schemas::{self, Digits, OrderReason, OrderStatus, SignedDigits, TimeInForce};

/// The words for a side.
pub(super) const SIDES: [(&str, Side); 2] = [("buy", Side::Buy), ("sell", Side::Sell)];
/// The words for how an order may trade.
pub(super) const TYPES: [(&str, OrderType); 3] = [
    ("limit", OrderType::Limit),
    ("market", OrderType::Market),
    ("post_only", OrderType::PostOnly),
];
/// The words for what happens when an order meets one of the same account.
pub(super) const SELF_TRADES: [(&str, SelfTrade); 5] = [
    ("none", SelfTrade::None),
    ("cancel_taker", SelfTrade::CancelTaker),
    ("cancel_maker", SelfTrade::CancelMaker),
    ("cancel_both", SelfTrade::CancelBoth),
    ("decrement", SelfTrade::Decrement),
];

/// The word for one of those that have words.
///
/// # Panics
/// If it has none.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], of: &T) -> &'static str {
    words.iter().find(|(_, it)| it == of).map(|(word, _)| *word).expect("all have their words")
}

/// What a word stands for.
///
/// # Errors
/// It is none of those; to be read after the field's name.
pub(super) fn meant<T: Copy>(words: &[(&str, T)], value: Value<'_>) -> Result<T, String> {
    let text = json::text(value)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, it)| *it);
    found.ok_or_else(|| {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("is none of {}", all.join(", "))
    })
}

/// The word for how long an order stands.
pub(super) const fn time_in_force(stands: Stands) -> &'static str {
    match stands {
        Stands::Gtc => "gtc",
        Stands::Gtd { .. } => "gtd",
        Stands::Ioc => "ioc",
        Stands::Fok => "fok",
    }
}

/// What a request came to in its market.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettlementBody {
    market: Box<str>,
    #[serde(flatten)]
    #[schema(ignore)]
    what: What,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What {
    Came(CameBody),
    Ended(EndedBody),
    AllEnded(AllEndedBody),
}

/// An order came, or came again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CameBody {
    order_id: RequestId,
    /// Missing where an amendment changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<OrderBody>,
    /// What its trades cost it, in all; negative for a rebate.
    #[schema(value_type = SignedDigits)]
    fee: String,
    trades: Vec<TradeBody>,
    /// The orders that it met, as they are now.
    makers: Vec<OrderBody>,
}

/// An order ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndedBody {
    order_id: RequestId,
    #[schema(required = true)]
    order: Option<OrderBody>,
}

/// All orders of an account ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AllEndedBody {
    account: AccountId,
    orders: Vec<OrderBody>,
}

/// How an order stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct OrderBody {
    order_id: RequestId,
    account: AccountId,
    #[schema(value_type = OrderStatus)]
    status: &'static str,
    /// Why it ended with some of it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<OrderReason>)]
    reason: Option<&'static str>,
    #[serde(flatten)]
    terms: Option<TermsBody>,
    /// A market order may have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Digits>)]
    price: Option<String>,
    filled: Amount,
    /// Of one that is over, what was left when it ended. An order for funds has no such thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<Amount>,
    /// What its trades moved: divided by what is filled, that is their average price.
    #[schema(value_type = Digits)]
    notional: String,
}

/// What an order asked for, beside its price.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Terms)]
struct TermsBody {
    #[serde(skip_serializing_if = "str::is_empty")]
    client_order_id: Box<str>,
    #[schema(value_type = schemas::Side)]
    side: &'static str,
    #[serde(rename = "type")]
    #[schema(value_type = schemas::OrderType)]
    order_type: &'static str,
    #[schema(value_type = TimeInForce)]
    time_in_force: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Digits>)]
    expires_in_ms: Option<String>,
    #[schema(value_type = schemas::SelfTrade)]
    self_trade: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    funds: Option<Amount>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Fill)]
struct TradeBody {
    maker_order_id: RequestId,
    maker_account: AccountId,
    #[schema(value_type = Digits)]
    price: String,
    quantity: Amount,
    #[schema(value_type = Digits)]
    notional: String,
    #[schema(value_type = SignedDigits)]
    taker_fee: String,
    #[schema(value_type = SignedDigits)]
    maker_fee: String,
}

impl SettlementBody {
    /// What `request` came to, which asked for `command`.
    pub(super) fn new(
        request: RequestId,
        command: &Command,
        settlement: &Settlement,
        directory: &Directory,
    ) -> Self {
        let listed = directory.market(settlement.market).expect("markets are never removed");
        let spec = &*listed.spec;
        let what = match command {
            Command::Order(placed) => {
                let mut came = Came::new(request, settlement, spec);
                came.order = came.order.map(|order| order.with_terms(placed));
                came.into()
            }
            Command::Amend(amend) => Came::new(amend.order, settlement, spec).into(),
            Command::Cancel(order) | Command::ExpireOrder(order) => {
                let order = *order;
                let found = found(order, settlement, spec);
                What::Ended(EndedBody { order_id: order, order: found })
            }
            Command::CancelAll { account, .. } => {
                let orders = settlement.orders.iter().map(|update| OrderBody::new(update, spec));
                What::AllEnded(AllEndedBody { account: *account, orders: orders.collect() })
            }
            other => unreachable!("no market's: {}", other.kind()),
        };
        Self { market: spec.name.clone(), what }
    }
}

/// [`CameBody`] in the making.
struct Came {
    order_id: RequestId,
    order: Option<OrderBody>,
    fee: i128,
    trades: Vec<TradeBody>,
    makers: Vec<OrderBody>,
}

impl Came {
    fn new(order_id: RequestId, settlement: &Settlement, spec: &MarketSpec) -> Self {
        let others = settlement.orders.iter().filter(|update| update.order != order_id);
        Self {
            order_id,
            order: found(order_id, settlement, spec),
            fee: settlement.fills.iter().map(|fill| fill.taker_fee).sum(),
            trades: settlement.fills.iter().map(|fill| TradeBody::new(fill, spec)).collect(),
            makers: others.map(|update| OrderBody::new(update, spec)).collect(),
        }
    }
}

impl From<Came> for What {
    fn from(Came { order_id, order, fee, trades, makers }: Came) -> Self {
        Self::Came(CameBody { order_id, order, fee: fee.to_string(), trades, makers })
    }
}

fn found(order: RequestId, settlement: &Settlement, spec: &MarketSpec) -> Option<OrderBody> {
    let update = settlement.orders.iter().find(|update| update.order == order);
    update.map(|update| OrderBody::new(update, spec))
}

impl OrderBody {
    fn new(update: &OrderUpdate, spec: &MarketSpec) -> Self {
        let OrderUpdate { order, account, state, standing } = update;
        let OrderState { price, left, filled, notional, .. } = *state;
        Self {
            order_id: *order,
            account: *account,
            status: status(*standing, filled),
            reason: reason(*standing),
            terms: None,
            price: Some(price.0.to_string()),
            filled: units(spec, filled),
            remaining: Some(units(spec, left)),
            notional: notional.to_string(),
        }
    }

    /// An order that was placed, as it is at that state.
    pub(super) fn of(
        placed: &PlaceOrder,
        order: RequestId,
        (state, standing): (OrderState, Standing),
        spec: &MarketSpec,
    ) -> Self {
        let update = OrderUpdate { order, account: placed.account, state, standing };
        let mut body = Self::new(&update, spec).with_terms(placed);
        body.price = body.price.map(|_| state.price.0.to_string());
        if let Some(terms) = &mut body.terms {
            // Amendments and self-trades have changed it since.
            let now = Lots(state.filled.0.saturating_add(state.left.0));
            terms.quantity = terms.quantity.map(|_| units(spec, now));
        }
        body
    }

    /// Adds what the order asked for; what it did not ask for is not shown.
    fn with_terms(mut self, order: &PlaceOrder) -> Self {
        self.terms = Some(TermsBody::new(order));
        self.price = order.price.map(|Price(price)| price.to_string());
        self.remaining = self.remaining.filter(|_| order.quantity.is_some());
        self
    }
}

impl TermsBody {
    fn new(order: &PlaceOrder) -> Self {
        let expires_in_ms = match order.stands {
            Stands::Gtd { expires_in_ms } => Some(expires_in_ms.to_string()),
            Stands::Gtc | Stands::Ioc | Stands::Fok => None,
        };
        Self {
            client_order_id: order.client_order_id.clone(),
            side: word(&SIDES, &order.side),
            order_type: word(&TYPES, &order.order_type),
            time_in_force: time_in_force(order.stands),
            expires_in_ms,
            self_trade: word(&SELF_TRADES, &order.self_trade),
            quantity: order.quantity,
            funds: order.funds,
        }
    }
}

impl TradeBody {
    fn new(fill: &Fill, spec: &MarketSpec) -> Self {
        Self {
            maker_order_id: fill.maker,
            maker_account: fill.account,
            price: fill.price.0.to_string(),
            quantity: units(spec, fill.lots),
            notional: MarketSpec::notional(fill.price, fill.lots).to_string(),
            taker_fee: fill.taker_fee.to_string(),
            maker_fee: fill.maker_fee.to_string(),
        }
    }
}

/// What a refusal says of what is wrong with an order.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = Fault)]
pub(super) struct FaultBody {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub market: Option<String>,
    /// An order that is in the way, or is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Digits>)]
    tick_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Digits>)]
    lot_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Digits>)]
    min_notional: Option<String>,
    /// So much has traded already.
    #[serde(skip_serializing_if = "Option::is_none")]
    filled: Option<Amount>,
    /// The lowest price that is allowed now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Digits>)]
    low: Option<String>,
    /// The highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Digits>)]
    high: Option<String>,
}

impl FaultBody {
    /// All but the market's name.
    pub(super) fn new(fault: &OrderFault) -> Self {
        let mut body = Self::default();
        match fault {
            OrderFault::UnknownOrder(order) | OrderFault::DuplicateClientId(order) => {
                body.order_id = Some(*order);
            }
            OrderFault::Tick { tick_size } => body.tick_size = Some(tick_size.to_string()),
            OrderFault::Lot { lot_size } => body.lot_size = Some(lot_size.to_string()),
            OrderFault::TooSmall { min_notional } => {
                body.min_notional = Some(min_notional.to_string());
            }
            OrderFault::FilledAlready { filled } => body.filled = Some(*filled),
            OrderFault::OutOfBand { low, high } => {
                body.low = Some(low.to_string());
                body.high = Some(high.to_string());
            }
            OrderFault::UnknownMarket(_)
            | OrderFault::Halted(_)
            | OrderFault::TooLarge
            | OrderFault::TooMany { .. }
            | OrderFault::WouldTake => {}
        }
        body
    }
}

/// A quantity in base's smallest units.
pub(super) fn units(spec: &MarketSpec, lots: Lots) -> Amount {
    Amount::new(spec.base_units(lots))
}

/// The status of an order, as clients know it.
pub(super) const fn status(standing: Standing, filled: Lots) -> &'static str {
    match standing {
        Standing::Open if filled.0 == 0 => "new",
        Standing::Open => "partially_filled",
        Standing::Filled => "filled",
        Standing::Ended(Ended::Expired) => "expired",
        Standing::Ended(Ended::WouldTake) => "rejected",
        Standing::Ended(_) => "canceled",
    }
}

/// Why an order is over, if its status does not say it all.
const fn reason(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Open | Standing::Filled => None,
        Standing::Ended(ended) => Some(match ended {
            Ended::Canceled => "asked",
            Ended::Expired => "time",
            Ended::Unfilled => "unfilled",
            Ended::OutOfFunds => "out_of_funds",
            Ended::SelfTrade => "self_trade",
            Ended::WouldTake => "would_take",
        }),
    }
}

/// The name of a market that exists: markets are never removed.
pub(super) fn market_name(market: MarketId, directory: &Directory) -> Box<str> {
    directory.market(market).map_or_else(|| market.to_string().into(), |it| it.spec.name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::request::{AmendOrder, AssetSpec};
    use crate::types::{AssetId, ChainId, ChainKind};

    fn directory() -> Directory {
        let directory = Directory::new();
        for name in ["ETH", "SOL"] {
            directory.insert_asset(AssetSpec {
                name: name.into(),
                chain: ChainId::new(1),
                chain_kind: ChainKind::Other,
                token: "native".into(),
                decimals: 9,
            });
        }
        directory.insert_market(MarketSpec {
            name: "ETH-SOL".into(),
            base: AssetId::new(0),
            quote: AssetId::new(1),
            tick_size: 1,
            lot_size: 10,
            maker_fee_bps: -1,
            taker_fee_bps: 2,
            fee_account: AccountId::new(9),
            min_notional: 0,
            price_band_bps: 0,
        });
        directory
    }

    fn update(order: u128, left: u64, filled: u64, standing: Standing) -> OrderUpdate {
        let state = OrderState {
            price: Price(u64::MAX),
            left: Lots(left),
            filled: Lots(filled),
            notional: u128::from(filled) * 70_000,
            ..OrderState::default()
        };
        let account = AccountId::new(order as u64);
        OrderUpdate { order: RequestId::new(order), account, state, standing }
    }

    /// Order 2 took two lots of order 1.
    fn settlement(standing: Standing) -> Settlement {
        Settlement {
            market: MarketId::new(0),
            moves: [].into(),
            taker_side: Some(Side::Buy),
            fills: [Fill {
                maker: RequestId::new(1),
                account: AccountId::new(1),
                price: Price(70_000),
                lots: Lots(2),
                taker_fee: 28,
                maker_fee: -14,
            }]
            .into(),
            orders: [update(1, 0, 2, Standing::Filled), update(2, 3, 2, standing)].into(),
        }
    }

    fn shown(command: &Command, settlement: &Settlement) -> Value {
        let body = SettlementBody::new(RequestId::new(2), command, settlement, &directory());
        serde_json::to_value(body).expect("an object")
    }

    fn bought_for_funds() -> PlaceOrder {
        PlaceOrder {
            market: MarketId::new(0),
            account: AccountId::new(2),
            side: Side::Buy,
            order_type: OrderType::Market,
            stands: Stands::Ioc,
            price: None,
            quantity: None,
            funds: Some(Amount::new(200_000)),
            self_trade: SelfTrade::None,
            client_order_id: "".into(),
        }
    }

    #[test]
    fn what_an_order_did_not_say_is_not_shown() {
        let standing = Standing::Ended(Ended::OutOfFunds);
        let id = RequestId::new(2);
        let command = Command::Order(Box::new(bought_for_funds()));
        let shown = shown(&command, &settlement(standing));
        assert_eq!(
            shown["order"],
            json!({"order_id": id, "account": 2, "status": "canceled", "reason": "out_of_funds",
                   "side": "buy", "type": "market", "time_in_force": "ioc", "self_trade": "none",
                   "funds": "200000", "filled": "20", "notional": "140000"})
        );
        assert_eq!((&shown["market"], &shown["fee"]), (&json!("ETH-SOL"), &json!("28")));
        assert_eq!(
            shown["trades"],
            json!([{"maker_order_id": RequestId::new(1), "maker_account": 1, "price": "70000",
                    "quantity": "20", "notional": "140000", "taker_fee": "28",
                    "maker_fee": "-14"}])
        );
        assert_eq!(
            (&shown["makers"][0]["status"], &shown["makers"][1]),
            (&json!("filled"), &Value::Null)
        );
    }

    #[test]
    fn amendments_and_cancellations_speak_of_their_order() {
        let order = RequestId::new(2);
        let amend = Command::Amend(AmendOrder { order, price: Some(Price(1)), quantity: None });
        let came = shown(&amend, &settlement(Standing::Open));
        assert_eq!(came["order"]["status"], "partially_filled");
        assert_eq!((&came["order"]["remaining"], &came["order_id"]), (&json!("30"), &json!(order)));
        assert_eq!(came["makers"].as_array().map(Vec::len), Some(1));
        let nothing =
            Settlement { fills: [].into(), orders: [].into(), ..settlement(Standing::Open) };
        let same = shown(&amend, &nothing);
        assert_eq!(
            same,
            json!({"market": "ETH-SOL", "order_id": order, "fee": "0", "trades": [], "makers": []})
        );
        let one = [update(2, 3, 0, Standing::Ended(Ended::Canceled))].into();
        let gone = shown(&Command::Cancel(order), &Settlement { orders: one, ..nothing.clone() });
        let canceled = json!({"order_id": order, "account": 2, "status": "canceled",
                              "reason": "asked", "price": u64::MAX.to_string(), "filled": "0",
                              "remaining": "30", "notional": "0"});
        assert_eq!(gone, json!({"market": "ETH-SOL", "order_id": order, "order": canceled}));
        let all = Command::CancelAll { account: AccountId::new(2), market: MarketId::new(0) };
        let none = shown(&all, &nothing);
        assert_eq!(none, json!({"market": "ETH-SOL", "account": 2, "orders": []}));
    }

    #[test]
    fn each_end_has_its_status_and_reason() {
        for (ended, status_of, reason_of) in [
            (Ended::Canceled, "canceled", "asked"),
            (Ended::Expired, "expired", "time"),
            (Ended::Unfilled, "canceled", "unfilled"),
            (Ended::OutOfFunds, "canceled", "out_of_funds"),
            (Ended::SelfTrade, "canceled", "self_trade"),
            (Ended::WouldTake, "rejected", "would_take"),
        ] {
            let standing = Standing::Ended(ended);
            assert_eq!((status(standing, Lots(1)), reason(standing)), (status_of, Some(reason_of)));
        }
        assert_eq!(status(Standing::Open, Lots(0)), "new");
        assert_eq!(reason(Standing::Filled), None);
    }
}
