//! The gate of everything that a user sends: messages, recalls, read marks and signals. A banned user may send nothing,
//! and a user who has sent too much must wait.
//!
//! Both marks are in STATE, which these calls read anyway. A random part of the calls is counted, at the same time. Whether a
//! call is withheld has no effect.

use shared::clock::Ms;
use shared::id::UserId;
use shared::metrics::Metric;
use shared::rules::rate::{end_of_minute, minute_of, weight};
use shared::table::State;
use shared::{Error, Result};

use crate::App;

/// The end of the minute, if this call was counted and exceeded the limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted(Option<Ms>);

/// Runs a read, and counts the call beside it.
pub(crate) async fn counted<T>(
    app: &App,
    user: &UserId,
    reading: impl Future<Output = Result<T>>,
) -> Result<(T, Counted)> {
    // Boxed, so that the few calls that are counted do not enlarge all others.
    let counting = async {
        match is_counted(app) {
            true => Box::pin(count(app, user)).await,
            false => Counted(None),
        }
    };
    let (read, counted) = futures::join!(reading, counting);
    Ok((read?, counted))
}

fn is_counted(app: &App) -> bool {
    app.messages_per_minute > 0 && app.ids.below(weight(app.messages_per_minute).into()) == 0
}

/// Counts a call. A failure is logged and stops no call.
async fn count(app: &App, user: &UserId) -> Counted {
    let (now, limit) = (app.clock.now_ms(), app.messages_per_minute);
    let counting = async {
        if app.table.count_sent(user, minute_of(now), weight(limit)).await? <= limit.into() {
            return Ok(None);
        }
        app.table.limit_until(user, end_of_minute(now)).await?;
        Ok(Some(end_of_minute(now)))
    };
    Counted(counting.await.unwrap_or_else(|error| {
        app.report(&error);
        None
    }))
}

/// Refuses a banned user, and one who has sent too much.
pub(crate) fn admit(app: &App, user: &UserId, state: &State, Counted(by_count): Counted) -> Result<()> {
    require_no_ban(app, state)?;
    let now = app.clock.now_ms();
    match state.limited_until.max(by_count) {
        Some(until) if until > now => {
            app.remember_limit(user, until);
            Err(refusal(app, until - now))
        }
        _ => Ok(()),
    }
}

fn refusal(app: &App, retry_after_ms: Ms) -> Error {
    app.metrics.count(Metric::RateLimited);
    Error::RateLimited { retry_after_ms }
}

/// Refuses a message of a user who has sent too much, if this process remembers it. So a flood costs no reads. A user
/// who is banned in the same minute may be told this instead, over a connection that the gateway has not closed yet.
pub(crate) fn require_no_remembered_limit(app: &App, user: &UserId) -> Result<()> {
    let now = app.clock.now_ms();
    match app.remembered_limit(user).and_then(|until| until.checked_sub(now)) {
        Some(left) if left > 0 => Err(refusal(app, left)),
        _ => Ok(()),
    }
}

/// Refuses a banned user.
pub(crate) fn require_no_ban(app: &App, state: &State) -> Result<()> {
    match state.ban(app.clock.now_ms()) {
        Some(until) => Err(Error::Banned { until }),
        None => Ok(()),
    }
}
