//! Makes a group with all its members, for the back end: at once, or by jobs if it is large.

use shared::frame::{GroupChanged, GroupEvent, encode};
use shared::id::{GroupId, UserId};
use shared::table::Draft;
use shared::{Error, Result};

use super::group_changes::others_keep_changing;
use super::job::{self, Job, Making};
use super::{events, push};
use crate::App;

/// A group with more members than this is made by jobs, and no member is told of it.
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
pub(crate) async fn make(app: &App, group: &GroupId, mut wanted: Draft, users: &[UserId]) -> Result<Made> {
    let posted = app.clock.now_ms();
    let queue = app.queue.as_ref();
    let jobs = job::making(group, &wanted.digest, posted, users);
    wanted.parts = count(&jobs);
    wanted.is_in_call = queue.is_none() || users.len() <= AT_ONCE;
    let mut known = find(app, group, &wanted).await?;
    if known.is_none() {
        if wanted.is_in_call {
            require_room(app, group, users).await?;
        }
        if !app.table.put_draft(group, &wanted).await? {
            // Another call with the same requestId was faster.
            known = Some(find(app, group, &wanted).await?.ok_or_else(others_keep_changing)?);
        }
    }
    let is_new = known.is_none();
    match (known, queue) {
        (Some(Known::Group), _) => Ok(Made::Now),
        (_, Some(queue)) if !(is_new && wanted.is_in_call) => {
            // The call that began may be writing still, or it failed before it queued the jobs. Once jobs make the group, that
            // call cannot finish it, and they finish it after that call has ended. Parts that are done are not done again.
            if !is_new && !app.table.leave_draft_to_jobs(group).await? {
                return outcome(app, group, &wanted).await;
            }
            queue.send(&jobs).await?;
            Ok(Made::Soon)
        }
        _ => {
            let numbered: Vec<(u32, &UserId)> = (0..).zip(users).collect();
            app.table.put_members(group, &wanted, &numbered, posted).await?;
            wanted.members = count(users);
            if !app.table.finish_draft(group, &wanted).await? {
                return outcome(app, group, &wanted).await;
            }
            app.wait_past(posted).await;
            tell(app, group, &wanted, users).await;
            Ok(Made::Now)
        }
    }
}

/// What is known of a group that is asked for.
enum Known {
    /// It exists.
    Group,
    /// It is being made.
    Draft,
}

/// Returns what is known of a group.
///
/// # Errors
/// Another group was asked for with that id; or it was dissolved while it was being made.
async fn find(app: &App, group: &GroupId, wanted: &Draft) -> Result<Option<Known>> {
    let ids = [group.clone()];
    // The draft first: it is gone once the group exists.
    let draft = app.table.draft(group).await?;
    let existing = app.table.existing_groups(&ids).await?;
    let known = existing.get(group).map(|meta| meta.digest.as_deref());
    if let Some(digest) = known.or(draft.as_ref().map(|draft| Some(draft.digest.as_str())))
        && digest != Some(&wanted.digest)
    {
        return Err(Error::RequestIdReused("another group"));
    }
    if !existing.is_empty() {
        return Ok(Some(Known::Group));
    }
    match draft {
        Some(draft) if draft.is_abandoned => {
            Err(Error::Conflict("the group of this requestId was dissolved while it was being made".to_owned()))
        }
        draft => Ok(draft.map(|_| Known::Draft)),
    }
}

/// Returns when a group exists that another call has just made, or left to jobs.
async fn outcome(app: &App, group: &GroupId, wanted: &Draft) -> Result<Made> {
    match find(app, group, wanted).await?.ok_or_else(others_keep_changing)? {
        Known::Group => Ok(Made::Now),
        Known::Draft => Ok(Made::Soon),
    }
}

/// # Errors
/// [`Error::Conflict`], which names users who have reached the limit of groups.
async fn require_room(app: &App, group: &GroupId, users: &[UserId]) -> Result<()> {
    let full = app.table.without_room(users, group, app.max_groups).await?;
    if full.is_empty() {
        return Ok(());
    }
    let named: Vec<&str> = full.iter().map(UserId::as_str).take(MAX_NAMED).collect();
    let more = full.len().checked_sub(MAX_NAMED).filter(|more| *more > 0);
    let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
    let why = format!("these users have reached the limit of groups, {}: {}{more}", app.max_groups, named.join(", "));
    Err(Error::Conflict(why))
}

/// Tells the members that they are in a group, and the back end that it exists.
async fn tell(app: &App, group_id: &GroupId, group: &Draft, users: &[UserId]) {
    let name = Some(group.name.as_str());
    let joined =
        |user: &UserId| encode(&GroupChanged { group_id, event: GroupEvent::Joined, user_id: Some(user), name: None });
    let pushing = push::signal_to_each(app, users, joined);
    let created = GroupChanged { group_id, event: GroupEvent::Created, user_id: Some(&group.manager), name };
    futures::join!(push::for_at_most(app, push::GROUP_MS, pushing), events::put_changed(app, &created));
}

fn count<T>(all: &[T]) -> u32 {
    u32::try_from(all.len()).unwrap_or(u32::MAX)
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
        app.table.put_members(&part.group, &draft, &users, part.posted).await?;
        app.table.finish_part(&part.group, part.part, count(&users)).await?;
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
    if !app.table.finish_draft(group, &draft).await? {
        return Ok(());
    }
    if draft.asked as usize <= AT_ONCE {
        let shards = app.table.roster(group).await?.map(|roster| roster.shards).unwrap_or_default();
        let users: Vec<UserId> = shards.into_iter().flatten().map(|member| member.user).collect();
        tell(app, group, &draft, &users).await;
    } else {
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
