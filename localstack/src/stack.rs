//! The local stack as a whole: start it, ask for its addresses, stop it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use functions::App;
use shared::aws;
use shared::clock::SystemClock;
use shared::config::{Config, DEVELOPMENT_SECRET, Origins, TokenConfig};
use shared::id::Ids;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, webhook};
use crate::connections::Close;
use crate::direct::Direct;
use crate::engine::{Engine, Sweeper};
use crate::gateway::{Gateway, Settings};
use crate::listener::{self, Limits};
use crate::policies::Policies;
use crate::template::{QueueDefinition, TEMPLATE, Template};
use crate::{
    answer, documents, dynamodb, event, invoke, management, metrics, network, page, queue, rest, services, socket,
};

/// The address that only this machine reaches.
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The table's name.
const TABLE: &str = "chat";

/// The bus's name, unless the environment sets another.
const BUS_NAME: &str = "local";

/// How long a stop waits for running work, first for invocations and then for jobs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Settings of a stack.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address on which the public gateway listens. The others listen on 127.0.0.1.
    pub host: IpAddr,
    /// Port of the public gateway. 0 chooses a free port, here and in the other port fields.
    pub public_port: u16,
    /// Port of the internal gateway.
    pub internal_port: u16,
    /// Port of DynamoDB.
    pub dynamodb_port: u16,
    /// The directory for the data. If absent, the data is in memory.
    pub data: Option<PathBuf>,
    /// The template to read instead of the built-in one.
    pub template: Option<PathBuf>,
    /// A connection is closed after this time without a frame.
    pub idle_timeout: Duration,
    /// A connection is closed when it has been open for this time.
    pub max_lifetime: Duration,
    /// The most connections that clients may have open. The limit of open files may lower it.
    pub max_connections: usize,
    /// How long a client may take to send a request.
    pub request_timeout: Duration,
    /// A failed job is tried again after this time. If absent, the template's value applies.
    pub visibility_timeout: Option<Duration>,
    /// The address to which each event of the bus is posted. It starts with `http://`.
    pub events: Option<String>,
    /// Variables that take precedence over the environment of the process.
    pub environment: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: LOCALHOST,
            public_port: 3000,
            internal_port: 3001,
            dynamodb_port: 8000,
            data: None,
            template: None,
            idle_timeout: Duration::from_secs(10 * 60),
            max_lifetime: Duration::from_secs(2 * 60 * 60),
            max_connections: 20_000,
            // Longer than clients keep an idle connection, so that the client closes it first.
            request_timeout: Duration::from_secs(2 * 60),
            visibility_timeout: None,
            events: None,
            environment: BTreeMap::new(),
        }
    }
}

/// Why the stack did not start. Its text is one line that says what to change.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    network_url: Option<String>,
    public_url: String,
    ws_url: String,
    internal_url: String,
    dynamodb_url: String,
    policies: Arc<Policies>,
    gateway: Arc<Gateway>,
    public: JoinHandle<()>,
    internal: JoinHandle<()>,
    stop_internal: CancellationToken,
    queues: Vec<JoinHandle<()>>,
    stop_queues: CancellationToken,
    webhook: Option<JoinHandle<()>>,
    stop_webhook: CancellationToken,
    dynamodb: JoinHandle<()>,
    sweeps: Option<JoinHandle<()>>,
}

impl Stack {
    /// Starts the stack. When it returns, all addresses answer.
    ///
    /// # Errors
    /// Fails if a port is in use, the template cannot be read, an environment variable is wrong, or the data directory
    /// cannot be used.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let template = read_template(&options)?;
        let public = bind("public", options.host, options.public_port)?;
        let internal = bind("internal", LOCALHOST, options.internal_port)?;
        let dynamodb = bind("dynamodb", LOCALHOST, options.dynamodb_port)?;
        let (public_url, internal_url, dynamodb_url) = (url(&public)?, url(&internal)?, url(&dynamodb)?);
        let network_url = network::url(address(&public)?);

