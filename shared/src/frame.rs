//! The frames of the WebSocket API: those that a client sends, and those that it receives.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Ms;
use crate::content;
pub use crate::error::ErrorCode;
use crate::id::{GroupId, Id, InviteId, MessageId, RequestId, UserId};
use crate::json::{Object, strings_of};

/// The longest frame that is accepted, in bytes.
pub const MAX_FRAME_BYTES: usize = 32 * 1024;

/// The address of a message: a user, or a group.
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
    /// Its address.
    pub to: Address,
    /// The content, byte for byte as it was sent.
    pub content: &'a RawValue,
    /// The client's id for the acknowledgement.
    pub request_id: Option<RequestId>,
}

/// Why a frame is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    /// A sentence that names the field.
    pub message: String,
    /// The frame's request id, if it can be read and is valid. The rest of the frame does not matter.
    pub request_id: Option<RequestId>,
}

impl<'a> Submission<'a> {
    /// Parses a client's frame, `{"type": "unicast" | "multicast", "receiverId" | "groupId", "content", "requestId"?}`.
    /// Other fields, and the address of the other type, are ignored.
    ///
    /// # Errors
    /// Returns what is wrong with it, for the client.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        Self::read(text).map_err(|message| Malformed { message, request_id: readable_request_id(text) })
    }

    fn read(text: &'a str) -> Result<Self, String> {
        if text.len() > MAX_FRAME_BYTES {
            return Err(format!("the frame is {} bytes long; the limit is {MAX_FRAME_BYTES}", text.len()));
        }
        let object = Object::parse(text).map_err(|why| format!("the frame {why}"))?;
        let request_id = request_id(&object)?;
        let to = address(&object)?.ok_or(UNKNOWN_TYPE)?;
        Ok(Self { to, content: content(&object)?, request_id })
    }

    /// Reads the same fields of an object that is no frame.
    ///
    /// # Errors
    /// Returns what is wrong with them.
    pub fn of(object: &Object<'a>) -> Result<Self, String> {
        let request_id = request_id(object)?;
        let to = address(object)?.ok_or("type must be \"unicast\" or \"multicast\"")?;
        Ok(Self { to, content: content(object)?, request_id })
    }
}

/// A frame by which a client tells a friend that its user is typing.
#[derive(Debug)]
pub struct TypingFrame {
    /// The friend.
    pub receiver: UserId,
}

impl TypingFrame {
    /// Reads a client's frame, `{"type": "typing", "receiverId"}`. Version 1 of the protocol does not have it.
    ///
    /// # Errors
    /// Returns what is wrong with it, for the client to read.
    pub fn parse(text: &str, version: u8) -> Result<Self, Malformed> {
        let read = || {
            if version < 2 {
                return Err(UNKNOWN_TYPE.to_owned());
            }
            if text.len() > MAX_FRAME_BYTES {
                return Err(format!("the frame is {} bytes long; the limit is {MAX_FRAME_BYTES}", text.len()));
            }
            let object = Object::parse(text).map_err(|why| format!("the frame {why}"))?;
            id(&object, "receiverId").map(|receiver| Self { receiver })
        };
        read().map_err(|message| Malformed { message, request_id: readable_request_id(text) })
    }
}

/// Why a frame of another type is refused.
const UNKNOWN_TYPE: &str = "type must be \"unicast\", \"multicast\" or \"ping\"";

fn request_id(object: &Object<'_>) -> Result<Option<RequestId>, String> {
    if is_null(object, "requestId") {
        return Ok(None);
    }
    match object.text("requestId") {
        None => Ok(None),
        Some(None) => Err("requestId must be a string".to_owned()),
        Some(Some(text)) => RequestId::parse(&text).map(Some).map_err(|why| format!("requestId {why}")),
    }
}

