//! The WebSocket API: handshake, frames in, frames out, close.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CONTENT_TYPE, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::clock::{Clock, Ms, SystemClock};
use tokio::sync::{Semaphore, mpsc};
use tokio_tungstenite::tungstenite;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::answer::message;
use crate::connections::{Close, Connection, Connections, Outbound};
use crate::event::{Handshake, authorizer_context, socket_error};
use crate::gateway::{Gateway, INTEGRATION_TIMEOUT};
use crate::listener::Place;
use crate::template::Target;

/// The largest frame and the largest message that API Gateway accepts from a client.
const MAX_FRAME_BYTES: usize = 32 * 1024;
const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// The read buffer of a connection. It is small: there are many connections, and few are busy at the same time.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// How many bytes of one connection's messages are handled at the same time: 192 small messages, or six of the largest.
/// Each message counts as at least `MIN_COST`. Further messages wait in the socket. A function ends only at a tick of 40
/// ms, so this is about 4,500 messages a second.
const IN_FLIGHT_BYTES: usize = 192 * MIN_COST;
const MIN_COST: usize = 4 * 1024;

/// How long a client has to read its waiting frames before a close, and then again to answer the close.
const FAREWELL: Duration = Duration::from_secs(1);

/// `GET /{stage}`: a client opens a connection.
pub(crate) async fn open(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(place): Extension<Place>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) if is_complete(&headers) => upgrade,
        Ok(_) => return message(StatusCode::BAD_REQUEST, "Bad Request"),
        Err(WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(_)) => return other_version(),
        Err(rejection) => return rejection.into_response(),
    };
    if gateway.stopping.is_cancelled() {
        return message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    }
    let Ok(Ok(_turn)) = tokio::time::timeout(INTEGRATION_TIMEOUT, gateway.doorway.acquire()).await else {
        return message(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
    };
    let handshake = handshake(&gateway, peer, &uri, headers);
    // A separate task, so that functions run to their end even if the client is gone by then.
    let established = gateway.tasks.spawn(establish(gateway.clone(), handshake, place)).await;
    match established {
        Ok(Ok((session, protocol))) => session.upgrade(upgrade, protocol),
        Ok(Err(refusal)) => refusal,
        Err(_panic) => message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"),
    }
}

/// Returns whether the headers of a handshake that axum does not check are present and valid: RFC 6455, 4.2.1.
fn is_complete(headers: &HeaderMap) -> bool {
    let nonce = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| STANDARD.decode(key).ok());
    headers.contains_key(HOST) && nonce.is_some_and(|nonce| nonce.len() == 16)
}