        let policies = Arc::new(Policies::new(template.policies.clone()));
        if let Some(lack) = template.queues.iter().find_map(|queue| policies.lacks(queue)) {
            return Err(StartError(format!("template: {lack}")));
        }
        let config = configure(&options, &internal_url, &dynamodb_url, &template.queues)?;
        if !options.host.is_loopback() && development_tokens(&config).is_some() {
            return Err(StartError(format!(
                "--host {}: with the built-in secret, anybody on the network could be any user; set JWT_SECRET to a \
                 secret of your own of at least 32 bytes, or JWKS_URL",
                options.host
            )));
        }
        let events = options.events.as_deref().map(webhook::parse).transpose();
        let events = events.map_err(|why| StartError(format!("--events {why}")))?;
        let bus = Arc::new(Bus::new(config.event_bus.clone()));
        let engine = Engine::start(options.data.as_deref(), TABLE, &template.table);
        let engine = engine.map_err(|error| StartError(format!("dynamodb: {error}")))?;
        let sweeper = Sweeper::new(&engine, TABLE, &template.table);
        let direct = Direct {
            engine: engine.clone(),
            endpoint: format!("{dynamodb_url}/"),
            gateway: Arc::default(),
            connections: format!("{internal_url}/@connections/"),
            bus: bus.clone(),
            events: format!("{internal_url}/"),
            policies: policies.clone(),
            beyond: aws::http_client(),
        };
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(Ids::unpredictable()));
        let made = direct.gateway.clone();
        let app = Arc::new(App::over(direct.client(), &config, clock, ids));
        let ws_url = format!("{}/{}", public_url.replacen("http", "ws", 1), template.socket.stage);
        let gateway = Gateway::new(template, app, settings(&options, &config, bus.clone()));
        let gateway = Arc::new(gateway.map_err(|error| StartError(format!("template: {error}")))?);
        made.get_or_init(|| Arc::downgrade(&gateway));

        let clients = Limits { connections: places(options.max_connections), request_timeout: options.request_timeout };
        let programs = Limits { connections: usize::MAX, request_timeout: options.request_timeout };
        let [stop_internal, stop_queues, stop_webhook] = [(); 3].map(|()| CancellationToken::new());
        let run =
            |queue: &Arc<_>| tokio::spawn(queue::poller::run(Arc::clone(queue), gateway.clone(), stop_queues.clone()));
        Ok(Self {
            network_url,
            public: serve(public, public_router(&gateway), clients, gateway.stopping.clone())?,
            internal: serve(internal, internal_router(&gateway), programs, stop_internal.clone())?,
            public_url,
            ws_url,
            queues: gateway.queues.iter().map(run).collect(),
            internal_url,
            dynamodb_url,
            policies,
            gateway,
            webhook: events.map(|address| tokio::spawn(webhook::run(bus, address, stop_webhook.clone()))),
            stop_webhook,
            dynamodb: serve(dynamodb, dynamodb::router(engine), programs, stop_internal.clone())?,
            sweeps: sweeper.map(|sweeper| tokio::spawn(sweeper.run(stop_internal.clone()))),
            stop_internal,
            stop_queues,
        })
    }

    /// Address of the REST API for clients, such as `http://127.0.0.1:3000`.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Address of the page and the REST API for other machines of the network, such as `http://192.168.1.2:3000`. Absent
    /// if the public gateway listens on this machine alone, or if this machine is on no network.
    pub fn network_url(&self) -> Option<&str> {
        self.network_url.as_deref()
    }

    /// Address of the WebSocket for clients, such as `ws://127.0.0.1:3000/ws`.
    pub fn ws_url(&self) -> &str {
        &self.ws_url
    }

    /// Address for other services, such as `http://127.0.0.1:3001`.
    pub fn internal_url(&self) -> &str {
        &self.internal_url
    }

    /// Address of DynamoDB, such as `http://127.0.0.1:8000`.
    pub fn dynamodb_url(&self) -> &str {
        &self.dynamodb_url
    }

    /// Returns the permissions that the template grants and no function has used since the start.
    ///
    /// Each names the function, the action, and its object: the kind of partition, the method for connections, the
    /// queue or the bus.
    pub fn unused_permissions(&self) -> BTreeSet<String> {
        self.policies.unused()
    }

    /// Stops the stack: accepts no new requests, closes every socket, waits for running work, queued jobs and
    /// events, then closes the database.
    pub async fn stop(self) {
        self.gateway.stopping.cancel();
        self.gateway.connections.close_all(&Close::going_away());
        self.gateway.tasks.close();
        if tokio::time::timeout(PATIENCE, self.gateway.tasks.wait()).await.is_err() {
            tracing::warn!("some invocations did not end in time");
        }
        self.stop_queues.cancel();
        if tokio::time::timeout(PATIENCE, futures::future::join_all(self.queues)).await.is_err() {
            tracing::warn!("some jobs were not done in time");
        }
        self.stop_webhook.cancel();
        if let Some(webhook) = self.webhook {
            // It limits its own time.
            let _ = webhook.await;
        }
        self.stop_internal.cancel();
        for task in [self.public, self.internal, self.dynamodb].into_iter().chain(self.sweeps) {
            // A client that keeps its connection open does not delay the stop further.
            let abort = task.abort_handle();
            if tokio::time::timeout(Duration::from_secs(1), task).await.is_err() {
                abort.abort();
            }
        }
    }
}

