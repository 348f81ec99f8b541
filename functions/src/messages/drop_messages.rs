//! `DELETE /api/message?until=<id>&type=…`: drop what was missed up to and including a message.
//!
//! The second step of a pull that must survive the loss of its answer. If such a pull of the same type ended with
//! `until`, exactly what it showed is dropped: a message that reached its log in between stays missed, and so does what
//! only another place of the user was shown. 200: empty.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use shared::clock::Ms;
use shared::coverage::MARGIN_MS;
use shared::id::{MessageId, UserId};
use shared::metrics::Metric;
use shared::page::Dropped;
use shared::table::{Kind, Missed, Offered, State};
use shared::{Error, Result};

use super::missed::{self, Budget, Request};
use super::parameters::{MAX_ATTEMPTS, kinds, message_id};
use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::function::Function;

/// How many pages are read to see what is dropped, where that is not known.
const MAX_PAGES: usize = 16;

/// The function.
pub static FUNCTION: Function = Function::rest("drop_messages", "DELETE", "/api/message", handle);

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        call.input.misspelt(&["until", "type"])?;
        let kinds = kinds(&call.input)?;
        let until = message_id(&call.input, "until")?.ok_or_else(|| Error::field("until", "is missing"))?;
        for attempt in 0..MAX_ATTEMPTS {
            if drop_until(app, &call.user, &kinds, until).await? {
                app.metrics.count(Metric::Dropped);
                return Ok(Reply::empty());
            }
            app.table.pause(attempt).await;
        }
        Err(Error::unavailable("dropping messages", "too many pulls at once"))
    })
}

/// Whether it was dropped; not if another drop came in between.
async fn drop_until(app: &App, user: &UserId, kinds: &[Kind], until: MessageId) -> Result<bool> {
    let ((state, _), shown) =
        futures::try_join!(missed::state_and_view(app, user, kinds), app.table.offered(user, kinds, until))?;
    let complete = app.clock.now_ms().saturating_sub(MARGIN_MS);
    let floor = floor(until, shown.as_ref().map_or(complete, |shown| shown.floor));
    let names = names(&state, kinds, until, shown.as_ref());
    let beyond = match shown {
        Some(shown) => shown.ids,
        None => missed_between(app, user, kinds, floor, until).await?,
    };
    let dropped = kinds.iter().map(|kind| (*kind, advanced(state.dropped(*kind), floor, &beyond))).collect();
    match missed::plan(app, &state, dropped, names, true) {
        Some(plan) => app.table.drop_missed(user, &plan).await,
        None => Ok(true),
    }
}

/// Up to when all is dropped: before `until`, whose millisecond others may share, and not past what is complete.
fn floor(until: MessageId, complete: Ms) -> Ms {
    until.time_ms().saturating_sub(1).min(complete)
}

fn advanced(dropped: &Dropped, floor: Ms, beyond: &BTreeSet<MessageId>) -> Dropped {
    // The margin is in the floor already.
    dropped.advanced(floor.saturating_add(MARGIN_MS), None, beyond.iter().copied())
}

/// The messages that are missed now, later than `floor`, and not behind `until`.
async fn missed_between(
    app: &App,
    user: &UserId,
    kinds: &[Kind],
    floor: Ms,
    until: MessageId,
) -> Result<BTreeSet<MessageId>> {
    let (mut ids, budget) = (BTreeSet::new(), Budget::default());
    let mut request =
        Request { kinds: kinds.to_vec(), after: Some(MessageId::last_at(floor)), until: Some(until), all: false };
    for _ in 0..MAX_PAGES {
        let found = missed::find(app, user, &request, false, &budget).await?;
        ids.extend(found.messages.iter().map(|message| message.id));
        if found.next.is_none() {
            return Ok(ids);
        }
        request.after = found.next;
    }
    Err(Error::unavailable("dropping messages", "too much lies between what is dropped"))
}

/// The names that are dropped with it: of what was shown, if that is known.
fn names(state: &State, kinds: &[Kind], until: MessageId, shown: Option<&Offered>) -> Vec<Missed> {
    let is_dropped = |missed: &&Missed| {
        kinds.contains(&missed.kind())
            && missed.id <= until
            && shown.is_none_or(|shown| shown.names.contains(&missed.id))
    };
    state.missed.iter().filter(is_dropped).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_of_the_same_millisecond_stays() {
        let until = MessageId::first_at(100_000);
        let floor = floor(until, 500_000);
        let dropped = advanced(&Dropped::default(), floor, &[until].into());
        assert!(dropped.contains(until));
        assert!(dropped.contains(MessageId::last_at(99_999)));
        assert!(!dropped.contains(MessageId::last_at(100_000)));
    }

    #[test]
    fn what_was_not_shown_stays() {
        let (seen, unseen, until) = (MessageId::first_at(90), MessageId::first_at(95), MessageId::first_at(99));
        let dropped = advanced(&Dropped::default(), floor(until, 80), &[seen, until].into());
        assert!(dropped.contains(seen) && dropped.contains(until) && !dropped.contains(unseen));
    }
}
