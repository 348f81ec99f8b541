//! `DELETE /api/group/{groupId}`: leaves a group, or removes the member `userId`. 200: empty. 400: a body, or any other
//! parameter. 403: the caller is not a member, or, with `userId`, not the manager.
//!
//! A manager who leaves, or gives their own id as `userId`, dissolves the group.

use futures::future::BoxFuture;
use shared::Result;
use shared::frame::{GroupChanged, GroupEvent};
use shared::id::{GroupId, UserId};

use super::departures::{dissolve, not_the_manager, require_nothing_else, take_out};
use super::rules::not_a_member;
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::delivery::group_changes;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::rest("leave_group", "DELETE", "/api/group/{groupId}", &["userId"], handle)
    .pushing()
    .queueing()
    .announcing();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        require_nothing_else(&call.input, &["userId", "access_token"], "userId is a parameter of the query")?;
        let group = call.input.path_id("groupId")?;
        match call.input.parameter_id("userId")? {
            None => leave(app, &group, &call.user).await?,
            Some(user) => remove(app, &group, &user, &call.user).await?,
        }
        Ok(Reply::empty())
    })
}

async fn leave(app: &App, group: &GroupId, caller: &UserId) -> Result<()> {
    let found = app.table.memberships(group, &[caller]).await?;
    let (meta, joined) = found.and_then(|(meta, joined)| Some((meta, joined[0]?))).ok_or_else(not_a_member)?;
    if meta.manager == *caller {
        return dissolve(app, group, caller, &meta).await;
    }
    take_out(app, group, caller, Some(joined), None).await?;
    let changed = GroupChanged { group_id: group, event: GroupEvent::Left, user_id: Some(caller), name: None };
    group_changes::announce(app, &changed, meta.members, &[caller]).await;
    Ok(())
}

async fn remove(app: &App, group: &GroupId, user: &UserId, caller: &UserId) -> Result<()> {
    let found = app.table.memberships(group, &[caller, user]).await?.filter(|(meta, _)| meta.manager == *caller);
    let (meta, joined) = found.ok_or_else(not_the_manager)?;
    if user == caller {
        return dissolve(app, group, caller, &meta).await;
    }
    if joined[1].is_none() {
        return Ok(());
    }
    take_out(app, group, user, joined[1], Some(caller)).await?;
    let changed = GroupChanged { group_id: group, event: GroupEvent::Removed, user_id: Some(user), name: None };
    group_changes::announce(app, &changed, meta.members, &[user]).await;
    Ok(())
}
