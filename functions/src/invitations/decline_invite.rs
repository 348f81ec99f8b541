//! `DELETE /api/request/{requestId}`: declines an invitation. 200: empty. 403: it is not addressed to the caller.

use futures::future::BoxFuture;
use shared::Result;

use super::rules::not_yours;
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::rest("decline_invite", "DELETE", "/api/request/{requestId}", &[], handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let id = call.input.path_id("requestId")?;
        app.table.invitation(&call.user, &id).await?.ok_or_else(not_yours)?;
        app.table.remove_invitation(&call.user, &id).await?;
        Ok(Reply::empty())
    })
}
