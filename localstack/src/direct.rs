//! Answers the functions' calls to the database and to connections in this process, instead of over HTTP.
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
use dynoxide::Database;
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::gateway::Gateway;
use crate::policies::{Policies, Refusal};
use crate::{management, operations};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP client that answers in place of the database and the gateway.
#[derive(Clone)]
pub(crate) struct Direct {
    /// The engine.
    pub(crate) database: Database,
    /// The address of the database, as the SDK knows it.
    pub(crate) endpoint: String,
    /// The gateway. It is set later: the gateway needs the functions, and the functions need this client.
    pub(crate) gateway: Arc<OnceLock<Weak<Gateway>>>,
    /// The address of the `@connections` API, as the SDK knows it.
    pub(crate) connections: String,
    /// The policies of the functions.
    pub(crate) policies: Arc<Policies>,
    /// Whether the database writes to a disk, which must not block other tasks of the thread.
    pub(crate) on_disk: bool,
    /// The client for all other calls.
    pub(crate) beyond: SharedHttpClient,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl HttpClient for Direct {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let beyond = self.beyond.http_connector(settings, components);
        SharedHttpConnector::new(Connector { direct: self.clone(), beyond })
    }
}

#[derive(Debug)]
struct Connector {
    direct: Direct,
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
        if !request.uri().starts_with(&self.direct.endpoint) {
            return self.beyond.call(request);
        }
        let (database, on_disk) = (self.direct.database.clone(), self.direct.on_disk);
        HttpConnectorFuture::new(async move {
            if !on_disk {
                // Without this, a function would keep its thread for milliseconds, and the sockets would wait.
                tokio::task::yield_now().await;
                return Ok(answer(&database, &request));
            }
            let answered = tokio::task::spawn_blocking(move || answer(&database, &request)).await;
            answered.map_err(|panic| ConnectorError::other(panic.into(), None))
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

fn answer(database: &Database, request: &HttpRequest) -> HttpResponse {
    let operation = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
    let body = request.body().bytes().unwrap_or_default();
    let (status, body) = operations::answer(database, operation.unwrap_or_default(), body);
    let status = StatusCode::try_from(status).expect("the engine's statuses are those of HTTP");
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
