//! `DELETE /api/message/{id}?receiverId=` or `?groupId=`: recalls a message, for everybody. 200: empty; recalling again too.
//! 400: a parameter is wrong. 403: the message is unknown or too old, or the caller may not recall it. 429: the caller has
//! sent too much.

use futures::future::BoxFuture;
use shared::Result;

use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::delivery::recall::{self, By};
use crate::function::Function;

/// The function.
pub static FUNCTION: Function =
    Function::rest("recall_message", "DELETE", "/api/message/{id}", &["receiverId", "groupId"], handle)
        .gated()
        .pushing()
        .queueing();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let id = call.input.path_message_id("id")?;
        recall::recall(app, By::User(&call.user), &call.input.address("receiverId")?, id).await?;
        Ok(Reply::empty())
    })
}
