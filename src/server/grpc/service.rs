//! The calls of `crosslatch.v1.Exchange`, each in one line: what it takes, what it is answered with.

use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use crate::proto;
use crate::proto::exchange_server::Exchange;
use crate::proto::request::Command as Asks;
use crate::server::door::rights::{
    ANY_KEY, HOLD, METRICS, Need, OPERATE, OUTCOME, READ, TRADE, WITHDRAWAL,
};
use crate::server::names::Names;
use crate::server::orders;
use crate::server::problem::Problem;
use crate::server::state::{App, Asked};
use crate::types::AccountId;

use super::batch::{self, Results};
use super::caller::admit;
use super::read::Reader;
use super::receipt::{in_message, settled};
use super::{api_keys, events, market_data, markets, monitor, problem, reads};

/// Answers calls on an engine.
pub(super) struct Service {
    app: App,
    /// Turns true when nothing more is to be taken.
    stopping: watch::Receiver<bool>,
}

impl Service {
    /// On the engine of that server.
    pub(super) fn new(app: App, stopping: watch::Receiver<bool>) -> Self {
        Self { app, stopping }
    }

    /// Takes one command to its receipt.
    async fn settle<T>(
        &self,
        request: Request<T>,
        asks: fn(T) -> Asks,
    ) -> Result<Response<proto::Receipt>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let receipt = match admit(&self.app, &metadata, &extensions, ANY_KEY) {
            Ok((app, _in_flight)) => settle(&app, &asks(message)).await,
            Err(refused) => Err(refused),
        };
        receipt.map(Response::new).map_err(|refused| problem::status(&refused))
    }

    /// Answers what only looks.
    async fn look<T, U, F: Future<Output = Result<U, Problem>>>(
        &self,
        request: Request<T>,
        need: Need,
        read: impl FnOnce(App, T) -> F,
    ) -> Result<Response<U>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let told = match admit(&self.app, &metadata, &extensions, need) {
            Ok((app, _in_flight)) => read(app, message).await,
            Err(refused) => Err(refused),
        };
        told.map(Response::new).map_err(|refused| problem::status(&refused))
    }
}

async fn settle(app: &App, asks: &Asks) -> Result<proto::Receipt, Problem> {
    let mut names = Names::default();
    let request = Reader::new(app).request(asks, &mut names);
    let request = request.map_err(|problem| in_message(problem, asks))?;
    let (outcome, names) = app.outcome(Asked::new(request, names)).await?;
    settled(outcome, &names, app.engine().directory()).map_err(|problem| in_message(problem, asks))
}

/// One market, or, without one, each under an id of its own.
async fn cancel_all(app: App, all: proto::CancelAllOrders) -> Result<proto::CanceledAll, Problem> {
    if !all.market.is_empty() || all.market_number.is_some() {
        let receipt = settle(&app, &Asks::CancelAllOrders(all)).await?;
        return Ok(proto::CanceledAll { results: vec![answer(Ok(receipt))] });
    }
    let id = reads::id("request_id", &all.request_id);
    let id = app.counted("cancel_all", id)?;
    let (requests, answers) = orders::everywhere(&app, id, AccountId::new(all.account)).await?;
    let writer = app.clone();
    app.writing(move || {
        let results = requests.into_iter().enumerate().map(|(place, request)| {
            let mut names = Names::default();
            names.keep(&request.command);
            let outcome = answers.outcome(place);
            let outcome = writer.refused_before(request.id, &outcome, &names);
            let (outcome, names) = outcome.unwrap_or_else(|| (answers.outcome(place), names));
            answer(settled(outcome, &names, writer.engine().directory()))
        });
        proto::CanceledAll { results: results.collect() }
    })
    .await
}

fn answer(settled: Result<proto::Receipt, Problem>) -> proto::Answer {
    use proto::answer::Outcome;
    let outcome = match settled {
        Ok(receipt) => Outcome::Settled(receipt),
        Err(refused) => Outcome::Problem(problem::shown(&refused)),
    };
    proto::Answer { outcome: Some(outcome) }
}

