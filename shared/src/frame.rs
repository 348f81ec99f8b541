//! The frames of the WebSocket: what a client may send, and what it is sent.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Ms;
use crate::id::{GroupId, Id, MessageId, RequestId, UserId};
use crate::json::Object;

/// The longest frame that is accepted, in bytes.
pub const MAX_FRAME_BYTES: usize = 32 * 1024;

/// Whom a message is for: one user, or the members of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `unicast`, a private message.
    User(UserId),
    /// `multicast`, a group message.
    Group(GroupId),
}

/// A message that a client asks to have delivered.
#[derive(Debug)]
pub struct Submission<'a> {
    /// Whom it is for.
    pub to: Address,
    /// The content, byte for byte as it was sent.
    pub content: &'a RawValue,
    /// What the client wants it acknowledged by.
    pub request_id: Option<RequestId>,
}

/// Why a frame is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    /// A sentence that names the field.
    pub message: String,
    /// The frame's request id, if it had a valid one.
    pub request_id: Option<RequestId>,
}

impl<'a> Submission<'a> {
    /// Read a client's frame, `{"type": "unicast" | "multicast", "receiverId" | "groupId", "content", "requestId"?}`.
    /// Other fields are the client's own affair.
    ///
    /// # Errors
    /// What is wrong with it, for the client to read.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let nameless = |message| Malformed { message, request_id: None };
        if text.len() > MAX_FRAME_BYTES {
            return Err(nameless(format!("the frame is {} bytes long; the limit is {MAX_FRAME_BYTES}", text.len())));
        }
        let object = Object::parse(text).map_err(|why| nameless(format!("the frame {why}")))?;
        let request_id = request_id(&object).map_err(nameless)?;
        match (address(&object), content(&object)) {
            (Ok(to), Ok(content)) => Ok(Self { to, content, request_id }),
            (Err(message), _) | (_, Err(message)) => Err(Malformed { message, request_id }),
        }
    }
}

fn request_id(object: &Object<'_>) -> Result<Option<RequestId>, String> {
    match object.text("requestId") {
        None => Ok(None),
        Some(None) => Err("requestId must be a string".to_owned()),
        Some(Some(text)) => RequestId::parse(&text).map(Some).map_err(|why| format!("requestId {why}")),
    }
}

fn address(object: &Object<'_>) -> Result<Address, String> {
    match object.text("type") {
        None => Err("type is missing".to_owned()),
        Some(Some(kind)) if kind == "unicast" => only(object, "receiverId", "groupId", "unicast").map(Address::User),
        Some(Some(kind)) if kind == "multicast" => {
            only(object, "groupId", "receiverId", "multicast").map(Address::Group)
        }
        Some(_) => Err("type must be \"unicast\", \"multicast\" or \"ping\"".to_owned()),
    }
}

/// The id in the field `wanted`, when the field `unwanted` is not there.
fn only<Kind>(object: &Object<'_>, wanted: &str, unwanted: &str, kind: &str) -> Result<Id<Kind>, String> {
    if object.get(unwanted).is_some() {
        return Err(format!("{unwanted} must not be present in a {kind} message"));
    }
    match object.text(wanted) {
        None => Err(format!("{wanted} is missing")),
        Some(None) => Err(format!("{wanted} must be a string")),
        Some(Some(text)) => Id::parse(&text).map_err(|why| format!("{wanted} {why}")),
    }
}

fn content<'a>(object: &Object<'a>) -> Result<&'a RawValue, String> {
    match object.get("content") {
        None => Err("content is missing".to_owned()),
        Some(value) if value.get() == "null" => Err("content must not be null".to_owned()),
        Some(value) => Ok(value),
    }
}

/// A message as it stands in a log and goes to a client. Its JSON is the frame that a client receives and the element
/// that a pull returns.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its key in the log, by which a client drops duplicates.
    pub id: MessageId,
    /// Who sent it.
    pub sender: UserId,
    /// Whom it is for.
    pub to: Address,
    /// The content, byte for byte as it was sent.
    pub content: Box<RawValue>,
    /// When it reached the gateway.
    pub timestamp: Ms,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageFrame<'a> {
    r#type: &'static str,
    id: MessageId,
    sender_id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver_id: Option<&'a UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<&'a GroupId>,
    content: &'a RawValue,
    timestamp: Ms,
}

impl Serialize for Message {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, receiver_id, group_id) = match &self.to {
            Address::User(user) => ("unicast", Some(user), None),
            Address::Group(group) => ("multicast", None, Some(group)),
        };
        MessageFrame {
            r#type: kind,
            id: self.id,
            sender_id: &self.sender,
            receiver_id,
            group_id,
            content: &self.content,
            timestamp: self.timestamp,
        }
        .serialize(serializer)
    }
}

/// The acknowledgement of a message that is durable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "ACK")]
pub struct Ack<'a> {
    /// The client's name for its send.
    pub request_id: &'a RequestId,
    /// The message's id.
    pub id: MessageId,
    /// When the message reached the gateway.
    pub timestamp: Ms,
}

