//! `POST /api/group?name=…`: make a group. 200: its id, a JSON string; the caller is its manager and first member.

use futures::future::BoxFuture;
use shared::{Error, Result};

use crate::App;
use crate::function::Function;
use crate::rest::{Call, Input, Reply};

/// The function.
pub static FUNCTION: Function = Function::rest("create_group", "POST", handle);

/// The longest name of a group, in characters.
const MAX_NAME_CHARACTERS: usize = 100;

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let name = name(&call.input)?;
        let group = app.ids.group();
        app.table.create_group(&group, &name, &call.user).await?;
        Ok(Reply::json(&group))
    })
}

/// The parameter `name` of a group.
pub(crate) fn name(input: &Input) -> Result<String> {
    let name = input.parameter("name")?.ok_or_else(|| Error::field("name", "is missing"))?;
    let characters = name.chars().count();
    match (name.trim().is_empty(), characters <= MAX_NAME_CHARACTERS) {
        (true, _) => Err(Error::field("name", "is blank")),
        (_, false) => {
            Err(Error::field("name", format!("has {characters} characters; the limit is {MAX_NAME_CHARACTERS}")))
        }
        _ => Ok(name),
    }
}
