//! The SDK clients, built from the configuration over one HTTP client.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::invocation_id::InvocationIdInterceptor;
use aws_runtime::request_info::RequestInfoInterceptor;
use aws_runtime::service_clock_skew::ServiceClockSkewInterceptor;
use aws_runtime::user_agent::UserAgentInterceptor;
use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, StalledStreamProtectionConfig};
use aws_sdk_dynamodb::error::{BoxError, SdkError};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime_api::client::endpoint::SharedEndpointResolver;
pub use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, disable_interceptor, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use aws_types::SdkConfig;
use serde::Deserialize;

use crate::config::Config;
use crate::error::chain;
use crate::metrics::{Metric, Metrics};

/// Creates the HTTP client of all SDK clients, with TLS by ring.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// What all SDK clients of a process share.
#[derive(Debug)]
pub struct Clients<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The HTTP client.
    pub http: SharedHttpClient,
    /// The counters.
    pub metrics: &'a Arc<Metrics>,
}

/// Builds a client of an SDK crate from the configuration that all clients share.
macro_rules! client {
    ($clients:expr, $sdk:ident, $endpoint:expr, $patience:expr) => {{
        let endpoint: Option<&str> = $endpoint;
        let mut builder = $sdk::config::Builder::from(&$clients.sdk(endpoint, $patience))
            .interceptor(Throttles($clients.metrics.clone()))
            .retry_partition(own_retries());
        if let Some(here) = endpoint.filter(|endpoint| $clients.answers(endpoint)) {
            builder.set_allow_no_auth();
            // The SDK would derive it from its rules for each call.
            builder.set_endpoint_resolver(Some(SharedEndpointResolver::new(StaticUriEndpointResolver::uri(here))));
            $sdk::Client::from_conf(builder.interceptor(Unread).build())
        } else {
            $sdk::Client::from_conf(builder.interceptor(UserAgent).build())
        }
    }};
}

impl Clients<'_> {
    /// Creates a client of DynamoDB. It repeats throttled and failed calls, all within the time of a function.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let patience = Patience { attempts: 5, attempt: 3, operation: 10 };
        client!(self, aws_sdk_dynamodb, self.config.dynamodb_endpoint.as_deref(), patience)
    }

    /// Creates a client of SQS. A sender waits for its answer, so it gives up early enough to answer with an error.
    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        let patience = Patience { attempts: 3, attempt: 2, operation: 4 };
        client!(self, aws_sdk_sqs, self.config.sqs_endpoint.as_deref(), patience)
    }

    /// Creates a client of EventBridge. A message never waits long for it, so it gives up early.
    pub(crate) fn eventbridge(&self) -> aws_sdk_eventbridge::Client {
        let patience = Patience { attempts: 2, attempt: 1, operation: 2 };
        client!(self, aws_sdk_eventbridge, self.config.eventbridge_endpoint.as_deref(), patience)
    }

    /// Creates a client of Secrets Manager. A caller waits for its answer.
    pub(crate) fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        let patience = Patience { attempts: 3, attempt: 1, operation: 3 };
        client!(self, aws_sdk_secretsmanager, self.config.secrets_endpoint.as_deref(), patience)
    }

    /// Creates a client of the gateway's management API, if its endpoint is configured. The endpoint is never taken from an
    /// event: a custom domain would break it, and a forged event could redirect pushes.
    pub(crate) fn management(&self) -> Option<aws_sdk_apigatewaymanagement::Client> {
        let endpoint = self.config.management_endpoint.as_deref()?;
        let patience = Patience { attempts: 3, attempt: 2, operation: 4 };
        Some(client!(self, aws_sdk_apigatewaymanagement, Some(endpoint), patience))
    }

    /// Builds the configuration that all clients share.
    fn sdk(&self, endpoint: Option<&str>, patience: Patience) -> SdkConfig {
        let retries = RetryConfig::standard().with_max_attempts(patience.attempts);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_attempt_timeout(Duration::from_secs(patience.attempt))
            .operation_timeout(Duration::from_secs(patience.operation));
        let mut builder = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.config.region.clone()))
            .retry_config(retries.with_initial_backoff(Duration::from_millis(50)))
            // No answer is a stream: the time of an attempt ends when its answer has been read.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(self.http.clone());
        builder.set_endpoint_url(endpoint.map(str::to_owned));
        // A call that this process answers cannot get lost.
        if !endpoint.is_some_and(|endpoint| self.answers(endpoint)) {
            builder.set_timeout_config(Some(timeouts.build()));
            builder.set_credentials_provider(Some(SharedCredentialsProvider::new(self.config.credentials.clone())));
        }
        builder.build()
    }

    /// Returns whether this process answers the calls to an endpoint itself. Nobody reads their signatures then.
    fn answers(&self, endpoint: &str) -> bool {
        self.config.in_process.iter().any(|here| here == endpoint)
    }
}

