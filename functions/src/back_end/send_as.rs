//! `POST /message`, or a direct invocation with the same body: the back end sends a message in the name of a user. 200:
//! `{id, timestamp}`. 400: the body is wrong. 404: there is no such group. 409: `requestId` was used for another message.
//!
//! Body: `{"from", "type", "receiverId" | "groupId", "content", "requestId"?}`. The message is stored and pushed like any
//! other. Friendship, membership, mutes, bans and the limit are not checked. A user who blocks `from` does not get it.

use futures::future::BoxFuture;
use shared::frame::{Address, MAX_FRAME_BYTES, Submission, encode};
use shared::id::UserId;
use shared::json::Object;
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, Reply};
use crate::call::internal::{Endpoint, required_id};
use crate::delivery::send::{self, Accepted, Author, Pushes, Sending};
use crate::function::{Function, Route};

/// The largest body, in bytes: a frame, and room for `from`.
const MAX_BODY_BYTES: usize = 33 * 1024;

/// The function.
pub static FUNCTION: Function = Function::internal(
    "send_as",
    &[Route { method: "POST", path: "/message" }],
    Endpoint { parameters: &[], http, direct, max_body_bytes: MAX_BODY_BYTES, refusal: |error| error },
)
.pushing()
.queueing()
.announcing();

fn http<'a>(app: &'a App, input: &'a Input) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move { Ok(Reply::json(&send(app, &input.object()?).await?)) })
}

fn direct<'a>(app: &'a App, payload: Object<'a>) -> BoxFuture<'a, Result<Option<String>>> {
    Box::pin(async move { Ok(Some(encode(&send(app, &payload).await?))) })
}

async fn send(app: &App, body: &Object<'_>) -> Result<Accepted> {
    let from: UserId = required_id(body, "from")?;
    let submission = Submission::of(body).map_err(Error::BadRequest)?;
    if submission.to == Address::User(from.clone()) {
        return Err(Error::field("receiverId", "must be another user than from"));
    }
    let bytes = submission.content.get().len();
    if bytes > MAX_FRAME_BYTES {
        return Err(Error::field("content", format!("is {bytes} bytes long; the limit is {MAX_FRAME_BYTES}")));
    }
    let sending = Sending {
        sender: &from,
        author: Author::BackEnd,
        connection: None,
        arrived: app.clock.now_ms(),
        submission,
        pushes: Pushes::CutOff,
    };
    send::send(app, sending, async |accepted| Ok(accepted)).await
}
