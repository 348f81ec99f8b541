//! The clients that carry out a plan: devices that connect, send and disappear, readers that pull, and users who change
//! groups, friendships and blocks.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use functions::{App, Function};
use futures::future::FusedFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use localstack::run_as;
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;
use shared::clock::Ms;
use shared::id::{Ids, MessageId};

use super::history::{During, Fault, History, Pulled, Sent, Spells};
use super::plan::{Act, Drops, Plan, Step, To, Track, User, Who};
use super::world::{INDEX_LAG_MS, Phase, Skewed, Wire, World};

/// The longest time until the gateway notices that a client has closed.
const CLEAN_MS: Ms = 2_000;

/// The time limit of a function, as in template.yaml.
const PATIENCE: Duration = Duration::from_secs(15);

/// The largest answer of a function that Lambda returns.
const MAX_ANSWER_BYTES: usize = 6 * 1024 * 1024;

/// The most bytes that the queries of one call may return: 16 MiB that may be read in vain, the excess of one query,
/// and the page.
const MAX_READ_BYTES: usize = 18 * 1024 * 1024;

/// How often a necessary call is retried.
const MAX_TRIES: usize = 50;

/// One run.
pub(super) struct Run {
    pub(super) world: Arc<World>,
    pub(super) history: History,
    plan: Plan,
    /// The ids of the groups.
    pub(super) groups: Vec<String>,
    /// Instances of the functions. Their clocks differ.
    instances: Vec<Arc<App>>,
    secret: String,
}

/// The answer to a call.
pub(super) struct Answer {
    pub(super) status: u64,
    pub(super) body: String,
    pub(super) has_more: bool,
    pub(super) next: Option<String>,
    page: Option<String>,
}

/// A page of missed messages.
#[derive(Debug)]
struct Page {
    messages: Vec<Value>,
    /// Where the next page begins, if there is more.
    next: Option<String>,
    /// What drops it.
    token: Option<String>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

impl Run {
    /// Creates the friendships and groups of the plan.
    pub(super) async fn begin(world: Arc<World>, plan: Plan) -> Self {
        let secret = "the secret of a simulation, which is long enough".to_owned();
        // Few connections, so that the limit is often reached.
        let mut limits = vec![("MAX_CONNECTIONS", "2")];
        if plan.seed % 4 > 1 {
            limits.extend([("FANOUT_MEMBERS", "1"), ("FANOUT_QUEUE_URL", "http://sqs.simulated/1/FanoutQueue")]);
        }
        // In most runs, almost every member has a shard of their own.
        if !plan.seed.is_multiple_of(3) {
            limits.push(("ROSTER_SHARD", "1"));
        }
        if plan.crowded {
            limits.push(("MAX_MISSED_NAMES", "1"));
        }
        if plan.flooded {
            limits.push(("MAX_PAGE_MESSAGES", "1000"));
        }
        let config = super::config_with(&secret, &limits);
        let instance = |ahead_ms: u64| {
            let clock = Arc::new(Skewed { world: world.clone(), ahead_ms });
            let ids = Arc::new(Ids::seeded(plan.seed.wrapping_mul(31).wrapping_add(ahead_ms)));
            Arc::new(App::over(SharedHttpClient::new(Wire(world.clone())), &config, clock, ids))
        };
        // The clocks differ by less than the time by which a connection is stamped ahead. Nothing else is assumed of
        // clocks.
        let instances = [0, 1, 3, 4].map(instance).into();
        let mut run = Self { world, history: History::default(), plan, groups: Vec::new(), instances, secret };
        for (one, other) in run.plan.friends.clone() {
            run.relate("PUT", one, "friendId", other).await;
            run.history.note(|notes| notes.friends.insert((one, other), Spells::always()));
        }
        for (number, members) in run.plan.groups.clone().into_iter().enumerate() {
            let group = run.create_group(members[0]).await;
            run.groups.push(group);
            run.history.note(|notes| notes.members.insert((number, members[0]), Spells::always()));
            for user in &members[1..] {
                run.join(number, user).await;
            }
        }
        if run.plan.flooded {
            run.flood().await;
        }
        // By now, every read sees the groups.
        tokio::time::sleep(Duration::from_millis(INDEX_LAG_MS)).await;
        run
    }

