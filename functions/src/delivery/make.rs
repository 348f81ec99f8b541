//! Makes a group with all its members, for the back end: at once, or by jobs if it is large.

use shared::frame::{GroupChanged, GroupEvent, encode};
use shared::id::{GroupId, UserId};
use shared::table::{Draft, NewGroup, Table};
use shared::{Error, Result};

use super::job::{self, Job, Making};
use super::{events, push};
use crate::App;

/// A group with more members than this is made by jobs.
const AT_ONCE: usize = 1_000;

/// How many users a refusal names.
const MAX_NAMED: usize = 50;

/// How many seconds after its last part a group begins to exist. A job that runs twice has ended by then, so it cannot bring
/// back a member who has left.
const SETTLE_SECONDS: i32 = 20;

/// When a group exists: at once, or later by jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It exists.
    Now,
    /// Jobs make it.
    Soon,
}

/// Makes a group with these members, the manager among them, in any order and each once. A group or draft with that id is left
/// as it is, if it was asked for in the same way.
///
/// # Errors
/// Another group was asked for with that id; a user has reached the limit of groups; or the service failed.
pub(crate) async fn make(app: &App, group: NewGroup<'_>, users: &[UserId]) -> Result<Made> {
    let ids = [group.id.clone()];
    let (existing, draft) = futures::try_join!(app.table.existing_groups(&ids), app.table.draft(group.id))?;
    let known = existing.get(group.id).map(|meta| meta.digest.as_deref());
    if let Some(digest) = known.or(draft.as_ref().map(|draft| Some(draft.digest.as_str())))
        && digest != Some(group.digest)
    {
        return Err(Error::RequestIdReused("another group"));
    }
    if !existing.is_empty() {
        return Ok(Made::Now);
    }
    if draft.as_ref().is_some_and(|draft| draft.is_abandoned) {
        return Err(Error::Conflict("the group of this requestId was dissolved while it was being made".to_owned()));
    }
    let posted = app.clock.now_ms();
    let queue = app.queue.as_ref().filter(|_| users.len() > AT_ONCE);
    let Some(queue) = queue else {
        let full = app.table.without_room(users, group.id, app.max_groups).await?;
        if !full.is_empty() {
            let named: Vec<&str> = full.iter().map(UserId::as_str).take(MAX_NAMED).collect();
            let more = full.len().checked_sub(MAX_NAMED).filter(|more| *more > 0);
            let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
            let why =
                format!("these users have reached the limit of groups, {}: {}{more}", app.max_groups, named.join(", "));
            return Err(Error::Conflict(why));
        }
        let numbered: Vec<(u32, &UserId)> = (0..).zip(users).collect();
        app.table.put_members(group.id, &numbered, posted, None).await?;
        let is_new = app.table.put_group(group, count(users)).await?;
        app.wait_past(posted).await;
        if is_new {
            tell(app, group, users).await;
        }
        return Ok(Made::Now);
    };
    // A repeat queues the jobs again: the first call may have failed before that. Parts that are done are not done again.
    let jobs = job::making(group, posted, users);
    if draft.is_none() {
        app.table.put_draft(group, u32::try_from(jobs.len()).unwrap_or(u32::MAX), count(users)).await?;
    }
    queue.send(&jobs).await?;
    Ok(Made::Soon)
}

/// Tells the members that they are in a group, and the back end that it exists.
async fn tell(app: &App, group: NewGroup<'_>, users: &[UserId]) {
    let (group_id, name) = (group.id, Some(group.name));
    let joined =
        |user: &UserId| encode(&GroupChanged { group_id, event: GroupEvent::Joined, user_id: Some(user), name: None });
    let pushing = push::signal_to_each(app, users, joined);
    let created = GroupChanged { group_id, event: GroupEvent::Created, user_id: Some(group.manager), name };
    futures::join!(push::for_at_most(app, push::GROUP_MS, pushing), events::put_changed(app, &created));
}

fn count(users: &[UserId]) -> u32 {
    u32::try_from(users.len()).unwrap_or(u32::MAX)
}

/// Writes a part of the members. Users who have reached the limit of groups are left out, apart from the manager.
pub(crate) async fn write_part(app: &App, part: &Making) -> Result<()> {
    let Some(draft) = pending_draft(app, &part.group).await?.filter(|draft| draft.digest == part.digest) else {
        return Ok(());
    };
    if !draft.done.contains(&part.part) {
        let full = app.table.without_room(&part.users, &part.group, app.max_groups).await?;
        let has_place = |(_, user): &(u32, &UserId)| **user == draft.manager || !full.contains(*user);
        // A number stays that of the user, whoever is left out.
        let users: Vec<(u32, &UserId)> = (part.first..).zip(&part.users).filter(has_place).collect();
        let kept_until = Some(Table::draft_kept_until(part.posted));
        app.table.put_members(&part.group, &users, part.posted, kept_until).await?;
        let count = u32::try_from(users.len()).unwrap_or(u32::MAX);
        app.table.finish_part(&part.group, part.part, count).await?;
    }
    let complete = pending_draft(app, &part.group).await?.is_some_and(|draft| draft.is_complete());
    if let Some(queue) = app.queue.as_ref().filter(|_| complete) {
        queue.send_later(&[Job::Made { group: part.group.clone() }.encode()], SETTLE_SECONDS).await?;
    }
    Ok(())
}

/// Lets a group exist, if all its parts are written.
pub(crate) async fn finish(app: &App, group: &GroupId) -> Result<()> {
    let Some(draft) = pending_draft(app, group).await?.filter(Draft::is_complete) else { return Ok(()) };
    if app.table.finish_draft(group, &draft).await? {
        let (event, user_id, name) = (GroupEvent::Created, Some(&draft.manager), Some(draft.name.as_str()));
        events::put_changed(app, &GroupChanged { group_id: group, event, user_id, name }).await;
    }
    Ok(())
}

/// Returns a group that is being made, unless it was abandoned.
pub(crate) async fn pending_draft(app: &App, group: &GroupId) -> Result<Option<Draft>> {
    Ok(app.table.draft(group).await?.filter(|draft| !draft.is_abandoned))
}

/// Dissolves a group that is still being made, if there is such a group. Jobs delete its members, once no job can write more of
/// them.
pub(crate) async fn abandon(app: &App, group: &GroupId) -> Result<()> {
    let (Some(draft), Some(queue)) = (app.table.draft(group).await?, &app.queue) else { return Ok(()) };
    if app.table.abandon_draft(group).await? {
        let jobs = job::dissolution(group, &draft.manager, app.table.last_shard_of(&draft));
        queue.send_later(&jobs, SETTLE_SECONDS).await?;
    }
    Ok(())
}