/// What a client is told of a frame that was not accepted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "ERROR")]
pub struct ErrorFrame<'a> {
    /// What a program can act on.
    pub code: ErrorCode,
    /// What a person can read.
    pub message: &'a str,
    /// The client's name for its send, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a RequestId>,
}

/// The codes of an [`ErrorFrame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is malformed: nothing was stored, and the same frame will be refused again.
    BadRequest,
    /// The connection's token has expired: connect again with a new one.
    TokenExpired,
    /// The `requestId` was used for another message: nothing was stored, and the same frame will be refused again.
    RequestIdReused,
    /// The user has opened more connections than a user may have, and this is the oldest: do not connect again.
    TooManyConnections,
    /// The server failed: send again, with the same `requestId`.
    Unavailable,
}

/// The text of a frame.
pub fn encode(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).expect("frames are made of strings, numbers and raw JSON, none of which can fail")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &str) -> String {
        Submission::parse(text).expect_err(text).message
    }

    #[test]
    fn a_private_and_a_group_message_are_read() {
        let private = Submission::parse(r#"{"type":"unicast","receiverId":"bob","content": {"a" : 1.0}}"#).unwrap();
        assert_eq!(private.to, Address::User(UserId::parse("bob").unwrap()));
        assert_eq!(private.content.get(), r#"{"a" : 1.0}"#);
        assert_eq!(private.request_id, None);
        let group =
            Submission::parse(r#"{"type":"multicast","groupId":"g","content":0,"requestId":"r","x":1}"#).unwrap();
        assert_eq!(group.to, Address::Group(GroupId::parse("g").unwrap()));
        assert_eq!(group.request_id, Some(RequestId::parse("r").unwrap()));
    }

    #[test]
    fn a_refusal_names_the_field() {
        for (frame, field) in [
            ("hello", "not JSON"),
            ("[]", "a JSON object"),
            ("{}", "type is missing"),
            (r#"{"type":"shout"}"#, "type must be"),
            (r#"{"type":7}"#, "type must be"),
            (r#"{"type":"unicast","content":1}"#, "receiverId is missing"),
            (r#"{"type":"unicast","receiverId":1,"content":1}"#, "receiverId must be a string"),
            (r#"{"type":"unicast","receiverId":"a b","content":1}"#, "receiverId may hold only"),
            (r#"{"type":"unicast","receiverId":"a","groupId":"g","content":1}"#, "groupId must not"),
            (r#"{"type":"multicast","receiverId":null,"groupId":"g","content":1}"#, "receiverId must not"),
            (r#"{"type":"multicast","content":1}"#, "groupId is missing"),
            (r#"{"type":"unicast","receiverId":"a"}"#, "content is missing"),
            (r#"{"type":"unicast","receiverId":"a","content":null}"#, "content must not be null"),
            (r#"{"type":"unicast","receiverId":"a","content":1,"content":2}"#, "content\" twice"),
            (r#"{"type":"unicast","receiverId":"a","content":1,"requestId":""}"#, "requestId must be 1 to 64"),
            (r#"{"type":"unicast","receiverId":"a","content":1,"requestId":1}"#, "requestId must be a string"),
        ] {
            assert!(refusal(frame).contains(field), "{frame}: {}", refusal(frame));
        }
    }

    #[test]
    fn a_refusal_carries_the_request_id() {
        let refused = Submission::parse(r#"{"type":"unicast","requestId":"r"}"#).unwrap_err();
        assert_eq!(refused.request_id, Some(RequestId::parse("r").unwrap()));
    }

    #[test]
    fn a_frame_over_32_kib_is_refused() {
        let frame = |n: usize| format!(r#"{{"type":"unicast","receiverId":"a","content":"{}"}}"#, "x".repeat(n));
        let longest = MAX_FRAME_BYTES - frame(0).len();
        assert!(Submission::parse(&frame(longest)).is_ok());
        assert!(refusal(&frame(longest + 1)).contains("32769 bytes"));
    }

    #[test]
    fn frames_have_the_fields_of_the_protocol() {
        let mut message = Message {
            id: MessageId::first_at(0),
            sender: UserId::parse("ann").unwrap(),
            to: Address::User(UserId::parse("bob").unwrap()),
            content: serde_json::from_str("1e400").unwrap(),
            timestamp: 5,
        };
        assert_eq!(
            encode(&message),
            r#"{"type":"unicast","id":"00000000000000000000000000","senderId":"ann","receiverId":"bob","content":1e400,"timestamp":5}"#
        );
        message.to = Address::Group(GroupId::parse("g").unwrap());
        assert!(encode(&message).starts_with(r#"{"type":"multicast","#));
        assert!(encode(&message).contains(r#""groupId":"g""#));
        let request_id = RequestId::parse("r").unwrap();
        assert_eq!(
            encode(&Ack { request_id: &request_id, id: message.id, timestamp: 5 }),
            r#"{"type":"ACK","requestId":"r","id":"00000000000000000000000000","timestamp":5}"#
        );
        assert_eq!(
            encode(&ErrorFrame { code: ErrorCode::TokenExpired, message: "m", request_id: None }),
            r#"{"type":"ERROR","code":"token_expired","message":"m"}"#
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = Submission::parse(&text);
        }
    }
}
