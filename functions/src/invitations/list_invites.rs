//! `GET /api/request`: returns the invitations addressed to the caller. 200: an array of `{id, groupName, groupId,
//! userId, invitedBy}`, with the present names of the groups.
//!
//! Invitations to dissolved groups are removed, because they would take up places for good. Invitations of an inviter
//! whom the caller blocks are left out during the block: the name of a group could contain a message.

use futures::future::BoxFuture;
use serde::Serialize;
use shared::Result;
use shared::id::{GroupId, InviteId, UserId};
use shared::table::Invitation;

use crate::App;
use crate::call::http::{Array, Reply};
use crate::call::rest::Call;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::rest("list_invites", "GET", "/api/request", &[], handle);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    id: InviteId,
    group_name: &'a str,
    group_id: GroupId,
    user_id: &'a UserId,
    invited_by: UserId,
}

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let (invitations, view) = futures::try_join!(app.table.invitations(&call.user), app.table.view(&call.user))?;
        let groups: Vec<GroupId> = invitations.iter().map(|invitation| invitation.group.clone()).collect();
        let existing = app.table.existing_groups(&groups).await?;
        let is_dissolved = |invitation: &&Invitation| !existing.contains_key(&invitation.group);
        let dissolved: Vec<InviteId> = invitations.iter().filter(is_dissolved).map(|one| one.id.clone()).collect();
        let removed = app.table.remove_invitations(&call.user, &dissolved).await;
        removed.unwrap_or_else(|error| app.report(&error));
        // An invitation that was sent while another was being accepted is no longer of use.
        let is_pending = |group: &GroupId| !view.groups.contains_key(group);
        let is_blocked = |inviter: &UserId| view.blocks.get(inviter).is_some_and(|block| block.since.is_some());
        let is_listed = |one: &Invitation| is_pending(&one.group) && !is_blocked(&one.invited_by);
        let pending = invitations.into_iter().filter(is_listed);
        let views = pending.filter_map(|invitation| {
            let group_name = &existing.get(&invitation.group)?.name;
            let (id, group_id, invited_by) = (invitation.id, invitation.group, invitation.invited_by);
            Some(View { id, group_name, group_id, user_id: &call.user, invited_by })
        });
        // The rest is listed when some of these have been answered.
        let mut list = Array::new();
        for view in views {
            if !list.push(&view) {
                break;
            }
        }
        Ok(list.into_reply())
    })
}
