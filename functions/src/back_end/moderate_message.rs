//! `DELETE /message/{id}?receiverId=` or `?groupId=`, and `from=`, or a direct invocation with these fields: the back end
//! recalls a message of the user `from`, at any age. 200: empty; recalling again too. 400: a parameter is wrong. 404: there is
//! no such message of this sender.

use futures::future::BoxFuture;
use shared::frame::Address;
use shared::id::{MessageId, UserId};
use shared::json::Object;
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, MAX_BODY_BYTES, Reply};
use crate::call::internal::{Endpoint, optional_id, required_id, required_text};
use crate::delivery::recall::{self, By};
use crate::function::{Function, Route};

/// The function.
pub static FUNCTION: Function = Function::internal(
    "moderate_message",
    &[Route { method: "DELETE", path: "/message/{id}" }],
    Endpoint {
        parameters: &["receiverId", "groupId", "from"],
        http,
        direct,
        max_body_bytes: MAX_BODY_BYTES,
        refusal: |error| error,
    },
)
.pushing()
.queueing();

fn http<'a>(app: &'a App, input: &'a Input) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let from = input.parameter_id("from")?.ok_or_else(|| Error::field("from", "is missing"))?;
        recall(app, &from, &input.address("receiverId")?, input.path_message_id("id")?).await?;
        Ok(Reply::empty())
    })
}

fn direct<'a>(app: &'a App, payload: Object<'a>) -> BoxFuture<'a, Result<Option<String>>> {
    Box::pin(async move {
        let id = MessageId::parse(&required_text(&payload, "id")?).map_err(|why| Error::field("id", why))?;
        let to = match (optional_id(&payload, "receiverId")?, optional_id(&payload, "groupId")?) {
            (Some(user), None) => Address::User(user),
            (None, Some(group)) => Address::Group(group),
            (None, None) => return Err(Error::field("receiverId", "or groupId is missing")),
            (Some(_), Some(_)) => return Err(Error::field("groupId", "does not go with receiverId")),
        };
        recall(app, &required_id(&payload, "from")?, &to, id).await?;
        Ok(None)
    })
}

async fn recall(app: &App, from: &UserId, to: &Address, id: MessageId) -> Result<()> {
    recall::recall(app, By::BackEnd { sender: from }, to, id).await
}
