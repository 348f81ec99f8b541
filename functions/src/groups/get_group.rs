//! `GET /api/group/{groupId}`: returns a group. 200: `{id, name, managerId, usersId}`. 403: the caller is not a member.
//! 400: the ids of its members do not fit into one answer.

use futures::future::BoxFuture;
use shared::{Error, Result};

use super::rules::{not_a_member, view};
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::rest("get_group", "GET", "/api/group/{groupId}", &[], handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let group = call.input.path_id("groupId")?;
        // Only a member may make the call read the roster.
        app.table.membership(&group, &call.user).await?.ok_or_else(not_a_member)?;
        let roster = app.table.roster(&group).await?.ok_or_else(not_a_member)?;
        Reply::json(&view(group, roster))
            .or_too_large(|| Error::field("groupId", "is of a group with too many members for one answer"))
    })
}
