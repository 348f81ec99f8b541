//! `$disconnect`: a connection is over. It covers the time until now, and no longer.

use futures::future::BoxFuture;
use shared::Result;

use crate::App;
use crate::function::{Function, Handler, Needs};
use crate::rest::Reply;
use crate::socket::SocketEvent;

/// The function.
pub static FUNCTION: Function =
    Function { name: "disconnect", needs: Needs { tokens: false, pushes: false }, handler: Handler::Socket(handle) };

fn handle<'a>(app: &'a App, event: &'a SocketEvent) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        app.table.close(&event.user, &event.connection, app.clock.now_ms()).await?;
        Ok(Reply::empty())
    })
}