/// Tells AWS who calls. The SDK would build a longer text for each call, which was a twelfth of what a private message
/// computes.
#[derive(Debug)]
struct UserAgent;

#[dyn_dispatch_hint]
impl Intercept for UserAgent {
    fn name(&self) -> &'static str {
        "UserAgent"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(disable_interceptor::<UserAgentInterceptor>("replaced by a constant"));
        Ok(())
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let name = concat!("serverless-chat/", env!("CARGO_PKG_VERSION"));
        context.request_mut().headers_mut().insert("user-agent", name);
        Ok(())
    }
}

/// Omits the headers that AWS reads for its statistics from calls that this process answers itself.
#[derive(Debug)]
struct Unread;

#[dyn_dispatch_hint]
impl Intercept for Unread {
    fn name(&self) -> &'static str {
        "Unread"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let state = config.interceptor_state();
        state.store_put(disable_interceptor::<UserAgentInterceptor>(UNREAD));
        state.store_put(disable_interceptor::<InvocationIdInterceptor>(UNREAD));
        state.store_put(disable_interceptor::<RequestInfoInterceptor>(UNREAD));
        state.store_put(disable_interceptor::<ServiceClockSkewInterceptor>(UNREAD));
        Ok(())
    }
}

/// Why interceptors are disabled.
const UNREAD: &str = "nobody reads it";

/// Makes a call that only opens a connection: `GET /` of the call's address, with neither parameters nor retries. Every
/// endpoint of AWS answers it at once, and it reaches no API, so it needs no permission and is in no audit log.
macro_rules! open_connection {
    ($sdk:ident, $call:expr) => {{
        let once = $sdk::Config::builder().retry_config($sdk::config::retry::RetryConfig::disabled());
        let opening = $call.customize().config_override(once).mutate_request($crate::aws::into_greeting).send();
        $crate::aws::report_opening(Box::pin(opening).await)
    }};
}
pub(crate) use open_connection;

/// Makes a request `GET /`.
pub(crate) fn into_greeting(request: &mut HttpRequest) {
    let path = request.uri().find("://").and_then(|at| request.uri()[at + 3..].find('/').map(|slash| at + 3 + slash));
    let root = format!("{}/", &request.uri()[..path.unwrap_or(request.uri().len())]);
    // An address without its path is an address.
    let _ = request.set_uri(root);
    let _ = request.set_method("GET");
    *request.body_mut() = SdkBody::empty();
    for name in ["content-length", "content-type", "x-amz-target"] {
        request.headers_mut().remove(name);
    }
}

/// Logs that a connection could not be opened. An answer of any kind shows that it is open.
pub(crate) fn report_opening<T, E>(opened: Result<T, SdkError<E>>)
where
    E: std::error::Error + 'static,
{
    match opened {
        // An answer.
        Ok(_) | Err(SdkError::ServiceError(_) | SdkError::ResponseError(_)) => {}
        Err(error) => tracing::warn!(error = chain(&error), "a connection could not be opened"),
    }
}

/// How often a client tries a call, and how many seconds an attempt and the whole call may take.
struct Patience {
    attempts: u32,
    attempt: u64,
    operation: u64,
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
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::bus::Bus;
    use crate::clock::SystemClock;
    use crate::id::{ConnectionId, Ids};
    use crate::push::{Push, Pusher};
    use crate::queue::Queue;
    use crate::table::Table;

