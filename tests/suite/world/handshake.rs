//! Attempts to open a socket.

use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error};

use super::{Device, User, within};

/// A handshake before its attempt.
#[derive(Debug)]
pub(crate) struct Handshake {
    user: User,
    query: String,
    protocols: Vec<String>,
    headers: Vec<(&'static str, String)>,
}

impl Handshake {
    /// A handshake with the user's token in the query string.
    pub(crate) fn of(user: &User) -> Self {
        let query = format!("access_token={}", user.token());
        Self { user: user.clone(), query, protocols: Vec::new(), headers: Vec::new() }
    }

    /// Replaces the query string.
    pub(crate) fn query(self, query: &str) -> Self {
        Self { query: query.to_owned(), ..self }
    }

    /// Offers subprotocols.
    pub(crate) fn protocols(self, protocols: &[&str]) -> Self {
        Self { protocols: protocols.iter().map(|&name| name.to_owned()).collect(), ..self }
    }

    /// Sets the origin of the page.
    pub(crate) fn origin(self, origin: &str) -> Self {
        self.header("Origin", origin)
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Returns the open socket, or the status of the refusal.
    pub(crate) async fn attempt(self) -> Result<Device, u16> {
        let request = self.request();
        let attempt = connect_async_with_config(request, None, true);
        match within("an answer to the handshake", Box::pin(attempt)).await {
            Ok((stream, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.and_then(|value| value.to_str().ok()).map(str::to_owned);
                let version = if self.asks_for_version_2() { 2 } else { 1 };
                Ok(Device::new(self.user, stream, protocol, version))
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(why) => panic!("expected an answer to the handshake: {why:?}"),
        }
    }

    /// Asserts that the handshake succeeds.
    pub(crate) async fn accepted(self) -> Device {
        self.attempt().await.unwrap_or_else(|status| panic!("expected an open socket; got {status}"))
    }

    /// Asserts that the handshake fails with 401 or 403. Returns which.
    pub(crate) async fn refused(self) -> u16 {
        match self.attempt().await {
            Ok(_) => panic!("expected 401 or 403; got an open socket"),
            Err(status) => {
                assert!(matches!(status, 401 | 403), "expected 401 or 403; got {status}");
                status
            }
        }
    }

    fn asks_for_version_2(&self) -> bool {
        let in_query: Vec<&str> = self.query.split('&').filter(|part| part.starts_with("version=")).collect();
        let first = self.protocols.iter().find(|name| ["chat", "chat.2"].contains(&name.as_str()));
        in_query == ["version=2"] || first.is_some_and(|name| name == "chat.2")
    }

    fn request(&self) -> ClientRequestBuilder {
        let url = format!("{}?{}", self.user.deployment().ws, self.query);
        let mut request = ClientRequestBuilder::new(url.parse().expect("an address and a query make a URI"));
        for protocol in &self.protocols {
            request = request.with_sub_protocol(protocol);
        }
        self.headers.iter().fold(request, |request, (name, value)| request.with_header(*name, value))
    }
}
