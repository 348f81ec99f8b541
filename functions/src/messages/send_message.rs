//! `POST /api/message`: sends a message without a socket. The body is a frame of the WebSocket, `{"type", "receiverId" |
//! "groupId", "content", "requestId"?}`. 200: `{id, timestamp}`, as an `ACK` says. 400: the body is wrong. 403: the manager of
//! the group has muted the caller. 409: `requestId` was used for another message.

use futures::future::BoxFuture;
use shared::frame::{MAX_FRAME_BYTES, Submission};
use shared::{Error, Result};

use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::delivery::send::{self, Author, Pushes, Sending};
use crate::function::Function;

/// The largest body, in bytes: a frame, and room for white space around it.
const MAX_BODY_BYTES: usize = 33 * 1024;

/// The function.
pub static FUNCTION: Function = Function::rest("send_message", "POST", "/api/message", &[], handle)
    .gated()
    .with_body_of(MAX_BODY_BYTES)
    .pushing()
    .queueing()
    .announcing();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let length = call.input.body()?.trim_matches([' ', '\t', '\n', '\r']).len();
        if length > MAX_FRAME_BYTES {
            return Err(Error::Frame(format!("the body is {length} bytes long; the limit is {MAX_FRAME_BYTES}")));
        }
        let body = call.input.object().map_err(malformed)?;
        let submission = Submission::of(&body).map_err(Error::Frame)?;
        let sending = Sending {
            sender: &call.user,
            author: Author::User,
            connection: None,
            arrived: call.input.arrived().unwrap_or_else(|| app.clock.now_ms()),
            submission,
            pushes: Pushes::CutOff,
        };
        let accepted = send::send(app, sending, async |accepted| Ok(accepted)).await?;
        Ok(Reply::json(&accepted))
    })
}

/// Gives a wrong body the code of a malformed frame.
fn malformed(error: Error) -> Error {
    match error {
        Error::BadRequest(why) => Error::Frame(why),
        other => other,
    }
}
