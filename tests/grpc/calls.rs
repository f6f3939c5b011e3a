//! Every unary call with good input: what it is answered, and that HTTP says the same.

use crosslatch::proto;
use crosslatch::proto::receipt::What;
use crosslatch::proto::request_state::Known;
use tonic::{Code, Request};

use super::people::{ALICE_SOL, BOB_EVM};
use super::venue::*;

#[tokio::test]
async fn a_swap_moves_both_legs_and_says_so() {
    let (_data, server, mut exchange) = started().await;
    let receipt = exchange.swap(swap(10, 10, 200)).await.expect("a swap").into_inner();
    assert_eq!((&receipt.request_id, receipt.commit_seq), (&id_bytes(10), 9));
    let Some(What::Moved(moved)) = &receipt.what else { panic!("{receipt:?}") };
    let [eth, sol] = &moved.legs[..] else { panic!("{moved:?}") };
    assert_eq!((eth.from_account, eth.to_account, &*eth.asset), (1, 2, "ETH"));
    assert_eq!([eth.from_before, eth.from_after], [amount(1_000), amount(990)]);
    assert_eq!([sol.to_before, sol.to_after], [amount(0), amount(200)]);
    // Sent again, looked up, and asked for over HTTP: the same.
    let again = exchange.swap(swap(10, 10, 200)).await.expect("the same").into_inner();
    assert_eq!(again, receipt);
    let ask = proto::GetRequestRequest { request_id: id_bytes(10) };
    let known = exchange.get_request(ask).await.expect("known").into_inner().known;
    assert_eq!(known, Some(Known::Settled(receipt)));
    let over_http = server.client().get(&format!("/v1/requests/{}", id(10))).with(200);
    assert_eq!(over_http["commit_seq"], "9");
    assert_eq!(has(&mut exchange, 2, "ETH").await, (10, 0));
}

#[tokio::test]
async fn a_prepared_swap_is_committed_or_goes_back() {
    let (_data, _server, mut exchange) = started().await;
    let prepare = |n| proto::Prepare {
        request_id: id_bytes(n),
        deadline_us: None,
        legs: swap(n, 10, 200).legs,
        expires_in_ms: Some(600_000),
        exclusive: false,
    };
    let made = exchange.prepare(prepare(10)).await.expect("a hold").into_inner();
    let Some(What::SetAside(hold)) = made.what else { panic!("{made:?}") };
    assert_eq!(hold.token, id_bytes(10));
    assert_eq!(has(&mut exchange, 1, "ETH").await, (990, 10));
    let ask = proto::GetHoldRequest { token: id_bytes(10) };
    let open = exchange.get_prepared(ask.clone()).await.expect("a hold").into_inner();
    assert_eq!((&*open.state, open.legs.len(), open.commit_seq), ("open", 2, None));
    let asked = proto::ListPreparedRequest { account: Some(2), limit: Some(1) };
    let listed = exchange.list_prepared(asked).await.expect("a list").into_inner();
    assert_eq!((&listed.prepared[..], listed.complete), (&[open][..], true));
    let none = proto::ListPreparedRequest { account: Some(3), limit: None };
    let none = exchange.list_prepared(none).await.expect("a list").into_inner();
    assert_eq!((none.prepared.len(), none.complete), (0, true));
    let done = exchange.commit(resolve(11, 10)).await.expect("a commit").into_inner();
    assert!(matches!(done.what, Some(What::Resolved(it)) if it.legs.len() == 2));
    let ended = exchange.get_prepared(ask).await.expect("a hold").into_inner();
    assert_eq!((&*ended.state, ended.commit_seq), ("committed", Some(done.commit_seq)));
    exchange.prepare(prepare(12)).await.expect("a hold");
    exchange.rollback(resolve(13, 12)).await.expect("a rollback");
    assert_eq!(has(&mut exchange, 1, "ETH").await, (990, 0));
    let late = exchange.commit(resolve(14, 12)).await;
    let problem = refused(late, Code::FailedPrecondition, "already_resolved", "token");
    assert_eq!((&*problem.how, problem.token), ("rolled_back", id_bytes(12)));
}

