//! A JSON object whose values stay the text that came in.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The fields of one JSON object in the order in which they came; no name comes twice.
#[derive(Debug, Clone, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// Why a text is not such an object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAnObject(String);

impl<'a> Object<'a> {
    /// The object that `text` is.
    ///
    /// # Errors
    /// The text is not JSON, is JSON but no object, or has a name twice.
    pub fn parse(text: &'a str) -> Result<Self, NotAnObject> {
        serde_json::from_str(text).map_err(|cause| NotAnObject(describe(&cause)))
    }

    /// The value of a field, if the object has it; `null` is a value.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| *value)
    }

    /// The value of a field that must be a string: `None` if absent, `Some(None)` if it is anything else.
    pub fn text(&self, name: &str) -> Option<Option<Cow<'a, str>>> {
        self.get(name).map(|value| serde_json::from_str::<Text<'a>>(value.get()).ok().map(|text| text.0))
    }

    /// The object without these fields.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|(field, _)| !names.contains(&field.as_ref()));
        self
    }

    /// The object with `name` set to `value`, in front.
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

/// How many bytes a text takes as a string within another JSON document, without its quotes: exactly what is sent.
pub fn escaped_bytes(text: &str) -> usize {
    /// Counts what is written to it.
    struct Count(usize);

    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    serde_json::to_writer(&mut count, text).expect("a string has an encoding, and counting does not fail");
    count.0 - 2
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What our own error begins with.
const TWICE: &str = "has the field ";

/// What is wrong, without a word of the text itself: a log must not hold what people write.
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
        let mut object = Object::default();
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            if object.get(&name.0).is_some() {
                return Err(serde::de::Error::custom(format_args!("{TWICE}{:?} twice", name.0)));
            }
            object.0.push((name.0, value));
        }
        Ok(object)
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
    fn what_is_wrong_is_said() {
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

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = Object::parse(&text);
        }
    }
}
