//! Unary calls with bad input: one status and one problem each, and nothing happens.

use crosslatch::proto;
use tonic::Code;

use super::venue::*;

/// A swap, what is wrong with it, and how that is told.
type Fault = (proto::Swap, Code, &'static str, &'static str);

fn faults() -> Vec<Fault> {
    let bad = Code::InvalidArgument;
    let with = |change: &dyn Fn(&mut proto::Swap)| {
        let mut swap = swap(10, 10, 200);
        change(&mut swap);
        swap
    };
    vec![
        (with(&|it| it.request_id = Default::default()), bad, "malformed", "request_id"),
        (with(&|it| it.request_id = vec![1; 15].into()), bad, "malformed", "request_id"),
        (with(&|it| it.legs.clear()), bad, "malformed", "legs"),
        (with(&|it| it.legs = vec![it.legs[0].clone(); 17]), bad, "malformed", "legs"),
        (with(&|it| it.legs[1].amount = None), bad, "malformed", "legs[1].amount"),
        (with(&|it| it.legs[1].amount = amount(0)), bad, "malformed", "legs[1].amount"),
        (with(&|it| it.legs[0].to_account = 1), bad, "malformed", "legs[0].to"),
        (with(&|it| it.legs[0].asset_number = Some(0)), bad, "malformed", "legs[0].asset_number"),
        (with(&|it| it.legs[0].asset.clear()), bad, "malformed", "legs[0].asset"),
        (
            with(&|it| {
                it.legs[0].asset.clear();
                it.legs[0].asset_number = Some(u32::MAX);
            }),
            bad,
            "malformed",
            "legs[0].asset_number",
        ),
        (with(&|it| it.legs[0].asset = "x".repeat(40)), bad, "malformed", "legs[0].asset"),
        (
            with(&|it| {
                it.request_id = id_bytes(11);
                it.deadline_us = Some(1);
            }),
            Code::FailedPrecondition,
            "expired",
            "deadline",
        ),
    ]
}

#[tokio::test]
async fn what_a_swap_can_get_wrong_is_named() {
    let (_data, _server, mut exchange) = started().await;
    for (swap, status, code, field) in faults() {
        refused(exchange.swap(swap).await, status, code, field);
    }
    // No id was used up by what was malformed.
    exchange.swap(swap(10, 10, 200)).await.expect("a swap");
}

#[tokio::test]
async fn refusals_say_what_was_in_the_way() {
    let (_data, _server, mut exchange) = started().await;
    let poor = exchange.swap(swap(10, 2_000, 1)).await;
    let first = refused(poor, Code::FailedPrecondition, "insufficient_funds", "legs[0].amount");
    assert_eq!((first.account, &*first.asset, first.short_by), (Some(1), "ETH", amount(1_000)));
    assert_eq!(
        (first.seq, &first.request_id, &*first.status),
        (Some(8), &id_bytes(10), "rejected")
    );
    assert!(first.time_us > Some(1_700_000_000_000_000), "{first:?}");
    let again = exchange.swap(swap(10, 2_000, 1)).await;
    let again = refused(again, Code::FailedPrecondition, "insufficient_funds", "legs[0].amount");
    assert_eq!(again, first);
    let reused = exchange.swap(swap(10, 1, 1)).await;
    refused(reused, Code::AlreadyExists, "request_id_reused", "request_id");
    let mut nobody = swap(11, 1, 1);
    nobody.legs[1].from_account = 77;
    let nobody =
        refused(exchange.swap(nobody).await, Code::NotFound, "unknown_account", "legs[1].from");
    assert_eq!(nobody.account, Some(77));
    let twice = proto::Transfer { reference: "tx-1".into(), ..transfer(12, 1, "ETH", 5) };
    let twice = refused(
        exchange.deposit(twice).await,
        Code::AlreadyExists,
        "already_credited",
        "reference",
    );
    assert_eq!(twice.commit_seq, Some(7));
    let unlinked = exchange.deposit(transfer(13, 3, "SOL", 5)).await;
    let unlinked = refused(unlinked, Code::FailedPrecondition, "not_linked", "account");
    assert_eq!(unlinked.chain_id, Some(101));
}