    /// A user whom the first user blocks has filled the log of a group, or the log of the first user before the block.
    async fn flood(&self) {
        let user = self.plan.users[0];
        let group = self.plan.groups.iter().position(|members| members.contains(&user));
        let group = group.filter(|_| (self.plan.seed / 400).is_multiple_of(2));
        // More than a pull may read in vain, or more than an answer holds: a line break takes two bytes there.
        let (pk, count, part) = match group {
            Some(group) => (format!("GROUP#{}", self.groups[group]), 620, " "),
            None => (format!("USER#{user}"), 100, "\n"),
        };
        if group.is_some() {
            self.relate("PUT", user, "blockedId", "mallory").await;
        }
        let (now, content) = (self.world.now_ms(), format!("[{}]", part.repeat(32_000)));
        for n in 0..count {
            let id = MessageId::first_at(now + n).to_string();
            self.world.put(&json!({
                "pk": { "S": pk }, "sk": { "S": format!("LOG#{id}") }, "id": { "S": id },
                "sender": { "S": "mallory" }, "content": { "S": content }, "timestamp": { "N": now.to_string() },
            }));
        }
    }

    /// Runs something and all jobs that it causes.
    pub(super) async fn run_jobs(&self, doing: impl Future) {
        let (mut doing, mut running, mut count) = (pin!(doing.fuse()), FuturesUnordered::new(), 0);
        loop {
            for job in self.world.take_jobs() {
                count += 1;
                running.push(World::with_chance(self.plan.seed.wrapping_add(count), self.run_job(job)));
            }
            tokio::select! {
                biased;
                Some(()) = running.next() => {}
                () = self.world.queued() => {}
                _ = &mut doing => {}
                else => return,
            }
            if doing.is_terminated() && running.is_empty() && !self.world.has_jobs() {
                return;
            }
        }
    }

    /// Runs a job sooner or later until it succeeds. If calls fail, perhaps runs it once more.
    async fn run_job(&self, job: String) {
        let mut event: Value = serde_json::from_str(include_str!("../../events/sqs-fanout.json")).expect("an event");
        event["Records"][0]["body"] = json!(job);
        let job: Value = serde_json::from_str(&job).expect("a job is JSON");
        let id = job["id"].as_str().or(job["group"].as_str()).or(job["user"].as_str());
        let id = id.expect("the id of a message, of a group that is dissolved, or of a user who is kicked").to_owned();
        for _ in 0..MAX_TRIES {
            let late = match self.world.below(10) {
                0..6 => 300,
                6..9 => 20_000,
                _ => 150_000,
            };
            self.world.pause(late).await;
            let answer = self.invoke(&functions::fanout::FUNCTION, &event).await;
            let is_done = answer.is_some_and(|answer| answer["batchItemFailures"] == json!([]));
            let now = self.world.now_ms();
            self.history.note(|notes| notes.delivered.insert(id.clone(), now));
            if is_done && !(self.world.is_faulty() && self.world.in_a_hundred(20)) {
                return;
            }
        }
        self.wrong("a job is done some time", id);
    }

    /// Runs the steps of a track in order.
    pub(super) async fn follow(&self, track: &Track) {
        let (mut connection, mut seen) = (None, None);
        for step in &track.steps {
            let doing = async {
                tokio::time::sleep(Duration::from_millis(step.pause)).await;
                match track.who {
                    Who::Device(user) => self.use_device(user, step, &mut connection).await,
                    Who::Reader(user) => self.read(user, step, &mut seen).await,
                    Who::Caller(user) => self.converse(user, step).await,
                    Who::Place(group, user) => self.change_place(group, user, step).await,
                    Who::Block(user, other) => self.change_block(user, other, step).await,
                    Who::Friendship(one, other) => self.change_friendship(one, other, step).await,
                    Who::Manager(group) => self.dissolve(group).await,
                    Who::BackEnd => self.act_as_back_end(step).await,
                }
            };
            World::with_chance(step.chance, doing).await;
        }
        if let (Who::Device(_), Some(connection)) = (track.who, &connection) {
            self.close(connection);
        }
    }

    /// Invokes a function on some instance. Returns nothing if the function was killed or gave no answer in time.
    pub(super) async fn invoke(&self, function: &Function, event: &Value) -> Option<Value> {
        let instance = usize::try_from(self.world.below(4)).expect("a small number");
        let text = event.to_string();
        // Functions that are invoked seldom are killed more often.
        let is_seldom = !["message", "pull_messages", "drop_messages"].contains(&function.name);
        let chance = if is_seldom { self.plan.kills.max(40) } else { self.plan.kills };
        let doomed = self.world.is_faulty() && self.world.in_a_hundred(chance);
        let last_call = doomed.then(|| self.last_call());
        self.invoke_on(instance, function, &text, last_call).await
    }

    /// The same, killed at that call.
    async fn invoke_until(&self, function: &Function, event: &Value, last_call: Option<u64>) -> Option<Value> {
        self.invoke_on(0, function, &event.to_string(), last_call).await
    }

