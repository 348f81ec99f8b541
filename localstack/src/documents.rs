//! Serves the documents that describe the APIs, each at the address of its API. Only the local stack serves them.

use axum::Router;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// A document: its path without the extension, and its text.
struct Document(&'static str, &'static str);

const OPENAPI: Document = Document("/openapi", include_str!("../../docs/openapi.yaml"));
const ASYNCAPI: Document = Document("/asyncapi", include_str!("../../docs/asyncapi.yaml"));
const INTERNAL: Document = Document("/openapi-internal", include_str!("../../docs/openapi-internal.yaml"));

/// The documents at the public address.
pub(crate) fn public<S: Clone + Send + Sync + 'static>() -> Router<S> {
    OPENAPI.routes().merge(ASYNCAPI.routes())
}

/// The documents at the internal address.
pub(crate) fn internal<S: Clone + Send + Sync + 'static>() -> Router<S> {
    INTERNAL.routes()
}

impl Document {
    /// Serves the document as YAML and as JSON.
    fn routes<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let Self(path, yaml) = self;
        let json = serde_yaml_ng::from_str::<serde_json::Value>(yaml).expect("a test reads each of them").to_string();
        Router::new()
            .route(&format!("{path}.yaml"), get(move || async move { answer("application/yaml", yaml) }))
            .route(&format!("{path}.json"), get(move || async move { answer("application/json", json) }))
    }
}

/// Lets pages of every origin read the document, for example an online editor. It has nothing confidential.
fn answer(kind: &'static str, text: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, kind), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")], text).into_response()
}
