//! `DELETE /user/{userId}`, or a direct invocation with `userId`: erases a user. 202: the user is banned, and jobs erase the
//! rest. `GET /user/{userId}` tells `erasing` until they are done. A repeat begins again.
//!
//! Erased are connections, state, inbox, relations, invitations and memberships, and the contents of what the user wrote to
//! present friends and in present groups. The id is refused for as long as messages are kept.

use futures::future::BoxFuture;
use shared::Result;
use shared::error::BANNED;
use shared::frame::{ErrorCode, ErrorFrame, encode};
use shared::id::UserId;
use shared::json::Object;

use crate::App;
use crate::call::http::{Input, MAX_BODY_BYTES, Reply};
use crate::call::internal::{Endpoint, required_id};
use crate::delivery::erase;
use crate::function::{Function, Route};

/// The function.
pub static FUNCTION: Function = Function::internal(
    "erase_user",
    &[Route { method: "DELETE", path: "/user/{userId}" }],
    Endpoint { parameters: &[], http, direct, max_body_bytes: MAX_BODY_BYTES, refusal: |error| error },
)
.pushing()
.queueing();

fn http<'a>(app: &'a App, input: &'a Input) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        erase(app, &input.path_id("userId")?).await?;
        Ok(Reply::status(202))
    })
}

fn direct<'a>(app: &'a App, payload: Object<'a>) -> BoxFuture<'a, Result<Option<String>>> {
    Box::pin(async move {
        erase(app, &required_id(&payload, "userId")?).await?;
        Ok(None)
    })
}

async fn erase(app: &App, user: &UserId) -> Result<()> {
    let now = app.clock.now_ms();
    let kept_until = now.saturating_add(now.saturating_sub(app.table.oldest()));
    // A ban that lasts longer stays.
    let until = app.table.state(user).await?.ban(now).map_or(kept_until, |until| until.max(kept_until));
    let farewell = ErrorFrame { until: Some(until), ..ErrorFrame::new(ErrorCode::Banned, BANNED, None) };
    erase::begin(app, user, &encode(&farewell), until).await
}
