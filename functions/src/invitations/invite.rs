//! `POST /api/request`, body `{"groupId", "userId"}`: invites a user to a group. 200: empty. 403: the caller is not a
//! member, or the user is one already.
//!
//! If the user blocks the caller, the invitation is not stored, but makes the same calls and gets the same answer. The
//! same holds for an invitation beyond the limit: an error would show an inviter which of their own invitations had
//! arrived.
//!
//! If an invitation to the same group waits already, the caller becomes its inviter. The caller is a member, and the
//! first inviter may have left.

use futures::future::BoxFuture;
use shared::frame::{Invited, encode};
use shared::id::{GroupId, Id, InviteId, UserId};
use shared::json::Object;
use shared::table::Invitation;
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, Reply, parse_id};
use crate::call::rest::Call;
use crate::delivery::push::{self, Handling};
use crate::function::Function;
use crate::groups::rules::not_a_member;

/// The function.
pub static FUNCTION: Function = Function::rest("invite", "POST", "/api/request", &[], handle).pushing();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let (group, user) = body(&call.input)?;
        let both = [&call.user, &user];
        let (found, blocks, waiting, state) = futures::try_join!(
            app.table.memberships(&group, &both),
            app.table.blocks(&user),
            app.table.invitations(&user),
            app.table.state(&user),
        )?;
        let meta = match found.as_ref().map(|(meta, joined)| (meta, joined.as_slice())) {
            Some((meta, [Some(_), None])) => meta,
            Some((_, [Some(_), Some(_)])) => {
                return Err(Error::Forbidden("this user is a member already".to_owned()));
            }
            _ => return Err(not_a_member()),
        };
        // Invitations that are not listed take no place, because the user cannot answer them.
        let is_blocked = |inviter: &UserId| blocks.get(inviter).is_some_and(|block| block.since.is_some());
        let listed: Vec<&Invitation> = waiting.iter().filter(|one| !is_blocked(&one.invited_by)).collect();
        let is_withheld = is_blocked(&call.user) || !has_room(&listed, &group, &user, &call.user, app.max_invitations);
        let handling = if is_withheld { Handling::Withhold } else { Handling::Deliver };
        match handling {
            Handling::Withhold => app.table.invite_decoy(&group, &user, &call.user).await?,
            Handling::Deliver => app.table.invite(&group, &user, &call.user).await?,
        }
        let frame = encode(&Invited {
            id: &InviteId::of(&group, &user),
            group_name: &meta.name,
            group_id: &group,
            user_id: &user,
            invited_by: &call.user,
        });
        let connections: Vec<_> = state.open_of_version_2(app.clock.now_ms()).collect();
        // A repeat tells nothing new.
        let is_repeat = waiting.iter().any(|one| one.group == group && one.invited_by == call.user);
        let pushing = push::signal(app, &connections, &frame, if is_repeat { Handling::Withhold } else { handling });
        push::before_answer(app, !connections.is_empty(), pushing).await;
        Ok(Reply::empty())
    })
}

/// Returns whether there is a place for an invitation among those that wait for a user. An invitation of the same
/// inviter keeps its place. An inviter has at most a tenth of the places, so none can fill them or take over those of
/// others.
fn has_room(waiting: &[&Invitation], group: &GroupId, user: &UserId, inviter: &UserId, places: usize) -> bool {
    let present = waiting.iter().find(|invitation| invitation.id == InviteId::of(group, user));
    let of_inviter = waiting.iter().filter(|invitation| invitation.invited_by == *inviter).count();
    match present {
        Some(present) if present.invited_by == *inviter => true,
        Some(_) => of_inviter < places.div_ceil(10),
        None => waiting.len() < places && of_inviter < places.div_ceil(10),
    }
}

fn body(input: &Input) -> Result<(GroupId, UserId)> {
    let object = input.object()?;
    Ok((field(&object, "groupId")?, field(&object, "userId")?))
}

/// Reads a field of a body that is an id.
fn field<Kind>(object: &Object<'_>, name: &str) -> Result<Id<Kind>> {
    match object.text(name) {
        None => Err(Error::field(name, "is missing")),
        Some(None) => Err(Error::field(name, "must be a string")),
        Some(Some(text)) => parse_id(name, &text),
    }
}
