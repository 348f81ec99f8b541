//! `GET /api/message`: returns the messages that the caller missed.
//!
//! 200: an array with one element for each sender, `{"id": senderId, "messages": [...]}`. The header `X-Has-More` says
//! whether there are more messages. If it is `true`, `X-Next` is the `after` of the next pull with `drop=false`. With
//! `drop=false`, `X-Page` is the token by which `DELETE /api/message` drops this page. `X-Page` is left out with
//! `since`, and for an empty page with no more behind it. With `since` and `version=2`, recalls are returned too. 400: a parameter is wrong.

use futures::future::BoxFuture;
use shared::id::{PageToken, UserId};
use shared::metrics::Metric;
use shared::rules::page;
use shared::{Error, Result};

use super::missed::{self, Found};
use super::parameters::{MAX_ATTEMPTS, kinds};
use super::reader::{Budget, Request};
use crate::App;
use crate::call::http::{Input, Reply, fits};
use crate::call::rest::Call;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::rest(
    "pull_messages",
    "GET",
    "/api/message",
    &["sort", "drop", "type", "after", "since", "version"],
    handle,
)
.gated();

struct Parameters {
    descending: bool,
    drop: bool,
    request: Request,
}

/// A page, and the text of its answer.
struct Page {
    found: Found,
    text: String,
    /// The token by which the page is dropped later.
    token: Option<PageToken>,
}

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let parameters = parameters(&call.input)?;
        let page = match parameters.drop {
            true => take(app, &call.user, &parameters).await?,
            false => show(app, &call.user, &parameters).await?,
        };
        app.metrics.add(Metric::Pulled, page.found.messages.len());
        let mut reply =
            Reply::encoded(page.text).with_header("x-has-more", if page.found.has_more() { "true" } else { "false" });
        if let Some(next) = page.found.next {
            reply = reply.with_header("x-next", next.to_string());
        }
        if let Some(token) = page.token {
            reply = reply.with_header("x-page", token.to_string());
        }
        Ok(reply)
    })
}

/// Encodes a page, and checks that it fits into an answer. This happens before anything is dropped.
fn text(found: &Found, parameters: &Parameters) -> Result<String> {
    let text = page::text(&found.messages, parameters.descending);
    match fits(&text) {
        true => Ok(text),
        false => Err(Error::unavailable("answering a pull", "its page is larger than an answer")),
    }
}

fn parameters(input: &Input) -> Result<Parameters> {
    let descending = input.choice("sort", &["asc", "desc"])? == "desc";
    let drop = input.choice("drop", &["true", "false"])? == "true";
    let (after, since) = (input.message_id("after")?, input.message_id("since")?);
    match (drop, after, since) {
        (true, Some(_), _) => return Err(Error::field("after", "goes with drop=false")),
        (true, _, Some(_)) => return Err(Error::field("since", "goes with drop=false")),
        (_, Some(_), Some(_)) => return Err(Error::field("since", "does not go with after")),
        _ => {}
    }
    // Any other version is version 1, as for the WebSocket.
    let recalls = input.parameter("version")?.as_deref() == Some("2");
    let request = Request { kinds: kinds(input)?, after: after.or(since), all: since.is_some(), recalls };
    Ok(Parameters { descending, drop, request })
}

/// Drops a page and returns it. No later call returns its messages. If two pulls drop at the same time, one starts
/// again.
async fn take(app: &App, user: &UserId, parameters: &Parameters) -> Result<Page> {
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
            return Ok(Page { found, text, token: None });
        }
        app.table.pause(attempt).await;
    }
    Err(Error::unavailable("dropping messages", "too many pulls at once"))
}

/// Returns a page and does not drop it. Remembers the page for `DELETE /api/message`.
async fn show(app: &App, user: &UserId, parameters: &Parameters) -> Result<Page> {
    let request = &parameters.request;
    let found = missed::find(app, user, request, false, &Budget::default()).await?;
    let text = text(&found, parameters)?;
    if let Some(plan) = found.idle_plan(app, request) {
        // If another drop comes in between, nothing is written, and the next pull tries again.
        app.table.drop_missed(user, &plan).await?;
    }
    let is_droppable = !request.all && (!found.messages.is_empty() || found.has_more());
    let token = match is_droppable {
        true => Some(app.table.remember_page(user, &found.shown(request)).await?),
        false => None,
    };
    Ok(Page { found, text, token })
}
