//! A user with a token, who calls the public address and opens sockets.

use reqwest::{Client, Method};
use serde_json::Value;

use super::{Answer, Api, BackEnd, Call, Claims, Deployment, Device, Handshake, Page};

/// A user of the chat. Each test makes new users, so tests do not affect each other.
#[derive(Debug, Clone)]
pub(crate) struct User {
    id: String,
    token: String,
    deployment: Deployment,
    http: Client,
}

impl User {
    /// A new user of the shared deployment.
    pub(crate) fn new(name: &str) -> Self {
        Self::of(&Deployment::shared(), name)
    }

    /// A new user of any deployment.
    pub(crate) fn of(deployment: &Deployment, name: &str) -> Self {
        Self::with_id(deployment, &format!("{name}-{:016x}", rand::random::<u64>()))
    }

    /// The user with exactly this id.
    pub(crate) fn with_id(deployment: &Deployment, id: &str) -> Self {
        let token = Claims::of(id).signed(&deployment.secret);
        Self { id: id.to_owned(), token, deployment: deployment.clone(), http: Client::new() }
    }

    /// The same user with another token.
    pub(crate) fn with_token(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    /// The same user, at a deployment with other addresses.
    pub(crate) fn moved_to(&self, deployment: &Deployment) -> Self {
        Self { deployment: deployment.clone(), ..self.clone() }
    }

    /// The user id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The token that the user's calls carry.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The deployment of the user.
    pub(crate) fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The business back end of the same deployment.
    pub(crate) fn back_end(&self) -> BackEnd {
        BackEnd::of(&self.deployment, self.http.clone())
    }

    /// Opens a socket.
    pub(crate) async fn connect(&self) -> Device {
        Handshake::of(self).accepted().await
    }

    /// A call without a token.
    pub(crate) fn anonymous_call(&self, method: Method, path: &str) -> Call {
        Call::new(&self.http, method, (Api::Public, &self.deployment.public), path)
    }

    /// A call with the token in the query string.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        self.anonymous_call(method, path).param("access_token", &self.token)
    }

    /// `GET`.
    pub(crate) async fn get(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        self.call(Method::GET, path).params(params).send().await
    }

    /// `POST` with query parameters.
    pub(crate) async fn post(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        self.call(Method::POST, path).params(params).send().await
    }

    /// `POST` with a JSON body.
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path).json(body).send().await
    }

    /// `PUT`.
    pub(crate) async fn put(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        self.call(Method::PUT, path).params(params).send().await
    }

    /// `DELETE`.
    pub(crate) async fn delete(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        self.call(Method::DELETE, path).params(params).send().await
    }

    /// Pulls missed messages with the defaults: oldest first, dropped.
    pub(crate) async fn pull(&self) -> Page {
        self.pull_with(&[]).await
    }

    /// Pulls missed messages.
    pub(crate) async fn pull_with(&self, params: &[(&str, &str)]) -> Page {
        Page::read(self.get("/api/message", params).await)
    }

    /// Every message for the user after `id`, missed or not.
    pub(crate) async fn since(&self, id: &str) -> Page {
        self.pull_with(&[("drop", "false"), ("since", id)]).await
    }

    /// Makes two users friends.
    pub(crate) async fn befriend(&self, other: &User) {
        self.back_end().relate("PUT", &self.id, "friends", &other.id).await.empty();
    }

    /// Ends a friendship.
    pub(crate) async fn unfriend(&self, other: &User) {
        self.back_end().relate("DELETE", &self.id, "friends", &other.id).await.empty();
    }

    /// Blocks a user.
    pub(crate) async fn block(&self, other: &User) {
        self.back_end().relate("PUT", &self.id, "blocks", &other.id).await.empty();
    }

    /// Unblocks a user.
    pub(crate) async fn unblock(&self, other: &User) {
        self.back_end().relate("DELETE", &self.id, "blocks", &other.id).await.empty();
    }
}
