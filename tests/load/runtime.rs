//! A function as a process of its own. It asks an API like Lambda's runtime API for events, one after the other.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use shared::clock::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::{Failure, process};

/// The longest time until the next step of a function.
const PATIENCE: Duration = Duration::from_secs(60);

/// A step of a function.
enum Step {
    /// The function asks for an event.
    Asks,
    /// The function answers its event.
    Answers(String),
    /// The function reports a failure.
    Fails(String),
}

/// A function that is running.
pub(crate) struct Running {
    child: Child,
    events: UnboundedSender<String>,
    steps: UnboundedReceiver<Step>,
    api: JoinHandle<std::io::Result<()>>,
}

/// The result and the cost of one event.
pub(crate) struct Invocation {
    pub(crate) answer: String,
    /// The time until the answer.
    pub(crate) time: Duration,
    /// The processor time until the function asked for the next event.
    pub(crate) processor_time: Duration,
}

impl Running {
    /// Starts a function with these environment variables and those that Lambda sets, and no others. Returns when the
    /// function asks for its first event.
    pub(crate) async fn start(program: &Path, variables: &[(&str, String)]) -> Result<Self, Failure> {
        let (events, to_give) = unbounded_channel();
        let (step, steps) = unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let router = api(Arc::new(Api { events: Mutex::new(to_give), step }));
        let api = tokio::spawn(async move { axum::serve(listener, router).await });
        let mut command = Command::new(program);
        command.env_clear().envs(LAMBDA).env("AWS_LAMBDA_RUNTIME_API", address);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        // A function prints a line for each invocation.
        command.stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut running = Self { child, events, steps, api };
        running.wait_until_it_asks().await?;
        Ok(running)
    }

    /// Gives the function an event, and waits until it has answered and asks for the next.
    pub(crate) async fn invoke(&mut self, event: String) -> Result<Invocation, Failure> {
        let before = process::processor_time_at_rest(self.id()?)?;
        let began = Instant::now();
        self.events.send(event)?;
        let answer = match self.step().await? {
            Step::Answers(answer) => answer,
            Step::Fails(why) => return Err(why.into()),
            Step::Asks => return Err("it asks for an event before it has answered the last".into()),
        };
        let time = began.elapsed();
        self.wait_until_it_asks().await?;
        Ok(Invocation { answer, time, processor_time: process::processor_time_at_rest(self.id()?)? - before })
    }

    /// The highest resident memory of the function.
    pub(crate) fn peak_bytes(&self) -> Result<u64, Failure> {
        process::peak_bytes(self.id()?)
    }

    async fn wait_until_it_asks(&mut self) -> Result<(), Failure> {
        match self.step().await? {
            Step::Asks => Ok(()),
            Step::Answers(text) | Step::Fails(text) => {
                Err(format!("it should ask for an event, and says {text}").into())
            }
        }
    }

    async fn step(&mut self) -> Result<Step, Failure> {
        tokio::select! {
            step = self.steps.recv() => Ok(step.ok_or("the runtime API has ended")?),
            ended = self.child.wait() => Err(format!("the function has ended: {}", ended?).into()),
            () = tokio::time::sleep(PATIENCE) => Err("the function takes too long".into()),
        }
    }

    fn id(&self) -> Result<u32, Failure> {
        Ok(self.child.id().ok_or("the function has ended")?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.api.abort();
    }
}

/// The variables that Lambda sets for each function.
const LAMBDA: [(&str, &str); 3] = [
    ("AWS_LAMBDA_FUNCTION_NAME", "weighed"),
    ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
];

/// The API of one function.
struct Api {
    events: Mutex<UnboundedReceiver<String>>,
    step: UnboundedSender<Step>,
}

fn api(api: Arc<Api>) -> Router {
    const INVOCATION: &str = "/2018-06-01/runtime/invocation";
    let answered = async |State(api): State<Arc<Api>>, body: String| tell(&api, Step::Answers(body));
    let failed = async |State(api): State<Arc<Api>>, body: String| tell(&api, Step::Fails(body));
    Router::new()
        .route(&format!("{INVOCATION}/next"), get(next))
        .route(&format!("{INVOCATION}/{{id}}/response"), post(answered))
        .route(&format!("{INVOCATION}/{{id}}/error"), post(failed))
        .route("/2018-06-01/runtime/init/error", post(failed))
        .with_state(api)
}

fn tell(api: &Api, step: Step) -> StatusCode {
    // The receiver may be gone.
    let _ = api.step.send(step);
    StatusCode::ACCEPTED
}

async fn next(State(api): State<Arc<Api>>) -> Response {
    tell(&api, Step::Asks);
    let Some(event) = api.events.lock().await.recv().await else { return StatusCode::GONE.into_response() };
    let deadline = SystemClock.now_ms() + 60_000;
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:weighed".to_owned()),
    ];
    (headers, event).into_response()
}
