//! An open socket of a user, such as a phone, a laptop or a tab.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as Part;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::document::SOCKET;
use super::{Frame, User, within};

/// The type of the notification that a test sends to itself. What came before it came before that moment.
const SENTINEL: &str = "suite.sentinel";

/// An open socket. It dereferences to its user.
#[derive(Debug)]
pub(crate) struct Device {
    user: User,
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    protocol: Option<String>,
    /// The version of the protocol that was asked for.
    version: u8,
    /// The frames that were sent with a request id, by that id.
    sent: HashMap<String, Value>,
    /// The frames that came while the test waited for another.
    inbox: VecDeque<Frame>,
}

/// The contents of an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The message id.
    pub(crate) id: String,
    /// When the message reached the server.
    pub(crate) timestamp: u64,
}

/// The close code of a socket, if there was one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed(pub(crate) Option<u16>);

impl Deref for Device {
    type Target = User;

    fn deref(&self) -> &User {
        &self.user
    }
}

impl Device {
    /// Wraps a socket after its handshake.
    pub(crate) fn new(
        user: User,
        stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
        protocol: Option<String>,
        version: u8,
    ) -> Self {
        Self { user, stream, protocol, version, sent: HashMap::new(), inbox: VecDeque::new() }
    }

    /// The subprotocol that the server chose.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Sends a private message and waits for its acknowledgement.
    pub(crate) async fn send(&mut self, to: &User, content: impl Into<Value>) -> Accepted {
        let request_id = new_request_id();
        self.send_text(&unicast(to.id(), Some(&request_id), &content.into().to_string())).await;
        self.expect_ack(&request_id).await
    }

    /// Sends a private message and waits for its acknowledgement. Returns nothing if the server is gone.
    pub(crate) async fn try_send(&mut self, to: &User, content: impl Into<Value>) -> Option<Accepted> {
        let request_id = new_request_id();
        let text = unicast(to.id(), Some(&request_id), &content.into().to_string());
        self.stream.send(Message::text(text)).await.ok()?;
        let frame = self.receive("an ACK or the end").await.ok()?;
        assert!(frame.says("requestId", &request_id), "{frame:?}");
        Some(accepted(&frame))
    }

    /// Sends a group message and waits for its acknowledgement.
    pub(crate) async fn send_group(&mut self, group: &str, content: impl Into<Value>) -> Accepted {
        let request_id = new_request_id();
        self.send_text(&multicast(group, Some(&request_id), &content.into().to_string())).await;
        self.expect_ack(&request_id).await
    }

    /// Sends a text frame.
    pub(crate) async fn send_text(&mut self, text: &str) {
        if let Ok(frame) = serde_json::from_str::<Frame>(text) {
            let frame = frame.as_json();
            let request_id = frame["requestId"].as_str().map(str::to_owned);
            request_id.and_then(|request_id| self.sent.insert(request_id, frame));
        }
        self.put(Message::text(text)).await;
    }

    /// Sends one message in several frames.
    pub(crate) async fn send_fragments(&mut self, fragments: &[&str]) {
        for (index, fragment) in fragments.iter().enumerate() {
            let kind = if index == 0 { Data::Text } else { Data::Continue };
            let last = index + 1 == fragments.len();
            let part = Part::message((*fragment).to_owned(), OpCode::Data(kind), last);
            self.put(Message::Frame(part)).await;
        }
    }

    async fn put(&mut self, message: Message) {
        within("room for a frame", self.stream.send(message)).await.expect("an open socket takes a frame");
    }

    /// The next frame of any kind.
    pub(crate) async fn next(&mut self, expected: &str) -> Frame {
        match self.inbox.pop_front() {
            Some(frame) => frame,
            None => self.arrival(expected).await,
        }
    }

    /// The next frame, or nothing if the socket ends first.
    pub(crate) async fn next_or_end(&mut self) -> Option<Frame> {
        match self.inbox.pop_front() {
            Some(frame) => Some(frame),
            None => self.receive("a frame or the end").await.ok(),
        }
    }