/// Returns the answer to an unsupported version. It names the supported one: RFC 6455, 4.4.
fn other_version() -> Response {
    let mut response = message(StatusCode::UPGRADE_REQUIRED, "Upgrade Required");
    response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn handshake(gateway: &Gateway, peer: SocketAddr, uri: &Uri, headers: HeaderMap) -> Handshake {
    let text =
        |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default().to_owned();
    Handshake {
        stage: gateway.socket.stage.clone(),
        connection_id: Connections::new_id(),
        host: text(HOST),
        source_ip: peer.ip().to_string(),
        user_agent: text(USER_AGENT),
        query: uri.query().unwrap_or_default().to_owned(),
        connected_at: SystemClock.now_ms(),
        headers,
    }
}

/// Asks the authorizer, then runs `$connect`. The connection exists after that, not before.
async fn establish(
    gateway: Arc<Gateway>,
    handshake: Handshake,
    place: Place,
) -> Result<(Session, Option<HeaderValue>), Response> {
    let authorizer = authorize(&gateway, &handshake).await?;
    let protocol = connect(&gateway, &handshake, &authorizer).await?;
    let (connection, outbound) = Connection::new(handshake.source_ip.clone(), handshake.user_agent.clone());
    let connection = Arc::new(connection);
    gateway.connections.insert(&handshake.connection_id, connection.clone());
    // If the stack has closed all connections meanwhile, it did not see this one.
    if gateway.stopping.is_cancelled() {
        connection.close(Close::going_away());
    }
    let caller = Arc::new(Caller { handshake: handshake.without_request(), authorizer });
    let token = gateway.tasks.token();
    let session =
        Session { gateway, caller, connection, outbound: Some(outbound), end: None, _place: place, _token: token };
    Ok((session, protocol))
}

async fn authorize(gateway: &Gateway, handshake: &Handshake) -> Result<Value, Response> {
    let event = handshake.authorizer_event().to_string();
    let answer = match gateway.invoke(&gateway.socket.authorizer, event).await {
        Ok(answer) => serde_json::from_str::<Value>(&answer).unwrap_or_default(),
        Err(failure) if failure.error_message == "Unauthorized" => {
            return Err(message(StatusCode::UNAUTHORIZED, "Unauthorized"));
        }
        Err(_) => return Err(message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")),
    };
    match answer["policyDocument"]["Statement"][0]["Effect"].as_str() {
        Some("Allow") => Ok(authorizer_context(&answer)),
        _ => {
            let denied = "User is not authorized to access this resource with an explicit deny";
            let body = json!({ "Message": denied }).to_string();
            Err((StatusCode::FORBIDDEN, [(CONTENT_TYPE, "application/json")], body).into_response())
        }
    }
}

/// Runs `$connect` and returns the subprotocol that the function chose.
async fn connect(
    gateway: &Gateway,
    handshake: &Handshake,
    authorizer: &Value,
) -> Result<Option<HeaderValue>, Response> {
    let refuse = |status: StatusCode, text: &str| {
        let body = socket_error(text, &handshake.connection_id).to_string();
        (status, [(CONTENT_TYPE, "application/json")], body).into_response()
    };
    let Some(Target::Function(function)) = gateway.socket.routes.get("$connect") else { return Ok(None) };
    let result = gateway.invoke(function, handshake.connect_event(authorizer).to_string()).await;
    let Some(result) = result.ok().filter(|result| is_response(result)) else {
        return Err(refuse(StatusCode::BAD_GATEWAY, "Internal server error"));
    };
    let result: Value = serde_json::from_str(&result).unwrap_or_default();
    let status = result["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(502);
    if !(200..300).contains(&status) {
        return Err(refuse(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), "Forbidden"));
    }
    // Only where AWS documents it: no other map and no other spelling.
    let protocol = result["headers"]["Sec-WebSocket-Protocol"].as_str();
    Ok(protocol.and_then(|value| HeaderValue::try_from(value).ok()))
}

/// The client of a connection, as every event of the connection describes it.
#[derive(Debug)]
struct Caller {
    handshake: Handshake,
    authorizer: Value,
}

/// A connection from its `$connect` to its `$disconnect`. Dropping it runs `$disconnect`.
struct Session {
    gateway: Arc<Gateway>,
    caller: Arc<Caller>,
    connection: Arc<Connection>,
    outbound: Option<mpsc::UnboundedReceiver<Outbound>>,
    end: Option<(Close, Ms)>,
    _place: Place,
    _token: TaskTrackerToken,
}

impl Drop for Session {
    fn drop(&mut self) {
        let (gateway, caller) = (self.gateway.clone(), self.caller.clone());
        let (close, ended_at) = self.end.take().unwrap_or_else(|| (Close::abnormal(), SystemClock.now_ms()));
        gateway.connections.remove(&caller.handshake.connection_id);
        let tasks = gateway.tasks.clone();
        tasks.spawn(async move {
            let event = caller.handshake.disconnect_event(&caller.authorizer, &close, ended_at).to_string();
            let _turn = gateway.doorway.acquire().await;
            if let Some(Target::Function(function)) = gateway.socket.routes.get("$disconnect") {
                // Best effort, as in AWS.
                let _ = gateway.invoke(function, event).await;
            }
        });
    }
}

impl Session {
    fn upgrade(self, upgrade: WebSocketUpgrade, protocol: Option<HeaderValue>) -> Response {
        let mut upgrade = upgrade
            .max_frame_size(MAX_FRAME_BYTES)
            .max_message_size(MAX_MESSAGE_BYTES)
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0);
        if let Some(protocol) = protocol {
            upgrade.set_selected_protocol(protocol);
        }
        upgrade.on_upgrade(|socket| self.run(socket))
    }

    async fn run(mut self, socket: WebSocket) {
        let Some(mut outbound) = self.outbound.take() else { return };
        let (mut sink, mut stream) = socket.split();
        let ending = tokio::select! {
            ending = read(&self, &mut stream) => ending,
            ending = write(&mut sink, &mut outbound) => ending,
            ending = cut(&self.gateway, &self.connection) => ending,
        };
        // The connection ends now, not after the farewell.
        let ended_at = SystemClock.now_ms();
        self.gateway.connections.remove(&self.caller.handshake.connection_id);
        // Nothing is written after this. Pushes that wait, and new ones, get the answer that the connection is gone.
        drop(outbound);
        if ending.is_ours {
            farewell(&mut sink, &mut stream, &ending.close).await;
        } else {
            // Send the answer to the client's close, if it can be sent.
            let _ = tokio::time::timeout(FAREWELL, sink.close()).await;
        }
        self.end = Some((ending.close, ended_at));
    }
}

/// How a session ends.
struct Ending {
    close: Close,
    /// The gateway closes, so it must still send a close frame.
    is_ours: bool,
}

impl Ending {
    fn ours(close: Close) -> Self {
        Self { close, is_ours: true }
    }

    fn theirs(close: Close) -> Self {
        Self { close, is_ours: false }
    }
}

async fn farewell(sink: &mut SplitSink<WebSocket, Message>, stream: &mut SplitStream<WebSocket>, close: &Close) {
    let frame = CloseFrame { code: close.code, reason: close.reason.as_str().into() };
    let goodbye = async {
        if sink.send(Message::Close(Some(frame))).await.is_ok() {
            // Reads until the client closes, or the stream ends.
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    let _ = tokio::time::timeout(FAREWELL, goodbye).await;
}

/// Reads frames. A task of its own handles each frame, so several run at the same time.
async fn read(session: &Session, stream: &mut SplitStream<WebSocket>) -> Ending {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_BYTES));
    loop {
        let frame = match stream.next().await {
            Some(Ok(Message::Text(text))) => text,
            // As documented: API Gateway does not support binary frames.
            Some(Ok(Message::Binary(_))) => return Ending::ours(Close::new(1003, "Unsupported data")),
            // Control frames do not reset the idle timer.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(frame))) => {
                let close = frame.map(|frame| Close::new(frame.code, frame.reason.as_str()));
                return Ending::theirs(close.unwrap_or_else(Close::without_code));
            }
            Some(Err(error)) => return broken(error),
            None => return Ending::theirs(Close::abnormal()),
        };
        session.connection.touch();
        // Taken here, so that the times of frames are in the order sent. Their tasks may start in another order.
        let arrived = SystemClock.now_ms();
        let cost = u32::try_from(frame.len().clamp(MIN_COST, IN_FLIGHT_BYTES)).unwrap_or(u32::MAX);
        let permit = in_flight.clone().acquire_many_owned(cost).await;
        let Ok(permit) = permit else { return Ending::theirs(Close::abnormal()) };
        let (gateway, caller, connection) =
            (session.gateway.clone(), session.caller.clone(), session.connection.clone());
        session.gateway.tasks.spawn(async move {
            handle(&gateway, &caller, &connection, &frame, arrived).await;
            drop(permit);
        });
    }
}