#[tokio::test]
async fn value_comes_and_goes() {
    let (_data, _server, mut exchange) = started().await;
    let huge = u128::from(u64::MAX) * 7;
    let credited = exchange.deposit(transfer(10, 3, "USDC", huge)).await.expect("a deposit");
    let Some(What::Transferred(credit)) = credited.into_inner().what else { panic!() };
    assert_eq!((credit.before, credit.after), (amount(0), amount(huge)));
    assert_eq!(has(&mut exchange, 3, "USDC").await, (huge, 0));
    for (n, confirmed) in [(20, true), (30, false)] {
        exchange.withdraw(transfer(n, 3, "USDC", 100)).await.expect("a withdrawal");
        let ask = proto::GetHoldRequest { token: id_bytes(n) };
        let open = exchange.get_withdrawal(ask.clone()).await.expect("one").into_inner();
        assert_eq!((&*open.state, open.amount, open.account), ("open", amount(100), 3));
        let end = resolve(n + 1, n);
        let state = if confirmed {
            exchange.confirm_withdrawal(end).await.expect("it left");
            "confirmed"
        } else {
            exchange.cancel_withdrawal(end).await.expect("it is back");
            "canceled"
        };
        let ended = exchange.get_withdrawal(ask).await.expect("one").into_inner();
        assert_eq!(ended.state, state);
    }
    assert_eq!(has(&mut exchange, 3, "USDC").await, (huge - 100, 0));
}

#[tokio::test]
async fn transactions_read_and_write_what_callers_name() {
    let (_data, _server, mut exchange) = started().await;
    let ask = |at| proto::GetKeyRequest { key: "limit".into(), at };
    let never = exchange.get_key(ask(None)).await.expect("nothing").into_inner();
    assert_eq!((never.value, never.version), (None, 0));
    let read = proto::Read { key: "limit".into(), version: 0, ..proto::Read::default() };
    let of_balance =
        proto::Read { account: 1, asset: "ETH".into(), version: 7, ..proto::Read::default() };
    let transact = |n| proto::Transact {
        request_id: id_bytes(n),
        deadline_us: None,
        reads: vec![read.clone(), of_balance.clone()],
        writes: vec![proto::Write { key: "limit".into(), value: Some("100".into()) }],
        transfers: vec![leg(1, 2, "ETH", 1)],
    };
    let done = exchange.transact(transact(10)).await.expect("a transaction").into_inner();
    let now = exchange.get_key(ask(None)).await.expect("a value").into_inner();
    assert_eq!((now.value.as_deref(), now.version), (Some(&b"100"[..]), done.commit_seq));
    let then = exchange.get_key(ask(Some(done.commit_seq - 1))).await.expect("nothing");
    assert_eq!(then.into_inner().value, None);
    let conflict = exchange.transact(transact(11)).await;
    let problem = refused(conflict, Code::Aborted, "conflict", "reads[0]");
    assert_eq!(problem.key.as_deref(), Some(&b"limit"[..]));
}

#[tokio::test]
async fn the_directory_is_put_and_found() {
    let (_data, _server, mut exchange) = started().await;
    let assets = exchange.list_assets(proto::ListAssetsRequest {}).await.expect("assets");
    let assets = assets.into_inner().assets;
    let numbers: Vec<_> = assets.iter().map(|it| (&*it.asset, it.asset_number)).collect();
    assert_eq!(numbers, [("ETH", Some(0)), ("USDC", Some(1)), ("SOL", Some(2))]);
    let put = proto::PutAsset {
        request_id: Default::default(),
        asset: "BTC".into(),
        chain_id: 7,
        chain_kind: proto::ChainKind::Bitcoin.into(),
        token: "native".into(),
        decimals: 8,
    };
    let made = exchange.put_asset(put).await.expect("an asset").into_inner();
    assert!(matches!(made.what, Some(What::Asset(it)) if it.decimals == 8));
    let one = proto::GetAssetRequest { asset: "BTC".into() };
    let one = exchange.get_asset(one).await.expect("an asset").into_inner();
    assert_eq!((one.asset_number, one.chain_kind()), (Some(3), proto::ChainKind::Bitcoin));
    let link = proto::Link { chain_id: 7, address: "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa".into() };
    let put =
        proto::PutAccount { account: 1, links: vec![link], must_exist: true, ..Default::default() };
    exchange.put_account(put).await.expect("a link");
    let account = proto::GetAccountRequest { account: 1 };
    let found = exchange.get_account(account).await.expect("an account").into_inner();
    assert_eq!(found.links.len(), 3);
    let remove = proto::RemoveLink { account: 1, chain_id: 7, ..Default::default() };
    exchange.remove_link(remove).await.expect("no link");
    let behind = proto::GetLinkRequest { chain_id: 101, address: ALICE_SOL.into() };
    assert_eq!(exchange.get_link(behind).await.expect("Alice").into_inner().account, 1);
    let behind = proto::GetLinkRequest { chain_id: 1, address: BOB_EVM.to_lowercase() };
    let bob = exchange.get_link(behind).await.expect("Bob").into_inner();
    assert_eq!((bob.account, &*bob.address), (2, BOB_EVM));
}

