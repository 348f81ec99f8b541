//! Mutations of inputs: words with a meaning, edits of text and edits of JSON. All of them follow from a seed.

use std::sync::LazyLock;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

/// Words with a meaning here: ids, values of parameters, keys of the table, and texts that are hard to parse.
const WORDS: &[&str] = &[
    "",
    " ",
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "nobody",
    "secret-group",
    "true",
    "false",
    "asc",
    "desc",
    "all",
    "unicast",
    "multicast",
    "broadcast",
    "ping",
    "null",
    "0",
    "-1",
    "1e400",
    "-0.0",
    "18446744073709551616",
    "9e99999",
    "00000000000000000000000000",
    "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "00000000-0000-0000-0000-000000000000",
    "type",
    "receiverId",
    "groupId",
    "content",
    "requestId",
    "senderId",
    "userId",
    "from",
    "to",
    "notificationType",
    "method",
    "friendId",
    "blockedId",
    "access_token",
    "name",
    "sort",
    "drop",
    "after",
    "since",
    "page",
    "detailed",
    "sub",
    "exp",
    "alg",
    "kid",
    "crit",
    "none",
    "HS256",
    "RS256",
    "GET",
    "PUT",
    "POST",
    "DELETE",
    "OPTIONS",
    "USER#carol",
    "GROUP#secret-group",
    "STATE",
    "META",
    "LOG#",
    "c#",
    "pk",
    ":now",
    "#n",
    "..",
    ".",
    "../",
    "/",
    "\\",
    "//",
    "%2e%2e%2f",
    "%2F",
    "%00",
    "%",
    "%4",
    "%zz",
    "%ff",
    "%c0%ae",
    "%u0041",
    "+",
    "&",
    "=",
    ";",
    "?",
    "#",
    "@",
    ":",
    "[",
    "]",
    "[::1",
    ":99999",
    "{",
    "}",
    "\"",
    "'",
    "'; --",
    "\0",
    "\n",
    "\r\n",
    "\t",
    "\u{7f}",
    "\u{feff}",
    "\u{202e}",
    "é",
    "跑步",
    "😀",
    "\u{fffd}",
    "\\u0000",
    "\\ud800",
    "chat",
    "chat, ",
    "Bearer ",
    "{}",
    "[]",
    "http://",
    "https://evil.example",
    "${x}",
    "{{7*7}}",
    "%s%n",
    "__proto__",
];

/// Inputs that found or might find a fault. They run unchanged and mutated.
static CORPUS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the corpus is there").flatten().map(|f| f.path()).collect();
    files.sort_unstable();
    files.iter().map(|file| String::from_utf8_lossy(&std::fs::read(file).expect("a file")).into_owned()).collect()
});

/// The longest text that is generated.
const MAX_CHARS: usize = 40_000;

/// A source of chance, with words learned from answers.
pub(super) struct Mutator {
    rng: StdRng,
    known: Vec<String>,
}