/// Writes the service: a line a call.
macro_rules! exchange {
    (
        settle { $($call:ident($message:ident) as $asks:ident;)* }
        look { $($read:ident($ask:ident) -> $told:ident = $by:path, $need:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl Exchange for Service {
            $(async fn $call(
                &self,
                request: Request<proto::$message>,
            ) -> Result<Response<proto::Receipt>, Status> {
                self.settle(request, Asks::$asks).await
            })*

            $(async fn $read(
                &self,
                request: Request<proto::$ask>,
            ) -> Result<Response<proto::$told>, Status> {
                self.look(request, $need, $by).await
            })*

            type EventsStream = events::Pages;

            async fn events(
                &self,
                request: Request<proto::EventsRequest>,
            ) -> Result<Response<events::Pages>, Status> {
                self.look(request, READ, events::follow).await
            }

            type MarketDataStream = market_data::Messages;

            async fn market_data(
                &self,
                request: Request<Streaming<proto::MarketDataRequest>>,
            ) -> Result<Response<market_data::Messages>, Status> {
                self.look(request, ANY_KEY, market_data::follow).await
            }

            type SubmitStream = Results;

            async fn submit(
                &self,
                request: Request<Streaming<proto::Batch>>,
            ) -> Result<Response<Results>, Status> {
                let (metadata, extensions, batches) = request.into_parts();
                let admitted = admit(&self.app, &metadata, &extensions, ANY_KEY);
                let (app, _) = admitted.map_err(|refused| problem::status(&refused))?;
                Ok(Response::new(batch::answer(app, batches, self.stopping.clone())))
            }
        }

        /// What each call that only looks, or is no single command, needs of a key. Commands are judged by
        /// what they say themselves.
        pub(super) fn needs() -> Vec<(&'static str, Need)> {
            let streams = [("events", READ), ("market_data", ANY_KEY)];
            streams.into_iter().chain([$((stringify!($read), $need)),*]).collect()
        }
    };
}

exchange! {
    settle {
        swap(Swap) as Swap;
        prepare(Prepare) as Prepare;
        commit(Resolve) as Commit;
        rollback(Resolve) as Rollback;
        deposit(Transfer) as Deposit;
        withdraw(Transfer) as Withdraw;
        confirm_withdrawal(Resolve) as ConfirmWithdrawal;
        cancel_withdrawal(Resolve) as CancelWithdrawal;
        transact(Transact) as Transact;
        put_asset(PutAsset) as PutAsset;
        put_account(PutAccount) as PutAccount;
        remove_link(RemoveLink) as RemoveLink;
        put_market(PutMarket) as PutMarket;
        halt_market(SwitchMarket) as HaltMarket;
        resume_market(SwitchMarket) as ResumeMarket;
        operate(Operate) as Operate;
        place_order(PlaceOrder) as PlaceOrder;
        amend_order(AmendOrder) as AmendOrder;
        cancel_order(CancelOrder) as CancelOrder;
    }
    look {
        cancel_all_orders(CancelAllOrders) -> CanceledAll = cancel_all, TRADE;
        list_prepared(ListPreparedRequest) -> PreparedList = monitor::prepared, HOLD;
        get_prepared(GetHoldRequest) -> Prepared = reads::prepared, HOLD;
        get_withdrawal(GetHoldRequest) -> Withdrawal = reads::withdrawal, WITHDRAWAL;
        get_key(GetKeyRequest) -> KeyValue = reads::key, READ;
        get_asset(GetAssetRequest) -> Asset = reads::asset, ANY_KEY;
        list_assets(ListAssetsRequest) -> Assets = reads::assets, ANY_KEY;
        get_account(GetAccountRequest) -> Account = reads::account, READ;
        get_link(GetLinkRequest) -> LinkedAccount = reads::link, READ;
        get_balances(GetBalancesRequest) -> Balances = reads::balances, READ;
        get_history(GetHistoryRequest) -> History = reads::changes, READ;
        get_market(GetMarketRequest) -> Market = markets::market, ANY_KEY;
        list_markets(ListMarketsRequest) -> Markets = markets::markets, ANY_KEY;
        get_book(GetBookRequest) -> Book = markets::book, ANY_KEY;
        list_trades(ListTradesRequest) -> Trades = markets::trades, ANY_KEY;
        get_order(GetOrderRequest) -> Order = markets::order, HOLD;
        list_orders(ListOrdersRequest) -> Orders = markets::orders, HOLD;
        get_operation(GetOperationRequest) -> OperationState = reads::operation, ANY_KEY;
        get_request(GetRequestRequest) -> RequestState = reads::request, OUTCOME;
        audit(AuditRequest) -> AuditReport = reads::audit, OPERATE;
        backup(BackupRequest) -> BackupState = reads::backup, OPERATE;
        get_stats(GetStatsRequest) -> Stats = monitor::stats, READ;
        get_status(GetStatusRequest) -> ServerStatus = reads::status, ANY_KEY;
        get_metrics(GetMetricsRequest) -> Metrics = reads::metrics, METRICS;
        create_api_key(CreateApiKeyRequest) -> ApiKeyMade = api_keys::create, OPERATE;
        list_api_keys(ListApiKeysRequest) -> ApiKeys = api_keys::list, OPERATE;
        get_api_key(GetApiKeyRequest) -> ApiKey = api_keys::get, OPERATE;
        revoke_api_key(RevokeApiKeyRequest) -> Receipt = api_keys::revoke, OPERATE;
        rotate_api_key(RotateApiKeyRequest) -> ApiKeyMade = api_keys::rotate, OPERATE;
    }
}
