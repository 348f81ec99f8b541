//! `GET /api/message`: the messages that the caller missed.
//!
//! 200: an array, one element per sender, `{"id": senderId, "messages": [...]}`, and the header `X-Has-More`; where that is
//! `true`, `X-Next` is the `after` with which a pull without a drop goes on.

use futures::future::BoxFuture;
use shared::id::UserId;
use shared::json::escaped_bytes;
use shared::metrics::Metric;
use shared::page;
use shared::{Error, Result};

use super::missed::{self, Budget, Found};
use super::parameters::{MAX_ATTEMPTS, kinds, message_id};
use crate::App;
use crate::call::http::{Input, MAX_ANSWER_BYTES, Reply};
use crate::call::rest::Call;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::rest("pull_messages", "GET", "/api/message", handle);

struct Parameters {
    descending: bool,
    drop: bool,
    request: missed::Request,
}

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let parameters = parameters(&call.input)?;
        let (found, text) = match parameters.drop {
            true => take(app, &call.user, &parameters).await?,
            false => show(app, &call.user, &parameters).await?,
        };
        app.metrics.add(Metric::Pulled, found.messages.len());
        let reply = Reply::encoded(text).with_header("x-has-more", if found.more { "true" } else { "false" });
        Ok(match found.next {
            Some(next) => reply.with_header("x-next", next.to_string()),
            None => reply,
        })
    })
}

/// The page as it is answered, which is known to fit into an answer: nothing is dropped before.
fn text(found: &Found, parameters: &Parameters) -> Result<String> {
    let text = page::text(&found.messages, parameters.descending);
    match escaped_bytes(&text) {
        0..=MAX_ANSWER_BYTES => Ok(text),
        bytes => Err(Error::unavailable("answering a pull", format!("its page has {bytes} bytes"))),
    }
}

fn parameters(input: &Input) -> Result<Parameters> {
    // A typing mistake must not drop what was to stay.
    input.misspelt(&["sort", "drop", "type", "after", "since"])?;
    let descending = input.choice("sort", &["asc", "desc"])? == "desc";
    let drop = input.choice("drop", &["true", "false"])? == "true";
    let (after, since) = (message_id(input, "after")?, message_id(input, "since")?);
    match (drop, after, since) {
        (true, Some(_), _) => return Err(Error::field("after", "goes with drop=false")),
        (true, _, Some(_)) => return Err(Error::field("since", "goes with drop=false")),
        (_, Some(_), Some(_)) => return Err(Error::field("since", "does not go with after")),
        _ => {}
    }
    let request = missed::Request { kinds: kinds(input)?, after: after.or(since), until: None, all: since.is_some() };
    Ok(Parameters { descending, drop, request })
}

/// A page that no later call returns. Where two pulls meet, one of them starts again.
async fn take(app: &App, user: &UserId, parameters: &Parameters) -> Result<(Found, String)> {
    let (request, budget) = (&parameters.request, Budget::default());
    for attempt in 0..MAX_ATTEMPTS {
        let found = missed::find(app, user, request, true, &budget).await?;
        let text = text(&found, parameters)?;
        let dropped = match found.drop_plan(app, &request.kinds) {
            Some(plan) => app.table.drop_missed(user, &plan).await?,
            None => true,
        };
        if dropped {
            if !found.messages.is_empty() {
                app.metrics.count(Metric::Dropped);
            }
            return Ok((found, text));
        }
        app.table.pause(attempt).await;
    }
    Err(Error::unavailable("dropping messages", "too many pulls at once"))
}

/// A page that stays, and is remembered as shown, for `DELETE /api/message`.
async fn show(app: &App, user: &UserId, parameters: &Parameters) -> Result<(Found, String)> {
    let request = &parameters.request;
    let found = missed::find(app, user, request, false, &Budget::default()).await?;
    let text = text(&found, parameters)?;
    if let Some(plan) = found.idle_plan(app, request) {
        // If another drop comes in between, the next pull does it.
        app.table.drop_missed(user, &plan).await?;
    }
    if let Some(last) = found.messages.last().map(|message| message.id) {
        app.table.offer(user, &request.kinds, request.after, last, |floor| found.offered(last, floor)).await?;
    }
    Ok((found, text))
}
