//! Runs a function for an event. Lambda and the local stack use the same code.

use std::convert::Infallible;
use std::future::Future;

use lambda_http::lambda_runtime::LambdaEvent;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Body, Context, Request, Response, Service, service_fn};

use crate::App;
use crate::all::methods_of;
use crate::call::decode::Event;
use crate::call::{internal, rest, socket, sqs, token};
use crate::failure::Failure;
use crate::function::{Function, Handler};

impl Function {
    /// Runs one invocation: the event as JSON in, the result as JSON out.
    ///
    /// # Errors
    /// The failure that Lambda reports for the invocation. A refused HTTP request is a result, not a failure.
    pub async fn invoke(&self, app: &App, event: &str) -> Result<String, Failure> {
        match &self.handler {
            Handler::Authorizer(handler) => handler(app, event).await,
            Handler::Socket(handler) => http(event, |request| socket::answer(app, *handler, request)).await,
            Handler::Rest(endpoint) => http(event, |request| rest::answer(app, *endpoint, methods_of, request)).await,
            Handler::Queue(handler) => sqs::answer(app, *handler, event).await,
            Handler::Internal(endpoint) => match internal::is_http(event) {
                true => http(event, |request| internal::answer(app, *endpoint, request)).await,
                false => internal::answer_directly(app, *endpoint, event).await,
            },
        }
    }
}

/// Passes an HTTP or WebSocket event through lambda_http's decoder, a handler, and lambda_http's encoder.
async fn http<'a, F>(event: &str, handle: impl Fn(Request) -> F + Send + 'a) -> Result<String, Failure>
where
    F: Future<Output = Response<Body>> + Send + 'a,
{
    let Event { mut payload, address } = Event::parse(event)?;
    if let LambdaRequest::WebSocket(event) = &mut payload {
        // If a header is in both maps, lambda_http keeps its last value only.
        let single = std::mem::take(&mut event.headers);
        event.multi_value_headers = token::all_headers(std::mem::take(&mut event.multi_value_headers), &single);
    }
    let service = service_fn(|request| {
        let answer = handle(address.of(request));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let Ok(response) = Adapter::from(service).call(LambdaEvent { payload, context: Context::default() }).await;
    serde_json::to_string(&response).map_err(|error| Failure::new("MalformedResult", error.to_string()))
}
