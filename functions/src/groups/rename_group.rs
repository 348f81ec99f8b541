//! `PUT /api/group/{groupId}?name=…`: renames a group. With `managerId` instead, it hands the group to that member. 200: empty.
//! 400: not exactly one of the two. 403: the caller is not the manager, or the user is not a member.

use futures::future::BoxFuture;
use shared::frame::{GroupChanged, GroupEvent};
use shared::id::{GroupId, UserId};
use shared::{Error, Result};

use super::rules::{name, not_a_member};
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::delivery::group_changes;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function =
    Function::rest("rename_group", "PUT", "/api/group/{groupId}", &["name", "managerId"], handle)
        .pushing()
        .announcing();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let group = call.input.path_id("groupId")?;
        match (call.input.parameter("name")?, call.input.parameter_id("managerId")?) {
            (None, None) => return Err(Error::BadRequest("name or managerId is missing".to_owned())),
            (Some(_), None) => rename(app, &group, &name(&call.input)?, &call.user).await?,
            (None, Some(manager)) => hand_over(app, &group, &manager, &call.user).await?,
            (Some(_), Some(_)) => return Err(Error::field("managerId", "does not go with name")),
        }
        Ok(Reply::empty())
    })
}

async fn rename(app: &App, group: &GroupId, name: &str, caller: &UserId) -> Result<()> {
    let Some(members) = app.table.rename_group(group, name, Some(caller)).await? else {
        return Err(Error::Forbidden("only the manager of a group may rename it".to_owned()));
    };
    let changed = GroupChanged { group_id: group, event: GroupEvent::Renamed, user_id: None, name: Some(name) };
    group_changes::announce(app, &changed, members, &[caller]).await;
    Ok(())
}

async fn hand_over(app: &App, group: &GroupId, manager: &UserId, caller: &UserId) -> Result<()> {
    let found = app.table.memberships(group, &[caller, manager]).await?.filter(|(meta, _)| meta.manager == *caller);
    let not_the_manager = || Error::Forbidden("only the manager of a group may hand it over".to_owned());
    let (meta, joined) = found.ok_or_else(not_the_manager)?;
    let no_member = || Error::Forbidden("managerId must be a member of this group".to_owned());
    joined[1].ok_or_else(no_member)?;
    if manager == caller {
        return Ok(());
    }
    // The caller was the manager and the user a member a moment ago. If not any more, one of the two has just left.
    if !app.table.hand_over(group, caller, manager).await? {
        return Err(not_a_member());
    }
    let changed = GroupChanged { group_id: group, event: GroupEvent::Manager, user_id: Some(manager), name: None };
    group_changes::announce(app, &changed, meta.members, &[caller, manager]).await;
    Ok(())
}