#[tokio::test]
async fn the_past_is_read_as_of_a_seq_and_change_by_change() {
    let (_data, _server, mut exchange) = started().await;
    exchange.swap(swap(10, 10, 200)).await.expect("a swap");
    use proto::get_balances_request::At;
    let ask = |at| proto::GetBalancesRequest { account: 1, at };
    let then = exchange.get_balances(ask(Some(At::AtSeq(8)))).await.expect("balances");
    let then = then.into_inner();
    assert_eq!((then.seq, then.balances[0].available), (8, amount(1_000)));
    let long_ago = exchange.get_balances(ask(Some(At::AtTimeUs(1)))).await.expect("balances");
    assert_eq!(long_ago.into_inner().balances, []);
    let history =
        |after, limit| proto::GetHistoryRequest { account: 1, asset: String::new(), after, limit };
    let all = exchange.get_history(history(None, None)).await.expect("a page").into_inner();
    let kinds: Vec<_> = all.changes.iter().map(|it| (&*it.kind, &*it.asset)).collect();
    assert_eq!(kinds, [("deposit", "ETH"), ("swap", "ETH"), ("swap", "SOL")]);
    assert_eq!((all.next, &all.changes[1].request_id), (None, &id_bytes(10)));
    let first = exchange.get_history(history(None, Some(1))).await.expect("a page").into_inner();
    assert_eq!((first.changes.len(), first.next), (1, Some(all.changes[0].seq)));
    let audit = exchange.audit(proto::AuditRequest {}).await.expect("an audit").into_inner();
    assert!(audit.balanced && audit.assets.len() == 3, "{audit:?}");
    let status = exchange.get_status(proto::GetStatusRequest {}).await.expect("a status");
    let status = status.into_inner();
    assert_eq!((&*status.name, status.ready, status.durable_seq), ("crosslatch", true, 9));
}

fn market() -> proto::PutMarket {
    proto::PutMarket {
        request_id: Default::default(),
        market: "ETH-SOL".into(),
        base: "ETH".into(),
        quote: "SOL".into(),
        tick_size: 1,
        lot_size: 10,
        maker_fee_bps: -1,
        taker_fee_bps: 20,
        fee_account: 1,
        ..Default::default()
    }
}

fn order(n: u64, account: u64, side: proto::Side, price: u64, units: u128) -> proto::PlaceOrder {
    proto::PlaceOrder {
        request_id: id_bytes(n),
        market: "ETH-SOL".into(),
        account,
        side: side.into(),
        r#type: proto::OrderType::Limit.into(),
        price: Some(price),
        quantity: amount(units),
        ..Default::default()
    }
}

#[tokio::test]
async fn orders_meet_in_a_market() {
    let (_data, _server, mut exchange) = started().await;
    exchange.put_market(market()).await.expect("a market");
    let sell = order(10, 1, proto::Side::Sell, 50, 100);
    exchange.place_order(sell).await.expect("an order");
    let book = proto::GetBookRequest { market: "ETH-SOL".into(), depth: Some(3) };
    let seen = exchange.get_book(book.clone()).await.expect("a book").into_inner();
    assert_eq!((seen.bids.len(), seen.asks[0].price, seen.asks[0].quantity), (0, 50, amount(100)));
    let bought = exchange.place_order(order(11, 2, proto::Side::Buy, 60, 40)).await;
    let Some(What::Settlement(came)) = bought.expect("an order").into_inner().what else {
        panic!()
    };
    let own = came.order.expect("it came");
    assert_eq!((&*own.status, own.filled, &*came.market), ("filled", amount(40), "ETH-SOL"));
    let [trade] = &came.trades[..] else { panic!("{:?}", came.trades) };
    assert_eq!(
        (trade.price, trade.notional, &trade.maker_order_id),
        (50, amount(200), &id_bytes(10))
    );
    let rebate = trade.maker_fee.expect("a fee");
    assert!(rebate.negative || rebate.low == 0, "{rebate:?}");
    assert_eq!(came.others[0].remaining, amount(60));
    let trades = proto::ListTradesRequest { market: "ETH-SOL".into(), ..Default::default() };
    let trades = exchange.list_trades(trades).await.expect("trades").into_inner();
    assert_eq!((trades.trades.len(), trades.trades[0].side()), (1, proto::Side::Buy));
    let amend = proto::AmendOrder {
        request_id: id_bytes(12),
        order_id: id_bytes(10),
        price: Some(55),
        ..Default::default()
    };
    exchange.amend_order(amend).await.expect("an amendment");
    let ask = proto::GetOrderRequest { order_id: id_bytes(10) };
    let found = exchange.get_order(ask).await.expect("an order").into_inner();
    let state = found.state.clone().expect("a state");
    assert_eq!((&*state.status, state.price), ("partially_filled", Some(55)));
    assert_eq!((found.quantity, found.side()), (amount(100), proto::Side::Sell));
    let open = proto::ListOrdersRequest { account: 1, ..Default::default() };
    assert_eq!(exchange.list_orders(open).await.expect("orders").into_inner().orders, [found]);
}