/// Returns the request id of a refused frame, even if the frame is not JSON. Returns `None` if it has two different
/// ids: the client could take the refusal for that of another send.
fn readable_request_id(text: &str) -> Option<RequestId> {
    let valid = |json| RequestId::parse(&serde_json::from_str::<String>(json).ok()?).ok();
    let mut found = strings_of(text, "requestId").into_iter().filter_map(valid);
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

fn is_null(object: &Object<'_>, name: &str) -> bool {
    object.get(name).is_some_and(|value| value.get() == "null")
}

/// Returns the address, or nothing if the type is not that of a message.
fn address(object: &Object<'_>) -> Result<Option<Address>, String> {
    match object.text("type") {
        None => Err("type is missing".to_owned()),
        Some(Some(kind)) if kind == "unicast" => id(object, "receiverId").map(|id| Some(Address::User(id))),
        Some(Some(kind)) if kind == "multicast" => id(object, "groupId").map(|id| Some(Address::Group(id))),
        Some(_) => Ok(None),
    }
}

/// Parses the id in a field. The address of the other type of message is not read: it is optional in the original API,
/// and front ends fill it with `null` or `""`.
fn id<Kind>(object: &Object<'_>, name: &str) -> Result<Id<Kind>, String> {
    match object.text(name) {
        None => Err(format!("{name} is missing")),
        Some(None) => Err(format!("{name} must be a string")),
        Some(Some(text)) => Id::parse(&text).map_err(|why| format!("{name} {why}")),
    }
}

fn content<'a>(object: &Object<'a>) -> Result<&'a RawValue, String> {
    match object.get("content") {
        None => Err("content is missing".to_owned()),
        Some(_) if is_null(object, "content") => Err("content must not be null".to_owned()),
        Some(value) => content::check(value.get()).map(|()| value).map_err(|why| format!("content {why}")),
    }
}

/// An entry of a log. Its JSON is the frame that a client receives, and the element that a pull or a history returns.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its key in the log. Clients recognize duplicates by it.
    pub id: MessageId,
    /// The sender. The entry of a recall names the sender of the recalled message.
    pub sender: UserId,
    /// Its address.
    pub to: Address,
    /// What the entry holds.
    pub body: Body,
    /// When it reached the gateway.
    pub timestamp: Ms,
}

/// What an entry of a log holds.
#[derive(Debug, Clone)]
pub enum Body {
    /// A content, byte for byte as it was sent.
    Content(Box<RawValue>),
    /// Nothing any more: the message was recalled. Only histories return it.
    Recalled {
        /// When it was recalled.
        at: Ms,
    },
    /// The recall of a message. Only connections and clients of version 2 get it.
    Recall {
        /// The recalled message.
        of: MessageId,
    },
}

impl Message {
    /// Returns the content, unless the entry is recalled or a recall.
    pub fn content(&self) -> Option<&RawValue> {
        match &self.body {
            Body::Content(content) => Some(content),
            Body::Recalled { .. } | Body::Recall { .. } => None,
        }
    }

    /// Returns the number of bytes of the content.
    pub fn content_bytes(&self) -> usize {
        self.content().map_or(0, |content| content.get().len())
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a RawValue>,
    timestamp: Ms,
    #[serde(skip_serializing_if = "Option::is_none")]
    recalled_at: Option<Ms>,
}

impl Serialize for Message {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, receiver_id, group_id) = match &self.to {
            Address::User(user) => ("unicast", Some(user), None),
            Address::Group(group) => ("multicast", None, Some(group)),
        };
        let (kind, id, recalled_at) = match self.body {
            Body::Content(_) => (kind, self.id, None),
            Body::Recalled { at } => (kind, self.id, Some(at)),
            Body::Recall { of } => ("RECALLED", of, None),
        };
        MessageFrame {
            r#type: kind,
            id,
            sender_id: &self.sender,
            receiver_id,
            group_id,
            content: self.content(),
            timestamp: self.timestamp,
            recalled_at,
        }
        .serialize(serializer)
    }
}

/// The acknowledgement of a message. The message is durable by then.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "ACK")]
pub struct Ack<'a> {
    /// The client's id for its send.
    pub request_id: &'a RequestId,
    /// The message's id.
    pub id: MessageId,
    /// When the message reached the gateway.
    pub timestamp: Ms,
}

/// Tells that a user has read a conversation up to a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "READ")]
pub struct Read<'a> {
    /// The user who has read it.
    pub reader_id: &'a UserId,
    /// The conversation, as the user who receives the frame names it.
    #[serde(flatten)]
    pub conversation: Conversation<'a>,
    /// The last message that is read.
    pub until: MessageId,
}

