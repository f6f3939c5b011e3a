//! `POST /v1/swaps` and `POST /v1/swaps:batch`.
//!
//! Each element of a batch is answered in its place as if it had been sent alone; one that breaks
//! a rule of form spoils nothing for the others.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::config::BATCH_REQUESTS_MAX;
use crate::directory::Directory;
use crate::engine::{Answers, Room};
use crate::error::Malformed;
use crate::request::{Command, Request, Swap};
use crate::types::{RequestId, Time};

use super::extract::{INLINE_BYTES_MAX, JsonBody, Key, State};
use super::json::{self, Object, Value};
use super::legs;
use super::names::Names;
use super::problem::Problem;
use super::receipt::{self, Answer};
use super::state::{App, Asked};

/// [`Command::kind`] of what is read here.
const KIND: &str = "swap";

/// `{request_id, legs: [{from, to, asset, amount}, ...], deadline?}` → the receipt.
pub(super) async fn one(
    State(app): State<App>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let directory = app.engine().directory();
    let read = body.object().and_then(|object| read_swap(object, key, directory));
    app.settle(app.counted(KIND, read)?).await
}

/// `{swaps: [...]}` → `{results: [...]}` in the same order.
pub(super) async fn batch(
    State(app): State<App>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Response, Problem> {
    if key?.is_some() {
        let why = "does not go with a batch; each swap in it has a request_id";
        return Err(Problem::malformed("Idempotency-Key", why));
    }
    let small = body.len() <= INLINE_BYTES_MAX;
    let reader = app.clone();
    let read = move || Batch::read(&body, &reader);
    let (room, mut batch) = if small { read() } else { app.reading(read).await? }?;
    let _in_flight = app.charge_batch(batch.elements.len())?;
    let caller = app.visitor().caller();
    let requests = std::mem::take(&mut batch.requests).into_iter().map(|it| it.by(caller));
    let pending = app.engine().submit_in(room, requests.collect())?;
    let answers = pending.answers().await?;
    // Ids that were used before may have to be looked up on disk.
    let writer = app.clone();
    app.writing(move || batch.answered(&answers, &writer)).await
}

/// A batch on its way: what goes to the engine, and what each element needs for its answer.
struct Batch {
    requests: Vec<Request>,
    elements: Vec<Element>,
}

enum Element {
    /// The engine answers it.
    Asked(RequestId, Names),
    /// It breaks a rule of form.
    Malformed(Problem),
}

#[derive(Serialize)]
struct Results {
    results: Vec<Answer>,
}

impl Batch {
    /// Takes room for the swaps before it looks into them: refusing must be cheap.
    fn read(body: &JsonBody, app: &App) -> Result<(Room, Self), Problem> {
        // While it waited for its turn, the last room may have gone.
        drop(app.engine().reserve(1)?);
        let mut object = body.object()?;
        let swaps = object.required("swaps", json::list)?;
        object.finish()?;
        let found = swaps.len();
        if found > BATCH_REQUESTS_MAX {
            let why = format!("has {found} swaps; a batch has at most {BATCH_REQUESTS_MAX}");
            return Err(Problem::malformed("swaps", why));
        }
        let room = app.engine().reserve(found)?;
        let mut batch =
            Self { requests: Vec::with_capacity(found), elements: Vec::with_capacity(found) };
        for (index, swap) in swaps.into_iter().enumerate() {
            batch.push(app.counted(KIND, read_element(index, swap, app.engine().directory())));
        }
        Ok((room, batch))
    }

    fn push(&mut self, read: Result<Asked, Problem>) {
        self.elements.push(match read {
            Ok(Asked { request, names }) => {
                let id = request.id;
                self.requests.push(request);
                Element::Asked(id, names)
            }
            Err(problem) => Element::Malformed(problem),
        });
    }

    fn answered(self, answers: &Answers, app: &App) -> Response {
        let mut next = 0..answers.len();
        let results = self.elements.into_iter().map(|element| match element {
            Element::Malformed(problem) => Answer::Refused(problem),
            Element::Asked(id, names) => {
                let index = next.next().expect("the engine answers every request");
                app.answer(id, answers.outcome(index), &names)
            }
        });
        receipt::json(StatusCode::OK, &Results { results: results.collect() })
    }
}

fn read_element(index: usize, swap: Value<'_>, directory: &Directory) -> Result<Asked, Problem> {
    // Of anything else the answer's place says which it is; of this there is no id either.
    let told = |why| Problem::malformed(format!("swaps[{index}]"), why);
    let object = Object::of(swap).map_err(told)?;
    read_swap(object, Key(Ok(None)), directory)
}

fn read_swap(mut object: Object<'_>, key: Key, directory: &Directory) -> Result<Asked, Problem> {
    let id = key.required(&mut object)?;
    let mut names = Names::default();
    read_rest(object, directory, &mut names)
        .map(|(swap, deadline)| {
            Asked::new(Request { deadline, ..Request::new(id, Command::Swap(swap)) }, names)
        })
        .map_err(|malformed| Problem::from(malformed).of(id))
}

fn read_rest(
    mut object: Object<'_>,
    directory: &Directory,
    names: &mut Names,
) -> Result<(Swap, Time), Malformed> {
    let deadline = object.optional("deadline", json::time)?.unwrap_or(Time::NEVER);
    let values = object.required("legs", json::list)?;
    object.finish()?;
    let legs = legs::read("legs", values, directory, names)?;
    Ok((Swap::new(legs)?, deadline))
}
