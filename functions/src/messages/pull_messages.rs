//! `GET /api/message`: the messages that the caller missed.
//!
//! 200: an array, one element for each sender, `{"id": senderId, "messages": [...]}`. Headers: `X-Has-More`; where that is
//! `true`, `X-Next` is the `after` with which a pull without a drop goes on; without a drop, `X-Page` is the token by which
//! `DELETE /api/message` drops this page. 400: a parameter is wrong.

use futures::future::BoxFuture;
use shared::id::{PageToken, UserId};
use shared::metrics::Metric;
use shared::rules::page;
use shared::{Error, Result};

use super::missed::{self, Found};
use super::parameters::{MAX_ATTEMPTS, kinds, message_id};
use super::reader::{Budget, Request};
use crate::App;
use crate::call::http::{Input, Reply, fits};
use crate::call::rest::Call;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function =
    Function::rest("pull_messages", "GET", "/api/message", &["sort", "drop", "type", "after", "since"], handle);

struct Parameters {
    descending: bool,
    drop: bool,
    request: Request,
}

/// A page, and the text that answers with it.
struct Page {
    found: Found,
    text: String,
    /// What drops it later.
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

/// The text of a page. It is known to fit into an answer before anything is dropped.
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
    let (after, since) = (message_id(input, "after")?, message_id(input, "since")?);
    match (drop, after, since) {
        (true, Some(_), _) => return Err(Error::field("after", "goes with drop=false")),
        (true, _, Some(_)) => return Err(Error::field("since", "goes with drop=false")),
        (_, Some(_), Some(_)) => return Err(Error::field("since", "does not go with after")),
        _ => {}
    }
    let request = Request { kinds: kinds(input)?, after: after.or(since), all: since.is_some() };
    Ok(Parameters { descending, drop, request })
}

/// Returns a page that no later call returns. Where two pulls meet, one of them starts again.
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

/// Returns a page that stays, and remembers it for `DELETE /api/message`.
async fn show(app: &App, user: &UserId, parameters: &Parameters) -> Result<Page> {
    let request = &parameters.request;
    let found = missed::find(app, user, request, false, &Budget::default()).await?;
    let text = text(&found, parameters)?;
    if let Some(plan) = found.idle_plan(app, request) {
        // If another drop comes in between, the next pull does it.
        app.table.drop_missed(user, &plan).await?;
    }
    let is_droppable = !request.all && (!found.messages.is_empty() || found.has_more());
    let token = is_droppable.then(|| app.ids.page());
    if let Some(token) = &token {
        app.table.remember_page(user, token, &found.shown(request)).await?;
    }
    Ok(Page { found, text, token })
}
