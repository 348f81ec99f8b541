//! Runs a function for an event. Lambda and the local stack use the same code.

use std::convert::Infallible;
use std::future::Future;

use lambda_http::http::header::SEC_WEBSOCKET_PROTOCOL;
use lambda_http::lambda_runtime::LambdaEvent;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Body, Context, Request, Response, Service, service_fn};
use serde_json::{Value, json};

use crate::App;
use crate::all::methods_of;
use crate::call::decode::Event;
use crate::call::{internal, rest, socket, sqs};
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
            Handler::Socket(handler) => {
                let event = Event::of_socket(event)?;
                http(event, |request| socket::answer(app, *handler, request)).await
            }
            Handler::Rest(endpoint) => {
                let event = Event::of_http(event)?;
                http(event, |request| rest::answer(app, *endpoint, methods_of, request)).await
            }
            Handler::Queue(handler) => sqs::answer(app, *handler, event).await,
            Handler::Internal(endpoint) => match internal::is_http(event) {
                true => http(Event::of_http(event)?, |request| internal::answer(app, *endpoint, request)).await,
                false => internal::answer_directly(app, *endpoint, event).await,
            },
        }
    }
}

/// Passes an HTTP or WebSocket event through lambda_http's decoder, a handler, and lambda_http's encoder.
async fn http<'a, F>(event: Event, handle: impl Fn(Request) -> F + Send + 'a) -> Result<String, Failure>
where
    F: Future<Output = Response<Body>> + Send + 'a,
{
    let Event { payload, address } = event;
    let is_socket = matches!(payload, LambdaRequest::WebSocket(_));
    let service = service_fn(|request| {
        let answer = handle(address.of(request));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let Ok(response) = Adapter::from(service).call(LambdaEvent { payload, context: Context::default() }).await;
    let malformed = |error: serde_json::Error| Failure::new("MalformedResult", error.to_string());
    match is_socket {
        true => serde_json::to_value(&response).map(|response| of_socket(response).to_string()).map_err(malformed),
        false => serde_json::to_string(&response).map_err(malformed),
    }
}

/// Moves the subprotocol to where API Gateway is documented to read it: `headers`, under its usual name. lambda_http writes it
/// in lower case into `multiValueHeaders` alone.
///
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-connect-route-subprotocol.html>
fn of_socket(mut response: Value) -> Value {
    let place = format!("/multiValueHeaders/{SEC_WEBSOCKET_PROTOCOL}/0");
    let subprotocol = response.pointer_mut(&place).map(Value::take);
    if let Some(fields) = response.as_object_mut() {
        fields.remove("multiValueHeaders");
        let headers = match subprotocol {
            Some(Value::String(name)) => json!({ "Sec-WebSocket-Protocol": name }),
            _ => json!({}),
        };
        fields.insert("headers".to_owned(), headers);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subprotocol_is_where_the_gateway_reads_it() {
        let response = json!({
            "statusCode": 200, "headers": {}, "multiValueHeaders": { "sec-websocket-protocol": ["chat"] },
            "body": null, "isBase64Encoded": false,
        });
        let expected = json!({
            "statusCode": 200, "headers": { "Sec-WebSocket-Protocol": "chat" }, "body": null, "isBase64Encoded": false,
        });
        assert_eq!(of_socket(response), expected);
        let without = json!({ "statusCode": 403, "headers": {}, "multiValueHeaders": {} });
        assert_eq!(of_socket(without), json!({ "statusCode": 403, "headers": {} }));
    }
}
