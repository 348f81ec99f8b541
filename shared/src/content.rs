//! Refuses contents that are JSON, but that the decoders of many clients cannot read.
//!
//! A pull returns many messages in one answer, so one such content makes the whole page unreadable. Python and Node
//! fail on deep nesting. Strict decoders refuse a lone surrogate, and some refuse numbers with very many digits.

/// The greatest depth of nesting in a content: `1` is 0 deep, `[1]` is 1 deep.
pub const MAX_DEPTH: usize = 48;

/// The longest number in a content, in characters.
pub const MAX_NUMBER_CHARACTERS: usize = 300;

/// Why a content is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// More brackets are open at once than [`MAX_DEPTH`].
    #[error("is nested more than {MAX_DEPTH} deep")]
    Depth,
    /// A string or the name of a field has half of a surrogate pair without the other half, as in `"\ud800"`.
    #[error("has a lone surrogate")]
    LoneSurrogate,
    /// A number is longer than [`MAX_NUMBER_CHARACTERS`].
    #[error("has a number of more than {MAX_NUMBER_CHARACTERS} characters")]
    Number,
}

/// Checks a JSON text in one pass without recursion, so the work grows only with its length.
///
/// # Errors
/// Returns the first thing in the text that is refused.
pub fn check(json: &str) -> Result<(), Unreadable> {
    let (mut rest, mut depth) = (json.as_bytes(), 0_usize);
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => after_string(after)?,
            b'-' | b'0'..=b'9' => after_number(rest)?,
            b'[' | b'{' => {
                depth += 1;
                after
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                after
            }
            _ => after,
        };
        if depth > MAX_DEPTH {
            return Err(Unreadable::Depth);
        }
    }
    Ok(())
}

/// Returns the rest after a string whose first quote has been read.
fn after_string(mut rest: &[u8]) -> Result<&[u8], Unreadable> {
    loop {
        rest = match rest {
            [] => return Ok(rest),
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'u', after @ ..] => after_code_unit(after)?,
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
        };
    }
}

/// Returns the rest after a UTF-16 code unit, or after both of a surrogate pair.
fn after_code_unit(rest: &[u8]) -> Result<&[u8], Unreadable> {
    let Some((unit, after)) = code_unit(rest) else { return Ok(rest) };
    match unit {
        0xd800..0xdc00 => match after.strip_prefix(b"\\u").and_then(code_unit) {
            Some((0xdc00..0xe000, after)) => Ok(after),
            _ => Err(Unreadable::LoneSurrogate),
        },
        0xdc00..0xe000 => Err(Unreadable::LoneSurrogate),
        _ => Ok(after),
    }
}

/// Returns the value of four hexadecimal digits at the beginning, and the rest.
fn code_unit(rest: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, after) = rest.split_first_chunk::<4>()?;
    let unit = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((unit, after))
}

/// Returns the rest after the number at the beginning.
fn after_number(rest: &[u8]) -> Result<&[u8], Unreadable> {
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let length = rest.iter().take_while(|byte| is_part(byte)).count();
    if length > MAX_NUMBER_CHARACTERS { Err(Unreadable::Number) } else { Ok(&rest[length..]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    fn nested(depth: usize) -> String {
        format!("{}1{}", "[{\"a\":".repeat(depth / 2), "}]".repeat(depth / 2))
    }

    #[test]
    fn nesting_is_limited() {
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 2)), Err(Unreadable::Depth));
        assert_eq!(check(&format!("[{}]", nested(MAX_DEPTH))), Err(Unreadable::Depth));
        assert_eq!(check(&"[".repeat(100_000)), Err(Unreadable::Depth));
        // Brackets side by side or within strings are not nested.
        assert_eq!(check(&format!("[{}1]", "[],{},".repeat(1_000))), Ok(()));
        assert_eq!(check(&format!("\"{}\\\"[\"", "[{".repeat(1_000))), Ok(()));
    }

    #[test]
    fn lone_surrogates_are_refused() {
        for whole in
            [r#""\ud83d\ude00""#, r#""\uD83D\uDE00\ud83d\ude00""#, r#""\\ud800""#, r#""\ud7ff\ue000""#, r#""😀""#]
        {
            assert_eq!(check(whole), Ok(()), "{whole}");
        }
        for lone in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\uDBFFx""#,
            r#""\ud800\ud800\udc00""#,
            r#""\ud83d\ude00\ude00""#,
            r#""\ud800\n\udc00""#,
            r#""\\\ud800""#,
            r#"{"\udfff":1}"#,
            r#"[{"a":["\ud800"]}]"#,
        ] {
            assert_eq!(check(lone), Err(Unreadable::LoneSurrogate), "{lone}");
        }
    }

    #[test]
    fn numbers_are_limited() {
        for (number, expected) in [
            ("9".repeat(300), Ok(())),
            ("9".repeat(301), Err(Unreadable::Number)),
            (format!("-0.{}", "0".repeat(298)), Err(Unreadable::Number)),
            (format!("1e{}", "0".repeat(299)), Err(Unreadable::Number)),
            (format!("\"{}\"", "9".repeat(301)), Ok(())),
            (format!("[{}]", "1e400,".repeat(1_000) + "1"), Ok(())),
        ] {
            assert_eq!(check(&number), expected, "{number}");
            assert_eq!(check(&format!("{{\"a\":[{number}]}}")), expected, "{number}");
        }
    }

    /// Returns the depth of a value.
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// JSON strings, with escapes of whole and lone surrogates.
    fn string() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-z\\[\\]{} 0-9é😀]{0,4}",
            1 => Just(r#"\""#.to_owned()),
            1 => Just(r"\\".to_owned()),
            1 => Just(r"\u0041".to_owned()),
            1 => Just(r"\ud83d\ude00".to_owned()),
            1 => prop::sample::select(vec![r"\ud800", r"\uDBFF", r"\udc00", r"\uDFFF"]).prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
    }

    /// JSON texts whose depth is on both sides of the limit.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![string(), Just("null".to_owned()), "-?[1-9][0-9]{0,3}", Just("[]".to_owned())];
        leaf.prop_recursive(80, 200, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|items| format!("[ {} ]", items.join(" ,"))),
                (string(), inner).prop_map(|(name, value)| format!("{{{name} : {value}}}")),
            ]
        })
    }

    proptest! {
        /// serde_json is the reference: it refuses lone surrogates, and its values show their depth.
        #[test]
        fn check_accepts_what_a_strict_decoder_reads(json in json(), around in 0_usize..60) {
            let json = format!("{}{json}{}", "[".repeat(around), "]".repeat(around));
            prop_assert!(serde_json::from_str::<&RawValue>(&json).is_ok(), "{json}");
            let read = serde_json::from_str::<Value>(&json);
            let is_readable = read.as_ref().is_ok_and(|value| depth(value) <= MAX_DEPTH);
            prop_assert_eq!(check(&json).is_ok(), is_readable, "{}: {:?}", json, read);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(.|\\\\u|\\\\|\"|d8|dc|[0-9\\[\\]{}])*") {
            let _ = check(&text);
        }
    }
}
