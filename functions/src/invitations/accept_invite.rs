//! `PUT /api/request/{requestId}`: accepts an invitation. 200: empty, and the caller is a member. 403, and the
//! invitation is removed: the group is dissolved or full, or the inviter is no longer a member. 403, and nothing
//! changes: the invitation is not addressed to the caller, or the caller has reached the limit of groups.
//!
//! The membership is written, then stamped a few milliseconds ahead. The function returns as many milliseconds after
//! that time. So the new member gets every message sent after the answer, and none sent before the call, despite clock
//! skew.

use futures::future::BoxFuture;
use shared::frame::{GroupChanged, GroupEvent};
use shared::id::{InviteId, UserId};
use shared::rules::timing::STAMP_MS;
use shared::table::{Accepted, Invitation};
use shared::{Error, Result};

use super::rules::not_yours;
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::delivery::group_changes;
use crate::function::Function;
use crate::groups::rules::require_room;

/// The function.
pub static FUNCTION: Function =
    Function::rest("accept_invite", "PUT", "/api/request/{requestId}", &[], handle).pushing().announcing();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let id: InviteId = call.input.path_id("requestId")?;
        let invitation = app.table.invitation(&call.user, &id).await?.ok_or_else(not_yours)?;
        require_room(app, &call.user).await?;
        match app.table.join(&invitation, &call.user, app.max_group_members).await? {
            Accepted::Member { shard, members } => {
                begin(app, &invitation, &call.user, shard).await?;
                let (group_id, user) = (&invitation.group, &call.user);
                let changed = GroupChanged { group_id, event: GroupEvent::Joined, user_id: Some(user), name: None };
                group_changes::announce(app, &changed, members, &[user]).await;
            }
            Accepted::AlreadyMember => app.table.remove_invitation(&call.user, &id).await?,
            Accepted::NoInvitation => return Err(not_yours()),
            Accepted::NoPlace => {
                app.table.remove_invitation(&call.user, &id).await?;
                return Err(Error::Forbidden("the group is dissolved or full".to_owned()));
            }
            Accepted::InviterLeft => {
                return Err(Error::Forbidden("the inviter is not a member of the group any more".to_owned()));
            }
        }
        Ok(Reply::empty())
    })
}

/// Stamps the membership, and resolves when it has begun on every machine's clock.
async fn begin(app: &App, invitation: &Invitation, user: &UserId, shard: u32) -> Result<()> {
    let joined = app.clock.now_ms() + STAMP_MS;
    app.table.stamp_member(&invitation.group, shard, user, joined).await?;
    app.wait_past(joined).await;
    Ok(())
}
