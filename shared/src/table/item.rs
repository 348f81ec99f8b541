//! Reads attributes of items. A malformed item is a failure of the service, and the error names the attribute.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::error::{Error, Result};
use crate::id::MessageId;

/// An item as DynamoDB returns it.
pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Reads a string attribute.
pub(super) fn read_text<'a>(item: &'a Item, name: &str) -> Result<&'a str> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or_else(|| corrupt(name))
}

/// Reads a whole number that may be absent.
pub(super) fn read_optional_number(item: &Item, name: &str) -> Result<Option<u64>> {
    match item.get(name) {
        None => Ok(None),
        Some(value) => value.as_n().ok().and_then(|n| n.parse().ok()).map(Some).ok_or_else(|| corrupt(name)),
    }
}

/// Reads a whole number.
pub(super) fn read_number(item: &Item, name: &str) -> Result<u64> {
    read_optional_number(item, name)?.ok_or_else(|| corrupt(name))
}

/// Reads a set of strings, empty if absent.
pub(super) fn read_set<'a>(item: &'a Item, name: &str) -> Result<&'a [String]> {
    match item.get(name) {
        None => Ok(&[]),
        Some(value) => value.as_ss().map(Vec::as_slice).map_err(|_| corrupt(name)),
    }
}

/// Reads a set of message ids, empty if absent.
pub(super) fn read_ids(item: &Item, name: &str) -> Result<BTreeSet<MessageId>> {
    parsed(name, read_set(item, name)?.iter().map(|id| MessageId::parse(id)).collect())
}

/// Reads a message id.
pub(super) fn read_id(item: &Item, name: &str) -> Result<MessageId> {
    parsed(name, MessageId::parse(read_text(item, name)?))
}

/// Returns a parsed value, or the error that the attribute is malformed.
pub(super) fn parsed<T, E>(name: &str, value: Result<T, E>) -> Result<T> {
    value.map_err(|_| corrupt(name))
}

pub(super) fn corrupt(name: &str) -> Error {
    Error::unavailable("reading an item", format!("its attribute {name} is missing or malformed"))
}
