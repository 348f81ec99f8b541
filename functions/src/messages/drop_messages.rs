//! `DELETE /api/message?page=<token>`: drops the messages of pages that `GET /api/message?drop=false` has shown.
//!
//! This is the second step of a pull whose answer may be lost. `page` may be given up to 20 times. Exactly the messages
//! of these pages are dropped: a message that reached its log in between stays missed. 200: empty. 400: `page` is
//! missing, or given too often. 403: a token is wrong, has expired, or belongs to another user. 409: earlier pages must
//! be dropped first. After any of these errors nothing is dropped.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use shared::id::{PageToken, UserId};
use shared::metrics::Metric;
use shared::table::{Held, MessageKind};
use shared::{Error, Result};

use super::missed;
use super::parameters::MAX_ATTEMPTS;
use crate::App;
use crate::call::http::{Input, Reply};
use crate::call::rest::Call;
use crate::delivery::gate::require_no_ban;
use crate::function::Function;

/// The highest number of pages that one call drops.
const MAX_PAGES: usize = 20;

/// The function.
pub static FUNCTION: Function = Function::rest("drop_messages", "DELETE", "/api/message", &["page"], handle).gated();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let tokens = tokens(&call.input)?;
        for attempt in 0..MAX_ATTEMPTS {
            if drop_pages(app, &call.user, &tokens).await? {
                app.metrics.count(Metric::Dropped);
                return Ok(Reply::empty());
            }
            app.table.pause(attempt).await;
        }
        Err(Error::unavailable("dropping messages", "too many pulls at once"))
    })
}

fn tokens(input: &Input) -> Result<BTreeSet<PageToken>> {
    let given = input.parameter_values("page");
    match given.len() {
        0 => Err(Error::field("page", "is missing")),
        1..=MAX_PAGES => given.iter().map(|token| PageToken::parse(token).map_err(|_| no_such_page())).collect(),
        _ => Err(Error::field("page", format!("may be given {MAX_PAGES} times"))),
    }
}

fn no_such_page() -> Error {
    Error::Forbidden("page must be the X-Page of your own pull of the last hour".to_owned())
}

/// Drops pages. Returns false if another drop came in between.
async fn drop_pages(app: &App, user: &UserId, tokens: &BTreeSet<PageToken>) -> Result<bool> {
    let (pages, state) = futures::try_join!(app.table.shown_pages(user, tokens), app.table.state_with_tails(user))?;
    require_no_ban(app, &state)?;
    let pages = pages.ok_or_else(no_such_page)?;
    let dropped = MessageKind::ALL.map(|kind| (kind, state.with_pages(kind, &pages)));
    let is_shown = |name: &&_| pages.iter().any(|page| page.names.contains(*name));
    let names = state.names().filter(is_shown).cloned().collect();
    let hidden: Vec<Held> = pages.iter().flat_map(|page| page.held.iter().cloned()).collect();
    let changes = dropped.iter().any(|(kind, dropped)| dropped != state.dropped(*kind));
    let Some(plan) = missed::plan(app, &state, dropped.to_vec(), names, &hidden, changes) else {
        return Ok(true);
    };
    if !plan.fits() {
        return Err(Error::Conflict("drop the pages before this one first, or wait half a minute".to_owned()));
    }
    app.table.drop_missed(user, &plan).await
}