fn read_template(options: &Options) -> Result<Template, StartError> {
    let Some(path) = &options.template else {
        return Template::parse(TEMPLATE).map_err(|error| StartError(format!("template: {error}")));
    };
    let text = std::fs::read_to_string(path).map_err(|error| StartError(format!("{}: {error}", path.display())))?;
    Template::parse(&text).map_err(|error| StartError(format!("{}: {error}", path.display())))
}

fn bind(name: &str, host: IpAddr, port: u16) -> Result<TcpListener, StartError> {
    let option = if host == LOCALHOST { String::new() } else { format!("--host {host} ") };
    let address = SocketAddr::from((host, port));
    TcpListener::bind(address).map_err(|error| StartError(format!("{option}--{name}-port {port}: {error}")))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| StartError(error.to_string()))
}

/// Returns the address for programs of this machine.
fn url(listener: &TcpListener) -> Result<String, StartError> {
    Ok(format!("http://{}", network::from_here(address(listener)?)))
}

/// Returns the functions' configuration. Values that the stack sets take precedence over the environment.
fn configure(
    options: &Options,
    internal_url: &str,
    dynamodb_url: &str,
    queues: &[QueueDefinition],
) -> Result<Config, StartError> {
    let from_environment = |name: &str| options.environment.get(name).cloned().or_else(|| std::env::var(name).ok());
    let has = |name: &str| from_environment(name).is_some_and(|value| !value.trim().is_empty());
    let has_keys = has("JWT_SECRET") || has("JWKS_URL");
    let variable = |name: &str| match name {
        "TABLE_NAME" => Some(TABLE.to_owned()),
        "MANAGEMENT_ENDPOINT" => Some(internal_url.to_owned()),
        "AWS_ENDPOINT_URL_DYNAMODB" => options.environment.get(name).cloned().or_else(|| Some(dynamodb_url.to_owned())),
        "AWS_ENDPOINT_URL_EVENTBRIDGE" => {
            options.environment.get(name).cloned().or_else(|| Some(internal_url.to_owned()))
        }
        // An empty value turns events off.
        "EVENT_BUS_NAME" => from_environment(name).or_else(|| Some(BUS_NAME.to_owned())),
        "AWS_ENDPOINT_URL_SQS" => Some(internal_url.to_owned()),
        "FANOUT_QUEUE_URL" => {
            let queue = queues.iter().find(|queue| queue.function == "fanout");
            queue.map(|queue| format!("{internal_url}/{}/{}", event::ACCOUNT, queue.name))
        }
        "AWS_REGION" => Some("us-east-1".to_owned()),
        // Another engine at AWS_ENDPOINT_URL_DYNAMODB may have a database for each key.
        "AWS_ACCESS_KEY_ID" => options.environment.get(name).cloned().or_else(|| Some("local".to_owned())),
        "AWS_SECRET_ACCESS_KEY" => Some("local".to_owned()),
        "AWS_SESSION_TOKEN" | "AWS_ENDPOINT_URL" | "JWT_SECRET_ARN" => None,
        "JWT_SECRET" if !has_keys => Some(DEVELOPMENT_SECRET.to_owned()),
        _ => from_environment(name),
    };
    let mut config = Config::read(variable).map_err(|error| StartError(error.to_string()))?;
    config.in_process = vec![dynamodb_url.to_owned(), internal_url.to_owned()];
    // Every page could use this public secret. So only pages of this machine may call, unless ALLOWED_ORIGINS is set.
    if development_tokens(&config).is_some() && !has("ALLOWED_ORIGINS") {
        config.allowed_origins = Origins::Loopback;
    }
    Ok(config)
}

