//! `POST /api/request`, body `{"groupId", "userId"}`: invite a user to a group. 200: empty. 403: the caller is not in
//! it, or the user already is.
//!
//! An invitation from someone whom the user blocks is answered the same way, by the same calls, and not stored. So is one
//! too many: an error would tell whoever sends that many himself which of them had arrived.

use futures::future::BoxFuture;
use shared::id::{GroupId, Id, InviteId, UserId};
use shared::json::Object;
use shared::table::Invitation;
use shared::{Error, Result};

use crate::App;
use crate::function::Function;
use crate::get_group::not_a_member;
use crate::rest::{Call, Reply, parse_id};

/// The function.
pub static FUNCTION: Function = Function::rest("invite", "POST", handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let (group, user) = body(call.input.body()?)?;
        let both = [&call.user, &user];
        let (found, blocked, waiting) = futures::try_join!(
            app.table.memberships(&group, &both),
            app.table.is_blocked_by(&call.user, &user),
            app.table.invitations(&user),
        )?;
        match found.as_ref().map(|(_, joined)| joined.as_slice()) {
            Some([Some(_), None]) => {}
            Some([Some(_), Some(_)]) => return Err(Error::Forbidden("this user is a member already".to_owned())),
            _ => return Err(not_a_member()),
        }
        let standing = waiting.iter().find(|invitation| invitation.id == InviteId::of(&group, &user));
        let has_place = standing.is_some() || has_room(&waiting, &call.user, app.max_invitations);
        if blocked || !has_place {
            app.table.invite_withheld(&group, &user, &call.user).await?;
        } else {
            let first = standing.map_or(&call.user, |invitation| &invitation.invited_by);
            app.table.invite(&group, &user, first).await?;
        }
        app.wait_for_tick().await;
        Ok(Reply::empty())
    })
}

/// Whether there is a place for one more among the invitations that wait for a user. One inviter takes a tenth of the
/// places at most, so that nobody takes them all.
fn has_room(waiting: &[Invitation], inviter: &UserId, places: usize) -> bool {
    let of_inviter = waiting.iter().filter(|invitation| invitation.invited_by == *inviter).count();
    waiting.len() < places && of_inviter < places.div_ceil(10)
}

fn body(text: &str) -> Result<(GroupId, UserId)> {
    let object = Object::parse(text).map_err(|why| Error::BadRequest(format!("the body {why}")))?;
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