    async fn invoke_on(
        &self,
        instance: usize,
        function: &Function,
        text: &str,
        last_call: Option<u64>,
    ) -> Option<Value> {
        let killed = self.world.doom(function.name, last_call);
        let invocation =
            tokio::time::timeout(PATIENCE, run_as(function.name, function.invoke(&self.instances[instance], text)));
        let answer = tokio::select! {
            biased;
            () = killed.notified() => None,
            answer = invocation => answer.ok()?.ok(),
        };
        let read = self.world.read_bytes();
        self.world.doom("", None);
        if read > MAX_READ_BYTES {
            self.wrong("a call reads within its budget", format!("{} read {read} bytes", function.name));
        }
        if let Some(answer) = answer.as_ref().filter(|answer| answer.len() > MAX_ANSWER_BYTES) {
            self.wrong("an answer fits", format!("{}: {} bytes", function.name, answer.len()));
            return None;
        }
        answer.map(|json| serde_json::from_str(&json).expect("a result is JSON"))
    }

    /// The call at which a function is killed. Later calls are less likely.
    fn last_call(&self) -> u64 {
        let mut calls = 0;
        while !self.world.in_a_hundred(12) {
            calls += 1;
        }
        calls
    }

    // -------------------------------------------------------------------------------------------------------- devices
    async fn use_device(&self, user: User, step: &Step, connection: &mut Option<String>) {
        match (&step.act, &*connection) {
            (Act::Connect { second }, None) if self.plan.adversary == Some(user) => {
                *connection = self.connect_in_a_burst(user, *second).await;
            }
            (Act::Connect { second }, None) => *connection = self.connect(user, *second).await,
            (Act::Disconnect { dies, told }, Some(open)) => {
                let open = open.clone();
                *connection = self.disconnect(user, &open, *dies, *told).await;
            }
            (Act::Send { to, content, tries, named }, Some(open)) if self.world.phase(open) == Phase::Open => {
                let to_himself = *to == To::User(user);
                if !to_himself {
                    self.send(user, open, *to, content, *tries, *named).await;
                }
            }
            // An earlier step failed or is not part of this plan.
            _ => {}
        }
    }

    fn socket_event(&self, route: &str, kind: &str, user: User, connection: &str, frame: Option<&str>) -> Value {
        let mut event = json!({
            "requestContext": {
                "routeKey": route, "eventType": kind, "connectionId": connection, "stage": "ws", "apiId": "simulated",
                "requestTimeEpoch": self.world.now_ms(), "connectedAt": self.world.now_ms(), "requestId": "r",
                "messageDirection": "IN", "domainName": "gateway.simulated", "identity": { "sourceIp": "192.0.2.1" },
                "authorizer": { "principalId": user, "userId": user, "exp": "4000000000" },
            },
            "body": frame, "isBase64Encoded": false,
        });
        if self.is_second(connection) {
            event["requestContext"]["authorizer"]["version"] = json!("2");
        }
        event
    }

    /// Opens a connection at the gateway.
    fn open(&self, user: User, second: bool) -> String {
        let connection = self.world.open(user);
        if second {
            self.history.note(|notes| notes.second.insert(connection.clone()));
        }
        connection
    }

    /// Whether a connection is of version 2 of the protocol.
    fn is_second(&self, connection: &str) -> bool {
        self.history.note(|notes| notes.second.contains(connection))
    }

    fn note_coming(&self, user: User, from: Ms) {
        let during = During { from, to: self.world.now_ms() };
        self.history.note(|notes| notes.comings.entry(user).or_default().push(during));
    }

    /// Records that a connection of a user began or ended.
    pub(super) fn note_change(&self, user: User, from: Ms) {
        self.note_coming(user, from);
        let during = During { from, to: self.world.now_ms() };
        self.history.note(|notes| notes.changes.entry(user).or_default().push(during));
    }

    /// From now on, the state of a user may have a connection that no longer exists.
    pub(super) fn note_ghost(&self, user: User) {
        let now = self.world.now_ms();
        self.history.note(|notes| *notes.ghosts.entry(user).or_insert(now));
    }

    /// Many handshakes at once. Some are killed between their two writes, and some clients do not read or are gone. One
    /// connection is kept.
    async fn connect_in_a_burst(&self, user: User, second: bool) -> Option<String> {
        let burst = (0..3 + self.world.below(6)).map(|_| self.world.below(u64::MAX)).collect::<Vec<_>>();
        let knocks = burst.iter().map(|chance| World::with_chance(*chance, self.connect_or_die(user, second)));
        let open: Vec<String> = futures::future::join_all(knocks).await.into_iter().flatten().collect();
        let kept = open.last().cloned();
        for connection in &open {
            match self.world.below(3) {
                0 => self.world.stall(connection),
                1 if Some(connection) != kept.as_ref() => {
                    self.disconnect(user, connection, true, false).await;
                }
                _ => {}
            }
        }
        kept
    }