/// Returns the settings of tokens if their secret is the public development secret.
fn development_tokens(config: &Config) -> Option<&TokenConfig> {
    config.tokens.as_ref().filter(|tokens| tokens.secret.as_deref() == Some(DEVELOPMENT_SECRET))
}

fn settings(options: &Options, config: &Config, bus: Arc<Bus>) -> Settings {
    Settings {
        origins: config.allowed_origins.clone(),
        development_tokens: development_tokens(config).cloned(),
        idle_timeout: options.idle_timeout,
        max_lifetime: options.max_lifetime,
        request_timeout: options.request_timeout,
        visibility_timeout: options.visibility_timeout,
        bus,
    }
}

fn public_router(gateway: &Arc<Gateway>) -> Router {
    Router::new()
        .merge(page::files())
        .merge(page::host_application())
        .merge(documents::public())
        .route(&format!("/{}", gateway.socket.stage), get(socket::open))
        .fallback(rest::public)
        .with_state(gateway.clone())
}

fn internal_router(gateway: &Arc<Gateway>) -> Router {
    let stage = &gateway.socket.stage;
    Router::new()
        .route("/", post(services::call))
        .route("/dev/events", get(services::events))
        .merge(documents::internal())
        .route("/metrics", get(metrics::metrics))
        .route("/@connections/{id}", any(management::connections))
        .route(&format!("/{stage}/@connections/{{id}}"), any(management::connections))
        .route("/2015-03-31/functions/{name}/invocations", post(invoke::invoke))
        .fallback(rest::internal)
        .layer(DefaultBodyLimit::max(invoke::MAX_PAYLOAD_BYTES))
        .layer(from_fn(refuse_pages))
        .with_state(gateway.clone())
}

async fn refuse_pages(request: Request, next: Next) -> Response {
    if answer::comes_from_a_page(request.headers()) {
        return answer::message(StatusCode::FORBIDDEN, "Forbidden").into_response();
    }
    next.run(request).await
}

fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, StartError> {
    let failed = |error: std::io::Error| StartError(error.to_string());
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    Ok(tokio::spawn(listener::serve(listener, router, limits, stop)))
}

