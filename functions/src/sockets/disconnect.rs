//! `$disconnect`: a connection is over. It covers the time until the gateway saw its end, and no longer.
//!
//! Whether its client closed it decides how much of what it took last comes again, see [`shared::rules::gaps::Taken`].

use futures::future::BoxFuture;
use shared::Result;
use shared::clock::Ms;
use shared::rules::timing::MAX_CONNECTION_MS;

use crate::App;
use crate::call::http::Reply;
use crate::call::socket::SocketEvent;
use crate::function::{Function, Needs};

/// The function.
pub static FUNCTION: Function = Function::socket("disconnect", &["$disconnect"], Needs::Table, handle);

fn handle<'a>(app: &'a App, event: &'a SocketEvent) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        // The gateway saw the end before it invoked this function, which may have waited.
        let ended = if event.arrived == 0 { app.clock.now_ms() } else { event.arrived };
        let age = ended.saturating_sub(event.connected_at);
        let clean = event.close.as_ref().is_some_and(|(code, reason)| is_clean(*code, reason, age));
        app.table.mark_ended(&event.user, &event.connection, ended, clean).await?;
        Ok(Reply::empty())
    })
}

/// Whether a connection ended by its client's will, or by the gateway's at the age that every connection ends at: nothing
/// of its network had died.
fn is_clean(code: i64, reason: &str, age: Ms) -> bool {
    match code {
        1000 | 1005 => true,
        // A browser that leaves a page gives no reason; the gateway does.
        1001 => reason.is_empty() || age >= MAX_CONNECTION_MS,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_of_the_client_is_told_from_a_network_that_died() {
        assert!(is_clean(1000, "", 5) && is_clean(1005, "", 5) && is_clean(1001, "", 5));
        assert!(is_clean(1001, "Going away", MAX_CONNECTION_MS), "the gateway ends every connection at that age");
        assert!(!is_clean(1001, "Going away", 600_000), "idle: its client may have been gone for long");
        assert!(!is_clean(1006, "", 5) && !is_clean(1009, "", 5));
    }
}
