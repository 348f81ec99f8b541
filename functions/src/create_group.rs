//! `POST /api/group?name=…`: make a group. 200: its id, a JSON string; the caller is its manager and first member. 403:
//! he is in as many groups as one may be in.

use futures::future::BoxFuture;
use shared::id::UserId;
use shared::{Error, Result};

use crate::App;
use crate::function::Function;
use crate::rest::{Call, Input, Reply};

/// The function.
pub static FUNCTION: Function = Function::rest("create_group", "POST", handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let name = name(&call.input)?;
        require_room(app, &call.user).await?;
        let group = app.ids.group();
        app.table.create_group(&group, &name, &call.user).await?;
        Ok(Reply::json(&group))
    })
}

/// Refuse a user who is in as many groups as one may be in. Calls that are under way at once do not see each other, so
/// each of them may bring him one more.
pub(crate) async fn require_room(app: &App, user: &UserId) -> Result<()> {
    match app.table.is_in_groups(user, app.max_groups).await? {
        false => Ok(()),
        true => Err(Error::Forbidden(format!("you are in as many groups as one may be in: {}", app.max_groups))),
    }
}

/// The parameter `name` of a group.
pub(crate) fn name(input: &Input) -> Result<String> {
    input.misspelt(&["name"])?;
    let name = input.parameter("name")?.ok_or_else(|| Error::field("name", "is missing"))?;
    shared::name::check(&name).map_err(|why| Error::field("name", why))?;
    Ok(name)
}
