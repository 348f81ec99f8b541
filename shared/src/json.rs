//! A JSON object whose values keep their original text, and the size of a text within JSON.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The fields of a JSON object in their original order. No name occurs twice.
#[derive(Debug, Clone, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// The reason why a text is not such an object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAnObject(String);

impl<'a> Object<'a> {
    /// Parses an object.
    ///
    /// # Errors
    /// Fails if the text is not JSON, is not an object, or has a name twice.
    pub fn parse(text: &'a str) -> Result<Self, NotAnObject> {
        serde_json::from_str(text).map_err(|cause| NotAnObject(describe(&cause)))
    }

    /// Returns the value of a field, if the object has it. `null` is a value.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| *value)
    }

    /// Returns the value of a field that must be a string: `None` if absent, `Some(None)` if it is not a string.
    pub fn text(&self, name: &str) -> Option<Option<Cow<'a, str>>> {
        self.get(name).map(|value| spelt(value.get()))
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the object has no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes these fields.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|(field, _)| !names.contains(&field.as_ref()));
        self
    }

    /// Sets `name` to `value`, as the first field.
    #[must_use]
    pub fn with<'b>(self, name: &'b str, value: &'b RawValue) -> Object<'b>
    where
        'a: 'b,
    {
        let mut object: Object<'b> = self.without(&[name]);
        object.0.insert(0, (Cow::Borrowed(name), value));
        object
    }
}

/// A string, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The beginning of this module's own error.
const TWICE: &str = "has the field ";

/// Describes an error. It quotes at most the name of a duplicate field, because a log must not contain messages.
fn describe(cause: &serde_json::Error) -> String {
    let text = cause.to_string();
    match (cause.classify(), text.rsplit_once(" at line ")) {
        (serde_json::error::Category::Data, Some((ours, _))) if ours.starts_with(TWICE) => ours.to_owned(),
        (serde_json::error::Category::Data, _) => "must be a JSON object".to_owned(),
        _ => "is not JSON".to_owned(),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut object, mut names) = (Object::default(), HashSet::new());
        while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            if object.len() == FEW_FIELDS {
                names.extend(object.0.iter().map(|(name, _)| name.clone()));
            }
            let is_new = match object.len() < FEW_FIELDS {
                true => object.get(&name).is_none(),
                false => names.insert(name.clone()),
            };
            if !is_new {
                return Err(serde::de::Error::custom(format_args!("{TWICE}{name:?} twice")));
            }
            object.0.push((name, value));
        }
        Ok(object)
    }
}

/// Up to this number of fields, a new name is compared with each before it. Beyond it, a set of names keeps the work
/// linear.
const FEW_FIELDS: usize = 8;

/// Returns the strings, with their quotes, that are values of the field `name` in an object at the top of a text. The
/// text may be invalid JSON: cut short, with a field twice, or with any other mistake.
pub fn strings_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (mut rest, mut depth, mut before, mut found) = (text, 0_usize, Before::Other, Vec::new());
    while let Some(byte) = rest.bytes().next() {
        let token = match byte {
            b'"' => string_at(rest),
            // Other tokens are recognized by their first byte. None of these bytes occurs within a longer character.
            _ => &rest[..rest.chars().next().map_or(1, char::len_utf8)],
        };
        before = match (byte, before) {
            (b' ' | b'\t' | b'\r' | b'\n', before) => before,
            (b'"', Before::Value) => {
                found.push(token);
                Before::Other
            }
            (b'"', _) if depth == 1 && spells(token, name) => Before::Colon,
            (b':', Before::Colon) => Before::Value,
            (b'{' | b'[', _) => {
                depth += 1;
                Before::Other
            }
            (b'}' | b']', _) => {
                depth = depth.saturating_sub(1);
                Before::Other
            }
            _ => Before::Other,
        };
        rest = &rest[token.len()..];
    }
    // A string that is cut short does not count.
    found.retain(|string| spelt(string).is_some());
    found
}

/// The token that is expected next.
#[derive(Clone, Copy)]
enum Before {
    /// A colon, after the name.
    Colon,
    /// The value, after the name and its colon.
    Value,
    Other,
}

