//! Tells the members of a group what has happened to it, by frames of version 2, and the back end, by events.

use std::collections::BTreeSet;

use shared::frame::{GroupChanged, encode};
use shared::id::{GroupId, UserId};
use shared::table::Roster;
use shared::{Error, Result};

use super::{events, push};
use crate::App;

/// The highest number of members of a group all of whom are told.
const MAX_MEMBERS: u32 = 100;

/// Returns the roster of a group whose members are all told, or nothing if the group is too large for that.
pub(crate) async fn audience(app: &App, group: &GroupId, members: u32) -> Result<Option<Roster>> {
    match members <= MAX_MEMBERS {
        true => app.table.roster(group).await,
        false => Ok(None),
    }
}

/// Tells the members in a roster, and the users concerned. The change stands whether they are told or not.
pub(crate) async fn tell(app: &App, changed: &GroupChanged<'_>, roster: Option<Roster>, concerned: &[&UserId]) {
    let members = roster.into_iter().flat_map(|roster| roster.shards).flatten().map(|member| member.user);
    let users: BTreeSet<UserId> = members.chain(concerned.iter().map(|user| (*user).clone())).collect();
    let users: Vec<UserId> = users.into_iter().collect();
    let (frame, no_blockers) = (encode(changed), BTreeSet::new());
    let pushing = push::signal_to_users(app, &users, &no_blockers, &frame);
    futures::join!(push::for_at_most(app, push::GROUP_MS, pushing), events::put_changed(app, changed));
}

/// Tells all members of a small group, or the users concerned of a large one.
pub(crate) async fn announce(app: &App, changed: &GroupChanged<'_>, members: u32, concerned: &[&UserId]) {
    let roster = audience(app, changed.group_id, members).await.unwrap_or_else(|error| {
        app.report(&error);
        None
    });
    tell(app, changed, roster, concerned).await;
}

/// The failure of a call whose group others keep changing.
pub(crate) fn others_keep_changing() -> Error {
    Error::unavailable("changing a group", "others keep changing it")
}
