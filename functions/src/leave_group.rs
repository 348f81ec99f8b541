//! `DELETE /api/group/{groupId}`: leave a group, or with `userId` take a member out of it. 200: empty.
//!
//! The manager leaving, or naming himself, dissolves the group: everyone is out. 403: the caller is not in it, or with
//! `userId` not its manager.

use futures::future::BoxFuture;
use shared::clock::Ms;
use shared::id::{GroupId, UserId};
use shared::{Error, Result};

use crate::App;
use crate::function::Function;
use crate::get_group::not_a_member;
use crate::rest::{Call, Reply};

/// How often it is tried while the membership changes.
const MAX_ATTEMPTS: u32 = 5;

/// The function.
pub static FUNCTION: Function = Function::rest("leave_group", "DELETE", handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
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
        return dissolve(app, group, caller).await;
    }
    take_out(app, group, caller, Some(joined), None).await
}

async fn remove(app: &App, group: &GroupId, user: &UserId, caller: &UserId) -> Result<()> {
    let not_the_manager = || Error::Forbidden("only the manager of a group may remove its members".to_owned());
    let found = app.table.memberships(group, &[caller, user]).await?.filter(|(meta, _)| meta.manager == *caller);
    let (_, joined) = found.ok_or_else(not_the_manager)?;
    if user == caller {
        return dissolve(app, group, caller).await;
    }
    take_out(app, group, user, joined[1], Some(caller)).await
}

/// Take a member out who has been in the group since `joined`. If he is out already, by himself or by another, that is
/// what was asked for.
async fn take_out(
    app: &App,
    group: &GroupId,
    user: &UserId,
    mut joined: Option<Ms>,
    by: Option<&UserId>,
) -> Result<()> {
    for attempt in 0..MAX_ATTEMPTS {
        let Some(since) = joined else { return Ok(()) };
        if app.table.remove_member(group, user, since, by).await? {
            return Ok(());
        }
        // He is out by now, or his membership was stamped in between.
        app.table.pause(attempt).await;
        joined = app.table.memberships(group, &[user]).await?.and_then(|(_, joined)| joined[0]);
    }
    Err(Error::unavailable("leaving a group", "its membership keeps changing"))
}

/// Dissolve a group: over with the first write, tidy with the last. Nobody but its manager can have done it before.
async fn dissolve(app: &App, group: &GroupId, manager: &UserId) -> Result<()> {
    app.table.dissolve(group, manager).await?;
    app.table.clear_members(group).await
}
