//! `GET /api/group/{groupId}`: one group. 200: `{id, name, managerId, usersId}`. 403: the caller is not in it. 400: its
//! members' ids are longer together than an answer may be.

use futures::future::BoxFuture;
use shared::id::GroupId;
use shared::table::{Group, Roster};
use shared::{Error, Result};

use crate::App;
use crate::function::Function;
use crate::rest::{Call, Reply};

/// The function.
pub static FUNCTION: Function = Function::rest("get_group", "GET", handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let group = call.input.path_id("groupId")?;
        // The members of a group are read only for one of them.
        app.table.membership(&group, &call.user).await?.ok_or_else(not_a_member)?;
        let roster = app.table.roster(&group).await?.ok_or_else(not_a_member)?;
        Reply::json(&view(group, roster))
            .or_too_large(|| Error::field("groupId", "is of a group with too many members for one answer"))
    })
}

/// The refusal of someone who is not in a group, or in none that stands.
pub(crate) fn not_a_member() -> Error {
    Error::Forbidden("you are not a member of this group".to_owned())
}

/// A group as its members see it.
pub(crate) fn view(id: GroupId, roster: Roster) -> Group {
    let mut users_id: Vec<_> = roster.shards.into_iter().flatten().map(|member| member.user).collect();
    users_id.sort_unstable();
    Group { id, name: roster.meta.name, manager_id: roster.meta.manager, users_id }
}
