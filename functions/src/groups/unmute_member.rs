//! `DELETE /api/group/{groupId}/mute?userId=…`: ends the mute of a member, if there is one. 200: empty. 400: a parameter is
//! wrong. 403: the caller is not the manager, or the user is not a member.

use futures::future::BoxFuture;
use shared::Result;

use super::rules::set_mute;
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function =
    Function::rest("unmute_member", "DELETE", "/api/group/{groupId}/mute", &["userId"], handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        set_mute(app, call, None).await?;
        Ok(Reply::empty())
    })
}
