//! A problem inside a status, as every language's library of rich errors finds it: the details are a
//! `google.rpc.Status` whose only detail is the problem.

use prost::Message;
use tonic::{Code, Status};

use super::Problem;

/// The name by which the problem is found among a status' details.
const TYPE_URL: &str = "type.googleapis.com/crosslatch.v1.Problem";

/// `google.rpc.Status`, as the trailer `grpc-status-details-bin` has it.
#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyMessage>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The status that carries the problem.
pub fn status(code: Code, problem: &Problem) -> Status {
    let detail = AnyMessage { type_url: TYPE_URL.into(), value: problem.encode_to_vec() };
    let message = problem.detail.clone();
    let rich = RichStatus { code: code as i32, message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, rich.encode_to_vec().into())
}

/// The problem that a status carries; `None` if it does not come from an engine.
pub fn problem(status: &Status) -> Option<Problem> {
    let rich = RichStatus::decode(status.details()).ok()?;
    let detail = rich.details.into_iter().find(|detail| detail.type_url == TYPE_URL)?;
    Problem::decode(&*detail.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_comes_out_as_it_went_in() {
        let sent = Problem { code: "conflict".into(), account: Some(7), ..Problem::default() };
        let carried = status(Code::Aborted, &sent);
        assert_eq!(problem(&carried), Some(sent));
        assert_eq!(problem(&Status::unavailable("nobody listens")), None);
        let other = Status::with_details(Code::Internal, "x", b"not a message".to_vec().into());
        assert_eq!(problem(&other), None);
    }
}
