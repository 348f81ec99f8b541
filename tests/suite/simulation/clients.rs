//! The clients of a run: devices that connect, send and disappear, readers that pull, and a back end.

use std::sync::Arc;
use std::time::Duration;

use functions::{App, Function};
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;
use shared::clock::Ms;
use shared::id::Ids;

use super::history::{During, History, Sent, Spell};
use super::world::{Phase, Skewed, Wire, World};

/// How long the functions of a connection, or a call, may take before the gateway gives up on them.
const PATIENCE: Duration = Duration::from_secs(29);

/// One run.
pub(super) struct Run {
    pub(super) world: Arc<World>,
    pub(super) history: History,
    /// Instances of the functions, whose clocks differ.
    instances: Vec<Arc<App>>,
    secret: String,
}

/// What came of a call.
pub(super) struct Answer {
    pub(super) status: u64,
    pub(super) body: String,
    pub(super) has_more: bool,
}

impl Run {
    pub(super) fn new(world: Arc<World>, seed: u64, friends: impl IntoIterator<Item = (String, String)>) -> Self {
        let secret = "the secret of a simulation, which is long enough".to_owned();
        let config = super::config(&secret);
        let instance = |ahead_ms: u64| {
            let clock = Arc::new(Skewed { world: world.clone(), ahead_ms });
            let ids = Arc::new(Ids::seeded(seed.wrapping_mul(31).wrapping_add(ahead_ms)));
            Arc::new(App::over(SharedHttpClient::new(Wire(world.clone())), &config, clock, ids))
        };
        let instances = (0..4).map(instance).collect();
        let history = History { friends: friends.into_iter().collect(), ..History::default() };
        Self { world, history, instances, secret }
    }

    /// Invoke a function on some instance. Nothing if it was killed in the middle, or gave no answer in time.
    async fn invoke(&self, function: &Function, event: &Value, killable: bool) -> Option<Value> {
        let instance = usize::try_from(self.world.below(4)).expect("a small number");
        let app = &self.instances[instance];
        let patience = match killable && self.world.is_faulty() && self.world.in_a_hundred(5) {
            true => Duration::from_millis(self.world.below(200)),
            false => PATIENCE,
        };
        let text = event.to_string();
        let answer = tokio::time::timeout(patience, function.invoke(app, &text)).await.ok()?;
        answer.ok().map(|json| serde_json::from_str(&json).expect("a result is JSON"))
    }

    fn socket_event(&self, route: &str, kind: &str, user: &str, connection: &str, frame: Option<&str>) -> Value {
        json!({
            "requestContext": {
                "routeKey": route, "eventType": kind, "connectionId": connection, "stage": "ws", "apiId": "simulated",
                "requestTimeEpoch": self.world.now_ms(), "connectedAt": self.world.now_ms(), "requestId": "r",
                "messageDirection": "IN", "domainName": "gateway.simulated", "identity": { "sourceIp": "192.0.2.1" },
                "authorizer": { "principalId": user, "userId": user, "exp": "4000000000" },
            },
            "body": frame, "isBase64Encoded": false,
        })
    }

    /// Open a connection. Nothing if it was refused.
    pub(super) async fn connect(&self, user: &str) -> Option<String> {
        let connection = self.world.open(user);
        let event = self.socket_event("$connect", "CONNECT", user, &connection, None);
        let answer = self.invoke(&functions::connect::FUNCTION, &event, true).await;
        let open = answer.is_some_and(|answer| answer["statusCode"] == 200);
        // It may have been closed meanwhile, as the oldest of too many.
        let phase = if open && self.world.phase(&connection) == Phase::Opening { Phase::Open } else { Phase::Closed };
        self.world.set_phase(&connection, phase);
        (phase == Phase::Open).then_some(connection)
    }

    /// Close a connection, and perhaps tell the functions.
    pub(super) async fn disconnect(&self, user: &str, connection: &str) {
        if self.world.in_a_hundred(30) {
            self.world.set_phase(connection, Phase::Dead);
            self.world.pause(15_000).await;
        }
        self.world.set_phase(connection, Phase::Closed);
        if self.world.in_a_hundred(75) {
            self.world.pause(300).await;
            let event = self.socket_event("$disconnect", "DISCONNECT", user, connection, None);
            self.invoke(&functions::disconnect::FUNCTION, &event, true).await;
        }
    }

