//! The stream `Events`: everything durable, in order, in pages (`server::follow` has how).

use prost::Message;
use prost::bytes::Bytes;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::config::STREAM_PAGE_BYTES;
use crate::directory::Directory;
use crate::engine::Event;
use crate::proto;
use crate::request::{Command, Hold, Purpose, Write};
use crate::server::follow::{self, Filter, Place, Wording, kind_from};
use crate::server::problem::Problem;
use crate::server::receipt::asset_name;
use crate::server::state::App;
use crate::types::{AccountId, CommitSeq, Leg};

use super::problem;
use super::receipt::receipt;

/// What a client is told.
pub(super) type Pages = ReceiverStream<Result<proto::EventPage, Status>>;

/// Follows what happens, as the call says.
pub(super) async fn follow(app: App, ask: proto::EventsRequest) -> Result<Pages, Problem> {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let kind = given(ask.kind).map(|kind| kind_from(&kind)).transpose();
    let kind = kind.map_err(|why| Problem::malformed("kind", why))?;
    let account = ask.account.map(AccountId::new);
    let filter = Filter::new(&app, account, given(ask.market), kind)?;
    let after = CommitSeq::new(ask.after);
    follow::follow::<InPages>(app, after, filter, !ask.until_now).await.map(ReceiverStream::new)
}

/// As messages.
struct InPages;

impl Wording for InPages {
    type Piece = Result<proto::EventPage, Status>;

    fn events(events: Vec<Event>, directory: &Directory) -> Vec<Self::Piece> {
        let mut pages: Vec<proto::EventPage> = Vec::new();
        let mut room = 0;
        for event in events {
            let (seq, event) = (event.seq().get(), shown(event, directory));
            let bytes = event.encoded_len();
            if bytes > room {
                pages.push(proto::EventPage::default());
                room = STREAM_PAGE_BYTES;
            }
            room = room.saturating_sub(bytes);
            let page = pages.last_mut().expect("there is room for the first");
            page.seq = seq;
            page.events.push(event);
        }
        pages.into_iter().map(Ok).collect()
    }

    fn place(place: Place, seq: CommitSeq) -> Self::Piece {
        let is_end = place == Place::End;
        Ok(proto::EventPage { events: Vec::new(), seq: seq.get(), is_end })
    }

    fn failed(refused: &Problem) -> Self::Piece {
        Err(problem::status(refused))
    }

    fn stopped() -> Option<Self::Piece> {
        Some(Err(Status::unavailable("the server is stopping; come back for the rest")))
    }
}

fn shown(event: Event, directory: &Directory) -> proto::Event {
    let kind = event.kind().into();
    let writes = match &event.receipt.command {
        Command::Transact(transact) => transact.writes.iter().map(written).collect(),
        _ => Vec::new(),
    };
    proto::Event {
        kind,
        writes,
        hold: event.hold.as_deref().map(|hold| held(hold, directory)),
        receipt: Some(receipt(event.receipt, directory)),
    }
}

fn written(write: &Write) -> proto::Write {
    let value = write.value.as_deref().map(Bytes::copy_from_slice);
    proto::Write { key: Bytes::copy_from_slice(write.key.bytes()), value }
}

fn held(hold: &Hold, directory: &Directory) -> proto::Hold {
    let since = hold.since.get();
    match &hold.purpose {
        Purpose::Swap(swap) => {
            let leg = |leg: &Leg| proto::Leg {
                from_account: leg.from.get(),
                to_account: leg.to.get(),
                asset: asset_name(leg.asset, directory).into(),
                asset_number: None,
                amount: Some(leg.amount.into()),
            };
            proto::Hold {
                since,
                expires_at_us: Some(hold.expires_at.get()),
                legs: swap.legs().iter().map(leg).collect(),
                exclusive: hold.exclusive,
                ..proto::Hold::default()
            }
        }
        Purpose::Withdrawal(transfer) => proto::Hold {
            since,
            account: Some(transfer.account.get()),
            asset: asset_name(transfer.asset, directory).into(),
            amount: Some(transfer.amount.into()),
            ..proto::Hold::default()
        },
    }
}
