//! `POST /api/request`, body `{"groupId", "userId"}`: invite a user to a group. 200: empty. 403: the caller is not in
//! it, or the user already is.
//!
//! An invitation from someone whom the user blocks is answered the same way, by the same calls, and not stored. So is one
//! too many: an error would tell inviters who send that many themselves which of them had arrived.
//!
//! Inviting again makes the caller the inviter of the present invitation: the caller is a member, and the first inviter may
//! have left.

use futures::future::BoxFuture;
use shared::id::{GroupId, Id, InviteId, UserId};
use shared::json::Object;
use shared::table::Invitation;
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, Reply, parse_id};
use crate::call::rest::Call;
use crate::function::Function;
use crate::groups::rules::not_a_member;

/// The function.
pub static FUNCTION: Function = Function::rest("invite", "POST", "/api/request", &[], handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let (group, user) = body(&call.input)?;
        let both = [&call.user, &user];
        let (found, blocks, waiting) = futures::try_join!(
            app.table.memberships(&group, &both),
            app.table.blocks(&user),
            app.table.invitations(&user),
        )?;
        match found.as_ref().map(|(_, joined)| joined.as_slice()) {
            Some([Some(_), None]) => {}
            Some([Some(_), Some(_)]) => return Err(Error::Forbidden("this user is a member already".to_owned())),
            _ => return Err(not_a_member()),
        }
        // Those that are not listed take no place: the user cannot clear it.
        let is_blocked = |inviter: &UserId| blocks.get(inviter).is_some_and(|block| block.since.is_some());
        let listed: Vec<&Invitation> = waiting.iter().filter(|one| !is_blocked(&one.invited_by)).collect();
        match is_blocked(&call.user) || !has_room(&listed, &group, &user, &call.user, app.max_invitations) {
            true => app.table.invite_decoy(&group, &user, &call.user).await?,
            false => app.table.invite(&group, &user, &call.user).await?,
        }
        app.wait_for_tick().await;
        Ok(Reply::empty())
    })
}

/// Whether there is a place for an inviter's invitation among those that wait for a user. One that waits already keeps its
/// place. One inviter takes a tenth of the places at most, so that nobody takes them all, nor takes over those of others.
fn has_room(waiting: &[&Invitation], group: &GroupId, user: &UserId, inviter: &UserId, places: usize) -> bool {
    let standing = waiting.iter().find(|invitation| invitation.id == InviteId::of(group, user));
    let of_inviter = waiting.iter().filter(|invitation| invitation.invited_by == *inviter).count();
    match standing {
        Some(standing) if standing.invited_by == *inviter => true,
        Some(_) => of_inviter < places.div_ceil(10),
        None => waiting.len() < places && of_inviter < places.div_ceil(10),
    }
}

fn body(input: &Input) -> Result<(GroupId, UserId)> {
    let object = input.object()?;
    Ok((field(&object, "groupId")?, field(&object, "userId")?))
}

/// A field of a body that is an id.
fn field<Kind>(object: &Object<'_>, name: &str) -> Result<Id<Kind>> {
    match object.text(name) {
        None => Err(Error::field(name, "is missing")),
        Some(None) => Err(Error::field(name, "must be a string")),
        Some(Some(text)) => parse_id(name, &text),
    }
}