    /// Send a message, again and again with the same request id until it is acknowledged, the connection is gone or
    /// patience ends.
    pub(super) async fn send(&self, user: &str, connection: &str, to: (&str, &str), content: &str) {
        let (kind, name, from) = (to.0, if to.0 == "unicast" { "receiverId" } else { "groupId" }, self.world.now_ms());
        let frame = json!({ "type": kind, name: to.1, "content": content, "requestId": content }).to_string();
        let mut accepted = false;
        for _ in 0..1 + self.world.below(4) {
            let event = self.socket_event(kind, "MESSAGE", user, connection, Some(&frame));
            self.invoke(&functions::message::FUNCTION, &event, true).await;
            let acknowledges = |frame: &Value| frame["type"] == "ACK" && frame["requestId"] == content;
            accepted = self.world.frames(connection).iter().any(acknowledges);
            if accepted || self.world.phase(connection) != Phase::Open {
                break;
            }
            if self.world.in_a_hundred(30) {
                self.world.pause(60_000).await;
            }
        }
        let during = During { from, to: self.world.now_ms() };
        let sent = Sent { content: content.to_owned(), sender: user.to_owned(), to: to.1.to_owned(), during, accepted };
        self.history.sent.lock().expect("nobody panics").push(sent);
    }

    /// Call the REST API.
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
        let query: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
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
        let answer = self.invoke(function, &event, method != "GET" || self.world.is_faulty()).await?;
        Some(Answer {
            status: answer["statusCode"].as_u64().expect("a status"),
            body: answer["body"].as_str().unwrap_or_default().to_owned(),
            has_more: answer["headers"]["x-has-more"] == "true"
                || answer["multiValueHeaders"]["x-has-more"][0] == "true",
        })
    }

    fn note_pulled(&self, user: &str, began: Ms, body: &str) -> Option<String> {
        let senders: Vec<Value> = serde_json::from_str(body).expect("a page is JSON");
        let messages: Vec<&Value> =
            senders.iter().flat_map(|sender| sender["messages"].as_array().expect("messages")).collect();
        let contents =
            messages.iter().map(|message| (message["content"].as_str().expect("a content").to_owned(), began));
        let mut pulled = self.history.pulled.lock().expect("nobody panics");
        pulled.entry(user.to_owned()).or_default().extend(contents);
        messages.iter().filter_map(|message| message["id"].as_str()).max().map(str::to_owned)
    }

    /// Pull and drop at once. Its answer must not be lost. Whether there is more.
    pub(super) async fn pull(&self, user: &str, kind: &str) -> bool {
        let (query, began) = ([("type", kind)], self.world.now_ms());
        let answer = self.call(&functions::pull_messages::FUNCTION, "GET", user, ("", ""), &query, None).await;
        let answer = answer.expect("nothing goes wrong");
        assert_eq!(answer.status, 200, "{}", answer.body);
        self.note_pulled(user, began, &answer.body);
        answer.has_more
    }

    /// Pull in two steps, for which answers may be lost.
    pub(super) async fn pull_in_two_steps(&self, user: &str, kind: &str) {
        let (query, began) = ([("type", kind), ("drop", "false")], self.world.now_ms());
        let pulled = self.call(&functions::pull_messages::FUNCTION, "GET", user, ("", ""), &query, None).await;
        let Some(answer) = pulled.filter(|answer| answer.status == 200) else { return };
        let Some(until) = self.note_pulled(user, began, &answer.body) else { return };
        self.world.pause(3_000).await;
        let query = [("type", kind), ("until", until.as_str())];
        self.call(&functions::drop_messages::FUNCTION, "DELETE", user, ("", ""), &query, None).await;
    }

    /// Tell the functions of a tie between two users, until it is done.
    pub(super) async fn relate(&self, method: &str, user: &str, tie: &str, other: &str) -> During {
        let from = self.world.now_ms();
        let event = json!({ "method": method, "userId": user, tie: other });
        while self.invoke(&functions::relationship::FUNCTION, &event, true).await.is_none() {}
        During { from, to: self.world.now_ms() }
    }

    /// One user blocks another for a while.
    pub(super) async fn block_for_a_while(&self, user: &str, other: &str) {
        let note = |spell: Spell, begins: bool| {
            let mut blocks = self.history.blocks.lock().expect("nobody panics");
            let spells = blocks.entry((user.to_owned(), other.to_owned())).or_default();
            if !begins {
                spells.pop();
            }
            spells.push(spell);
        };
        let begin = self.relate("PUT", user, "blockedId", other).await;
        note(Spell::since(begin), true);
        self.world.pause(20_000).await;
        let end = self.relate("DELETE", user, "blockedId", other).await;
        note(Spell { begin, end }, false);
    }

    /// Make a group of these users.
    pub(super) async fn group_of(&self, members: &[&str]) -> String {
        let (manager, others) = members.split_first().expect("a manager");
        let name = [("name", "walkers")];
        let answer = self.call(&functions::create_group::FUNCTION, "POST", manager, ("", ""), &name, None).await;
        let group: String = serde_json::from_str(&answer.expect("an answer").body).expect("the id of a group");
        self.note_member(&group, manager, Spell::always());
        for other in others {
            self.join(&group, manager, other).await;
        }
        group
    }

    fn note_member(&self, group: &str, user: &str, spell: Spell) {
        let mut members = self.history.members.lock().expect("nobody panics");
        members.entry((group.to_owned(), user.to_owned())).or_default().push(spell);
    }

    /// Have a user invited and accept, until he is a member or patience ends.
    async fn join(&self, group: &str, manager: &str, user: &str) {
        let from = self.world.now_ms();
        let mut joined = false;
        for _ in 0..20 {
            joined = self.try_to_join(group, manager, user).await;
            if joined {
                break;
            }
        }
        let to = if joined { self.world.now_ms() } else { Ms::MAX };
        self.note_member(group, user, Spell::since(During { from, to }));
    }

    async fn try_to_join(&self, group: &str, manager: &str, user: &str) -> bool {
        let body = json!({ "groupId": group, "userId": user });
        self.call(&functions::invite::FUNCTION, "POST", manager, ("", ""), &[], Some(body)).await;
        let list = self.call(&functions::list_invites::FUNCTION, "GET", user, ("", ""), &[], None).await;
        let invitations = list.and_then(|list| serde_json::from_str::<Value>(&list.body).ok()).unwrap_or_default();
        let Some(id) = invitations[0]["id"].as_str() else {
            // An answer that was lost may have made him a member, and his membership begins when he is shown it.
            return self.answers_200(&functions::get_group::FUNCTION, "GET", user, ("groupId", group)).await;
        };
        self.answers_200(&functions::accept_invite::FUNCTION, "PUT", user, ("requestId", id)).await
    }

    async fn answers_200(&self, function: &Function, method: &str, user: &str, path: (&str, &str)) -> bool {
        self.call(function, method, user, path, &[], None).await.is_some_and(|answer| answer.status == 200)
    }

    /// A member leaves, and is invited again.
    pub(super) async fn leave_for_a_while(&self, group: &str, manager: &str, user: &str) {
        let from = self.world.now_ms();
        let gone = loop {
            let left =
                self.call(&functions::leave_group::FUNCTION, "DELETE", user, ("groupId", group), &[], None).await;
            // Refused if he is no member any more.
            if left.is_some_and(|answer| matches!(answer.status, 200 | 403)) {
                break During { from, to: self.world.now_ms() };
            }
        };
        {
            let mut members = self.history.members.lock().expect("nobody panics");
            let spells = members.get_mut(&(group.to_owned(), user.to_owned())).expect("he was a member");
            spells.last_mut().expect("he was a member").end = gone;
        }
        self.world.pause(15_000).await;
        self.join(group, manager, user).await;
    }
}
