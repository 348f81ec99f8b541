//! The calls of other services. They use the internal HTTP API, whose gateway checks the caller (IAM), or invoke the
//! function directly with a plain JSON payload.

use futures::future::BoxFuture;
use lambda_http::{Body, Request, Response};
use shared::id::Id;
use shared::json::Object;
use shared::{Error, Result};

use super::http::{Input, MAX_ANSWER_BYTES, Reply, parse_id, require_few_fields, respond};
use crate::App;
use crate::failure::Failure;

/// The handlers of an internal function for both kinds of call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    /// The query parameters that it reads.
    pub(crate) parameters: &'static [&'static str],
    /// Handles a request of the HTTP API.
    pub(crate) http: for<'a> fn(&'a App, &'a Input) -> BoxFuture<'a, Result<Reply>>,
    /// Handles a direct invocation with this payload.
    pub(crate) direct: for<'a> fn(&'a App, Object<'a>) -> BoxFuture<'a, Result<Option<String>>>,
    /// The largest body or payload, in bytes.
    pub(crate) max_body_bytes: usize,
    /// Converts an error before it is answered.
    pub(crate) refusal: fn(Error) -> Error,
}

/// Returns whether an event came through the HTTP API.
pub(crate) fn is_http(event: &str) -> bool {
    Object::parse(event).is_ok_and(|event| event.get("requestContext").is_some() && event.get("rawPath").is_some())
}

/// Answers a request of the internal HTTP API.
pub(crate) async fn answer(app: &App, endpoint: Endpoint, request: Request) -> Response<Body> {
    let input = Input::new(request);
    let outcome = async {
        input.require_readable(endpoint.max_body_bytes)?;
        input.refuse_misspelt(endpoint.parameters)?;
        (endpoint.http)(app, &input).await
    };
    respond(app, async { outcome.await.map_err(endpoint.refusal) }).await
}

/// Answers a direct invocation with the result as JSON, or `null` if the HTTP answer would be empty. A refusal fails
/// the invocation: `errorType` is the title of the problem document, without spaces, and `errorMessage` is its detail.
pub(crate) async fn answer_directly(app: &App, endpoint: Endpoint, event: &str) -> Result<String, Failure> {
    let outcome = async {
        if event.len() > endpoint.max_body_bytes {
            return Err(Error::TooLarge { limit: endpoint.max_body_bytes });
        }
        let payload = Object::parse(event).map_err(|why| Error::BadRequest(format!("the payload {why}")))?;
        require_few_fields(&payload)?;
        match (endpoint.direct)(app, payload).await? {
            Some(body) if body.len() > MAX_ANSWER_BYTES => {
                Err(Error::unavailable("answering", "the answer is larger than a function may give"))
            }
            body => Ok(body.unwrap_or_else(|| "null".to_owned())),
        }
    };
    outcome.await.map_err(endpoint.refusal).map_err(|error| {
        app.report(&error);
        let problem = error.problem();
        Failure::new(&problem.title.replace(' ', ""), problem.detail)
    })
}

/// Returns a field of a payload that must be an id, if it is present.
pub(crate) fn optional_id<Kind>(payload: &Object<'_>, name: &str) -> Result<Option<Id<Kind>>> {
    optional_text(payload, name)?.map(|id| parse_id(name, &id)).transpose()
}

/// Returns a field of a payload that must be an id.
pub(crate) fn required_id<Kind>(payload: &Object<'_>, name: &str) -> Result<Id<Kind>> {
    optional_id(payload, name)?.ok_or_else(|| Error::field(name, "is missing"))
}

/// Returns a field of a payload that must be a string.
pub(crate) fn required_text<'a>(payload: &Object<'a>, name: &str) -> Result<std::borrow::Cow<'a, str>> {
    optional_text(payload, name)?.ok_or_else(|| Error::field(name, "is missing"))
}

/// Returns a field of a payload that must be a string, if it is present.
pub(crate) fn optional_text<'a>(payload: &Object<'a>, name: &str) -> Result<Option<std::borrow::Cow<'a, str>>> {
    match payload.text(name) {
        None => Ok(None),
        Some(None) => Err(Error::field(name, "must be a string")),
        Some(text) => Ok(text),
    }
}
