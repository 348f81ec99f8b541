//! A frame from the server, with every value still spelled as it came.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::User;
use super::document::SOCKET;

/// A JSON object whose values are not read until asked for: a content may be a number that no type here holds.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Frame(BTreeMap<String, Box<RawValue>>);

impl PartialEq for Frame {
    /// The same fields, spelled the same.
    fn eq(&self, other: &Self) -> bool {
        let spelled = |frame: &Self| -> Vec<(String, String)> {
            frame.0.iter().map(|(name, value)| (name.clone(), value.get().to_owned())).collect()
        };
        spelled(self) == spelled(other)
    }
}

impl Frame {
    /// The frame that a text spells, which is one that the documents describe.
    pub(crate) fn read(text: &str) -> Self {
        let frame = Self::spelled(text);
        SOCKET.holds_frame(&frame.as_json()).unwrap_or_else(|why| panic!("{text}: not as described: {why}"));
        frame
    }

    /// The object that a text spells.
    pub(crate) fn spelled(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|why| panic!("expected a JSON object: {why} in {text:?}"))
    }

    /// It as JSON, with a number for what no type here holds.
    pub(crate) fn as_json(&self) -> Value {
        let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::from(0));
        self.0.iter().map(|(name, raw)| (name.clone(), value(raw))).collect()
    }

    /// The names of its fields, sorted.
    pub(crate) fn fields(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// A field as it was spelled.
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

    /// Whether it has a field of that value.
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

    /// It is a private message, field by field.
    pub(crate) fn is_private(&self, from: &User, to: &User, content: &Value) {
        assert_eq!(self.fields(), ["content", "id", "receiverId", "senderId", "timestamp", "type"], "{self:?}");
        assert!(self.says("type", "unicast"), "{self:?}");
        assert_eq!(self.text("receiverId"), to.id(), "{self:?}");
        self.is_message(from, content);
    }

    /// It is a group message, field by field.
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

/// Whether a text is 26 characters of Crockford's base 32, and not beyond 128 bits.
pub(crate) fn is_ulid(text: &str) -> bool {
    const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    text.len() == 26 && text <= "7ZZZZZZZZZZZZZZZZZZZZZZZZZ" && text.chars().all(|c| ALPHABET.contains(c))
}
