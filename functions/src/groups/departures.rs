//! How a member leaves a group, and how a group ends.

use shared::frame::{GroupChanged, GroupEvent};
use shared::id::{GroupId, UserId};
use shared::table::{Membership, Meta};
use shared::{Error, Result};

use crate::App;
use crate::call::http::Input;
use crate::delivery::{group_changes, job};

/// How often a call is tried while the membership or the roster changes.
const MAX_ATTEMPTS: u32 = 5;

/// Refuses a body, and any parameter but these: the caller may have meant it as the member to remove. Without one, the call
/// would dissolve the group. `right` tells where to give the member.
pub(crate) fn require_nothing_else(input: &Input, parameters: &[&str], right: &str) -> Result<()> {
    input.require_only(parameters)?;
    let is_empty = input.body()?.trim().is_empty() || input.object().is_ok_and(|body| body.is_empty());
    match is_empty {
        true => Ok(()),
        false => Err(Error::BadRequest(format!("there is no body here; {right}"))),
    }
}

pub(crate) fn not_the_manager() -> Error {
    Error::Forbidden("only the manager of a group may remove its members".to_owned())
}

/// Removes the member if the membership is unchanged. It also succeeds if the member has already left.
pub(crate) async fn take_out(
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
pub(crate) async fn dissolve(app: &App, group: &GroupId, manager: &UserId, meta: &Meta) -> Result<()> {
    let mut last_shard = meta.last_shard;
    let changed = GroupChanged { group_id: group, event: GroupEvent::Dissolved, user_id: None, name: None };
    // The members are read before they are gone.
    let roster = group_changes::audience(app, group, meta.members).await?;
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
            group_changes::tell(app, &changed, roster, &[manager]).await;
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