    /// Listens at an address, and answers every request with 404. Returns the head of each request and its connection.
    async fn endpoint() -> (String, Arc<Mutex<Vec<(String, usize)>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, seen) = (format!("http://{}", listener.local_addr().unwrap()), Arc::<Mutex<Vec<_>>>::default());
        let served = seen.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let served = served.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {
                        if request.windows(4).any(|end| end == b"\r\n\r\n") {
                            let head = String::from_utf8_lossy(&request).to_lowercase();
                            served.lock().unwrap().push((head, connection));
                            request.clear();
                            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
                        }
                    }
                });
            }
        });
        (url, seen)
    }

    /// Returns a configuration with all endpoints at one address.
    fn all_at(url: &str) -> Config {
        let management = format!("{url}/ws");
        let variables = [
            ("TABLE_NAME", "t"),
            ("AWS_ACCESS_KEY_ID", "k"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_ENDPOINT_URL", url),
            ("MANAGEMENT_ENDPOINT", &management),
            ("FANOUT_QUEUE_URL", url),
            ("EVENT_BUS_NAME", "b"),
        ];
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::read(find).unwrap()
    }

    #[tokio::test]
    async fn calls_are_signed_and_named_unless_this_process_answers_them() {
        let (url, seen) = endpoint().await;
        let mut config = all_at(&url);
        let head = async |config: &Config| {
            let metrics = Arc::default();
            let clients = Clients { config, http: http_client(), metrics: &metrics };
            let pusher = Pusher::configured(&clients).unwrap();
            assert_eq!(pusher.post(&ConnectionId::new("c"), "{}").await, Push::Failed);
            seen.lock().unwrap().pop().unwrap().0
        };
        let signed = head(&config).await;
        assert!(signed.contains("\r\namz-sdk-request: attempt=1"), "{signed}");
        assert!(signed.contains("authorization: aws4-hmac-sha256 credential=k/"), "{signed}");
        assert!(
            signed.contains(concat!("user-agent: serverless-chat/", env!("CARGO_PKG_VERSION"), "\r\n")),
            "{signed}"
        );
        config.in_process = vec![format!("{url}/ws")];
        let unsigned = head(&config).await;
        assert!(unsigned.starts_with("post "), "{unsigned}");
        for name in ["authorization", "user-agent", "x-amz-user-agent", "amz-sdk-invocation-id", "amz-sdk-request"] {
            assert!(!unsigned.contains(&format!("\r\n{name}:")), "{unsigned}");
        }
    }

    #[tokio::test]
    async fn opening_a_connection_asks_for_nothing_and_the_next_call_uses_it() {
        let (url, seen) = endpoint().await;
        let config = all_at(&url);
        let metrics = Arc::default();
        let clients = || Clients { config: &config, http: http_client(), metrics: &metrics };
        let take = || std::mem::take(&mut *seen.lock().unwrap());
        let greetings = |seen: &[(String, usize)]| {
            assert!(seen.iter().all(|(head, _)| head.starts_with("get / http/1.1\r\n")), "{seen:?}");
            seen.len()
        };
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(Ids::seeded(1)));
        Table::new(clients().dynamodb(), &config, clock, ids).open_connections().await;
        assert_eq!(greetings(&take()), 2);
        Queue::configured(&clients()).unwrap().open_connection().await;
        assert_eq!(greetings(&take()), 1);
        Bus::configured(&clients()).unwrap().open_connection().await;
        assert_eq!(greetings(&take()), 1);
        let pusher = Pusher::configured(&clients()).unwrap();
        pusher.open_connections().await;
        let opened = take();
        assert_eq!(greetings(&opened), 2);
        assert_eq!(pusher.post(&ConnectionId::new("c"), "{}").await, Push::Failed);
        let posted = take();
        assert!(posted[0].0.starts_with("post /ws/@connections/c http/1.1\r\n"), "{posted:?}");
        assert!(opened.iter().any(|(_, connection)| *connection == posted[0].1), "{opened:?}, {posted:?}");
    }

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
