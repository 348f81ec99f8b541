//! The host application: the back end, which calls the internal API.

use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Api, Call, Deployment};

/// The business back end.
#[derive(Debug, Clone)]
pub(crate) struct BackEnd {
    deployment: Deployment,
    http: Client,
}

/// The friends and blocks of a user, as the back end reads them.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ties {
    /// The friends of the user. Friendship goes both ways.
    pub(crate) friends: Vec<String>,
    /// The users whom this user blocks.
    pub(crate) blocks: Vec<String>,
}

/// The error of a direct invocation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refusal {
    /// A code for programs.
    pub(crate) error_type: String,
    /// A text for people.
    pub(crate) error_message: String,
}

impl BackEnd {
    /// The back end of the shared deployment.
    pub(crate) fn new() -> Self {
        Self::of(&Deployment::shared(), Client::new())
    }

    /// The back end of any deployment.
    pub(crate) fn of(deployment: &Deployment, http: Client) -> Self {
        Self { deployment: deployment.clone(), http }
    }

    /// Prepares a call at the internal address.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        Call::new(&self.http, method, (Api::Internal, &self.deployment.internal), path)
    }

    /// `POST /notification`.
    pub(crate) async fn notify(&self, params: &[(&str, &str)], body: &Value) -> Answer {
        self.call(Method::POST, "/notification").params(params).json(body).send().await
    }

    /// `{method} /relationship/{user}/{tie}/{other}`.
    pub(crate) async fn relate(&self, method: &str, user: &str, tie: &str, other: &str) -> Answer {
        let method = method.parse().expect("the name of a method");
        self.call(method, &format!("/relationship/{user}/{tie}/{other}")).send().await
    }

    /// `GET /relationship/{user}`, with both lists sorted.
    pub(crate) async fn ties(&self, user: &str) -> Ties {
        let mut ties: Ties = self.call(Method::GET, &format!("/relationship/{user}")).send().await.json();
        ties.friends.sort_unstable();
        ties.blocks.sort_unstable();
        ties
    }

    /// Invokes a function directly, and returns its result or its error.
    pub(crate) async fn invoke(&self, function: &str, payload: &Value) -> Result<Value, Refusal> {
        let name = format!("{}{function}", self.deployment.function_prefix);
        let path = format!("/2015-03-31/functions/{name}/invocations");
        let answer = Call::new(&self.http, Method::POST, (Api::Internal, &self.deployment.lambda), &path)
            .json(payload)
            .send()
            .await
            .ok();
        let failed = answer.header("x-amz-function-error").is_some();
        let shape = |why| -> ! { panic!("{function} by {payload}: {why} in {:?}", answer.body) };
        if failed {
            Err(serde_json::from_str(&answer.body).unwrap_or_else(|why| shape(why)))
        } else {
            Ok(serde_json::from_str(&answer.body).unwrap_or_else(|why| shape(why)))
        }
    }
}
