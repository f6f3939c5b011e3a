//! The calls of `crosslatch.v1.Exchange`, each in one line: what it takes, what it is answered with.

use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use crate::proto;
use crate::proto::exchange_server::Exchange;
use crate::proto::request::Command as Asks;
use crate::server::names::Names;
use crate::server::orders;
use crate::server::problem::Problem;
use crate::server::state::{App, Asked};
use crate::types::AccountId;

use super::batch::{self, Results};
use super::caller::caller;
use super::read::Reader;
use super::receipt::{in_message, settled};
use super::{markets, problem, reads};

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
        let receipt = match caller(&metadata, &extensions) {
            Ok(_) => settle(&self.app, &asks(message)).await,
            Err(refused) => Err(refused),
        };
        receipt.map(Response::new).map_err(|refused| problem::status(&refused))
    }

    /// Answers what only looks.
    async fn look<T, U, F: Future<Output = Result<U, Problem>>>(
        &self,
        request: Request<T>,
        read: impl FnOnce(App, T) -> F,
    ) -> Result<Response<U>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let told = match caller(&metadata, &extensions) {
            Ok(_) => read(self.app.clone(), message).await,
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
        look { $($read:ident($ask:ident) -> $told:ident = $by:path;)* }
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
                self.look(request, $by).await
            })*

            type SubmitStream = Results;

            async fn submit(
                &self,
                request: Request<Streaming<proto::Batch>>,
            ) -> Result<Response<Results>, Status> {
                let (metadata, extensions, batches) = request.into_parts();
                let caller = caller(&metadata, &extensions);
                let caller = caller.map_err(|refused| problem::status(&refused))?;
                let (app, stopping) = (self.app.clone(), self.stopping.clone());
                Ok(Response::new(batch::answer(app, caller, batches, stopping)))
            }
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
        cancel_all_orders(CancelAllOrders) -> CanceledAll = cancel_all;
        get_prepared(GetHoldRequest) -> Prepared = reads::prepared;
        get_withdrawal(GetHoldRequest) -> Withdrawal = reads::withdrawal;
        get_key(GetKeyRequest) -> KeyValue = reads::key;
        get_asset(GetAssetRequest) -> Asset = reads::asset;
        list_assets(ListAssetsRequest) -> Assets = reads::assets;
        get_account(GetAccountRequest) -> Account = reads::account;
        get_link(GetLinkRequest) -> LinkedAccount = reads::link;
        get_balances(GetBalancesRequest) -> Balances = reads::balances;
        get_history(GetHistoryRequest) -> History = reads::changes;
        get_market(GetMarketRequest) -> Market = markets::market;
        list_markets(ListMarketsRequest) -> Markets = markets::markets;
        get_book(GetBookRequest) -> Book = markets::book;
        list_trades(ListTradesRequest) -> Trades = markets::trades;
        get_order(GetOrderRequest) -> Order = markets::order;
        list_orders(ListOrdersRequest) -> Orders = markets::orders;
        get_operation(GetOperationRequest) -> OperationState = reads::operation;
        get_request(GetRequestRequest) -> RequestState = reads::request;
        audit(AuditRequest) -> AuditReport = reads::audit;
        backup(BackupRequest) -> BackupState = reads::backup;
        get_status(GetStatusRequest) -> ServerStatus = reads::status;
    }
}
