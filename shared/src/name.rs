//! Names of groups. Users choose them, and other users read them in a list.

use icu_properties::CodePointSetData;
use icu_properties::props::{DefaultIgnorableCodePoint, WhiteSpace};

/// The longest name of a group, in characters.
pub const MAX_NAME_CHARACTERS: usize = 100;

/// The reason why a text is not a valid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than [`MAX_NAME_CHARACTERS`].
    #[error("has {0} characters; the limit is {MAX_NAME_CHARACTERS}")]
    Length(usize),
    /// It has no visible character.
    #[error("is blank: it needs a visible character")]
    Blank,
    /// A control character or the end of a line.
    #[error("must not have control characters or line ends")]
    Control,
    /// A character that changes the direction of the text after it, in the name or around it.
    #[error("must not have characters that change the direction of text")]
    Direction,
}

/// Checks a name. Joiners, and the marks that Arabic and Hebrew need beside digits, are allowed among visible
/// characters. They change neither lines nor direction.
///
/// # Errors
/// Returns the first rule that the text breaks.
pub fn check(name: &str) -> Result<(), NameError> {
    let characters = name.chars().count();
    if characters > MAX_NAME_CHARACTERS {
        return Err(NameError::Length(characters));
    }
    if name.chars().all(is_invisible) {
        return Err(NameError::Blank);
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err(NameError::Control);
    }
    // Embeddings, overrides and isolates.
    if name.chars().any(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
        return Err(NameError::Direction);
    }
    Ok(())
}

/// Returns whether a character is invisible. U+2800 is a Braille cell without dots, and no property marks it as blank.
fn is_invisible(c: char) -> bool {
    c == '\u{2800}'
        || CodePointSetData::new::<WhiteSpace>().contains(c)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_needs_a_visible_character() {
        for blank in
            ["", " ", "\u{a0}\u{3000}", "\u{200b}", "\u{200d}\u{feff}", "\u{3164}", "\u{2800}", "\u{e0041}", "\n"]
        {
            assert_eq!(check(blank), Err(NameError::Blank), "{blank:?}");
            assert_eq!(check(&format!("{blank}a")).is_ok(), blank != "\n", "{blank:?}");
        }
    }

    #[test]
    fn joiners_and_marks_within_a_name_are_allowed() {
        for name in
            ["跑步", "👩\u{200d}👩\u{200d}👧", "می\u{200c}خواهم", "א\u{200f}1", "a\u{61c}b", "❤\u{fe0f}", "a b", "."]
        {
            assert_eq!(check(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn controls_and_overrides_are_refused_anywhere() {
        for control in ['\0', '\t', '\n', '\u{7f}', '\u{85}', '\u{2028}', '\u{2029}'] {
            assert_eq!(check(&format!("a{control}b")), Err(NameError::Control), "{control:?}");
        }
        for turn in
            ['\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}']
        {
            assert_eq!(check(&format!("a{turn}b")), Err(NameError::Direction), "{turn:?}");
        }
    }

    #[test]
    fn a_name_has_100_characters_at_most() {
        assert_eq!(check(&"😀".repeat(100)), Ok(()));
        assert_eq!(check(&"a".repeat(101)), Err(NameError::Length(101)));
    }

    proptest! {
        #[test]
        fn a_visible_character_makes_a_name_valid(name in "[a-z\u{200b}-\u{200f}\u{2060}\u{feff} ]{0,99}") {
            prop_assert_eq!(check(&format!("{name}é")), Ok(()));
            prop_assert_eq!(check(&name).is_ok(), name.bytes().any(|b| b.is_ascii_lowercase()));
        }
    }
}
