//! The SDK clients, built from the configuration over one HTTP client.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
pub use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::config::Config;

/// The HTTP client under everything: TLS by ring.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// A client of DynamoDB. Throttling and server errors are tried again, all within a function's time.
pub fn dynamodb(config: &Config, http: SharedHttpClient) -> aws_sdk_dynamodb::Client {
    let mut builder = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .credentials_provider(config.credentials.clone())
        .retry_config(retries(5))
        .timeout_config(timeouts(3, 10))
        .http_client(http);
    builder.set_endpoint_url(config.dynamodb_endpoint.clone());
    aws_sdk_dynamodb::Client::from_conf(builder.build())
}

/// A client of SQS. Who sends waits for the answer, so it gives up while there is time left to say so.
pub fn sqs(config: &Config, http: SharedHttpClient) -> aws_sdk_sqs::Client {
    let mut builder = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .credentials_provider(config.credentials.clone())
        .retry_config(retries(3))
        .timeout_config(timeouts(2, 4))
        .http_client(http);
    builder.set_endpoint_url(config.sqs_endpoint.clone());
    aws_sdk_sqs::Client::from_conf(builder.build())
}

/// A client of the gateway's management API, if the configuration says where that is. Its endpoint is configured and
/// never taken from an event: a custom domain would break it, and a forged one would be a way in.
pub fn management(config: &Config, http: SharedHttpClient) -> Option<aws_sdk_apigatewaymanagement::Client> {
    let endpoint = config.management_endpoint.as_deref()?;
    let builder = aws_sdk_apigatewaymanagement::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .credentials_provider(config.credentials.clone())
        .retry_config(retries(3))
        .timeout_config(timeouts(2, 4))
        .endpoint_url(endpoint)
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