    async fn connect_or_die(&self, user: User, second: bool) -> Option<String> {
        if !self.world.in_a_hundred(30) {
            return self.connect(user, second).await;
        }
        let (connection, from) = (self.open(user, second), self.world.now_ms());
        let event = self.socket_event("$connect", "CONNECT", user, &connection, None);
        self.invoke_until(&functions::connect::FUNCTION, &event, Some(1)).await;
        self.world.set_phase(&connection, Phase::Closed);
        self.note_ghost(user);
        self.note_change(user, from);
        None
    }

    /// Opens a connection. Returns nothing if it was refused.
    async fn connect(&self, user: User, second: bool) -> Option<String> {
        let (connection, from) = (self.open(user, second), self.world.now_ms());
        let event = self.socket_event("$connect", "CONNECT", user, &connection, None);
        let answer = self.invoke(&functions::connect::FUNCTION, &event).await;
        let open = answer.is_some_and(|answer| answer["statusCode"] == 200);
        // It may already have been closed as the oldest of too many.
        let phase = if open && self.world.phase(&connection) == Phase::Opening { Phase::Open } else { Phase::Closed };
        self.world.set_phase(&connection, phase);
        self.note_change(user, from);
        if phase == Phase::Closed {
            self.note_ghost(user);
            return None;
        }
        let announced = During { from, to: self.world.now_ms() };
        self.history.note(|notes| notes.began.entry(user).or_default().push((connection.clone(), announced)));
        let since = During { from: self.world.now_ms(), to: Ms::MAX };
        self.history.note(|notes| notes.connected.insert(connection.clone(), since));
        Some(connection)
    }

    /// Records that the client is gone.
    fn close(&self, connection: &str) {
        let now = self.world.now_ms();
        self.history.note(|notes| notes.connected.get_mut(connection).expect("it was open").to = now);
    }

    /// A client closes its connection, or its network dies. In the second case it may reconnect before the gateway
    /// notices, and the new connection is returned.
    async fn disconnect(&self, user: User, connection: &str, dies: bool, told: bool) -> Option<String> {
        let from = self.world.now_ms();
        self.close(connection);
        let is_open = self.world.phase(connection) == Phase::Open;
        if is_open && (dies || self.plan.discards) {
            self.world.set_phase(connection, Phase::Dead);
        }
        let mut back = None;
        if dies {
            self.world.pause(15_000).await;
            if self.plan.discards && self.world.in_a_hundred(50) {
                back = self.connect(user, self.is_second(connection)).await;
                self.world.pause(15_000).await;
            }
        } else if self.plan.discards {
            self.world.pause(CLEAN_MS).await;
        }
        let noticed = self.world.now_ms();
        let was_closed_by_us = self.world.phase(connection) == Phase::Closed;
        self.world.set_phase(connection, Phase::Closed);
        if told {
            let mut event = self.socket_event("$disconnect", "DISCONNECT", user, connection, None);
            let context = &mut event["requestContext"];
            context["disconnectStatusCode"] =
                json!(if dies { 1006 } else { [1000, 1001, 1005][self.world.below(3) as usize] });
            context["disconnectReason"] = json!("");
            context["connectedAt"] = json!(self.world.opened_at(connection));
            self.world.pause(300).await;
            let answer = self.invoke(&functions::disconnect::FUNCTION, &event).await;
            let is_in_time = self.world.now_ms() < noticed + 15_000;
            if is_in_time && !was_closed_by_us && answer.is_some_and(|answer| answer["statusCode"] == 200) {
                self.history.note(|notes| notes.ended.insert(connection.to_owned(), (noticed, !dies)));
            } else {
                self.note_ghost(user);
            }
        } else {
            self.note_ghost(user);
        }
        self.note_change(user, from);
        back
    }

    /// Returns the frame, or the body, by which a client sends a message.
    pub(super) fn submission(&self, to: To, content: &str, named: bool) -> Value {
        let mut frame = match to {
            To::User(receiver) => json!({ "type": "unicast", "receiverId": receiver }),
            To::Group(group) => json!({ "type": "multicast", "groupId": self.groups[group] }),
        };
        frame["content"] = json!(content);
        if named {
            frame["requestId"] = json!(content);
        }
        frame
    }

