//! The one error of the functions. It has two faces: [`Error::problem`] is what a client may know, `Display` with its
//! sources is what the log must know.

use serde::Serialize;

/// What the functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of a failure that is not the caller's.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a call was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong; the text names the field and is for the client.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// No valid token; the text is for the log, the client is told no more than that.
    #[error("unauthorized: {0}")]
    Unauthorized(String),
    /// The token is given twice, so that it is open which one counts.
    #[error("unauthorized: access_token is given twice")]
    TokenGivenTwice,
    /// Not the caller's to do; the text is for the client and must not tell whether the thing exists.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The path exists, but not for this method.
    #[error("method not allowed; allowed: {0}")]
    MethodNotAllowed(String),
    /// Not now, but once something else is done; the text is for the client.
    #[error("conflict: {0}")]
    Conflict(String),
    /// More of something than there may be at once; the text is for the client.
    #[error("too many: {0}")]
    TooMany(String),
    /// The body is larger than the endpoint takes.
    #[error("content too large: the limit is {limit} bytes")]
    TooLarge {
        /// The most that it takes, in bytes.
        limit: usize,
    },
    /// The body is compressed, or otherwise encoded.
    #[error("unsupported Content-Encoding")]
    Encoded,
    /// Something behind the function failed.
    #[error("{operation} failed")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// Why it failed.
        #[source]
        cause: Cause,
    },
}

/// An RFC 9457 problem document.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// What kind of problem it is; the status says it all.
    pub r#type: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong with this request.
    pub detail: String,
}

impl Error {
    /// A wrong field of a request.
    pub fn field(name: &str, why: impl std::fmt::Display) -> Self {
        Self::BadRequest(format!("{name} {why}"))
    }

    /// A failure of something behind the function.
    pub fn unavailable(operation: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Unavailable { operation, cause: cause.into() }
    }

    /// What a client may know.
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

    /// Whether it is the service that failed, and the log should say so loudly.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The error and its causes in one line, for the log.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its causes in one line. Their `Debug` is never logged: the SDK's holds whole responses.
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
    fn a_client_is_told_neither_causes_nor_why_a_token_failed() {
        let failed = Error::unavailable("GetItem", "table chat at 10.0.0.1 is on fire");
        assert_eq!(failed.problem().status, 503);
        assert!(!failed.problem().detail.contains("fire"));
        assert_eq!(failed.chain(), "GetItem failed: table chat at 10.0.0.1 is on fire");
        assert!(!Error::Unauthorized("signature".into()).problem().detail.contains("signature"));
    }
}
