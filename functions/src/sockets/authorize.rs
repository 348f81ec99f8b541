//! The authorizer of `$connect`. It identifies the user who opens a connection, and checks the origin of the web page.
//!
//! In: a REQUEST authorizer event. Out: a policy that allows this one call, with `userId`, `exp`, and from version 2 on
//! `version` as context. The gateway adds this context to every later event of the connection. For a bad token the function fails with
//! `Unauthorized`, and the gateway answers 401. For an origin that is not allowed the policy denies the call, and the
//! gateway answers 403.

use lambda_http::aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use lambda_http::aws_lambda_events::query_map::QueryMap;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::ORIGIN;
use serde::Deserialize;
use serde_json::json;
use shared::frame::encode;
use shared::token::Identity;
use shared::{Error, Result};

use crate::App;
use crate::call::token;
use crate::failure::Failure;
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::authorizer("authorize", |app, event| Box::pin(answer(app, event)));

/// The field that the decoder of WebSocket requests leaves out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizerEvent {
    method_arn: String,
}

async fn answer(app: &App, event: &str) -> Result<String, Failure> {
    let malformed = |error: serde_json::Error| Failure::new("MalformedEvent", error.to_string());
    let request: ApiGatewayWebsocketProxyRequest = serde_json::from_str(event).map_err(malformed)?;
    let AuthorizerEvent { method_arn } = serde_json::from_str(event).map_err(malformed)?;
    match identify(app, &request).await {
        Ok(identity) => Ok(policy("Allow", &method_arn, Some((&identity, version_of(&request))))),
        Err(Error::Forbidden(why)) => {
            app.report(&Error::Forbidden(why));
            Ok(policy("Deny", &method_arn, None))
        }
        Err(error) if error.is_ours() => {
            app.report(&error);
            Err(Failure::new("Unavailable", error.problem().detail))
        }
        Err(error) => {
            app.report(&error);
            // The gateway answers 401 for exactly this word.
            Err(Failure::new("Unauthorized", "Unauthorized"))
        }
    }
}

async fn identify(app: &App, request: &ApiGatewayWebsocketProxyRequest) -> Result<Identity> {
    let headers = token::all_headers(request.multi_value_headers.clone(), &request.headers);
    let mut origins = headers.get_all(ORIGIN).iter().map(|origin| origin.to_str().unwrap_or_default());
    let is_allowed = origins.next().is_none_or(|origin| app.allowed_origins.allows(origin));
    // No browser sends two origins.
    if !is_allowed || origins.next().is_some() {
        return Err(Error::Forbidden("the page's origin is not allowed".to_owned()));
    }
    app.verifier()?.verify(&token_of(request, &headers)?, app.clock.now_ms()).await
}

fn token_of(request: &ApiGatewayWebsocketProxyRequest, headers: &HeaderMap) -> Result<String> {
    let in_query = query_of(request).all("access_token").unwrap_or_default();
    token::only_one(&in_query, headers, &token::offered(&token::subprotocols(headers)))
}

/// Returns the version of the protocol that the client asks for: by its subprotocol, or by `version` in its query.
fn version_of(request: &ApiGatewayWebsocketProxyRequest) -> u8 {
    let headers = token::all_headers(request.multi_value_headers.clone(), &request.headers);
    let by_subprotocol = token::subprotocol(&token::subprotocols(&headers)).map_or(1, |(_, version)| version);
    let in_query = query_of(request).all("version").is_some_and(|values| values == ["2"]);
    if in_query { 2 } else { by_subprotocol }
}

fn query_of(request: &ApiGatewayWebsocketProxyRequest) -> &QueryMap {
    match request.multi_value_query_string_parameters.is_empty() {
        true => &request.query_string_parameters,
        false => &request.multi_value_query_string_parameters,
    }
}

fn policy(effect: &str, method_arn: &str, allowed: Option<(&Identity, u8)>) -> String {
    let identity = allowed.map(|(identity, _)| identity);
    let context = allowed.map(|(identity, version)| {
        let mut context = json!({ "userId": identity.user, "exp": identity.expires_at / 1000 });
        if version > 1 {
            context["version"] = json!(version);
        }
        context
    });
    encode(&json!({
        "principalId": identity.map_or("nobody", |identity| identity.user.as_str()),
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{ "Action": "execute-api:Invoke", "Effect": effect, "Resource": method_arn }],
        },
        "context": context.unwrap_or_else(|| json!({})),
    }))
}
