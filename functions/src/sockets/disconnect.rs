//! `$disconnect`: a connection has ended. It covers the time until the gateway saw its end.
//!
//! If its client closed it, fewer of the last messages are delivered again: see [`shared::rules::gaps::Taken`].

use futures::future::BoxFuture;
use shared::Result;
use shared::clock::Ms;
use shared::rules::timing::MAX_CONNECTION_MS;

use crate::App;
use crate::call::http::Reply;
use crate::call::socket::SocketEvent;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::socket("disconnect", &["$disconnect"], handle);

fn handle<'a>(app: &'a App, event: &'a SocketEvent) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        event.require_no_frame()?;
        // The gateway saw the end before it invoked this function, and the invocation may have waited.
        let ended = if event.arrived == 0 { app.clock.now_ms() } else { event.arrived };
        let age = ended.saturating_sub(event.connected_at);
        let clean = event.close.as_ref().is_some_and(|(code, reason)| is_clean(*code, reason, age));
        app.table.mark_ended(&event.user, &event.connection, ended, clean).await?;
        Ok(Reply::empty())
    })
}

/// Returns whether the client closed the connection, or the gateway closed it at the greatest age of a connection. In
/// both cases the network was working until the end.
fn is_clean(code: i64, reason: &str, age: Ms) -> bool {
    match code {
        1000 | 1005 => true,
        // A browser that leaves a page sends no reason, and the gateway sends one.
        1001 => reason.is_empty() || age >= MAX_CONNECTION_MS,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_by_the_client_is_clean_and_a_dead_network_is_not() {
        assert!(is_clean(1000, "", 5) && is_clean(1005, "", 5) && is_clean(1001, "", 5));
        assert!(is_clean(1001, "Going away", MAX_CONNECTION_MS), "the gateway ends every connection at that age");
        assert!(!is_clean(1001, "Going away", 600_000), "idle: its client may have been gone for long");
        assert!(!is_clean(1006, "", 5) && !is_clean(1009, "", 5));
    }
}