/// Returns how a session ends after a failed read. A client that broke a rule gets a close frame with the reason.
fn broken(error: axum::Error) -> Ending {
    match error.into_inner().downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => Ending::ours(Close::new(1009, "Message too long")),
        Some(tungstenite::Error::Utf8(_)) => Ending::ours(Close::new(1007, "Invalid UTF-8")),
        Some(tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
            Ending::theirs(Close::abnormal())
        }
        Some(tungstenite::Error::Protocol(_)) => Ending::ours(Close::new(1002, "Protocol error")),
        _ => Ending::theirs(Close::abnormal()),
    }
}

async fn write(sink: &mut SplitSink<WebSocket, Message>, outbound: &mut mpsc::UnboundedReceiver<Outbound>) -> Ending {
    while let Some(next) = outbound.recv().await {
        match next {
            Outbound::Close(close) => return Ending::ours(close),
            Outbound::Frame(queued) => {
                if sink.send(Message::Text(queued.frame.clone())).await.is_err() {
                    return Ending::theirs(Close::abnormal());
                }
                queued.confirm();
            }
        }
    }
    Ending::theirs(Close::abnormal())
}

/// Resolves when the connection must end and its client has had time to read its waiting frames.
///
/// A client that reads has received the close frame by then, after the other frames. Other clients are cut off.
async fn cut(gateway: &Gateway, connection: &Connection) -> Ending {
    let close = tokio::select! {
        close = connection.closing() => close,
        () = expired(gateway, connection) => {
            connection.close(Close::going_away());
            Close::going_away()
        }
    };
    tokio::time::sleep(FAREWELL).await;
    Ending::ours(close)
}

