//! `POST /v1/deposits`, and the form that it shares with withdrawals.

use crate::directory::Directory;
use crate::error::Malformed;
use crate::request::{Command, Request, Transfer};
use crate::types::AccountId;

use super::extract::{JsonBody, Key, State};
use super::json::{self, Object};
use super::names::Names;
use super::problem::Problem;
use super::receipt::Answer;
use super::state::{App, Asked};

/// `{request_id, account, asset, amount, reference?}` → the receipt: the account is credited.
pub(super) async fn deposit(
    State(app): State<App>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = read(&body, key, app.engine().directory(), Command::Deposit);
    app.settle(app.counted("deposit", asked)?).await
}

/// Reads `{request_id, account, asset, amount, reference?}`.
///
/// # Errors
/// The field at fault.
pub(super) fn read(
    body: &JsonBody,
    key: Key,
    directory: &Directory,
    command: fn(Transfer) -> Command,
) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    let mut names = Names::default();
    let transfer = read_transfer(object, directory, &mut names)
        .map_err(|malformed| Problem::from(malformed).of(id))?;
    Ok(Asked::new(Request::new(id, command(transfer)), names))
}

fn read_transfer(
    mut object: Object<'_>,
    directory: &Directory,
    names: &mut Names,
) -> Result<Transfer, Malformed> {
    let transfer = Transfer {
        account: AccountId::new(object.required("account", json::number)?),
        asset: names.resolve(&object.required("asset", json::asset)?, directory),
        amount: object.required("amount", json::amount)?,
        reference: object.optional("reference", json::text)?.unwrap_or_default().into(),
    };
    object.finish()?;
    Ok(transfer)
}