/// A name that does not exist is refused in its turn, and that is so for ever under its id.
#[tokio::test]
async fn what_did_not_exist_is_named_even_after_it_was_created() {
    let (_data, _server, mut exchange) = started().await;
    let mut doge = swap(10, 1, 1);
    doge.legs[1].asset = "DOGE".into();
    let first = exchange.swap(doge.clone()).await;
    let first = refused(first, Code::NotFound, "unknown_asset", "legs[1].asset");
    assert_eq!(first.asset, "DOGE");
    let put = proto::PutAsset {
        asset: "DOGE".into(),
        chain_id: 9,
        chain_kind: proto::ChainKind::Other.into(),
        token: "native".into(),
        ..Default::default()
    };
    exchange.put_asset(put).await.expect("an asset");
    let again =
        refused(exchange.swap(doge).await, Code::NotFound, "unknown_asset", "legs[1].asset");
    assert_eq!(again, first);
}

#[tokio::test]
async fn the_other_commands_are_checked_too() {
    let (_data, _server, mut exchange) = started().await;
    let bad = Code::InvalidArgument;
    let nowhere = exchange.commit(resolve(10, 99)).await;
    assert_eq!(refused(nowhere, Code::NotFound, "unknown_token", "token").token, id_bytes(99));
    let short = proto::Resolve { request_id: id_bytes(11), token: vec![1].into() };
    refused(exchange.confirm_withdrawal(short).await, bad, "malformed", "token");
    refused(
        exchange.cancel_withdrawal(resolve(12, 98)).await,
        Code::NotFound,
        "unknown_token",
        "token",
    );
    let zero = exchange.withdraw(transfer(13, 1, "ETH", 0)).await;
    refused(zero, bad, "malformed", "amount");
    let prepare = proto::Prepare {
        request_id: id_bytes(14),
        legs: swap(14, 1, 1).legs,
        expires_in_ms: Some(u64::MAX),
        ..Default::default()
    };
    refused(exchange.prepare(prepare).await, bad, "malformed", "expires_in_ms");
    let both = proto::Read { key: "a".into(), asset: "ETH".into(), ..Default::default() };
    let both =
        proto::Transact { request_id: id_bytes(15), reads: vec![both], ..Default::default() };
    refused(exchange.transact(both).await, bad, "malformed", "reads[0].asset");
    let empty = proto::Transact { request_id: id_bytes(16), ..Default::default() };
    refused(exchange.transact(empty).await, bad, "malformed", "reads");
    let kind = proto::PutAsset { asset: "X".into(), ..Default::default() };
    refused(exchange.put_asset(kind).await, bad, "malformed", "chain_kind");
    let other = proto::PutAsset {
        asset: "ETH".into(),
        chain_id: 1,
        chain_kind: proto::ChainKind::Evm.into(),
        token: "native".into(),
        decimals: 17,
        ..Default::default()
    };
    refused(exchange.put_asset(other).await, Code::AlreadyExists, "already_exists", "asset");
    let link = |chain_id, address: &str| proto::PutAccount {
        account: 5,
        links: vec![proto::Link { chain_id, address: address.into() }],
        ..Default::default()
    };
    let nowhere = exchange.put_account(link(55, "x")).await;
    refused(nowhere, Code::NotFound, "unknown_chain", "links[0].chain_id");
    refused(exchange.put_account(link(1, "0x12")).await, bad, "malformed", "links[0].address");
    let strict = proto::PutAccount { account: 5, must_exist: true, ..Default::default() };
    refused(exchange.put_account(strict).await, Code::NotFound, "unknown_account", "account");
    let switch = proto::SwitchMarket { market: "A-B".into(), ..Default::default() };
    let problem =
        refused(exchange.halt_market(switch).await, Code::NotFound, "unknown_market", "market");
    assert_eq!(problem.market, "A-B");
    let order = proto::PlaceOrder { request_id: id_bytes(17), ..Default::default() };
    refused(exchange.place_order(order.clone()).await, bad, "malformed", "type");
    let order = proto::PlaceOrder { r#type: 1, side: 1, time_in_force: 4, ..order };
    refused(exchange.place_order(order).await, bad, "malformed", "market");
    let cancel = proto::CancelOrder { request_id: id_bytes(18), ..Default::default() };
    refused(exchange.cancel_order(cancel).await, bad, "malformed", "order_id");
    let all = proto::CancelAllOrders { account: 1, ..Default::default() };
    refused(exchange.cancel_all_orders(all).await, bad, "malformed", "request_id");
}

#[tokio::test]
async fn look_ups_of_nothing_say_so() {
    let (_data, _server, mut exchange) = started().await;
    let asset = proto::GetAssetRequest { asset: "X".into() };
    refused(exchange.get_asset(asset).await, Code::NotFound, "unknown_asset", "asset");
    let account = proto::GetAccountRequest { account: 9 };
    refused(exchange.get_account(account).await, Code::NotFound, "unknown_account", "account");
    let balances = proto::GetBalancesRequest { account: 9, at: None };
    refused(exchange.get_balances(balances).await, Code::NotFound, "unknown_account", "account");
    let at = Some(proto::get_balances_request::At::AtSeq(99));
    let future = proto::GetBalancesRequest { account: 1, at };
    refused(exchange.get_balances(future).await, Code::InvalidArgument, "malformed", "at");
    let link = proto::GetLinkRequest { chain_id: 5, address: "x".into() };
    refused(exchange.get_link(link).await, Code::NotFound, "unknown_chain", "chain_id");
    let nobody = "0x0000000000000000000000000000000000000009";
    let link = proto::GetLinkRequest { chain_id: 1, address: nobody.into() };
    refused(exchange.get_link(link).await, Code::NotFound, "unknown_link", "");
    let history = proto::GetHistoryRequest { account: 1, limit: Some(0), ..Default::default() };
    refused(exchange.get_history(history).await, Code::InvalidArgument, "malformed", "limit");
    let key = proto::GetKeyRequest::default();
    refused(exchange.get_key(key).await, Code::InvalidArgument, "malformed", "key");
    let hold = proto::GetHoldRequest { token: id_bytes(9) };
    refused(exchange.get_prepared(hold.clone()).await, Code::NotFound, "unknown_token", "token");
    refused(exchange.get_withdrawal(hold).await, Code::NotFound, "unknown_token", "token");
    let request = proto::GetRequestRequest { request_id: id_bytes(9) };
    let unknown =
        refused(exchange.get_request(request).await, Code::NotFound, "unknown_request", "");
    assert_eq!((&*unknown.status, unknown.request_id), ("unknown", id_bytes(9)));
    let market = || "A-B".to_owned();
    let (none, not_found) = ("unknown_market", Code::NotFound);
    let ask = proto::GetMarketRequest { market: market() };
    refused(exchange.get_market(ask).await, not_found, none, "market");
    let ask = proto::GetBookRequest { market: market(), depth: None };
    refused(exchange.get_book(ask).await, not_found, none, "market");
    let ask = proto::ListTradesRequest { market: market(), ..Default::default() };
    refused(exchange.list_trades(ask).await, not_found, none, "market");
    let ask = proto::ListOrdersRequest { account: 1, market: market(), ..Default::default() };
    refused(exchange.list_orders(ask).await, not_found, none, "market");
    let ask = proto::ListOrdersRequest { account: 1, status: "old".into(), ..Default::default() };
    refused(exchange.list_orders(ask).await, Code::InvalidArgument, "malformed", "status");
    let ask = proto::GetOrderRequest { order_id: id_bytes(9) };
    refused(exchange.get_order(ask).await, not_found, "unknown_order", "order_id");
}
