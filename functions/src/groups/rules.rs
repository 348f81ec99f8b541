//! Rules of the functions for groups: refusals, the name, and a group as its members see it.

use shared::clock::Ms;
use shared::id::{GroupId, UserId};
use shared::table::{Group, Roster};
use shared::{Error, Result};

use crate::App;
use crate::call::http::Input;
use crate::call::rest::Call;

/// The refusal of a caller who is not a member of the group, and of a group that does not exist.
pub(crate) fn not_a_member() -> Error {
    Error::Forbidden("you are not a member of this group".to_owned())
}

/// Returns a group as its members see it.
pub(crate) fn view(id: GroupId, roster: Roster) -> Group {
    let mut users_id: Vec<_> = roster.shards.into_iter().flatten().map(|member| member.user).collect();
    users_id.sort_unstable();
    Group { id, name: roster.meta.name, manager_id: roster.meta.manager, users_id }
}

/// Refuses a user who has reached the limit of groups. Calls at the same time do not see each other, so each of them
/// may add one more group.
pub(crate) async fn require_room(app: &App, user: &UserId) -> Result<()> {
    match app.table.is_in_groups(user, app.max_groups).await? {
        false => Ok(()),
        true => Err(Error::Forbidden(format!("you have reached the limit of groups: {}", app.max_groups))),
    }
}

/// Mutes a member until that time, or ends a mute, for the manager of the group.
pub(crate) async fn set_mute(app: &App, call: &Call, until: Option<Ms>) -> Result<()> {
    let group = call.input.path_id("groupId")?;
    let user: UserId = call.input.parameter_id("userId")?.ok_or_else(|| Error::field("userId", "is missing"))?;
    let meta = app.table.membership(&group, &call.user).await?.filter(|meta| meta.manager == call.user);
    meta.ok_or_else(|| Error::Forbidden("only the manager of a group may mute its members".to_owned()))?;
    match app.table.mute(&group, &call.user, &user, until).await? {
        true => Ok(()),
        false => Err(Error::Forbidden("this user is not a member of the group".to_owned())),
    }
}

/// Reads the parameter `name`, the name of a group.
pub(crate) fn name(input: &Input) -> Result<String> {
    checked_name(input.parameter("name")?)
}

/// Returns a name of a group, if it is given and valid.
pub(crate) fn checked_name(name: Option<String>) -> Result<String> {
    let name = name.ok_or_else(|| Error::field("name", "is missing"))?;
    shared::name::check(&name).map_err(|why| Error::field("name", why))?;
    Ok(name)
}