/// A conversation, as one of its users names it.
#[derive(Debug, Clone, Copy, Serialize)]
pub enum Conversation<'a> {
    /// The other user.
    #[serde(rename = "userId")]
    User(&'a UserId),
    /// The group.
    #[serde(rename = "groupId")]
    Group(&'a GroupId),
}

impl Address {
    /// Returns the conversation as one of its users names it, where `self` is the other user or the group.
    pub fn conversation(&self) -> Conversation<'_> {
        match self {
            Self::User(user) => Conversation::User(user),
            Self::Group(group) => Conversation::Group(group),
        }
    }
}

/// Tells that a friend is typing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "TYPING")]
pub struct Typing<'a> {
    /// The friend.
    pub sender_id: &'a UserId,
}

/// Tells that a user was invited to a group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "INVITATION")]
pub struct Invited<'a> {
    /// The invitation.
    pub id: &'a InviteId,
    /// The name of the group.
    pub group_name: &'a str,
    /// The group.
    pub group_id: &'a GroupId,
    /// The invited user.
    pub user_id: &'a UserId,
    /// The member who invites.
    pub invited_by: &'a UserId,
}

/// Tells that a group has changed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "GROUP")]
pub struct GroupChanged<'a> {
    /// The group.
    pub group_id: &'a GroupId,
    /// What has happened.
    pub event: GroupEvent,
    /// The user who joined, left, was removed, or became the manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a UserId>,
    /// The new name of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
}

/// What can happen to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupEvent {
    /// The group was made. Only the back end is told.
    Created,
    /// A user became a member.
    Joined,
    /// A member left.
    Left,
    /// The manager removed a member.
    Removed,
    /// The group has a new name.
    Renamed,
    /// The group has a new manager.
    Manager,
    /// The group does not exist any more.
    Dissolved,
}

/// The answer to a frame that was not accepted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "ERROR")]
pub struct ErrorFrame<'a> {
    /// The code, for programs.
    pub code: ErrorCode,
    /// The reason, for people.
    pub message: &'a str,
    /// The client's id for its send, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a RequestId>,
    /// With [`ErrorCode::Muted`] and [`ErrorCode::Banned`], the time when the mute or the ban ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Ms>,
    /// With [`ErrorCode::RateLimited`], how long the client must wait, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<Ms>,
}

impl<'a> ErrorFrame<'a> {
    /// Creates the answer to a frame, without the fields that only some codes have.
    pub fn new(code: ErrorCode, message: &'a str, request_id: Option<&'a RequestId>) -> Self {
        Self { code, message, request_id, until: None, retry_after_ms: None }
    }
}