impl Mutator {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), known: Vec::new() }
    }

    /// Learns a word of an answer, such as an id.
    pub(super) fn learn(&mut self, word: &str) {
        if self.known.len() < 200 {
            self.known.push(word.to_owned());
        }
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("a small number");
        usize::try_from(self.rng.next_u64() % bound).expect("below a small number")
    }

    pub(super) fn in_a_hundred(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(super) fn corpus(&mut self) -> &'static str {
        self.pick::<String>(&CORPUS)
    }

    /// A learned word.
    pub(super) fn known(&mut self) -> String {
        let place = self.below(self.known.len());
        self.known.get(place).cloned().unwrap_or_default()
    }

    /// A word, sometimes mutated or repeated.
    pub(super) fn word(&mut self) -> String {
        match self.below(12) {
            0..5 => self.known(),
            5..9 => (*self.pick(WORDS)).to_owned(),
            9 => {
                let (word, times) = (*self.pick(WORDS), *self.pick(&[2, 26, 64, 65, 100, 101, 128, 129, 1_000]));
                word.repeat(times)
            }
            10 => {
                let word = (*self.pick(WORDS)).to_owned();
                self.text(&word)
            }
            _ => self.rng.next_u64().to_string(),
        }
    }

    /// Mutates a text in up to four places.
    pub(super) fn text(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(4) {
            self.edit(&mut chars);
        }
        chars.truncate(MAX_CHARS);
        chars.into_iter().collect()
    }

    fn edit(&mut self, chars: &mut Vec<char>) {
        let at = self.below(chars.len() + 1);
        let end = chars.len().min(at + 1 + self.below(8));
        match self.below(9) {
            0 => drop(chars.drain(at..end)),
            1 => chars.truncate(at),
            2 => {
                let again = chars[at..end].repeat(1 + self.below(300));
                chars.splice(at..at, again);
            }
            3 => {
                let code = u32::try_from(self.below(0x11_0000)).expect("a small number");
                chars.insert(at, char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            4 if at < chars.len() => {
                let bit = 1 << self.below(7);
                chars[at] = char::from_u32(u32::from(chars[at]) ^ bit).unwrap_or('\0');
            }
            5 => {
                let escaped = chars[at..end].iter().flat_map(|c| crate::inside::escaped(&c.to_string()).into_bytes());
                let escaped: Vec<char> = escaped.map(char::from).collect();
                chars.splice(at..end, escaped);
            }
            6 => {
                let hard = self.hard_to_read();
                chars.splice(at..at, hard.chars());
            }
            _ => {
                let word = if self.in_a_hundred(10) { self.corpus() } else { *self.pick(WORDS) };
                chars.splice(at..at, word.chars());
            }
        }
    }

    /// Texts that make decoders fail or work too much: half of a surrogate pair, depth, a long number, many fields, a
    /// byte order mark, and bytes in a query that are not UTF-8.
    pub(super) fn hard_to_read(&mut self) -> String {
        let many = *self.pick(&[47, 48, 49, 64, 65, 300, 301, 2_000]);
        match self.below(7) {
            0 => (*self.pick(&[r#""\ud800""#, r#""\udfffx""#, r#"{"\ud83d":1}"#, r#""\ud83d\ude00""#])).to_owned(),
            1 => format!("{}1{}", "[".repeat(many), "]".repeat(many)),
            2 => format!("{}1{}", "{\"a\":".repeat(many), "}".repeat(many)),
            3 => format!("-1{}", "0".repeat(many)),
            4 => (0..many).fold(String::new(), |fields, n| format!("{fields}\"{n}\":0,")),
            5 => "\u{feff}".to_owned(),
            _ => (*self.pick(&["%ff", "%C5%DC%B2%BD", "%ed%a0%80", "%F0%9F"])).to_owned(),
        }
    }

    /// A misspelling of a parameter.
    pub(super) fn misspelling(&mut self, name: &str) -> String {
        let mut capital = name.to_owned();
        capital[..1].make_ascii_uppercase();
        match self.below(5) {
            0 => capital,
            1 => name.to_ascii_uppercase(),
            2 => format!("{name}[]"),
            3 => format!("{name}%5B0%5D"),
            _ => format!("%20{name}"),
        }
    }

    /// A value of any kind.
    pub(super) fn value(&mut self) -> Value {
        match self.below(10) {
            0 => Value::Null,
            1 => json!(self.in_a_hundred(50)),
            2 => json!(self.rng.next_u64()),
            3 => json!(-1.5e300),
            4 => json!([self.word(), self.word()]),
            5 => {
                let (name, word) = (self.word(), self.word());
                json!({ name: word })
            }
            6 => (0..self.below(120))
                .fold(json!(1), |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) }),
            _ => json!(self.word()),
        }
    }

    /// Mutates a JSON document in up to three places.
    pub(super) fn json(&mut self, document: &mut Value) {
        for _ in 0..=self.below(3) {
            self.spoil(document);
        }
    }

    /// Mutates the document or something in it.
    fn spoil(&mut self, value: &mut Value) {
        let deeper = self.in_a_hundred(85);
        match value {
            Value::Object(fields) if deeper && !fields.is_empty() => self.spoil_object(fields),
            Value::Array(items) if deeper && !items.is_empty() => {
                let place = self.below(items.len());
                self.spoil(&mut items[place]);
            }
            Value::String(text) if deeper => *text = self.text(text),
            other => *other = self.value(),
        }
    }

    fn spoil_object(&mut self, fields: &mut Map<String, Value>) {
        let names: Vec<String> = fields.keys().cloned().collect();
        let name = self.pick(&names).clone();
        match self.below(10) {
            0 => drop(fields.remove(&name)),
            1 => {
                let value = fields.remove(&name).unwrap_or_default();
                fields.insert(self.word(), value);
            }
            2 => {
                let other = self.pick(&names).clone();
                let copied = fields[&other].clone();
                fields.insert(name, copied);
            }
            3 => {
                let (word, value) = (self.word(), self.value());
                fields.insert(word, value);
            }
            _ => self.spoil(&mut fields[&name]),
        }
    }
}
