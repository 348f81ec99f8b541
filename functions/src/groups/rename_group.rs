//! `PUT /api/group/{groupId}?name=…`: renames a group. 200: empty. 403: the caller is not its manager.

use futures::future::BoxFuture;
use shared::{Error, Result};

use super::rules::name;
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::rest("rename_group", "PUT", "/api/group/{groupId}", &["name"], handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let (group, name) = (call.input.path_id("groupId")?, name(&call.input)?);
        match app.table.rename_group(&group, &name, &call.user).await? {
            true => Ok(Reply::empty()),
            false => Err(Error::Forbidden("only the manager of a group may rename it".to_owned())),
        }
    })
}
