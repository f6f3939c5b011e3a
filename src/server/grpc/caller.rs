//! Who calls: the door of the gRPC face.
//!
//! Every call is here first, and every stream when it is opened; each batch in a stream is judged anew. A
//! key comes as the metadata `authorization: Bearer TOKEN`, over TLS or from the machine itself. There
//! are no signatures: what would be signed is not in one piece.

use tonic::Extensions;
use tonic::metadata::MetadataMap;

use crate::request::Command;
use crate::server::connections::Peer;
use crate::server::door::rights::Need;
use crate::server::door::{InFlight, Visitor};
use crate::server::problem::Problem;
use crate::server::state::App;

/// Lets a call in that needs that: the server as it answers whoever calls, and what counts as in flight
/// until it is dropped.
///
/// # Errors
/// `unauthenticated`, `forbidden`, `rate_limited`.
pub(super) fn admit(
    app: &App,
    metadata: &MetadataMap,
    extensions: &Extensions,
    need: Need,
) -> Result<(App, Option<InFlight>), Problem> {
    let peer = extensions.get::<Peer>().expect("every connection says where it is from");
    let (door, directory) = (app.door(), app.engine().directory());
    if door.is_open_to_all(need) {
        return Ok((app.visited_by(Visitor::ANYBODY), None));
    }
    if directory.keys_len() == 0 && peer.address.ip().to_canonical().is_loopback() {
        return Ok((app.visited_by(Visitor::TRUSTED), None));
    }
    let mut shown = metadata.get_all("authorization").iter();
    let token = match (shown.next(), shown.next()) {
        (Some(one), None) => one.to_str().ok().and_then(|text| text.split_once(' ')),
        _ => None,
    };
    let Some((_, token)) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        let why = "give a key: the metadata `authorization: Bearer TOKEN`";
        return Err(door.turned_away(door.failed(peer, why.into())));
    };
    let told = |refused| door.turned_away(refused);
    let issued = door.bearer(token.trim(), peer, directory).map_err(told)?;
    let (visitor, in_flight) = door.admit(issued, need, peer).map_err(told)?;
    Ok((app.visited_by(visitor), Some(in_flight)))
}

/// Refuses what the visitor's key may not ask for, as far as the command says: the engine would, too,
/// but here it leaves no trace.
///
/// # Errors
/// `forbidden`.
pub(super) fn check(app: &App, command: &Command) -> Result<(), Problem> {
    match app.visitor().api_key() {
        Some(key) => command.check_key(key).map_err(|reject| Problem::reject(&reject, None)),
        None => Ok(()),
    }
}