#[tokio::test]
async fn orders_are_canceled_and_markets_halted() {
    let (_data, _server, mut exchange) = started().await;
    exchange.put_market(market()).await.expect("a market");
    for n in [10, 11, 12] {
        exchange.place_order(order(n, 1, proto::Side::Sell, 50 + n, 10)).await.expect("an order");
    }
    let one = |market: &str| proto::SwitchMarket { market: market.into(), ..Default::default() };
    exchange.halt_market(one("ETH-SOL")).await.expect("a halt");
    let ask = proto::GetMarketRequest { market: "ETH-SOL".into() };
    assert_eq!(exchange.get_market(ask).await.expect("it").into_inner().halted, Some(true));
    let halted = exchange.place_order(order(13, 1, proto::Side::Sell, 50, 10)).await;
    refused(halted, Code::FailedPrecondition, "market_halted", "market");
    exchange.resume_market(one("ETH-SOL")).await.expect("a resume");
    let markets = exchange.list_markets(proto::ListMarketsRequest {}).await.expect("markets");
    assert_eq!(markets.into_inner().markets[0].halted, Some(false));
    let cancel = proto::CancelOrder { request_id: id_bytes(20), order_id: id_bytes(10) };
    exchange.cancel_order(cancel.clone()).await.expect("a cancellation");
    let twice = proto::CancelOrder { request_id: id_bytes(21), ..cancel };
    let gone = exchange.cancel_order(twice).await;
    let problem = refused(gone, Code::NotFound, "unknown_order", "order_id");
    assert_eq!(problem.order_id, id_bytes(10));
    let all = proto::CancelAllOrders { request_id: id_bytes(22), account: 1, ..Default::default() };
    let all = exchange.cancel_all_orders(all).await.expect("all").into_inner();
    let Some(proto::answer::Outcome::Settled(receipt)) = &all.results[0].outcome else { panic!() };
    assert!(matches!(&receipt.what, Some(What::Settlement(it)) if it.others.len() == 2));
    assert_eq!(has(&mut exchange, 1, "ETH").await, (1_000, 0));
}

#[tokio::test]
async fn a_backup_is_made_where_the_server_is() {
    let (_data, _server, mut exchange) = started().await;
    let beside = tempfile::tempdir().expect("a directory");
    let to = beside.path().join("copy").to_str().expect("a plain path").to_owned();
    let mut state = proto::BackupState::default();
    while state.status != "done" {
        let ask = Request::new(proto::BackupRequest { to: to.clone() });
        state = exchange.backup(ask).await.expect("a backup").into_inner();
    }
    assert_eq!((state.seq, &state.to), (Some(8), &to));
    let relative = exchange.backup(proto::BackupRequest { to: "copy".into() }).await;
    refused(relative, Code::InvalidArgument, "malformed", "to");
}

#[tokio::test]
async fn how_the_server_does_is_what_http_says() {
    let (_data, server, mut exchange) = started().await;
    exchange.swap(swap(10, 10, 200)).await.expect("a swap");
    // It looks once a second.
    let told = loop {
        let ask = proto::GetStatsRequest { after: 0 };
        let told = exchange.get_stats(ask).await.expect("stats").into_inner();
        if !told.samples.is_empty() {
            break told;
        }
    };
    let over_http = server.client().get("/v1/stats").with(200);
    let first = &told.samples[0];
    assert_eq!(over_http["samples"][0]["number"], first.number);
    assert_eq!(over_http["samples"][0]["settled_per_second"], first.settled_per_second);
    assert_eq!(over_http["started_at"], told.started_at);
    assert_eq!(over_http["actors"], serde_json::json!(told.actors));
    assert!(told.hot_accounts.is_some());
}
