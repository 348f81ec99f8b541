//! Answers the functions' calls to the database, to connections and to the bus in this process, instead of over HTTP.
//!
//! The SDK's requests and the answers are the same as through the ports. This saves an HTTP connection, a switch of
//! threads and a second parse of the JSON, which together cost more than the operation. Other calls use the network.
//! A call that the function's policies do not allow is refused.

use std::sync::{Arc, OnceLock, Weak};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use axum::body::{Bytes, to_bytes};
use axum::http::Method;
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::bus::{Bus, put_events};
use crate::engine::Engine;
use crate::gateway::Gateway;
use crate::management;
use crate::policies::{Policies, Refusal};
use crate::turns;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Answers in place of the database, the gateway and the bus.
pub(crate) struct Direct {
    /// The engine.
    pub(crate) engine: Engine,
    /// The address of the database, as the SDK knows it.
    pub(crate) endpoint: String,
    /// The gateway. It is set later: the gateway needs the functions, and the functions need this client.
    pub(crate) gateway: Arc<OnceLock<Weak<Gateway>>>,
    /// The address of the `@connections` API, as the SDK knows it.
    pub(crate) connections: String,
    /// The bus.
    pub(crate) bus: Arc<Bus>,
    /// The address of the bus, as the SDK knows it.
    pub(crate) events: String,
    /// The policies of the functions.
    pub(crate) policies: Arc<Policies>,
    /// The client for all other calls.
    pub(crate) beyond: SharedHttpClient,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Direct {
    /// Returns the HTTP client for the SDK.
    pub(crate) fn client(self) -> SharedHttpClient {
        SharedHttpClient::new(Client(Arc::new(self)))
    }
}

#[derive(Debug)]
struct Client(Arc<Direct>);

impl HttpClient for Client {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let beyond = self.0.beyond.http_connector(settings, components);
        SharedHttpConnector::new(Connector { direct: self.0.clone(), beyond })
    }
}

#[derive(Debug)]
struct Connector {
    direct: Arc<Direct>,
    beyond: SharedHttpConnector,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if let Err(refusal) = self.direct.policies.check(&request) {
            return HttpConnectorFuture::ready(Ok(denied(&refusal)));
        }
        if let Some(id) = request.uri().strip_prefix(&self.direct.connections) {
            let id = percent_decode_str(id).decode_utf8_lossy().into_owned();
            let gateway = self.direct.gateway.get().and_then(Weak::upgrade);
            return HttpConnectorFuture::new(async move {
                let gateway = gateway.ok_or_else(|| ConnectorError::io("the gateway has stopped".into()))?;
                push(&gateway, &id, request).await
            });
        }
        if let Some((put_events::SERVICE, operation)) = target(&request)
            && request.uri() == self.direct.events
        {
            let (status, body) = self.direct.bus.answer(operation, request.body().bytes().unwrap_or_default());
            return HttpConnectorFuture::ready(Ok(response(status.as_u16(), body)));
        }
        if !request.uri().starts_with(&self.direct.endpoint) {
            return self.beyond.call(request);
        }
        let engine = self.direct.engine.clone();
        HttpConnectorFuture::new(async move {
            turns::let_sockets_pass().await;
            let (_, operation) = target(&request).unwrap_or_default();
            let answer = engine.perform(operation, request.body().bytes().unwrap_or_default()).await;
            let (status, body) = engine.keep(operation, answer).await;
            Ok(response(status, body))
        })
    }
}

async fn push(gateway: &Gateway, id: &str, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let failed = |error: BoxError| ConnectorError::other(error, None);
    let method = Method::from_bytes(request.method().as_bytes()).map_err(|error| failed(error.into()))?;
    let frame = Bytes::copy_from_slice(request.body().bytes().unwrap_or_default());
    let (parts, body) = management::reach(gateway, id, &method, frame).await.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|error| failed(error.into()))?;
    let status = StatusCode::try_from(parts.status.as_u16()).map_err(|error| failed(error.into()))?;
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in &parts.headers {
        if let Ok(value) = value.to_str() {
            response.headers_mut().insert(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(response)
}

/// Returns the service and the operation that a call names.
fn target(request: &HttpRequest) -> Option<(&str, &str)> {
    request.headers().get("x-amz-target")?.split_once('.')
}

fn response(status: u16, body: String) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("the statuses are those of HTTP");
    HttpResponse::new(status, SdkBody::from(body))
}

/// Builds the answer to a call that no policy allows.
fn denied(refusal: &Refusal) -> HttpResponse {
    let name = "AccessDeniedException";
    let body = json!({ "__type": format!("com.amazon.coral.service#{name}"), "message": refusal.to_string() });
    let status = StatusCode::try_from(refusal.status()).expect("a status of HTTP");
    let mut response = HttpResponse::new(status, SdkBody::from(body.to_string()));
    response.headers_mut().insert("x-amzn-errortype", name);
    response
}

#[cfg(test)]
mod tests {
    use shared::aws::{self, Clients};
    use shared::bus::{Bus as BusClient, Event};
    use shared::config::Config;

    use super::*;
    use crate::policies::run_as;
    use crate::template::{BUS, Statement, TEMPLATE, Template};

    #[tokio::test]
    async fn a_function_puts_events_if_its_policy_allows_it() {
        let allowed = Statement { actions: vec!["events:PutEvents".to_owned()], on: vec![BUS.to_owned()] };
        let bus = Arc::new(Bus::new(Some("local".to_owned())));
        let direct = Direct {
            engine: Engine::start(None, "chat", &Template::parse(TEMPLATE).unwrap().table).unwrap(),
            endpoint: "http://127.0.0.1:1/".to_owned(),
            gateway: Arc::default(),
            connections: "http://127.0.0.1:2/@connections/".to_owned(),
            bus: bus.clone(),
            events: "http://127.0.0.1:2/".to_owned(),
            policies: Arc::new(Policies::new([("message".to_owned(), vec![allowed])].into())),
            beyond: aws::http_client(),
        };
        let variable = |name: &str| match name {
            "AWS_ENDPOINT_URL_EVENTBRIDGE" => Some("http://127.0.0.1:2".to_owned()),
            "EVENT_BUS_NAME" => Some("local".to_owned()),
            "TABLE_NAME" | "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("x".to_owned()),
            _ => None,
        };
        let config = Config::read(variable).unwrap();
        let clients = Clients { config: &config, http: direct.client(), metrics: &Arc::default() };
        let client = BusClient::configured(&clients).unwrap();
        let event = |detail: &str| Event { detail_type: "MessageMissed", detail: detail.to_owned() };
        assert_eq!(run_as("message", client.put(&[event(r#"{"id":"1"}"#), event("[]")])).await, 1);
        assert!(bus.all().contains(r#""source":"chat""#) && bus.all().ends_with(r#""detail":{"id":"1"}}]"#));
        assert_eq!(run_as("typing", client.put(&[event("{}")])).await, 1);
        assert_eq!(bus.all().matches("detail-type").count(), 1);
    }
}
