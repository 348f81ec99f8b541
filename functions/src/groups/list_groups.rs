//! `GET /api/group?detailed=true|false`: returns the caller's groups. 200: an array of `{id, name, managerId,
//! usersId}`, or of ids. 400: in detail, they do not fit into one answer.

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use shared::id::GroupId;
use shared::{Error, Result};

use super::rules::view;
use crate::App;
use crate::call::http::{Array, Reply};
use crate::call::rest::Call;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::rest("list_groups", "GET", "/api/group", &["detailed"], handle);

/// The highest number of groups that are read at once.
const MAX_IN_FLIGHT: usize = 8;

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let detailed = call.input.choice("detailed", &["true", "false"])? == "true";
        let joined = app.table.joined_groups(&call.user).await?.into_iter().map(|(group, _)| group).collect::<Vec<_>>();
        match detailed {
            true => in_detail(app, joined).await,
            false => Ok(Reply::json(&existing(app, joined).await?)),
        }
    })
}

async fn existing(app: &App, joined: Vec<GroupId>) -> Result<Vec<GroupId>> {
    let metas = app.table.existing_groups(&joined).await?;
    Ok(joined.into_iter().filter(|group| metas.contains_key(group)).collect())
}

/// Returns the groups with their members. They are measured as they are read, so that reading ends at the limit of an
/// answer.
async fn in_detail(app: &App, joined: Vec<GroupId>) -> Result<Reply> {
    let read = async |group: GroupId| Ok(app.table.roster(&group).await?.map(|roster| view(group, roster)));
    let mut reading = stream::iter(joined).map(read).buffered(MAX_IN_FLIGHT);
    let mut groups = Array::new();
    while let Some(group) = reading.try_next().await? {
        // A dissolved group is left out.
        if group.is_some_and(|group| !groups.push(&group)) {
            return Err(Error::field("detailed", "must be false: your groups have too many members for one answer"));
        }
    }
    Ok(groups.into_reply())
}