/// Resolves when the connection has been idle or open for too long.
async fn expired(gateway: &Gateway, connection: &Connection) {
    let age = async {
        tokio::time::sleep(gateway.max_lifetime).await;
    };
    let idle = async {
        loop {
            let silent = Duration::from_millis(SystemClock.now_ms().saturating_sub(connection.last_active()));
            match gateway.idle_timeout.checked_sub(silent).filter(|left| !left.is_zero()) {
                Some(left) => tokio::time::sleep(left).await,
                None => return,
            }
        }
    };
    tokio::select! {
        () = age => {}
        () = idle => {}
    }
}

/// Runs the function of the route that a frame selects.
async fn handle(gateway: &Gateway, caller: &Caller, connection: &Connection, frame: &str, arrived: Ms) {
    let route = route(gateway, frame);
    let Some(Target::Function(function)) = gateway.socket.routes.get(route) else { return };
    let event = caller.handshake.message_event(route, &caller.authorizer, frame, arrived).to_string();
    if !gateway.invoke(function, event).await.is_ok_and(|answer| is_response(&answer)) {
        let error = socket_error("Internal server error", &caller.handshake.connection_id);
        connection.push(error.to_string().into()).await;
    }
}

/// Returns whether a function's answer is a response as API Gateway demands it. Any other answer is a failure of the
/// function, even if it has a status: <https://github.com/middyjs/middy/issues/1219>.
fn is_response(answer: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(answer) else { return false };
    let has_status = fields.get("statusCode").is_some_and(Value::is_u64);
    let texts = |value: &Value| value.as_object().is_some_and(|texts| texts.values().all(Value::is_string));
    has_status
        && fields.iter().all(|(name, value)| match name.as_str() {
            "statusCode" => true,
            "body" => value.is_null() || value.is_string(),
            "isBase64Encoded" => value.is_boolean(),
            "headers" => value.is_null() || texts(value),
            "multiValueHeaders" => value.is_null() || value.is_object(),
            _ => false,
        })
}

/// Returns the key of the route that `$request.body.type` selects.
fn route<'a>(gateway: &'a Gateway, frame: &str) -> &'a str {
    #[derive(Deserialize)]
    struct Selector {
        r#type: String,
    }
    let Ok(selector) = serde_json::from_str::<Selector>(frame) else { return "$default" };
    let routes = gateway.socket.routes.get_key_value(&selector.r#type);
    routes.map(|(key, _)| key.as_str()).filter(|key| !key.starts_with('$')).unwrap_or("$default")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_the_right_shape_is_a_response() {
        for answer in [
            r#"{"statusCode":200}"#,
            r#"{"statusCode":400,"headers":{"Sec-WebSocket-Protocol":"chat"},"body":null,"isBase64Encoded":false}"#,
            r#"{"statusCode":200,"multiValueHeaders":{"a":["b"]},"body":"x"}"#,
        ] {
            assert!(is_response(answer), "{answer}");
        }
        for answer in [
            "",
            "null",
            "\"done\"",
            "[]",
            "{}",
            r#"{"statusCode":"ok"}"#,
            r#"{"statusCode":200,"body":{}}"#,
            r#"{"statusCode":200,"headers":{"a":1}}"#,
            r#"{"statusCode":200,"isBase64Encoded":"no"}"#,
            r#"{"statusCode":200,"Data":"hello"}"#,
            r#"{"batchItemFailures":[]}"#,
        ] {
            assert!(!is_response(answer), "{answer}");
        }
    }
}
