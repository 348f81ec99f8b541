//! The one error of the functions. [`Error::problem`] is for the client. `Display` with its sources is for the log.

use serde::Serialize;

use crate::clock::Ms;

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
    /// The frame in a body is malformed; the text names the field and is for the client.
    #[error("bad request: {0}")]
    Frame(String),
    /// The `requestId` was used for something else. The text says for what, and is for the client.
    #[error("conflict: the requestId was used for {0}")]
    RequestIdReused(&'static str),
    /// The manager of a group has muted the caller.
    #[error("forbidden: the caller is muted until {until}")]
    Muted {
        /// When the mute ends.
        until: Ms,
    },
    /// The caller is banned.
    #[error("forbidden: the caller is banned until {until}")]
    Banned {
        /// When the ban ends.
        until: Ms,
    },
    /// The caller has sent too much.
    #[error("too many: the caller has sent too much")]
    RateLimited {
        /// How long the caller must wait.
        retry_after_ms: Ms,
    },
    /// The thing does not exist. Only the back end learns this. The text is for it.
    #[error("not found: {0}")]
    NotFound(String),
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
    /// What a program can act on, where a frame of the WebSocket would have a code too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// When the reason ends, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Ms>,
    /// How long the caller must wait, in milliseconds.
    #[serde(rename = "retryAfterMs", skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<Ms>,
}

/// The codes by which a program can act on a refusal: those of `ERROR` frames, and of some problem documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is malformed. Nothing was stored, and the same frame will be refused again.
    BadRequest,
    /// The connection's token has expired. The client connects again with a new one.
    TokenExpired,
    /// The server failed. The client sends again, with the same `requestId`.
    Unavailable,
    /// The `requestId` was used within ten minutes for another address or content. Nothing was stored. The client sends
    /// again, with a `requestId` that no tab, device or reload of this user has used.
    RequestIdReused,
    /// The manager of the group has muted the user. Nothing was stored.
    Muted,
    /// The user is banned. Nothing was stored, and the connection is closed. The client must not connect again by itself.
    Banned,
    /// The user has sent too much. Nothing was stored. The client sends again later.
    RateLimited,
    /// The user has opened a connection beyond the limit, and this one is the oldest. It is closed after this frame.
    /// The client must not connect again by itself, or the user's tabs would close each other without end.
    TooManyConnections,
}

/// What a banned user is told.
pub const BANNED: &str = "you are banned";

/// The text for a user over the limit.
pub const RATE_LIMITED: &str = "you have sent too much in this minute";

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
            Self::BadRequest(detail) | Self::Frame(detail) => (400, "Bad Request", detail.clone()),
            Self::Unauthorized(_) => (401, "Unauthorized", "a valid access_token is needed".to_owned()),
            Self::TokenGivenTwice => (401, "Unauthorized", "access_token is given twice; give it once".to_owned()),
            Self::Forbidden(detail) => (403, "Forbidden", detail.clone()),
            Self::MethodNotAllowed(allowed) => (405, "Method Not Allowed", format!("allowed here: {allowed}")),
            Self::Conflict(detail) => (409, "Conflict", detail.clone()),
            Self::RequestIdReused(other) => (409, "Conflict", format!("requestId was used for {other}")),
            Self::Muted { .. } => (403, "Forbidden", "the manager of the group has muted you".to_owned()),
            Self::Banned { .. } => (403, "Forbidden", BANNED.to_owned()),
            Self::RateLimited { .. } => (429, "Too Many Requests", RATE_LIMITED.to_owned()),
            Self::NotFound(detail) => (404, "Not Found", detail.clone()),
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
        let (code, until) = match self {
            Self::Frame(_) => (Some(ErrorCode::BadRequest), None),
            Self::RequestIdReused(_) => (Some(ErrorCode::RequestIdReused), None),
            Self::Muted { until } => (Some(ErrorCode::Muted), Some(*until)),
            Self::Banned { until } => (Some(ErrorCode::Banned), Some(*until)),
            Self::RateLimited { .. } => (Some(ErrorCode::RateLimited), None),
            _ => (None, None),
        };
        let retry_after_ms = match self {
            Self::RateLimited { retry_after_ms } => Some(*retry_after_ms),
            _ => None,
        };
        Problem { r#type: "about:blank", title, status, detail, code, until, retry_after_ms }
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
