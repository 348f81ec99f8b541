//! The calls of other services: through the internal HTTP API, whose gateway checks who calls (IAM), or by invoking the
//! function directly with a plain JSON payload.

use futures::future::BoxFuture;
use lambda_http::{Body, Request, Response};
use shared::json::Object;
use shared::{Error, Result};

use crate::App;
use crate::function::Failure;
use crate::rest::{Input, Reply, respond};

/// What an internal function does with either kind of call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    /// A request of the HTTP API.
    pub(crate) http: for<'a> fn(&'a App, &'a Input) -> BoxFuture<'a, Result<Reply>>,
    /// A direct invocation with this payload.
    pub(crate) direct: for<'a> fn(&'a App, Object<'a>) -> BoxFuture<'a, Result<Option<String>>>,
}

/// Whether an event came through the HTTP API.
pub(crate) fn is_http(event: &str) -> bool {
    Object::parse(event).is_ok_and(|event| event.get("requestContext").is_some() && event.get("rawPath").is_some())
}

/// Answer a request of the internal HTTP API.
pub(crate) async fn answer(app: &App, endpoint: Endpoint, request: Request) -> Response<Body> {
    let input = Input::new(request);
    respond(app, (endpoint.http)(app, &input)).await
}

/// Answer a direct invocation: the result as JSON, `null` where the HTTP answer would be empty. A refusal fails the
/// invocation with `errorType` as the title of the problem document and `errorMessage` as its detail.
pub(crate) async fn answer_directly(app: &App, endpoint: Endpoint, event: &str) -> Result<String, Failure> {
    let outcome = match Object::parse(event) {
        Ok(payload) => (endpoint.direct)(app, payload).await,
        Err(why) => Err(Error::BadRequest(format!("the payload {why}"))),
    };
    outcome.map(|body| body.unwrap_or_else(|| "null".to_owned())).map_err(|error| {
        app.report(&error);
        let problem = error.problem();
        Failure::new(&problem.title.replace(' ', ""), problem.detail)
    })
}

/// A field of a payload that is a string, if it is there.
pub(crate) fn optional_text<'a>(payload: &Object<'a>, name: &str) -> Result<Option<std::borrow::Cow<'a, str>>> {
    match payload.text(name) {
        None => Ok(None),
        Some(None) => Err(Error::field(name, "must be a string")),
        Some(text) => Ok(text),
    }
}
