//! Answers to a frame of a WebSocket, over its own connection.

use shared::Result;
use shared::frame::{ErrorCode, ErrorFrame, encode};
use shared::id::RequestId;

use super::push;
use crate::App;
use crate::call::http::Reply;
use crate::call::socket::SocketEvent;

/// Answers a frame with an error.
pub(crate) async fn refuse(
    app: &App,
    event: &SocketEvent,
    code: ErrorCode,
    message: &str,
    request_id: Option<&RequestId>,
) -> Result<()> {
    let frame = encode(&ErrorFrame { code, message, request_id, until: None });
    app.pusher()?.post(&event.connection, &frame).await;
    Ok(())
}

/// Returns whether the token of the connection has expired.
pub(crate) fn has_expired(app: &App, event: &SocketEvent) -> bool {
    app.clock.now_ms() >= event.expires_at
}

/// Says that the token has expired, and closes the connection.
pub(crate) async fn end_expired(app: &App, event: &SocketEvent, request_id: Option<&RequestId>) -> Result<Reply> {
    refuse(app, event, ErrorCode::TokenExpired, "the token of this connection has expired", request_id).await?;
    push::close(app, &event.user, &event.connection).await?;
    Ok(Reply::empty())
}
