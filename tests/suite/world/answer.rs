//! The answer to an HTTP call, and assertions about it.

use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The call, for failure messages.
    pub(crate) what: String,
    /// The status code.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: String,
}

/// An RFC 9457 problem document of this API: these members and no other.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Problem {
    /// A URI that identifies the kind of problem.
    pub(crate) r#type: String,
    /// The kind of problem, in words.
    pub(crate) title: String,
    /// The status code again.
    pub(crate) status: u16,
    /// What was wrong with this call.
    pub(crate) detail: String,
    /// What a program can act on.
    pub(crate) code: Option<String>,
    /// When the reason ends.
    pub(crate) until: Option<u64>,
    /// How long the caller must wait.
    #[serde(rename = "retryAfterMs")]
    pub(crate) retry_after_ms: Option<u64>,
}

impl Answer {
    /// Asserts that the status is 200.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}: {}", self.what, self.body);
        self
    }

    /// Asserts that the status is this one, and the body empty.
    pub(crate) fn status_is(self, status: u16) {
        assert_eq!((self.status, self.body.as_str()), (status, ""), "{}", self.what);
    }

    /// Asserts that the status is 200 and the body is empty.
    pub(crate) fn empty(self) {
        let answer = self.ok();
        assert_eq!(answer.body, "", "{}: expected an empty body", answer.what);
    }

    /// Returns the JSON body of a 200.
    pub(crate) fn json<T: DeserializeOwned>(self) -> T {
        let answer = self.ok();
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/json"), "{}: expected JSON, got {kind:?}", answer.what);
        serde_json::from_str(&answer.body).unwrap_or_else(|why| panic!("{}: {why} in {}", answer.what, answer.body))
    }

    /// Asserts that the status is `status` and that the detail of the problem document contains `named`.
    pub(crate) fn refused(self, status: u16, named: &str) -> Problem {
        let what = format!("{}: {} {}", self.what, self.status, self.body);
        assert_eq!(self.status, status, "{what}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{what}");
        let problem: Problem = serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(problem.status, status, "{what}");
        assert!(!problem.r#type.is_empty() && !problem.title.is_empty(), "{what}");
        assert!(problem.detail.contains(named), "{what}: expected it to name {named:?}");
        problem
    }

    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
