//! A proxy in front of the local stack's queue that records the jobs.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reqwest::Client;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::Failure;

/// The proxy.
pub(crate) struct Recorder {
    /// The URL that functions must use for the queue.
    pub(crate) url: String,
    state: Arc<Recorded>,
}

struct Recorded {
    http: Client,
    /// The URL of the queue.
    queue: String,
    jobs: Mutex<Vec<String>>,
}

impl Recorder {
    /// Starts a proxy in front of the queue at that URL.
    pub(crate) async fn start(queue: &str) -> Result<Self, Failure> {
        let state = Arc::new(Recorded { http: Client::new(), queue: queue.to_owned(), jobs: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(pass).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, state })
    }

    /// The jobs that passed since this was last called.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn pass(State(state): State<Arc<Recorded>>, mut headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let entries = request["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let jobs = entries.iter().filter_map(|entry| entry["MessageBody"].as_str()).map(str::to_owned);
    state.jobs.lock().unwrap_or_else(PoisonError::into_inner).extend(jobs);
    // The client sets these for its own request.
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    let answer = async {
        let answer = state.http.post(&state.queue).headers(headers).body(body).send().await?;
        Ok::<_, reqwest::Error>((answer.status(), answer.headers().clone(), answer.bytes().await?))
    };
    match answer.await {
        Ok((status, headers, body)) => {
            let kind = headers.get(header::CONTENT_TYPE).cloned();
            (status, kind.map(|kind| [(header::CONTENT_TYPE, kind)]), body).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