/// Returns how many connections clients may have. A quarter of the files that this process may open is kept for the
/// functions' own calls, so that connected clients are still served at the limit.
fn places(max_connections: usize) -> usize {
    let files = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let places = usize::try_from(files / 4 * 3).unwrap_or(usize::MAX).max(1);
    if places < max_connections {
        tracing::info!(places, "the limit of open files allows fewer connections than configured");
    }
    places.min(max_connections)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use futures::{SinkExt, StreamExt};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use serde_json::Value;
    use shared::clock::{Clock, Ms};
    use tokio::net::TcpStream;
    use tokio::sync::broadcast::Receiver;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;
    use tokio_tungstenite::{WebSocketStream, client_async};

    use super::*;

    /// Longer than any step of these tests takes.
    const LIMIT: Duration = Duration::from_secs(30);

    async fn start(options: Options) -> Stack {
        let free = Options { public_port: 0, internal_port: 0, dynamodb_port: 0, ..options };
        Stack::start(free).await.unwrap()
    }

    async fn connect(stack: &Stack) -> WebSocketStream<TcpStream> {
        let tokens = stack.gateway.development_tokens.as_ref().unwrap();
        let user = shared::id::UserId::parse("alice").unwrap();
        let token = shared::token::sign(tokens, &user, SystemClock.now_ms(), 600).unwrap();
        let stream = TcpStream::connect(stack.public_url().strip_prefix("http://").unwrap()).await.unwrap();
        client_async(format!("{}?access_token={token}", stack.ws_url()), stream).await.unwrap().0
    }

    /// Returns the context of the next event of that function.
    async fn context(invoked: &mut Receiver<(String, String)>, function: &str) -> Value {
        let next = async {
            loop {
                let (name, event) = invoked.recv().await.unwrap();
                if name == function {
                    return serde_json::from_str::<Value>(&event).unwrap()["requestContext"].take();
                }
            }
        };
        tokio::time::timeout(LIMIT, next).await.expect("it is run")
    }

    /// Opens a connection, ends it by `end`, and returns the code and the reason that `$disconnect` gets. Checks the
    /// time of the event too.
    async fn told(stack: &Stack, end: impl AsyncFnOnce(WebSocketStream<TcpStream>, String)) -> (u64, String) {
        let mut invoked = stack.gateway.invoked.subscribe();
        let socket = connect(stack).await;
        let opened = context(&mut invoked, "connect").await;
        let id = opened["connectionId"].as_str().unwrap().to_owned();
        let before = SystemClock.now_ms();
        end(socket, id).await;
        let ended = context(&mut invoked, "disconnect").await;
        assert_eq!((&ended["connectionId"], &ended["routeKey"]), (&opened["connectionId"], &"$disconnect".into()));
        assert_eq!((&ended["connectedAt"], &ended["eventType"]), (&opened["connectedAt"], &"DISCONNECT".into()));
        let time: Ms = ended["requestTimeEpoch"].as_u64().unwrap();
        assert!((before..=SystemClock.now_ms()).contains(&time), "{ended}");
        let reason = ended["disconnectReason"].as_str().unwrap().to_owned();
        (ended["disconnectStatusCode"].as_u64().unwrap(), reason)
    }

    async fn closed(stack: &Stack, frame: Option<CloseFrame>) -> (u64, String) {
        told(stack, async |mut socket, _| socket.close(frame).await.unwrap()).await
    }

    #[tokio::test]
    async fn disconnect_gets_the_close_code_of_the_client() {
        let stack = start(Options::default()).await;
        let frame = |code: u16, reason: &'static str| Some(CloseFrame { code: code.into(), reason: reason.into() });
        assert_eq!(closed(&stack, None).await, (1005, "Client-side close frame status not set".to_owned()));
        assert_eq!(closed(&stack, frame(1000, "")).await, (1000, String::new()));
        assert_eq!(closed(&stack, frame(1001, "")).await, (1001, String::new()));
        assert_eq!(closed(&stack, frame(4000, "my own")).await, (4000, "my own".to_owned()));
        let broken = told(&stack, async |socket, _| drop(socket)).await;
        assert_eq!(broken, (1006, "Connection Closed Abnormally".to_owned()));
        stack.stop().await;
    }

    #[tokio::test]
    async fn disconnect_gets_the_close_code_of_the_gateway() {
        let stack = start(Options::default()).await;
        let deleted = told(&stack, async |mut socket, id| {
            stack.gateway.connections.get(&id).unwrap().close(Close::new(1000, "Connection Closed Normally"));
            while socket.next().await.is_some() {}
        });
        assert_eq!(deleted.await, (1000, "Connection Closed Normally".to_owned()));
        stack.stop().await;
        let second = Duration::from_secs(1);
        for options in [
            Options { idle_timeout: second, ..Options::default() },
            Options { max_lifetime: second, ..Options::default() },
        ] {
            let stack = start(options).await;
            let ended = told(&stack, async |mut socket, _| while socket.next().await.is_some() {});
            assert_eq!(ended.await, (1001, "Going away".to_owned()));
            stack.stop().await;
        }
    }

    #[tokio::test]
    async fn the_time_of_disconnect_excludes_the_farewell() {
        let stack = start(Options::default()).await;
        let mut invoked = stack.gateway.invoked.subscribe();
        let socket = connect(&stack).await;
        let id = context(&mut invoked, "connect").await["connectionId"].as_str().unwrap().to_owned();
        let connection = stack.gateway.connections.get(&id).unwrap();
        connection.close(Close::going_away());
        // The client does not answer the close, so the farewell takes its second.
        let gone = async {
            while stack.gateway.connections.get(&id).is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, gone).await.expect("it ends");
        let seen = SystemClock.now_ms();
        let time = context(&mut invoked, "disconnect").await["requestTimeEpoch"].as_u64().unwrap();
        assert!(time <= seen && SystemClock.now_ms() >= time + 900, "{time} {seen}");
        drop(socket);
        stack.stop().await;
    }

    /// Calls the internal address, and returns the status and the answer.
    async fn call(stack: &Stack, request: axum::http::request::Builder, path: &str, body: String) -> (u16, String) {
        let request = request.uri(format!("{}{path}", stack.internal_url())).body(Body::from(body)).unwrap();
        let answer = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(Body::new(answer.into_body()), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Puts an event on the bus `local`, and returns the events that the stack shows then.
    async fn shown(stack: &Stack) -> String {
        let entry = r#"{"EventBusName":"local","Source":"chat","DetailType":"GroupChanged","Detail":"{}"}"#;
        let put = Request::post("/").header("x-amz-target", "AWSEvents.PutEvents");
        let (status, answer) = call(stack, put, "/", format!(r#"{{"Entries":[{entry}]}}"#)).await;
        assert!(status == 200 && answer.contains("EventId"), "{answer}");
        let foreign = Request::get("/").header("origin", "http://evil.example");
        assert_eq!(call(stack, foreign, "/dev/events", String::new()).await.0, 403);
        call(stack, Request::get("/"), "/dev/events", String::new()).await.1
    }

    #[tokio::test]
    async fn events_are_shown_and_posted() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let events = Some(format!("http://{}/events", listener.local_addr().unwrap()));
        let (told, mut got) = tokio::sync::mpsc::unbounded_channel();
        webhook::tests::receive(listener, told);
        let stack = start(Options { events, ..Options::default() }).await;
        let shown = shown(&stack).await;
        stack.stop().await;
        assert_eq!(shown, format!("[{}]", got.recv().await.unwrap()));
    }

    #[tokio::test]
    async fn without_a_bus_there_are_no_events() {
        let environment = [("EVENT_BUS_NAME".to_owned(), String::new())].into();
        let stack = start(Options { environment, ..Options::default() }).await;
        assert_eq!(shown(&stack).await, "[]");
        stack.stop().await;
        let events = Some("https://127.0.0.1/".to_owned());
        let why =
            Stack::start(Options { public_port: 0, internal_port: 0, dynamodb_port: 0, events, ..Options::default() });
        assert!(why.await.unwrap_err().to_string().starts_with("--events must be an address that starts with http://"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_times_of_frames_are_in_the_order_sent() {
        let stack = start(Options::default()).await;
        let mut socket = connect(&stack).await;
        let mut invoked = stack.gateway.invoked.subscribe();
        let numbers = 0..60;
        for number in numbers.clone() {
            socket.feed(Message::text(format!(r#"{{"type":"unicast","number":{number}}}"#))).await.unwrap();
        }
        socket.flush().await.unwrap();
        let mut times = std::collections::BTreeMap::new();
        while times.len() < numbers.len() {
            let (_, event) = tokio::time::timeout(LIMIT, invoked.recv()).await.expect("each frame runs").unwrap();
            let event: Value = serde_json::from_str(&event).unwrap();
            let frame: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
            times.insert(frame["number"].as_u64(), event["requestContext"]["requestTimeEpoch"].as_u64());
        }
        assert!(times.values().is_sorted(), "{times:?}");
        drop(socket);
        stack.stop().await;
    }

    #[tokio::test]
    async fn protocol_pings_do_not_reset_the_idle_timer() {
        let stack = start(Options { idle_timeout: Duration::from_secs(1), ..Options::default() }).await;
        let ended = told(&stack, async |socket, _| {
            let (mut sink, mut stream) = socket.split();
            let mut beat = tokio::time::interval(Duration::from_millis(100));
            loop {
                tokio::select! {
                    _ = beat.tick() => { let _ = sink.send(Message::Ping("beat".into())).await; }
                    next = stream.next() => if !matches!(next, Some(Ok(Message::Pong(_)))) { break },
                }
            }
        });
        let ended = tokio::time::timeout(LIMIT, ended).await.expect("pings keep it open");
        assert_eq!(ended, (1001, "Going away".to_owned()));
        stack.stop().await;
    }
}