    /// Sends a message with the same request id until it is acknowledged, the connection is gone, or the tries are used
    /// up.
    async fn send(&self, user: User, connection: &str, to: To, content: &str, tries: usize, named: bool) {
        let from = self.world.now_ms();
        let frame = self.submission(to, content, named);
        let (kind, frame) = (frame["type"].as_str().expect("a type").to_owned(), frame.to_string());
        let acks = || -> Vec<Value> {
            let answers = |frame: &Value| frame["type"] == "ACK" && frame["requestId"] == content;
            self.world.frames(connection).into_iter().filter(answers).collect()
        };
        for attempt in 0..tries {
            if attempt > 0 && self.world.in_a_hundred(50) {
                self.world.pause(100_000).await;
            }
            let event = self.socket_event(&kind, "MESSAGE", user, connection, Some(&frame));
            self.invoke(&functions::message::FUNCTION, &event).await;
            if !acks().is_empty() || self.world.phase(connection) != Phase::Open {
                break;
            }
        }
        let (acks, to_time) = (acks(), self.world.now_ms());
        // Without a request id there is no acknowledgement. If nothing fails, the message was accepted.
        let accepted = if named { !acks.is_empty() } else { !self.plan.faulty };
        let was_open = self.world.phase(connection) == Phase::Open && !self.world.is_stalled(connection);
        let during = During { from, to: to_time };
        let connection = Some(connection.to_owned());
        let content = content.to_owned();
        let sent =
            Sent { content, sender: user, to, during, accepted, acks, connection, was_open, named, by_back_end: false };
        self.history.note(|notes| notes.sent.push(sent));
    }

