//! `DELETE /api/group/{groupId}`: leave a group, or with `userId` take a member out of it. 200: empty.
//!
//! The manager leaving, or naming himself, dissolves the group: everyone is out. 403: the caller is not in it, or with
//! `userId` not its manager.

use futures::future::BoxFuture;
use shared::id::{GroupId, UserId};
use shared::{Error, Result};

use crate::App;
use crate::function::Function;
use crate::get_group::not_a_member;
use crate::rest::{Call, Reply};

/// The function.
pub static FUNCTION: Function = Function::rest("leave_group", "DELETE", handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let group = call.input.path_id("groupId")?;
        match call.input.parameter_id("userId")? {
            None => leave(app, &group, &call.user).await?,
            Some(user) => remove(app, &group, &user, &call.user).await?,
        }
        Ok(Reply::empty())
    })
}

async fn leave(app: &App, group: &GroupId, caller: &UserId) -> Result<()> {
    let meta = app.table.membership(group, caller).await?.ok_or_else(not_a_member)?;
    if meta.manager == *caller {
        return dissolve(app, group, caller).await;
    }
    // If he is out already, by himself or by another, that is what he asked for.
    app.table.remove_member(group, caller, None).await.map(|_| ())
}

async fn remove(app: &App, group: &GroupId, user: &UserId, caller: &UserId) -> Result<()> {
    let not_the_manager = || Error::Forbidden("only the manager of a group may remove its members".to_owned());
    let meta = app.table.membership(group, caller).await?.filter(|meta| meta.manager == *caller);
    meta.ok_or_else(not_the_manager)?;
    if user == caller {
        return dissolve(app, group, caller).await;
    }
    // Whether he was a member or not, now he is none.
    app.table.remove_member(group, user, Some(caller)).await.map(|_| ())
}

/// Dissolve a group: over with the first write, tidy with the last. Nobody but its manager can have done it before.
async fn dissolve(app: &App, group: &GroupId, manager: &UserId) -> Result<()> {
    app.table.dissolve(group, manager).await?;
    app.table.clear_members(group).await
}
