//! What the document says of API keys.

use crate::server::api_keys::{KeyBody, KeysBody, MadeBody};
use crate::server::receipt::KeyChangedBody;

use super::About;
use super::requests::{ApiKeyRequest, PlainRequest};
use super::schemas::KeyName;

const TAG: &str = "keys";

pub fn list_api_keys(call: &mut About<'_>) {
    let says = "In the order in which they were created, revoked ones included. No secrets.";
    call.named(TAG, "listApiKeys", "All API keys", says);
    call.gives::<KeysBody>("The keys.");
}

pub fn create_api_key(call: &mut About<'_>) {
    call.named(
        TAG,
        "createApiKey",
        "Creates an API key",
        "The token is shown here and never again; the same request sent again is told the same. The \
         venue's first key must have `operate` and be for all accounts: from then on everything needs \
         a key.",
    );
    call.takes::<ApiKeyRequest>();
    call.gives::<MadeBody>("The key, and its token.");
    call.refuses(&["already_exists"]);
}

pub fn get_api_key(call: &mut About<'_>) {
    call.named(TAG, "getApiKey", "An API key", "");
    call.part::<KeyName>("name", "Its name.");
    call.gives::<KeyBody>("The key.");
    call.refuses(&["unknown_api_key"]);
}

pub fn revoke_api_key(call: &mut About<'_>) {
    let says = "It is of no use any more, from the next request on. Its name is not used again.";
    call.named(TAG, "revokeApiKey", "Revokes an API key", says);
    call.part::<KeyName>("name", "Its name.");
    call.takes::<PlainRequest>();
    call.settles("KeyReceipt", |all| vec![all.of::<KeyChangedBody>()]);
    call.refuses(&["unknown_api_key"]);
}

pub fn rotate_api_key(call: &mut About<'_>) {
    let says = "It gets its next secret, and the one before ends at once.";
    call.named(TAG, "rotateApiKey", "Gives an API key another secret", says);
    call.part::<KeyName>("name", "Its name.");
    call.takes::<PlainRequest>();
    call.gives::<MadeBody>("The key, and its token.");
    call.refuses(&["unknown_api_key"]);
}
