//! The events of the WebSocket API: the user, the connection and the frame.

use futures::future::BoxFuture;
use lambda_http::aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequestContext;
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt, Response};
use serde_json::Value;
use shared::clock::Ms;
use shared::id::{ConnectionId, UserId};
use shared::{Error, Result};

use super::http::Reply;
use super::token;
use crate::App;

/// A handler of an event of the WebSocket API.
pub(crate) type Handler = for<'a> fn(&'a App, &'a SocketEvent) -> BoxFuture<'a, Result<Reply>>;

/// One event of one connection.
#[derive(Debug)]
pub(crate) struct SocketEvent {
    /// The user of the connection, as the authorizer determined when it was opened.
    pub(crate) user: UserId,
    /// The end of the validity of the connection's token.
    pub(crate) expires_at: Ms,
    /// The connection.
    pub(crate) connection: ConnectionId,
    /// When the event reached the gateway.
    pub(crate) arrived: Ms,
    /// Whether the event is a frame, not the beginning or the end of the connection.
    pub(crate) is_frame: bool,
    /// The frame, if it is text.
    pub(crate) frame: Option<String>,
    /// The subprotocol of ours that the client offered.
    pub(crate) subprotocol: Option<&'static str>,
    /// The version of the protocol that the client asked for. The authorizer said so when it was opened.
    pub(crate) version: u8,
    /// When the connection was opened.
    pub(crate) connected_at: Ms,
    /// The WebSocket status code and the reason of its end, if it has ended.
    pub(crate) close: Option<(i64, String)>,
}

impl SocketEvent {
    /// Refuses a frame. A client may send one whose type is the key of a route of the gateway itself, such as `$disconnect`.
    pub(crate) fn require_no_frame(&self) -> Result<()> {
        match self.is_frame {
            false => Ok(()),
            true => Err(Error::BadRequest("type must not be that of an event of the gateway".to_owned())),
        }
    }

    fn decode(request: Request) -> Result<Self> {
        let Some(RequestContext::WebSocket(context)) = request.request_context_ref() else {
            return Err(malformed("it is no WebSocket event"));
        };
        let user = authorized(context, "userId").and_then(|id| UserId::parse(&id).ok());
        let expires_at = authorized(context, "exp").and_then(|exp| exp.parse::<u64>().ok());
        let close =
            context.disconnect_status_code.map(|code| (code, context.disconnect_reason.clone().unwrap_or_default()));
        let subprotocol = token::subprotocol(&token::subprotocols(request.headers())).map(|(name, _)| name);
        let version = authorized(context, "version").and_then(|version| version.parse().ok()).unwrap_or(1);
        Ok(Self {
            user: user.ok_or_else(|| malformed("the authorizer's userId is missing"))?,
            expires_at: expires_at.ok_or_else(|| malformed("the authorizer's exp is missing"))?.saturating_mul(1000),
            connection: context
                .connection_id
                .clone()
                .map(ConnectionId::new)
                .ok_or_else(|| malformed("no connectionId"))?,
            arrived: u64::try_from(context.request_time_epoch).unwrap_or(0),
            connected_at: u64::try_from(context.connected_at).unwrap_or(0),
            is_frame: context.event_type.as_deref() == Some("MESSAGE"),
            close,
            subprotocol,
            version,
            frame: match request.into_body() {
                Body::Text(text) => Some(text),
                _ => None,
            },
        })
    }
}

/// Returns a value of the authorizer's context. API Gateway makes each value a string.
fn authorized(context: &ApiGatewayWebsocketProxyRequestContext, name: &str) -> Option<String> {
    match context.authorizer.fields.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn malformed(why: &'static str) -> Error {
    Error::unavailable("reading a WebSocket event", why)
}

/// Answers a WebSocket event. The client sees the status only while its connection is being opened.
pub(crate) async fn answer(app: &App, handler: Handler, request: Request) -> Response<Body> {
    let outcome = match SocketEvent::decode(request) {
        Ok(event) => handler(app, &event).await,
        Err(error) => Err(error),
    };
    let reply = outcome.unwrap_or_else(|error| {
        app.report(&error);
        Reply::status(error.problem().status)
    });
    reply.into_response()
}
