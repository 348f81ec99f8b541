//! Calls of the public HTTP API. Each needs a valid token and the method of its function.

use futures::future::BoxFuture;
use lambda_http::http::Method;
use lambda_http::{Body, Request, Response};
use shared::clock::Ms;
use shared::id::UserId;
use shared::{Error, Result};

use super::http::{Input, Reply, respond};
use super::token;
use crate::App;

/// A handler of a call of the public HTTP API.
pub(crate) type Handler = for<'a> fn(&'a App, &'a Call) -> BoxFuture<'a, Result<Reply>>;

/// An endpoint of the public HTTP API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    /// The HTTP method.
    pub(crate) method: &'static str,
    /// The query parameters that it reads, without the token. A misspelt one (`Drop`, `drop[]`) is refused: a typing
    /// mistake must not drop messages.
    pub(crate) parameters: &'static [&'static str],
    /// The largest body, in bytes.
    pub(crate) max_body_bytes: usize,
    /// Whether the handler refuses a banned user itself, by the state that it reads anyway.
    pub(crate) is_gated: bool,
    /// The handler.
    pub(crate) handler: Handler,
}

/// A call by a user whose token is valid.
#[derive(Debug)]
pub(crate) struct Call {
    /// The user who calls.
    pub(crate) user: UserId,
    pub(crate) input: Input,
}

/// Answers a request. `allowed` returns the methods of a path, for a request with another method.
pub(crate) async fn answer(
    app: &App,
    endpoint: Endpoint,
    allowed: impl Fn(&str) -> String,
    request: Request,
) -> Response<Body> {
    // If a path has an ANY route, CORS preflights reach the function too. The gateway adds their headers.
    if request.method() == Method::OPTIONS {
        return respond(app, async { Ok(Reply::status(204)) }).await;
    }
    let input = Input::new(request);
    let outcome = async {
        if input.method() != endpoint.method {
            return Err(Error::MethodNotAllowed(allowed(input.route())));
        }
        let call = authenticate(app, input, endpoint.max_body_bytes).await?;
        call.input.refuse_misspelt(endpoint.parameters)?;
        let outcome = handle(app, endpoint, &call).await;
        if matches!(outcome, Err(Error::Forbidden(_))) {
            // A thing that does not exist is refused sooner than one that belongs to another user.
            app.wait_for_tick().await;
        }
        outcome
    };
    respond(app, outcome).await
}

/// Runs the handler, unless the user is banned. A handler of GET changes nothing, so it runs beside the look at the ban.
async fn handle(app: &App, endpoint: Endpoint, call: &Call) -> Result<Reply> {
    match endpoint {
        Endpoint { is_gated: true, .. } => (endpoint.handler)(app, call).await,
        Endpoint { method: "GET", .. } => {
            let handling = (endpoint.handler)(app, call);
            let (ban, outcome) = futures::join!(app.table.recent_ban_of(&call.user), handling);
            refuse(ban?).and(outcome)
        }
        _ => {
            refuse(app.table.ban_of(&call.user).await?)?;
            (endpoint.handler)(app, call).await
        }
    }
}

fn refuse(ban: Option<Ms>) -> Result<()> {
    ban.map_or(Ok(()), |until| Err(Error::Banned { until }))
}

async fn authenticate(app: &App, input: Input, max_body_bytes: usize) -> Result<Call> {
    let token = token::only_one(&input.parameter_values("access_token"), input.headers(), &[])?;
    let identity = app.verifier()?.verify(&token, app.clock.now_ms()).await?;
    input.require_readable(max_body_bytes)?;
    Ok(Call { user: identity.user, input })
}
