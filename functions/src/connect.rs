//! `$connect`: a connection opens. It is announced, then stamped.
//!
//! From the announcement on, senders push to it; it covers the time from its stamp on. The stamp lies a few
//! milliseconds ahead, and the function returns when they have passed: so every message sent after the client sees the
//! connection open is covered, and every message that is covered was pushed.

use futures::future::{BoxFuture, join_all};
use shared::coverage::STAMP_MS;
use shared::id::ConnectionId;
use shared::table::State;
use shared::{Error, Result};

use crate::access::SUBPROTOCOL;
use crate::function::{Function, Handler, Needs};
use crate::rest::Reply;
use crate::socket::SocketEvent;
use crate::{App, delivery};

/// The function.
pub static FUNCTION: Function =
    Function { name: "connect", needs: Needs { tokens: false, pushes: true }, handler: Handler::Socket(handle) };

fn handle<'a>(app: &'a App, event: &'a SocketEvent) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let state = app.table.announce(&event.user, &event.connection, app.clock.now_ms()).await?;
        let (stamped, tidied) = futures::join!(stamp(app, event), tidy(app, event, &state));
        stamped?;
        // What could not be tidied now is tidied when the next connection opens.
        tidied.unwrap_or_else(|error| app.report(&error));
        let reply = Reply::empty();
        Ok(if event.offers_subprotocol { reply.with_header("sec-websocket-protocol", SUBPROTOCOL) } else { reply })
    })
}

async fn stamp(app: &App, event: &SocketEvent) -> Result<()> {
    let from = app.clock.now_ms() + STAMP_MS;
    if !app.table.stamp(&event.user, &event.connection, from).await? {
        return Err(Error::Forbidden("this connection has ended already".to_owned()));
    }
    app.wait_until(from).await;
    Ok(())
}

/// Close the oldest connections beyond the limit, and forget what no longer says anything.
async fn tidy(app: &App, event: &SocketEvent, state: &State) -> Result<()> {
    let now = app.clock.now_ms();
    let surplus = surplus(state, &event.connection, now, app.max_connections);
    let closed = join_all(surplus.iter().map(|connection| delivery::close(app, &event.user, connection))).await;
    closed.into_iter().collect::<Result<()>>()?;
    app.table.forget(&event.user, &state.forgettable(now, app.table.oldest())).await
}

/// The oldest open connections that are too many, the new one being counted and kept.
fn surplus(state: &State, newest: &ConnectionId, now: u64, most: usize) -> Vec<ConnectionId> {
    let mut others: Vec<_> = state.open(now).filter(|(id, _)| *id != newest).collect();
    others.sort_unstable_by_key(|(id, connection)| (connection.announced, *id));
    let surplus = (others.len() + 1).saturating_sub(most);
    others.into_iter().take(surplus).map(|(id, _)| id.clone()).collect()
}
