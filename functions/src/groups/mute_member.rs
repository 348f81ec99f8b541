//! `PUT /api/group/{groupId}/mute?userId=…&minutes=…`: mutes a member. For so many minutes, 1 to 43,200, the member's messages
//! to the group are refused. 200: empty. 400: a parameter is wrong. 403: the caller is not the manager, or the user is not a
//! member.

use futures::future::BoxFuture;
use shared::{Error, Result};

use super::rules::set_mute;
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::function::Function;

/// The longest mute: 30 days.
const MAX_MINUTES: u64 = 43_200;

/// The function.
pub static FUNCTION: Function =
    Function::rest("mute_member", "PUT", "/api/group/{groupId}/mute", &["userId", "minutes"], handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let minutes = call.input.number("minutes", 1, MAX_MINUTES)?;
        let minutes = minutes.ok_or_else(|| Error::field("minutes", "is missing"))?;
        set_mute(app, call, Some(app.clock.now_ms() + minutes * 60_000)).await?;
        Ok(Reply::empty())
    })
}
