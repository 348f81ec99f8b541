//! `GET /api/request`: the invitations addressed to the caller. 200: an array of `{id, groupName, groupId, userId,
//! invitedBy}`, with the names that the groups have now. Those to groups that are dissolved are removed: they would take
//! up places that nobody could clear.

use futures::future::BoxFuture;
use serde::Serialize;
use shared::Result;
use shared::id::{GroupId, InviteId, UserId};
use shared::table::Invitation;

use crate::App;
use crate::function::Function;
use crate::rest::{Call, Reply};

/// The function.
pub static FUNCTION: Function = Function::rest("list_invites", "GET", handle);

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
        let (invitations, joined) =
            futures::try_join!(app.table.invitations(&call.user), app.table.joined_groups(&call.user))?;
        let groups: Vec<GroupId> = invitations.iter().map(|invitation| invitation.group.clone()).collect();
        let standing = app.table.standing_groups(&groups).await?;
        let is_dissolved = |invitation: &&Invitation| !standing.contains_key(&invitation.group);
        let dissolved: Vec<InviteId> = invitations.iter().filter(is_dissolved).map(|one| one.id.clone()).collect();
        let removed = app.table.remove_invitations(&call.user, &dissolved).await;
        removed.unwrap_or_else(|error| app.report(&error));
        // An invitation that was on its way while another was accepted says nothing any more.
        let is_pending = |group: &GroupId| !joined.iter().any(|(member_of, _)| member_of == group);
        let pending = invitations.into_iter().filter(|invitation| is_pending(&invitation.group));
        let views = pending.filter_map(|invitation| {
            let group_name = &standing.get(&invitation.group)?.name;
            let (id, group_id, invited_by) = (invitation.id, invitation.group, invitation.invited_by);
            Some(View { id, group_name, group_id, user_id: &call.user, invited_by })
        });
        Ok(Reply::json(&views.collect::<Vec<_>>()))
    })
}
