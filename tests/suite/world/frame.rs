//! A frame from the server. Each value keeps its exact spelling.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::User;
use super::document::SOCKET;

/// A JSON object whose values are parsed on demand: a content may be a number that no type here holds.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Frame(BTreeMap<String, Box<RawValue>>);

impl PartialEq for Frame {
    /// Compares the fields by their spelling.
    fn eq(&self, other: &Self) -> bool {
        let spelled = |frame: &Self| -> Vec<(String, String)> {
            frame.0.iter().map(|(name, value)| (name.clone(), value.get().to_owned())).collect()
        };
        spelled(self) == spelled(other)
    }
}

impl Frame {
    /// Parses a text, and asserts that the documents describe the frame.
    pub(crate) fn read(text: &str) -> Self {
        let frame = Self::spelled(text);
        SOCKET.holds_frame(&frame.as_json()).unwrap_or_else(|why| panic!("{text}: not as described: {why}"));
        frame
    }

    /// Parses a text as a JSON object.
    pub(crate) fn spelled(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|why| panic!("expected a JSON object: {why} in {text:?}"))
    }

    /// The frame as JSON. A number that no type here holds becomes 0.
    pub(crate) fn as_json(&self) -> Value {
        let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::from(0));
        self.0.iter().map(|(name, raw)| (name.clone(), value(raw))).collect()
    }

    /// The names of the fields, sorted.
    pub(crate) fn fields(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The exact spelling of a field.
    pub(crate) fn raw(&self, field: &str) -> &str {
        self.0.get(field).unwrap_or_else(|| panic!("expected the field {field} in {self:?}")).get()
    }

    /// A field as JSON.
    pub(crate) fn value(&self, field: &str) -> Value {
        serde_json::from_str(self.raw(field)).unwrap_or_else(|why| panic!("{field}: {why} in {self:?}"))
    }

    /// A field that is a string.
    pub(crate) fn text(&self, field: &str) -> String {
        serde_json::from_str(self.raw(field)).unwrap_or_else(|why| panic!("{field}: {why} in {self:?}"))
    }

    /// A field that is a whole number.
    pub(crate) fn number(&self, field: &str) -> u64 {
        serde_json::from_str(self.raw(field)).unwrap_or_else(|why| panic!("{field}: {why} in {self:?}"))
    }

    /// Whether the frame has a field of that value.
    pub(crate) fn says(&self, field: &str, value: &str) -> bool {
        self.0.get(field).is_some_and(|raw| serde_json::from_str::<String>(raw.get()).is_ok_and(|text| text == value))
    }

    /// The content as JSON.
    pub(crate) fn content(&self) -> Value {
        self.value("content")
    }

    /// The message id.
    pub(crate) fn id(&self) -> String {
        self.text("id")
    }

    /// Asserts that this is a private message, field by field.
    pub(crate) fn is_private(&self, from: &User, to: &User, content: &Value) {
        assert_eq!(self.fields(), ["content", "id", "receiverId", "senderId", "timestamp", "type"], "{self:?}");
        assert!(self.says("type", "unicast"), "{self:?}");
        assert_eq!(self.text("receiverId"), to.id(), "{self:?}");
        self.is_message(from, content);
    }

    /// Asserts that this is a group message, field by field.
    pub(crate) fn is_in_group(&self, group: &str, from: &User, content: &Value) {
        assert_eq!(self.fields(), ["content", "groupId", "id", "senderId", "timestamp", "type"], "{self:?}");
        assert!(self.says("type", "multicast"), "{self:?}");
        assert_eq!(self.text("groupId"), group, "{self:?}");
        self.is_message(from, content);
    }

    fn is_message(&self, from: &User, content: &Value) {
        assert_eq!(self.text("senderId"), from.id(), "{self:?}");
        assert_eq!(self.content(), *content, "{self:?}");
        assert!(self.number("timestamp") > 0, "{self:?}");
        assert!(is_ulid(&self.id()), "{self:?}");
    }
}

/// Whether a text is a ULID: 26 characters of Crockford's base 32, within 128 bits.
pub(crate) fn is_ulid(text: &str) -> bool {
    const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    text.len() == 26 && text <= "7ZZZZZZZZZZZZZZZZZZZZZZZZZ" && text.chars().all(|c| ALPHABET.contains(c))
}
