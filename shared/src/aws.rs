//! The SDK clients, built from the configuration over one HTTP client.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
pub use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::context::FinalizerInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use serde::Deserialize;

use crate::config::Config;
use crate::metrics::{Metric, Metrics};

/// The HTTP client under everything: TLS by ring.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// A client of DynamoDB. Throttling and server errors are tried again, all within a function's time.
pub fn dynamodb(config: &Config, http: SharedHttpClient, metrics: &Arc<Metrics>) -> aws_sdk_dynamodb::Client {
    let mut builder = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .credentials_provider(config.credentials.clone())
        .retry_config(retries(5))
        .timeout_config(timeouts(3, 10))
        .interceptor(Throttles(metrics.clone()))
        .http_client(http);
    builder.set_endpoint_url(config.dynamodb_endpoint.clone());
    aws_sdk_dynamodb::Client::from_conf(builder.build())
}

/// A client of SQS. Who sends waits for the answer, so it gives up while there is time left to say so.
pub fn sqs(config: &Config, http: SharedHttpClient, metrics: &Arc<Metrics>) -> aws_sdk_sqs::Client {
    let mut builder = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .credentials_provider(config.credentials.clone())
        .retry_config(retries(3))
        .timeout_config(timeouts(2, 4))
        .interceptor(Throttles(metrics.clone()))
        .http_client(http);
    builder.set_endpoint_url(config.sqs_endpoint.clone());
    aws_sdk_sqs::Client::from_conf(builder.build())
}

/// A client of the gateway's management API, if the configuration says where that is. Its endpoint is configured and
/// never taken from an event: a custom domain would break it, and a forged one would be a way in.
pub fn management(
    config: &Config,
    http: SharedHttpClient,
    metrics: &Arc<Metrics>,
) -> Option<aws_sdk_apigatewaymanagement::Client> {
    let endpoint = config.management_endpoint.as_deref()?;
    let builder = aws_sdk_apigatewaymanagement::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .credentials_provider(config.credentials.clone())
        .retry_config(retries(3))
        .timeout_config(timeouts(2, 4))
        .endpoint_url(endpoint)
        .interceptor(Throttles(metrics.clone()))
        .http_client(http);
    Some(aws_sdk_apigatewaymanagement::Client::from_conf(builder.build()))
}

fn retries(attempts: u32) -> RetryConfig {
    RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(Duration::from_millis(50))
}

fn timeouts(attempt_seconds: u64, operation_seconds: u64) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(attempt_seconds))
        .operation_timeout(Duration::from_secs(operation_seconds))
        .build()
}

/// The credentials that Lambda puts into the environment.
pub(crate) fn credentials(key: String, secret: String, session: Option<String>) -> Credentials {
    Credentials::new(key, secret, session, None, "environment")
}

/// Counts the attempts that were refused because there were too many. The SDK tries them again, so nobody else sees them.
#[derive(Debug)]
struct Throttles(Arc<Metrics>);

#[dyn_dispatch_hint]
impl Intercept for Throttles {
    fn name(&self) -> &'static str {
        "Throttles"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.response().is_some_and(is_throttle) {
            self.0.count(Metric::Throttled);
        }
        Ok(())
    }
}

/// The error document of AWS's JSON protocols.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "__type")]
    kind: String,
}

/// Whether an answer says that there were too many calls: by its status, or as DynamoDB and SQS do.
fn is_throttle(response: &HttpResponse) -> bool {
    let says_so = || {
        let refusal = serde_json::from_slice::<Refusal>(response.body().bytes()?).ok()?;
        let kind = refusal.kind.rsplit('#').next()?;
        Some(["Throttl", "ProvisionedThroughputExceeded", "RequestLimitExceeded"].iter().any(|of| kind.starts_with(of)))
    };
    match response.status().as_u16() {
        429 => true,
        400 => says_so().unwrap_or(false),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn what_was_too_much_is_told_from_what_was_wrong() {
        let is_throttle = |status: u16, body: &'static str| {
            is_throttle(&HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body)))
        };
        assert!(is_throttle(429, ""));
        for kind in ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"] {
            let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"slow down"}}"#);
            assert!(is_throttle(400, body.leak()));
        }
        assert!(!is_throttle(400, r#"{"__type":"ConditionalCheckFailedException","message":"ThrottlingException"}"#));
        assert!(!is_throttle(400, "") && !is_throttle(500, "") && !is_throttle(200, r#"{"__type":"Throttling"}"#));
    }
}
