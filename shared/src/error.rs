//! The one error of the functions. [`Error::problem`] is for the client. `Display` with its sources is for the log.

use serde::Serialize;

/// The result of the functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of a failure of the service.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a call was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong. The text names the field and is for the client.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// The token is missing or invalid. The text is for the log, and the client learns only that a valid token is
    /// needed.
    #[error("unauthorized: {0}")]
    Unauthorized(String),
    /// The token is given twice, so it is not clear which one counts.
    #[error("unauthorized: access_token is given twice")]
    TokenGivenTwice,
    /// The caller may not do this. The text is for the client and must not show whether the thing exists.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The path exists, but not with this method.
    #[error("method not allowed; allowed: {0}")]
    MethodNotAllowed(String),
    /// The call is possible only after another one. The text is for the client.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A limit is reached, for example of open connections. The text is for the client.
    #[error("too many: {0}")]
    TooMany(String),
    /// The body is larger than the endpoint accepts.
    #[error("content too large: the limit is {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is compressed, or otherwise encoded.
    #[error("unsupported Content-Encoding")]
    Encoded,
    /// A dependency of the function failed.
    #[error("{operation} failed")]
    Unavailable {
        /// The operation that failed.
        operation: &'static str,
        /// The cause.
        #[source]
        cause: Cause,
    },
}

/// An RFC 9457 problem document.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// The kind of problem. It adds nothing to the status.
    pub r#type: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The mistake in this request.
    pub detail: String,
}

impl Error {
    /// Creates the error of a wrong field in a request.
    pub fn field(name: &str, why: impl std::fmt::Display) -> Self {
        Self::BadRequest(format!("{name} {why}"))
    }

    /// Creates the error of a failed dependency.
    pub fn unavailable(operation: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Unavailable { operation, cause: cause.into() }
    }

    /// Returns the problem document for the client.
    pub fn problem(&self) -> Problem {
        let (status, title, detail) = match self {
            Self::BadRequest(detail) => (400, "Bad Request", detail.clone()),
            Self::Unauthorized(_) => (401, "Unauthorized", "a valid access_token is needed".to_owned()),
            Self::TokenGivenTwice => (401, "Unauthorized", "access_token is given twice; give it once".to_owned()),
            Self::Forbidden(detail) => (403, "Forbidden", detail.clone()),
            Self::MethodNotAllowed(allowed) => (405, "Method Not Allowed", format!("allowed here: {allowed}")),
            Self::Conflict(detail) => (409, "Conflict", detail.clone()),
            Self::TooMany(detail) => (429, "Too Many Requests", detail.clone()),
            Self::TooLarge { limit } => {
                (413, "Content Too Large", format!("the body is too large; the limit is {limit} bytes"))
            }
            Self::Encoded => {
                (415, "Unsupported Media Type", "send the body as it is, without Content-Encoding".to_owned())
            }
            Self::Unavailable { .. } => {
                (503, "Service Unavailable", "the service failed; the same request may succeed later".to_owned())
            }
        };
        Problem { r#type: "about:blank", title, status, detail }
    }

    /// Returns whether the service failed. The log then gets an error.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Returns the error and its causes in one line, for the log.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// Returns an error and its causes in one line. `Debug` is never logged, because that of the SDK contains whole
/// responses.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        line.push_str(": ");
        line.push_str(&next.to_string());
        cause = next.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_neither_causes_nor_why_a_token_failed() {
        let failed = Error::unavailable("GetItem", "table chat at 10.0.0.1 is on fire");
        assert_eq!(failed.problem().status, 503);
        assert!(!failed.problem().detail.contains("fire"));
        assert_eq!(failed.chain(), "GetItem failed: table chat at 10.0.0.1 is on fire");
        assert!(!Error::Unauthorized("signature".into()).problem().detail.contains("signature"));
    }
}