    async fn arrival(&mut self, expected: &str) -> Frame {
        match self.receive(expected).await {
            Ok(frame) => frame,
            Err(closed) => panic!("{}: expected {expected}; got {closed:?}", self.user.id()),
        }
    }

    async fn receive(&mut self, expected: &str) -> Result<Frame, Closed> {
        loop {
            match within(&format!("{expected}, for {}", self.user.id()), self.stream.next()).await {
                Some(Ok(Message::Text(text))) => return Ok(self.read(&text)),
                Some(Ok(Message::Close(frame))) => return Err(Closed(frame.map(|frame| frame.code.into()))),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("expected {expected}; got {other:?}"),
                Some(Err(_)) | None => return Err(Closed(None)),
            }
        }
    }

    /// Reads a frame. If it acknowledges a sent frame, asserts that the documents allow that frame.
    fn read(&self, text: &str) -> Frame {
        let frame = Frame::read(text);
        self.check_version(&frame);
        let sent =
            self.sent.iter().find(|(request_id, _)| frame.says("type", "ACK") && frame.says("requestId", request_id));
        if let Some((_, sent)) = sent {
            SOCKET.holds_sent(sent).unwrap_or_else(|why| panic!("{sent}: accepted, and not as described: {why}"));
        }
        frame
    }

    /// Asserts that a client of version 1 gets only frames of version 1. So every test shows that.
    fn check_version(&self, frame: &Frame) {
        let is_known =
            ["unicast", "multicast", "NOTIFICATION", "ACK", "ERROR"].iter().any(|kind| frame.says("type", kind));
        let is_echo = !frame.says("type", "NOTIFICATION") && frame.says("senderId", self.user.id());
        assert!(self.version == 2 || is_known && !is_echo, "a client of version 1 got {frame:?}");
    }

    /// The next frame that is not the sentinel of another device.
    async fn next_frame(&mut self, expected: &str) -> Frame {
        loop {
            let frame = self.next(expected).await;
            if !frame.says("notificationType", SENTINEL) {
                return frame;
            }
        }
    }

    /// Asserts that the next frame is this private message.
    pub(crate) async fn expect_private(&mut self, from: &User, content: impl Into<Value>) -> Frame {
        let content = content.into();
        let frame = self.next_frame(&format!("{content} from {}", from.id())).await;
        frame.is_private(from, &self.user, &content);
        frame
    }

    /// Asserts that the next frame is the echo of this private message, which the user sent by another device.
    pub(crate) async fn expect_private_to(&mut self, to: &User, content: impl Into<Value>) -> Frame {
        let content = content.into();
        let frame = self.next_frame(&format!("{content} to {}", to.id())).await;
        frame.is_private(&self.user, to, &content);
        frame
    }

    /// Asserts that the next frame is this group message.
    pub(crate) async fn expect_in_group(&mut self, group: &str, from: &User, content: impl Into<Value>) -> Frame {
        let content = content.into();
        let frame = self.next_frame(&format!("{content} from {} in {group}", from.id())).await;
        frame.is_in_group(group, from, &content);
        frame
    }

    /// Asserts that the next frame is a notification with exactly these fields and its type.
    pub(crate) async fn expect_notification(&mut self, body: &Value) -> Frame {
        let frame = self.next_frame(&format!("the notification {body}")).await;
        let mut expected = body.clone();
        expected["type"] = json!("NOTIFICATION");
        let got: serde_json::Map<_, _> =
            frame.fields().into_iter().map(|field| (field.to_owned(), frame.value(field))).collect();
        assert_eq!(Value::Object(got), expected);
        frame
    }

    /// Asserts that the next frame is an error with this code, and that its message contains `named`.
    pub(crate) async fn expect_error(&mut self, code: &str, named: &str) -> Frame {
        let frame = self.next_frame(&format!("an ERROR {code} that names {named}")).await;
        assert!(frame.says("type", "ERROR") && frame.says("code", code), "expected {code}; got {frame:?}");
        let known = ["code", "message", "requestId", "type"];
        assert!(frame.fields().iter().all(|field| known.contains(field)), "{frame:?}");
        assert!(frame.text("message").contains(named), "expected it to name {named:?}: {frame:?}");
        frame
    }

