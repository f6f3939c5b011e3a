//! "No" in gRPC: the members of a problem as a message, and for unary calls a status that carries it.
//!
//! The status' details are what `google.rpc.Status` says they are, so that every language's library
//! of rich errors finds the problem in them.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::{Code, Status};

use crate::error::Malformed;
use crate::proto;
use crate::server::problem::Problem;
use crate::types::{AccountId, Amount, ChainId};

/// The status that a unary call ends with.
pub(super) fn status(problem: &Problem) -> Status {
    let shown = shown(problem);
    proto::rich::status(status_code(&shown.code), &shown)
}

/// What the library says of a request that it could not even take apart (bytes that are no message, a frame
/// that is none, a message that is too long) is the client's fault: not `INTERNAL`, which is an alarm,
/// nor without a problem, which asks to send the same again. Any other status stays as it is.
pub(super) fn of_reading(status: Status) -> Status {
    let is_unread = matches!(status.code(), Code::Internal | Code::OutOfRange);
    if !is_unread || !status.details().is_empty() {
        return status;
    }
    let why = format!("cannot be read: {}", status.message());
    self::status(&Malformed::new("message", why).into())
}

/// The same of an answer that says in its head how a call ended.
pub(super) async fn of_answer(answer: Response) -> Response {
    match Status::from_header_map(answer.headers()) {
        Some(status) if status.code() != Code::Ok && status.details().is_empty() => {
            of_reading(status).into_http()
        }
        _ => answer,
    }
}

/// As the proto file's table has it.
fn status_code(code: &str) -> Code {
    match code {
        "malformed" => Code::InvalidArgument,
        "already_exists"
        | "already_linked"
        | "already_credited"
        | "request_id_reused"
        | "duplicate_client_order_id" => Code::AlreadyExists,
        "conflict" | "lock_timeout" => Code::Aborted,
        "history_expired" => Code::OutOfRange,
        "overloaded" | "stopped" | "recovering" | "archive_unavailable" => Code::Unavailable,
        "forbidden" => Code::PermissionDenied,
        "unauthenticated" => Code::Unauthenticated,
        "rate_limited" => Code::ResourceExhausted,
        "storage" => Code::Internal,
        unknown if unknown.starts_with("unknown_") => Code::NotFound,
        many if many.starts_with("too_many_") => Code::ResourceExhausted,
        _ => Code::FailedPrecondition,
    }
}

/// A problem as a message.
pub(super) fn shown(problem: &Problem) -> proto::Problem {
    let members = problem.members();
    let fault = members.fault.clone().unwrap_or_default();
    let amount = |amount: Option<Amount>| amount.map(proto::Amount::of);
    proto::Problem {
        status: members.status.into(),
        code: members.code.into(),
        title: members.title.into(),
        detail: members.detail.clone(),
        field: members.field.clone().unwrap_or_default(),
        request_id: members.request_id.map(proto::id_bytes).unwrap_or_default(),
        account: members.account.map(AccountId::get),
        asset: members.asset.clone().unwrap_or_default(),
        chain_id: members.chain_id.map(ChainId::get),
        key: members.key.as_deref().map(|key| STANDARD.decode(key).unwrap_or_default().into()),
        token: members.token.map(|it| proto::id_bytes(it.request())).unwrap_or_default(),
        how: members.how.map(|how| how.name().to_owned()).unwrap_or_default(),
        commit_seq: number(members.commit_seq.as_deref()),
        short_by: amount(members.short_by),
        max: members.max,
        max_percent: members.max_percent.map(u32::from),
        oldest: number(members.oldest.as_deref()),
        seq: number(members.seq.as_deref()),
        time_us: members.time.as_deref().and_then(micros),
        market: fault.market.unwrap_or_default(),
        order_id: fault.order_id.map(proto::id_bytes).unwrap_or_default(),
        tick_size: number(fault.tick_size.as_deref()),
        lot_size: number(fault.lot_size.as_deref()),
        min_notional: amount(fault.min_notional.and_then(|least| least.parse().ok())),
        filled: amount(fault.filled),
        low: number(fault.low.as_deref()),
        high: number(fault.high.as_deref()),
        operation: members.operation.unwrap_or_default().into(),
    }
}

/// A problem's numbers are the texts that JSON has.
fn number(text: Option<&str>) -> Option<u64> {
    text.and_then(|text| text.parse().ok())
}

fn micros(time: &str) -> Option<u64> {
    let stamp: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(stamp.as_microsecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reject;
    use crate::server::problem::CODES;
    use crate::types::{AssetId, CommitSeq, Key, RequestId, Subject};

    #[test]
    fn every_code_has_the_status_that_its_http_status_suggests() {
        for code in CODES {
            let expected: &[Code] = match code.http {
                400 => &[Code::InvalidArgument],
                401 => &[Code::Unauthenticated],
                403 => &[Code::PermissionDenied],
                429 => &[Code::ResourceExhausted],
                404 => &[Code::NotFound, Code::FailedPrecondition],
                409 => &[
                    Code::AlreadyExists,
                    Code::Aborted,
                    Code::ResourceExhausted,
                    Code::FailedPrecondition,
                ],
                500 => &[Code::Internal],
                503 => &[Code::Unavailable],
                _ => &[Code::FailedPrecondition, Code::OutOfRange],
            };
            assert!(expected.contains(&status_code(code.name)), "{}", code.name);
        }
    }

    #[test]
    fn a_refusal_keeps_its_members_and_rides_in_the_status() {
        let reject = Reject::InsufficientFunds {
            account: AccountId::new(7),
            asset: AssetId::new(3),
            short_by: Amount::new(1 << 64 | 5),
            seq: CommitSeq::new(11),
        };
        let id = RequestId::new(9);
        let problem = Problem::reject(&reject, Some("ETH")).at("legs[0].amount").of(id);
        let problem = problem.seen(CommitSeq::new(11), "1970-01-01T00:00:01.500000Z".into());
        let shown = shown(&problem);
        assert_eq!((&*shown.status, &*shown.code), ("rejected", "insufficient_funds"));
        assert_eq!((shown.account, &*shown.asset, shown.seq), (Some(7), "ETH", Some(11)));
        assert_eq!(shown.short_by, Some(proto::Amount { low: 5, high: 1 }));
        assert_eq!((&*shown.field, shown.time_us), ("legs[0].amount", Some(1_500_000)));
        assert_eq!(proto::id_of(&shown.request_id), Ok(id));
        let status = status(&problem);
        assert_eq!(status.code(), Code::FailedPrecondition);
        let inside = proto::rich::problem(&status).expect("a problem");
        assert_eq!(inside, shown);
    }

    #[test]
    fn keys_are_bytes_again() {
        let reject = Reject::Conflict { subject: Subject::Key(Key::new(*b"\xff/a")) };
        let shown = shown(&Problem::reject(&reject, None));
        assert_eq!(shown.key.as_deref(), Some(&b"\xff/a"[..]));
    }
}
