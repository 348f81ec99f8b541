//! `$connect`: a connection opens. It is announced, then stamped.
//!
//! From the announcement on, senders push to it. From its stamp on, it covers the time. The stamp lies a few
//! milliseconds ahead, and the function returns when they have passed. So every message sent after the client sees the
//! connection open is covered, and every covered message was pushed.

use futures::future::{BoxFuture, join_all};
use shared::frame::{ErrorCode, ErrorFrame, encode};
use shared::id::ConnectionId;
use shared::rules::forget::Forgettable;
use shared::rules::timing::STAMP_MS;
use shared::table::{Announced, State};
use shared::{Error, Result};

use crate::App;
use crate::call::http::Reply;
use crate::call::socket::SocketEvent;
use crate::delivery::{gate, push};
use crate::function::Function;

/// How many times the limit of connections a user may have open for a moment, while the oldest are being closed.
const BURST: usize = 2;

/// The highest number of connections that one handshake closes. Handshakes at the same time close the same connections.
const MAX_EVICTED: usize = 4;

/// The function.
pub static FUNCTION: Function = Function::socket("connect", &["$connect"], handle).pushing();

fn handle<'a>(app: &'a App, event: &'a SocketEvent) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        event.require_no_frame()?;
        let state = announce(app, event).await?;
        let (stamped, tidied) = futures::join!(stamp(app, event), tidy(app, event, &state));
        stamped?;
        // The next handshake of the user tries again what fails here.
        tidied.unwrap_or_else(|error| app.report(&error));
        let reply = Reply::empty();
        Ok(match event.subprotocol {
            Some(name) => reply.with_header("sec-websocket-protocol", name),
            None => reply,
        })
    })
}

/// Announces the connection, and returns the state that includes it. If the state has no room, connections that no
/// longer matter are forgotten first.
async fn announce(app: &App, event: &SocketEvent) -> Result<State> {
    let now = app.clock.now_ms();
    let mut announced = app.table.announce(&event.user, &event.connection, event.version, now).await?;
    if let Announced::Refused(state) = &announced {
        gate::require_no_ban(app, state)?;
        forget(app, event, state).await?;
        announced = app.table.announce(&event.user, &event.connection, event.version, now).await?;
    }
    match announced {
        Announced::Yes(state) if state.open(now).count() <= BURST * app.max_connections => return Ok(state),
        Announced::Yes(_) => {
            let refused = Forgettable { silent: vec![event.connection.clone()], ..Forgettable::default() };
            app.table.forget(&event.user, &refused).await?;
        }
        Announced::Refused(_) => {}
    }
    Err(Error::TooMany("you open too many connections at once".to_owned()))
}

async fn stamp(app: &App, event: &SocketEvent) -> Result<()> {
    let from = app.clock.now_ms() + STAMP_MS;
    if !app.table.stamp(&event.user, &event.connection, from).await? {
        return Err(Error::Forbidden("this connection has ended already, or the user is banned".to_owned()));
    }
    app.wait_until(from).await;
    Ok(())
}

/// Closes the oldest connections beyond the limit, and forgets connections that no longer matter.
async fn tidy(app: &App, event: &SocketEvent, state: &State) -> Result<()> {
    let surplus = surplus(state, &event.connection, app.clock.now_ms(), app.max_connections);
    let closed = join_all(surplus.iter().map(|connection| evict(app, event, connection))).await;
    closed.into_iter().collect::<Result<()>>()?;
    forget(app, event, state).await
}

/// Closes a connection. Before that it tells the client the reason, so that the client does not connect again by
/// itself.
async fn evict(app: &App, event: &SocketEvent, connection: &ConnectionId) -> Result<()> {
    let message = format!("you have more than {} connections; this was the oldest", app.max_connections);
    let frame = ErrorFrame::new(ErrorCode::TooManyConnections, &message, None);
    push::tell(app, connection, &encode(&frame)).await?;
    push::close(app, &event.user, connection).await
}

async fn forget(app: &App, event: &SocketEvent, state: &State) -> Result<()> {
    app.table.forget(&event.user, &state.forgettable(app.clock.now_ms(), app.table.oldest())).await
}

/// Returns the oldest open connections beyond the limit. The new connection counts, and is never among them.
fn surplus(state: &State, newest: &ConnectionId, now: u64, most: usize) -> Vec<ConnectionId> {
    let mut others: Vec<_> = state.open(now).filter(|(id, _)| *id != newest).collect();
    others.sort_unstable_by_key(|(id, connection)| (connection.announced, *id));
    let surplus = (others.len() + 1).saturating_sub(most);
    others.into_iter().take(surplus.min(MAX_EVICTED)).map(|(id, _)| id.clone()).collect()
}