    // -------------------------------------------------------------------------------------------------------- readers
    /// Calls the REST API.
    pub(super) async fn call(
        &self,
        function: &Function,
        method: &str,
        user: &str,
        path: (&str, &str),
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Option<Answer> {
        let token = super::token(user, &self.secret);
        let mut parameters: serde_json::Map<String, Value> =
            query.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        parameters.insert("access_token".to_owned(), json!(token));
        let all = query.iter().copied().chain([("access_token", token.as_str())]);
        let query: Vec<String> = all.map(|(name, value)| format!("{name}={value}")).collect();
        let event = json!({
            "version": "2.0", "routeKey": format!("{method} /api"), "rawPath": "/api", "rawQueryString": query.join("&"),
            "headers": { "host": "gateway.simulated", "content-type": "application/json" },
            "queryStringParameters": parameters,
            "pathParameters": { path.0: path.1 },
            "requestContext": {
                "http": {
                    "method": method, "path": "/api", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                    "userAgent": "simulated",
                },
                "accountId": "0", "apiId": "simulated", "domainName": "gateway.simulated",
                "domainPrefix": "gateway", "requestId": "r", "routeKey": format!("{method} /api"), "stage": "$default",
                "time": "01/Jan/2027:00:00:00 +0000", "timeEpoch": self.world.now_ms(),
            },
            "body": body.map(|body| body.to_string()), "isBase64Encoded": false,
        });
        let answer = self.invoke(function, &event).await?;
        Some(Answer {
            status: answer["statusCode"].as_u64().expect("a status"),
            body: answer["body"].as_str().unwrap_or_default().to_owned(),
            has_more: answer["headers"]["x-has-more"] == "true"
                || answer["multiValueHeaders"]["x-has-more"][0] == "true",
            next: answer["headers"]["x-next"].as_str().map(str::to_owned),
            page: answer["headers"]["x-page"].as_str().map(str::to_owned),
        })
    }

    async fn read(&self, user: User, step: &Step, seen: &mut Option<String>) {
        let from = self.world.now_ms();
        match step.act {
            Act::Take(kind) => {
                self.take(user, kind).await;
            }
            Act::Show { kind, pages, drops } => {
                self.show(user, kind, pages, drops).await;
            }
            Act::Resume => {
                let since = seen.take().unwrap_or_else(|| "0".repeat(26));
                *seen = Some(self.resume(user, since, self.world.in_a_hundred(50)).await);
            }
            _ => {}
        }
        self.note_coming(user, from);
    }

    /// One call of a pull: its messages in order, and where it goes on if there are more. Nothing if there was no answer.
    async fn pull(&self, user: User, query: &[(&str, &str)]) -> Option<Page> {
        let answer = self.call(&functions::pull_messages::FUNCTION, "GET", user, ("", ""), query, None).await;
        let answer = answer.filter(|answer| answer.status == 200)?;
        let senders = answer.json();
        let is_second = query.contains(&("version", "2"));
        let of_sender = |sender: &Value| sender["messages"].as_array().expect("messages").clone();
        let mut messages: Vec<Value> = senders.as_array().expect("an array").iter().flat_map(of_sender).collect();
        for sender in senders.as_array().expect("an array") {
            if of_sender(sender).is_empty()
                || of_sender(sender).iter().any(|message| message["senderId"] != sender["id"])
            {
                self.wrong("messages stand with their senders", format!("{user}: {senders}"));
            }
            let place = |message: &Value| (message["timestamp"].as_u64(), message["id"].as_str().map(str::to_owned));
            if !of_sender(sender).is_sorted_by(|one, other| place(one) < place(other)) {
                self.wrong("messages are sorted", format!("{user}: {senders}"));
            }
        }
        let is_message = |message: &Value| message["type"] != "RECALLED" && message.get("content").is_some();
        if !is_second && !messages.iter().all(is_message) {
            self.wrong("a pull of version 1 has messages alone", format!("{user}: {senders}"));
        }
        messages.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
        if answer.has_more != answer.next.is_some() {
            self.wrong("a page that has more says where to go on", format!("{user}: {senders}"));
        }
        Some(Page { messages, next: answer.next, token: answer.page })
    }

    pub(super) fn wrong(&self, promise: &'static str, by: String) {
        self.history.note(|notes| notes.faults.push(Fault::new(promise, by)));
    }

    fn note_pulled(&self, user: User, during: During, messages: &[Value], dropped: Option<Ms>, resumed: bool) {
        let pulled = messages.iter().map(|message| Pulled { message: message.clone(), during, dropped, resumed });
        self.history.note(|notes| notes.pulled.entry(user).or_default().extend(pulled));
    }

    /// Pulls and drops in one call. Returns whether there is more.
    pub(super) async fn take(&self, user: User, kind: &str) -> bool {
        if self.world.is_faulty() {
            // An answer that is lost takes its page along, so nobody does it who can't afford that.
            return self.show(user, kind, 1, Drops::InOrder).await;
        }
        let from = self.world.now_ms();
        let Some(page) = self.pull(user, &[("type", kind)]).await else {
            let took = self.world.now_ms() - from;
            self.wrong("a pull is answered", format!("{user}, given up after {took} ms"));
            return false;
        };
        let during = During { from, to: self.world.now_ms() };
        self.note_pulled(user, during, &page.messages, Some(during.to), false);
        page.next.is_some()
    }

    /// Pulls so many pages, and drops them in some way. Returns whether there is more.
    async fn show(&self, user: User, kind: &str, pages: usize, drops: Drops) -> bool {
        let (mut shown, mut after) = (Vec::new(), None::<String>);
        for _ in 0..pages {
            let mut query = vec![("type", kind), ("drop", "false")];
            query.extend(after.as_deref().map(|after| ("after", after)));
            let from = self.world.now_ms();
            let Some(page) = self.pull(user, &query).await else { break };
            if page.token.is_some() != (!page.messages.is_empty() || page.next.is_some()) {
                self.wrong("a page that can be dropped has a token", format!("{user}: {page:?}"));
            }
            after = page.next.clone();
            shown.push((During { from, to: self.world.now_ms() }, page));
            if after.is_none() {
                break;
            }
            self.world.pause(1_000).await;
        }
        if drops != Drops::None {
            self.world.pause(3_000).await;
        }
        let all: Vec<usize> = (0..shown.len()).collect();
        let calls: Vec<Vec<usize>> = match drops {
            Drops::None => Vec::new(),
            Drops::InOrder => all.chunks(1).map(<[_]>::to_vec).collect(),
            Drops::Reversed => all.chunks(1).rev().map(<[_]>::to_vec).collect(),
            Drops::Together => vec![all],
            Drops::Last => all.last().map(|last| vec![*last]).into_iter().collect(),
        };
        let mut dropped = vec![None; shown.len()];
        for pages in calls {
            let tokens = pages.iter().filter_map(|page| shown[*page].1.token.as_deref());
            let query: Vec<_> = tokens.map(|token| ("page", token)).collect();
            if query.is_empty() {
                continue;
            }
            let drop = self.call(&functions::drop_messages::FUNCTION, "DELETE", user, ("", ""), &query, None).await;
            match drop.map(|answer| answer.status) {
                Some(200) => pages.iter().for_each(|page| dropped[*page] = Some(self.world.now_ms())),
                Some(503) | None if self.world.is_faulty() => {}
                other => self.wrong("a page that was shown can be dropped", format!("{user}: {other:?}")),
            }
        }
        for ((during, page), dropped) in shown.iter().zip(dropped) {
            self.note_pulled(user, *during, &page.messages, dropped, false);
        }
        after.is_some()
    }

    /// Pulls everything after a message, missed or not, perhaps with the recalls. Returns the last id that came.
    pub(super) async fn resume(&self, user: User, mut since: String, recalls: bool) -> String {
        loop {
            let version = if recalls { "2" } else { "1" };
            let query = [("drop", "false"), ("since", since.as_str()), ("version", version)];
            let from = self.world.now_ms();
            let Some(page) = self.pull(user, &query).await else { return since };
            let during = During { from, to: self.world.now_ms() };
            self.note_pulled(user, during, &page.messages, None, true);
            // A recall has the id of the recalled message.
            let last = page.messages.iter().rfind(|message| message["type"] != "RECALLED");
            if let Some(last) = last.and_then(|last| last["id"].as_str()) {
                since = last.to_owned();
            }
            match page.next {
                Some(next) => since = next,
                None => return since,
            }
        }
    }

    // ------------------------------------------------------------------------------------------------------------ ties
    /// Changes a friendship or a block, and retries until it is done.
    async fn relate(&self, method: &str, user: User, tie: &str, other: User) -> During {
        let from = self.world.now_ms();
        let event = json!({ "method": method, "userId": user, tie: other });
        for _ in 0..MAX_TRIES {
            if self.invoke(&functions::relationship::FUNCTION, &event).await.is_some() {
                break;
            }
        }
        During { from, to: self.world.now_ms() }
    }

    async fn change_block(&self, user: User, other: User, step: &Step) {
        self.change_tie(step, user, "blockedId", other, |notes| notes.blocks.entry((user, other)).or_default()).await;
    }

    /// Blocks another user for the time of a pull.
    pub(super) async fn take_during_a_block(&self, user: User, other: User) {
        if self.history.note(|notes| notes.blocks.entry((user, other)).or_default().is_on()) {
            return;
        }
        let step = |act| Step { pause: 0, act, chance: 0 };
        self.change_block(user, other, &step(Act::Begin)).await;
        self.take(user, "all").await;
        self.change_block(user, other, &step(Act::End)).await;
    }

    async fn change_friendship(&self, user: User, other: User, step: &Step) {
        self.change_tie(step, user, "friendId", other, |notes| notes.friends.entry((user, other)).or_default()).await;
    }

    async fn change_tie(
        &self,
        step: &Step,
        user: User,
        tie: &str,
        other: User,
        spells: impl Fn(&mut super::history::Notes) -> &mut Spells,
    ) {
        let is_on = self.history.note(|notes| spells(notes).is_on());
        match (&step.act, is_on) {
            (Act::Begin, false) => {
                // Until the call is done, the spell may have begun.
                let from = self.world.now_ms();
                self.history.note(|notes| spells(notes).begin(During { from, to: Ms::MAX }));
                let done = self.relate("PUT", user, tie, other).await;
                self.history.note(|notes| spells(notes).began(done));
            }
            (Act::End, true) => {
                let done = self.relate("DELETE", user, tie, other).await;
                self.history.note(|notes| spells(notes).end(done));
            }
            _ => {}
        }
    }

    // ----------------------------------------------------------------------------------------------------------- groups
    async fn change_place(&self, group: usize, user: User, step: &Step) {
        let is_on = self.history.note(|notes| notes.members.entry((group, user)).or_default().is_on());
        match (&step.act, is_on) {
            (Act::Begin, false) => self.join(group, user).await,
            (Act::Decline, false) => self.decline(group, user).await,
            (Act::End, true) => self.leave(group, user, user, &[]).await,
            (Act::Removed, true) => self.leave(group, user, self.plan.groups[group][0], &[("userId", user)]).await,
            _ => {}
        }
    }

    async fn create_group(&self, manager: User) -> String {
        for _ in 0..MAX_TRIES {
            let name = [("name", "walkers")];
            let made = self.call(&functions::create_group::FUNCTION, "POST", manager, ("", ""), &name, None).await;
            if let Some(made) = made.filter(|made| made.status == 200) {
                return made.json().as_str().expect("an id").to_owned();
            }
        }
        panic!("in {MAX_TRIES} tries no group was made");
    }

    /// Invites a user and accepts for them, until they are a member or the group is dissolved.
    async fn join(&self, group: usize, user: User) {
        let from = self.world.now_ms();
        let place = |notes: &mut super::history::Notes, begin: Option<During>| {
            let spells = notes.members.entry((group, user)).or_default();
            match begin {
                None => spells.begin(During { from, to: Ms::MAX }),
                Some(begin) => spells.began(begin),
            }
        };
        self.history.note(|notes| place(notes, None));
        for _ in 0..20 {
            if self.try_to_join(group, user).await {
                let begin = During { from, to: self.world.now_ms() };
                self.history.note(|notes| place(notes, Some(begin)));
                return;
            }
            if self.history.note(|notes| notes.dissolved.contains_key(&group)) {
                return;
            }
        }
    }

    async fn invite(&self, group: usize, user: User) -> Option<String> {
        let body = json!({ "groupId": self.groups[group], "userId": user });
        let manager = self.plan.groups[group][0];
        self.call(&functions::invite::FUNCTION, "POST", manager, ("", ""), &[], Some(body)).await;
        let list = self.call(&functions::list_invites::FUNCTION, "GET", user, ("", ""), &[], None).await?.json();
        let invitation = list.as_array()?.iter().find(|invitation| invitation["groupId"] == self.groups[group])?;
        invitation["id"].as_str().map(str::to_owned)
    }

    async fn try_to_join(&self, group: usize, user: User) -> bool {
        let Some(invitation) = self.invite(group, user).await else {
            // A lost answer may have made the user a member. The membership then begins when it is shown.
            return match self.world.in_a_hundred(50) {
                true => self.answers_200(&functions::get_group::FUNCTION, "GET", user, group).await,
                false => self.lists(user, group).await == Some(true),
            };
        };
        let path = ("requestId", invitation.as_str());
        let accepted = self.call(&functions::accept_invite::FUNCTION, "PUT", user, path, &[], None).await;
        accepted.is_some_and(|answer| answer.status == 200)
    }

    async fn decline(&self, group: usize, user: User) {
        if let Some(invitation) = self.invite(group, user).await {
            let path = ("requestId", invitation.as_str());
            self.call(&functions::decline_invite::FUNCTION, "DELETE", user, path, &[], None).await;
        }
    }

    async fn answers_200(&self, function: &Function, method: &str, user: User, group: usize) -> bool {
        let path = ("groupId", self.groups[group].as_str());
        self.call(function, method, user, path, &[], None).await.is_some_and(|answer| answer.status == 200)
    }

    /// Whether the list of a user's groups has a group. Returns nothing if there was no answer.
    async fn lists(&self, user: User, group: usize) -> Option<bool> {
        let query = [("detailed", "false")];
        let list = self.call(&functions::list_groups::FUNCTION, "GET", user, ("", ""), &query, None).await?;
        Some(list.json().as_array()?.contains(&json!(self.groups[group])))
    }

    /// Calls until it is done. A refusal also means done: an earlier call succeeded.
    async fn insist_on_leaving(&self, group: usize, caller: User, query: &[(&str, &str)]) -> During {
        let (from, path) = (self.world.now_ms(), ("groupId", self.groups[group].as_str()));
        for _ in 0..MAX_TRIES {
            let left = self.call(&functions::leave_group::FUNCTION, "DELETE", caller, path, query, None).await;
            if left.is_some_and(|answer| matches!(answer.status, 200 | 403)) {
                break;
            }
        }
        During { from, to: self.world.now_ms() }
    }

    async fn leave(&self, group: usize, user: User, caller: User, query: &[(&str, &str)]) {
        let gone = self.insist_on_leaving(group, caller, query).await;
        self.history.note(|notes| notes.members.entry((group, user)).or_default().end(gone));
    }

    async fn dissolve(&self, group: usize) {
        // Until the call is done, the group may already be dissolved.
        let from = self.world.now_ms();
        self.history.note(|notes| notes.dissolved.insert(group, During { from, to: Ms::MAX }));
        let dissolved = self.insist_on_leaving(group, self.plan.groups[group][0], &[]).await;
        self.history.note(|notes| notes.dissolved.insert(group, dissolved));
    }

    // --------------------------------------------------------------------------------------------------------- the end
    /// Checks that no state exceeds its limits, whatever other users did.
    pub(super) fn check_limits(&self) {
        let most = if self.plan.crowded { 1 } else { 2_000 };
        for user in &self.plan.users {
            let items = self.world.partition(&format!("USER#{user}"));
            let state = items.iter().find(|item| item["sk"]["S"] == "STATE");
            let names = state.and_then(|state| state["missed"]["SS"].as_array()).map_or(0, Vec::len);
            if names > most {
                self.wrong("a state has its limits", format!("{user} has {names} names"));
            }
        }
    }

    /// Checks that, at the end, the groups have the members that the events imply.
    pub(super) async fn check_groups(&self) {
        use super::history::Certainty::{Never, Surely};
        let now = During { from: self.world.now_ms(), to: self.world.now_ms() };
        for (group, id) in self.groups.iter().enumerate() {
            let mut views = Vec::new();
            for user in self.plan.users.iter().copied() {
                let is_member = self.history.note(|notes| notes.membership(group, user, now));
                let shown = self.call(&functions::get_group::FUNCTION, "GET", user, ("groupId", id), &[], None).await;
                let shown = shown.filter(|answer| answer.status == 200).map(|answer| answer.json());
                let listed = self.lists(user, group).await == Some(true);
                let wrongly = (is_member == Surely && shown.is_none()) || (is_member == Never && shown.is_some());
                if wrongly || listed != shown.is_some() {
                    let by = format!("{user} of {group}: {is_member:?}, listed {listed}, shown {shown:?}");
                    self.wrong("members are who joined and stayed", by);
                }
                views.extend(shown.map(|view| (user, view["usersId"].clone())));
            }
            let members: Vec<User> = views.iter().map(|(user, _)| *user).collect();
            let count = self.world.member_count(id);
            if views.iter().any(|(_, view)| *view != json!(members)) || count.unwrap_or(0) != members.len() as u64 {
                self.wrong("all see the same members, and their number", format!("{group}: {views:?}, {count:?}"));
            }
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }
}
