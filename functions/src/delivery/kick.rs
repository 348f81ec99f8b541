//! Closes all connections of a user at once, those in the middle of their handshake too.
//!
//! The end of each connection is recorded first, so that none of them counts as having received anything from then on. A
//! handshake that is under way fails at its stamp. If it has passed its stamp, the gateway does not know the connection yet,
//! and answers *gone* to a close. So a job closes all of them once more, after half a minute.

use futures::{StreamExt, stream};
use shared::Result;
use shared::id::{ConnectionId, UserId};
use shared::rules::timing::MARGIN_MS;
use shared::table::State;

use super::job::{Closing, Job};
use super::push;
use crate::App;

/// How many connections are closed at the same time.
const MAX_IN_FLIGHT: usize = 32;

/// How many seconds later the connections are closed once more. The handshakes are over by then.
const AGAIN_SECONDS: i32 = (MARGIN_MS / 1_000) as i32;

/// Closes all connections of a user. With `farewell`, each gets this frame first.
pub(crate) async fn kick(app: &App, user: &UserId, farewell: Option<&str>) -> Result<()> {
    let state = app.table.state(user).await?;
    let connections = open(app, &state);
    if connections.is_empty() {
        return Ok(());
    }
    if let Some(queue) = &app.queue {
        let job = Closing { user: user.clone(), connections: connections.clone() };
        queue.send_later(&[Job::Closing(job).encode()], AGAIN_SECONDS).await?;
    }
    if let Some(frame) = farewell {
        let all: Vec<&ConnectionId> = connections.iter().collect();
        push::signal(app, &all, frame, push::Handling::Deliver).await;
    }
    close(app, user, &connections).await
}

/// Returns the connections that are open or about to be.
fn open(app: &App, state: &State) -> Vec<ConnectionId> {
    state.open(app.clock.now_ms()).map(|(connection, _)| connection.clone()).collect()
}

/// Records the end of connections, and closes them at the gateway.
pub(crate) async fn close(app: &App, user: &UserId, connections: &[ConnectionId]) -> Result<()> {
    app.table.mark_all_closed(user, connections, app.clock.now_ms()).await?;
    let pusher = app.pusher()?;
    let closing: Vec<_> = connections.iter().map(|connection| Box::pin(pusher.close(connection))).collect();
    let closed: Vec<Result<()>> = stream::iter(closing).buffer_unordered(MAX_IN_FLIGHT).collect().await;
    // One that cannot be closed does not keep the others open.
    closed.into_iter().collect()
}