/// Returns the string at the beginning of a text with its quotes, or the whole text if the string is cut short.
fn string_at(text: &str) -> &str {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((place, byte)) = bytes.next() {
        match byte {
            b'"' => return &text[..=place],
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    text
}

/// Parses a JSON text that is a string.
fn spelt(json: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0)
}

fn spells(json: &str, name: &str) -> bool {
    spelt(json).is_some_and(|text| text == name)
}

/// Returns the size of `text` as a JSON string, in bytes, with quotes and escapes. A body has this size in the result
/// of a function.
pub fn escaped_bytes(text: &str) -> usize {
    let mut count = Count(0);
    serde_json::to_writer(&mut count, text).expect("a string is always JSON, and counting cannot fail");
    count.0
}

/// Counts the bytes that are written.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn values_keep_their_bytes_and_order() {
        let text = r#"{"b": [1.0, 1e400 ],"a":"\u00e9\"","n":null}"#;
        let object = Object::parse(text).unwrap();
        assert_eq!(object.get("b").unwrap().get(), "[1.0, 1e400 ]");
        assert_eq!(object.text("a"), Some(Some(Cow::Borrowed("é\""))));
        assert_eq!(object.text("b"), Some(None));
        assert_eq!(object.text("n"), Some(None));
        assert_eq!(object.text("z"), None);
        assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"b":[1.0, 1e400 ],"a":"\u00e9\"","n":null}"#);
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let wrong = |text| Object::parse(text).unwrap_err().to_string();
        assert_eq!(wrong("{"), "is not JSON");
        assert_eq!(wrong("{} {}"), "is not JSON");
        assert_eq!(wrong("[1]"), "must be a JSON object");
        assert_eq!(wrong("\"said twice\""), "must be a JSON object");
        assert_eq!(wrong(r#"{"a":1,"\u0061":2}"#), r#"has the field "a" twice"#);
    }

    #[test]
    fn a_field_is_set_in_front() {
        let value: Box<RawValue> = serde_json::from_str("7").unwrap();
        let object = Object::parse(r#"{"a":1,"type":2}"#).unwrap().with("type", &value);
        assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"type":7,"a":1}"#);
    }

    /// Returns an object with these names, whose values count up.
    fn numbered(names: impl Iterator<Item = String>) -> String {
        let fields: Vec<String> = names.enumerate().map(|(value, name)| format!("{name:?}:{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }

    #[test]
    fn a_duplicate_name_is_found_at_any_place() {
        for count in [2, FEW_FIELDS, FEW_FIELDS + 1, FEW_FIELDS + 2, 1_000] {
            assert_eq!(Object::parse(&numbered((0..count).map(|n| n.to_string()))).unwrap().len(), count);
            for first in [0, 1, FEW_FIELDS - 1, FEW_FIELDS, count - 2] {
                let names = (0..count).map(|n| if n == count - 1 { first } else { n }.to_string());
                let found = Object::parse(&numbered(names)).map(|object| object.len());
                match first < count - 1 {
                    true => assert_eq!(found.unwrap_err().to_string(), format!("has the field \"{first}\" twice")),
                    false => assert_eq!(found, Ok(count)),
                }
            }
        }
    }

    /// 500,000 fields are 6 MB, the largest event of a function. Comparing each with each would take far too long.
    #[test]
    fn an_object_of_very_many_fields_is_read() {
        assert_eq!(Object::parse(&numbered((0..500_000).map(|n| n.to_string()))).unwrap().len(), 500_000);
    }

    #[test]
    fn strings_are_found_in_invalid_json() {
        for (text, expected) in [
            (r#"{"r":"a"}"#, &[r#""a""#][..]),
            (r#" { "x" : [1,{"r":"no"}], "\u0072" : "a" , "r":"b\"" "#, &[r#""a""#, r#""b\"""#]),
            (r#"{"r":"a","x":}{]"#, &[r#""a""#]),
            (r#"{"r":"a","x":"cut"#, &[r#""a""#]),
            (r#"{"r":"a"}{"r":"b"}"#, &[r#""a""#, r#""b""#]),
            (r#"}}{"r":"é"é}"#, &[r#""é""#]),
            (r#"{"r":"cut"#, &[]),
            (r#"{"r":"cut\"#, &[]),
            (r#"{"r""a"}"#, &[]),
            (r#"{"r":1,"x":"r","y":{"r":"a"}}"#, &[]),
            (r#"{"x":"\"r\":\"a\""}"#, &[]),
            (r#"[{"r":"a"}]"#, &[]),
            (r#""r":"a""#, &[]),
        ] {
            assert_eq!(strings_of(text, "r"), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = Object::parse(&text);
        }

        #[test]
        fn no_text_makes_the_search_for_strings_panic(text in "(\\{|\"r\"|:|\"|\\\\|.)*") {
            strings_of(&text, "r");
        }

        /// In a valid object, the search finds the same as the parser.
        #[test]
        fn search_agrees_with_parser(names in prop::collection::hash_set("[a-e\"\\\\{}]{1,2}", 0..6), value in ".*") {
            let fields: Vec<String> =
                names.iter().map(|name| format!("{} : {}", Value::from(name.as_str()), Value::from(value.as_str()))).collect();
            let text = format!("{{{}}}", fields.join(","));
            let object = Object::parse(&text).unwrap();
            for name in ["a", "b", "\"", "\\", "{"] {
                let expected: Vec<&str> = object.get(name).map(RawValue::get).into_iter().collect();
                prop_assert_eq!(strings_of(&text, name), expected, "{}", text);
            }
        }

        #[test]
        fn the_size_of_a_string_is_exact(text in ".*|[\\x00-\\x7f\u{fffd}\"\\\\]*") {
            prop_assert_eq!(escaped_bytes(&text), serde_json::to_string(&text).unwrap().len());
        }
    }
}