/// Encodes a frame as JSON.
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
            (r#"{"type":"unicast","receiverId":null,"groupId":"g","content":1}"#, "receiverId must be a string"),
            (r#"{"type":"unicast","receiverId":"..","content":1}"#, "receiverId must not be"),
            (r#"{"type":"multicast","receiverId":"a","groupId":"","content":1}"#, "groupId must be 1 to 128"),
            (r#"{"type":"multicast","content":1}"#, "groupId is missing"),
            (r#"{"type":"unicast","receiverId":"a"}"#, "content is missing"),
            (r#"{"type":"unicast","receiverId":"a","content":null}"#, "content must not be null"),
            (r#"{"type":"unicast","receiverId":"a","content":1,"content":2}"#, "content\" twice"),
            (r#"{"type":"unicast","receiverId":"a","content":"\ud800"}"#, "content has a lone surrogate"),
            (r#"{"type":"unicast","receiverId":"a","content":{"\ud800":1}}"#, "content has a lone surrogate"),
            (r#"{"type":"unicast","receiverId":"a","content":1,"requestId":""}"#, "requestId must be 1 to 64"),
            (r#"{"type":"unicast","receiverId":"a","content":1,"requestId":1}"#, "requestId must be a string"),
        ] {
            assert!(refusal(frame).contains(field), "{frame}: {}", refusal(frame));
        }
    }

    #[test]
    fn the_address_of_the_other_type_is_not_read() {
        for other in ["null", "\"\"", "\"a b\"", "7", "{}", "\"g\""] {
            let private = format!(r#"{{"type":"unicast","receiverId":"a","groupId":{other},"content":1}}"#);
            assert_eq!(Submission::parse(&private).unwrap().to, Address::User(UserId::parse("a").unwrap()), "{other}");
            let group = format!(r#"{{"type":"multicast","receiverId":{other},"groupId":"g","content":1}}"#);
            assert_eq!(Submission::parse(&group).unwrap().to, Address::Group(GroupId::parse("g").unwrap()), "{other}");
        }
    }

    #[test]
    fn a_request_id_of_null_is_none() {
        let frame = r#"{"type":"unicast","receiverId":"a","content":1,"requestId":null}"#;
        assert_eq!(Submission::parse(frame).unwrap().request_id, None);
    }

    #[test]
    fn a_refusal_carries_the_request_id() {
        let long = format!(r#"{{"content":"{}","requestId":"r"}}"#, "x".repeat(128 * 1024 - 50));
        for frame in [
            r#"{"type":"unicast","requestId":"r"}"#,
            r#"{"requestId":"r","type":7}"#,
            r#"{"requestId":"r","content":{"requestId":"other"}}"#,
            r#"{"content":1,"content":2,"requestId":"r"}"#,
            r#"{"requestId":"r","requestId":"\u0072"}"#,
            r#"{"requestId":null,"requestId":"r"}"#,
            r#"{"type":"unicast","requestId":"r","content":"cut sho"#,
            r#"{"type":"unicast","requestId":"r",,}"#,
            r#"{"type":'unicast',"requestId":"r"}"#,
            r#"{"type":"unicast","receiverId":"a","content":"\ud800","requestId":"r"}"#,
            &long,
        ] {
            let refused = Submission::parse(frame).unwrap_err();
            assert_eq!(refused.request_id, Some(RequestId::parse("r").unwrap()), "{frame:.60}");
        }
    }

    #[test]
    fn a_refusal_carries_no_request_id_where_none_can_be_read() {
        let long = format!(r#"{{"requestId":"{}"}}"#, "r".repeat(65));
        for frame in [
            "r",
            "{}",
            r#"["requestId","r"]"#,
            r#"{"requestId":"r","requestId":"s"}"#,
            r#"{"requestId":"r"}{"requestId":"s"}"#,
            r#"{"requestId":7}"#,
            r#"{"requestId":""}"#,
            r#"{"requestId":"\ud800"}"#,
            r#"{"content":{"requestId":"r"}}"#,
            r#"{"content":"\"requestId\":\"r\""}"#,
            r#"{"requestId":"r"#,
            &long,
        ] {
            assert_eq!(Submission::parse(frame).unwrap_err().request_id, None, "{frame:.60}");
        }
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
            body: Body::Content(serde_json::from_str("1e400").unwrap()),
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
            encode(&ErrorFrame::new(ErrorCode::TokenExpired, "m", None)),
            r#"{"type":"ERROR","code":"token_expired","message":"m"}"#
        );
    }

    #[test]
    fn a_recall_and_a_recalled_message_have_no_content() {
        let mut message = Message {
            id: MessageId::first_at(1),
            sender: UserId::parse("ann").unwrap(),
            to: Address::User(UserId::parse("bob").unwrap()),
            body: Body::Recalled { at: 9 },
            timestamp: 5,
        };
        assert_eq!(
            encode(&message),
            r#"{"type":"unicast","id":"00000000010000000000000000","senderId":"ann","receiverId":"bob","timestamp":5,"recalledAt":9}"#
        );
        message.body = Body::Recall { of: MessageId::first_at(0) };
        assert_eq!(
            encode(&message),
            r#"{"type":"RECALLED","id":"00000000000000000000000000","senderId":"ann","receiverId":"bob","timestamp":5}"#
        );
    }

    #[test]
    fn frames_of_version_2_have_the_fields_of_the_protocol() {
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let group = GroupId::parse("g").unwrap();
        let until = MessageId::first_at(0);
        assert_eq!(
            encode(&Read { reader_id: &ann, conversation: Conversation::User(&bob), until }),
            r#"{"type":"READ","readerId":"ann","userId":"bob","until":"00000000000000000000000000"}"#
        );
        assert_eq!(
            encode(&Read { reader_id: &ann, conversation: Conversation::Group(&group), until }),
            r#"{"type":"READ","readerId":"ann","groupId":"g","until":"00000000000000000000000000"}"#
        );
        assert_eq!(encode(&Typing { sender_id: &ann }), r#"{"type":"TYPING","senderId":"ann"}"#);
        let joined = GroupChanged { group_id: &group, event: GroupEvent::Joined, user_id: Some(&bob), name: None };
        assert_eq!(encode(&joined), r#"{"type":"GROUP","groupId":"g","event":"joined","userId":"bob"}"#);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = Submission::parse(&text);
        }
    }
}