    /// Waits for the acknowledgement of that request. Frames that come before it are kept for later.
    pub(crate) async fn expect_ack(&mut self, request_id: &str) -> Accepted {
        let answers = |frame: &Frame| frame.says("requestId", request_id);
        let kept = self.inbox.iter().position(answers).and_then(|index| self.inbox.remove(index));
        let frame = match kept {
            Some(frame) => frame,
            None => self.arrival_that(answers, &format!("the ACK of {request_id}")).await,
        };
        accepted(&frame)
    }

    async fn arrival_that(&mut self, wanted: impl Fn(&Frame) -> bool, expected: &str) -> Frame {
        loop {
            let frame = self.arrival(expected).await;
            if wanted(&frame) {
                return frame;
            }
            self.inbox.push_back(frame);
        }
    }

    /// Asserts that nothing has come and nothing is on its way: the next frame is one that is sent now.
    pub(crate) async fn expect_nothing(&mut self) {
        let frames = self.frames_until_sentinel().await;
        assert!(frames.is_empty(), "{}: expected nothing; got {frames:?}", self.user.id());
    }

    /// All frames that have come or are on their way: those before a frame that is sent now.
    pub(crate) async fn frames_until_sentinel(&mut self) -> Vec<Frame> {
        let nonce = json!(rand::random::<u32>());
        let sentinel = json!({"notificationType": SENTINEL, "content": nonce});
        self.user.back_end().notify(&[("to", self.user.id())], &sentinel).await.empty();
        let mut frames = Vec::new();
        loop {
            let frame = self.next("the sentinel").await;
            if !frame.says("notificationType", SENTINEL) {
                frames.push(frame);
            } else if frame.content() == nonce {
                return frames;
            }
        }
    }

    /// Asserts that the server closes the socket, and that nothing comes before the close.
    pub(crate) async fn expect_close(mut self) -> Closed {
        assert!(self.inbox.is_empty(), "expected nothing before the close: {:?}", self.inbox);
        match self.receive("the close").await {
            Ok(frame) => panic!("expected the close; got {frame:?}"),
            Err(closed) => {
                self.drain().await;
                closed
            }
        }
    }

    /// Closes the socket and waits until the server has closed it too. Returns the frames that came until then.
    pub(crate) async fn leave(mut self) -> Vec<Frame> {
        within("room for the close", self.stream.close(None)).await.expect("an open socket can be closed");
        let mut frames = Vec::from(std::mem::take(&mut self.inbox));
        frames.extend(self.drain().await);
        frames
    }

    async fn drain(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(Ok(message)) = within("the end of the stream", self.stream.next()).await {
            if let Message::Text(text) = message {
                frames.push(Frame::read(&text));
            }
        }
        frames
    }

    /// Drops the connection without a close frame, as a broken network does.
    pub(crate) fn vanish(self) {
        drop(self.stream);
    }
}

/// Reads an acknowledgement.
fn accepted(frame: &Frame) -> Accepted {
    assert_eq!(frame.fields(), ["id", "requestId", "timestamp", "type"], "{frame:?}");
    assert!(frame.says("type", "ACK"), "{frame:?}");
    Accepted { id: frame.id(), timestamp: frame.number("timestamp") }
}

/// A new random request id.
pub(crate) fn new_request_id() -> String {
    format!("r-{:016x}", rand::random::<u64>())
}

/// The text of a private message. `content` is JSON text.
pub(crate) fn unicast(receiver: &str, request_id: Option<&str>, content: &str) -> String {
    outgoing("unicast", "receiverId", receiver, request_id, content)
}

/// The text of a group message. `content` is JSON text.
pub(crate) fn multicast(group: &str, request_id: Option<&str>, content: &str) -> String {
    outgoing("multicast", "groupId", group, request_id, content)
}

fn outgoing(kind: &str, field: &str, to: &str, request_id: Option<&str>, content: &str) -> String {
    let request = request_id.map(|id| format!(r#""requestId":{},"#, json!(id))).unwrap_or_default();
    format!(r#"{{"type":"{kind}",{request}"{field}":{},"content":{content}}}"#, json!(to))
}
