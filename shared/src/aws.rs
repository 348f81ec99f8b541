//! The SDK clients, built from the configuration over one HTTP client.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition, TokenBucket};
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
use aws_types::SdkConfig;
use serde::Deserialize;

use crate::config::Config;
use crate::metrics::{Metric, Metrics};

/// Creates the HTTP client of all SDK clients, with TLS by ring.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Creates a client of DynamoDB. It repeats throttled and failed calls, all within the time of a function.
pub fn dynamodb(config: &Config, http: SharedHttpClient, metrics: &Arc<Metrics>) -> aws_sdk_dynamodb::Client {
    let sdk =
        sdk(config, http, config.dynamodb_endpoint.as_deref(), Patience { attempts: 5, attempt: 3, operation: 10 });
    let builder = aws_sdk_dynamodb::config::Builder::from(&sdk)
        .interceptor(Throttles(metrics.clone()))
        .retry_partition(own_retries());
    aws_sdk_dynamodb::Client::from_conf(builder.build())
}

/// Creates a client of SQS. A sender waits for its answer, so it gives up early enough to answer with an error.
pub fn sqs(config: &Config, http: SharedHttpClient, metrics: &Arc<Metrics>) -> aws_sdk_sqs::Client {
    let sdk = sdk(config, http, config.sqs_endpoint.as_deref(), Patience { attempts: 3, attempt: 2, operation: 4 });
    let builder =
        aws_sdk_sqs::config::Builder::from(&sdk).interceptor(Throttles(metrics.clone())).retry_partition(own_retries());
    aws_sdk_sqs::Client::from_conf(builder.build())
}

/// Creates a client of EventBridge. A message never waits long for it, so it gives up early.
pub fn eventbridge(config: &Config, http: SharedHttpClient, metrics: &Arc<Metrics>) -> aws_sdk_eventbridge::Client {
    let endpoint = config.eventbridge_endpoint.as_deref();
    let sdk = sdk(config, http, endpoint, Patience { attempts: 2, attempt: 1, operation: 2 });
    let builder = aws_sdk_eventbridge::config::Builder::from(&sdk)
        .interceptor(Throttles(metrics.clone()))
        .retry_partition(own_retries());
    aws_sdk_eventbridge::Client::from_conf(builder.build())
}

/// Creates a client of the gateway's management API, if its endpoint is configured. The endpoint is never taken from an
/// event: a custom domain would break it, and a forged event could redirect pushes.
pub fn management(
    config: &Config,
    http: SharedHttpClient,
    metrics: &Arc<Metrics>,
) -> Option<aws_sdk_apigatewaymanagement::Client> {
    let endpoint = config.management_endpoint.as_deref()?;
    let sdk = sdk(config, http, Some(endpoint), Patience { attempts: 3, attempt: 2, operation: 4 });
    let builder = aws_sdk_apigatewaymanagement::config::Builder::from(&sdk)
        .interceptor(Throttles(metrics.clone()))
        .retry_partition(own_retries());
    Some(aws_sdk_apigatewaymanagement::Client::from_conf(builder.build()))
}

/// How often a client tries a call, and how many seconds an attempt and the whole call may take.
struct Patience {
    attempts: u32,
    attempt: u64,
    operation: u64,
}

/// Builds the configuration that all clients share.
fn sdk(config: &Config, http: SharedHttpClient, endpoint: Option<&str>, patience: Patience) -> SdkConfig {
    let retries = RetryConfig::standard().with_max_attempts(patience.attempts);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(patience.attempt))
        .operation_timeout(Duration::from_secs(patience.operation));
    let mut builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .credentials_provider(SharedCredentialsProvider::new(config.credentials.clone()))
        .retry_config(retries.with_initial_backoff(Duration::from_millis(50)))
        .timeout_config(timeouts.build())
        .http_client(http);
    builder.set_endpoint_url(endpoint.map(str::to_owned));
    builder.build()
}

/// The number of tokens for retries, as in the SDK. A retry takes 5, or 10 after a timeout.
const RETRY_TOKENS: usize = 500;

/// Returns tokens for the retries of one client. By default, all clients of a process share them: connections that do not
/// read would use up those of other users' pushes in the local stack, and those of later runs in a simulation.
fn own_retries() -> RetryPartition {
    RetryPartition::custom("client").token_bucket(TokenBucket::new(RETRY_TOKENS)).build()
}

/// Counts throttled attempts. The SDK repeats them, so they are visible only here.
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

/// Returns whether a call was throttled, by its status or by the error of DynamoDB and SQS.
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
    fn throttling_errors_are_recognized() {
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
