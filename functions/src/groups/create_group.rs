//! `POST /api/group?name=…`: creates a group. 200: its id, a JSON string. The caller is its manager and first member.
//! 403: the caller has reached the limit of groups.

use futures::future::BoxFuture;
use shared::Result;
use shared::frame::{GroupChanged, GroupEvent};

use super::rules::{name, require_room};
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::delivery::events;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::rest("create_group", "POST", "/api/group", &["name"], handle).announcing();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let name = name(&call.input)?;
        require_room(app, &call.user).await?;
        let group = app.ids.group();
        app.table.create_group(&group, &name, &call.user).await?;
        let (event, user_id, name) = (GroupEvent::Created, Some(&call.user), Some(name.as_str()));
        events::put_changed(app, &GroupChanged { group_id: &group, event, user_id, name }).await;
        Ok(Reply::json(&group))
    })
}
