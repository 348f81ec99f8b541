//! `DELETE /api/group/{groupId}`: leaves a group, or removes the member `userId`. 200: empty. 400: a body, or any other
//! parameter. 403: the caller is not a member, or, with `userId`, not the manager.
//!
//! A manager who leaves, or gives their own id as `userId`, dissolves the group.

use futures::future::BoxFuture;
use shared::frame::{GroupChanged, GroupEvent};
use shared::id::{GroupId, UserId};
use shared::table::{Membership, Meta};
use shared::{Error, Result};

use super::events;
use super::rules::not_a_member;
use crate::App;
use crate::call::http::{Input, Reply};
use crate::call::rest::Call;
use crate::delivery::job;
use crate::function::Function;

/// How often a call is tried while the membership or the roster changes.
const MAX_ATTEMPTS: u32 = 5;

/// The function.
pub static FUNCTION: Function =
    Function::rest("leave_group", "DELETE", "/api/group/{groupId}", &["userId"], handle).pushing();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        require_nothing_else(&call.input)?;
        let group = call.input.path_id("groupId")?;
        match call.input.parameter_id("userId")? {
            None => leave(app, &group, &call.user).await?,
            Some(user) => remove(app, &group, &user, &call.user).await?,
        }
        Ok(Reply::empty())
    })
}

/// Refuses a body, and any other parameter: the client may have meant it as `userId`. Without `userId`, the manager's
/// call would dissolve the group.
fn require_nothing_else(input: &Input) -> Result<()> {
    input.require_only(&["userId", "access_token"])?;
    let is_empty = input.body()?.trim().is_empty() || input.object().is_ok_and(|body| body.is_empty());
    if is_empty {
        Ok(())
    } else {
        Err(Error::BadRequest("userId is a parameter of the query; there is no body here".to_owned()))
    }
}

async fn leave(app: &App, group: &GroupId, caller: &UserId) -> Result<()> {
    let found = app.table.memberships(group, &[caller]).await?;
    let (meta, joined) = found.and_then(|(meta, joined)| Some((meta, joined[0]?))).ok_or_else(not_a_member)?;
    if meta.manager == *caller {
        return dissolve(app, group, caller, &meta).await;
    }
    take_out(app, group, caller, Some(joined), None).await?;
    let changed = GroupChanged { group_id: group, event: GroupEvent::Left, user_id: Some(caller), name: None };
    events::announce(app, &changed, meta.members, &[caller]).await;
    Ok(())
}

fn not_the_manager() -> Error {
    Error::Forbidden("only the manager of a group may remove its members".to_owned())
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
    events::announce(app, &changed, meta.members, &[user]).await;
    Ok(())
}

/// Removes the member if the membership is unchanged. It also succeeds if the member has already left.
async fn take_out(
    app: &App,
    group: &GroupId,
    user: &UserId,
    mut membership: Option<Membership>,
    by: Option<&UserId>,
) -> Result<()> {
    for attempt in 0..MAX_ATTEMPTS {
        let Some(seen) = membership else { return Ok(()) };
        if app.table.remove_member(group, user, seen, by).await? {
            return Ok(());
        }
        // The member has left, or the membership was stamped in between.
        app.table.pause(attempt).await;
        let found = app.table.memberships(group, &[user]).await?;
        match (found.as_ref().map(|(meta, _)| &meta.manager), by) {
            (Some(manager), None) if manager == user => {
                let why = "you have become the manager of this group; hand it over, or leave again to dissolve it";
                return Err(Error::Conflict(why.to_owned()));
            }
            (Some(manager), Some(by)) if manager != by => return Err(not_the_manager()),
            _ => {}
        }
        membership = found.and_then(|(_, found)| found[0]);
    }
    Err(Error::unavailable("leaving a group", "its membership keeps changing"))
}

/// Dissolves a group. One write ends the group, and its memberships are
/// deleted later. A group that is gone already counts as dissolved, because only its manager can have done that.
///
/// If there is a queue and more than one shard, a job for each shard deletes them. The jobs are queued before the
/// write, and make the write themselves if it is missing. So they finish the dissolution even if this call fails.
async fn dissolve(app: &App, group: &GroupId, manager: &UserId, meta: &Meta) -> Result<()> {
    let mut last_shard = meta.last_shard;
    let changed = GroupChanged { group_id: group, event: GroupEvent::Dissolved, user_id: None, name: None };
    // The members are read before they are gone.
    let roster = events::audience(app, &changed, meta.members).await?;
    for attempt in 0..MAX_ATTEMPTS {
        let queue = app.queue.as_ref().filter(|_| last_shard > 0);
        if let Some(queue) = queue {
            queue.send(&job::dissolution(group, manager, last_shard)).await?;
        }
        if app.table.dissolve(group, manager, last_shard).await? {
            if queue.is_none() {
                for shard in 0..=last_shard {
                    app.table.clear_shard(group, shard).await?;
                }
            }
            events::tell(app, &changed, roster, &[manager]).await;
            return Ok(());
        }
        // The roster has grown in between.
        app.table.pause(attempt).await;
        let Some((meta, _)) = app.table.memberships(group, &[manager]).await? else { return Ok(()) };
        if meta.manager != *manager {
            return Err(not_the_manager());
        }
        last_shard = meta.last_shard;
    }
    Err(Error::unavailable("dissolving a group", "its roster keeps growing"))
}
