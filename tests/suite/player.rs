//! A player who may do everything, and must guess whether another user blocks them, guesses right in half of the cases.
//!
//! Alice plays: with several devices, and with molly as an accomplice. They send, repeat, recall, read, type, invite, reload
//! histories and lists, pull, and come and go, at random times. Brian comes and goes, writes and reads. Each game is played in
//! two worlds that differ in one thing: in the second, brian blocks alice for some time. What alice and molly see is written
//! down: each frame on their connections and each answer with its headers, all with their times. If it is the same in both
//! worlds, a guess that is right in one of them is wrong in the other.
//!
//! Brian does the same in both worlds. So the game leaves out what a user who blocks does not do, or does because of what
//! reached them:
//! - While the block lasts, brian does not mark the conversation with alice as read, in either world. The protocol stops these
//!   receipts, and the list of a user who blocks does not show the conversation.
//! - Brian answers nothing, accepts no invitation of alice and recalls only own messages. A person who answers tells more than
//!   any protocol can hide.
//! - Brian's marks name own messages of brian, since the other messages that brian sees differ.
//!
//! `PLAYER_SEEDS=from..to cargo test -p tests player -- --nocapture` plays the games of those seeds. A failure shows the
//! shortest game that tells the worlds apart, and the first difference.
//!
//! The time of an answer is compared to the millisecond, in paused time where each call of the table takes 4 ms. What real
//! calls take is measured by the module `timing`.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use functions::{
    Function, connect, disconnect, get_group, get_history, invite, list_conversations, mark_read, message,
    pull_messages, recall_message, send_message, typing,
};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;
use shared::clock::Ms;
use tokio::time::Instant;

use crate::inside::{Inside, Rest, body, call, socket_event};
use crate::parity::{Names, Observed};
use crate::simulation::world::{Phase, World};
use crate::world::Deployment;

const ALICE: &str = "alice";
const BRIAN: &str = "brian";
const MOLLY: &str = "molly";

/// The seeds of the games that are played by default.
const SEEDS: Range<u64> = 0..60;

/// The number of actions in a game.
const STEPS: u64 = 60;

/// The time of a game, without the preparation.
const LENGTH_MS: Ms = 90_000;

/// How long before and after a change of the block brian marks nothing as read.
const MARGIN_MS: Ms = 1_000;

/// One action of a user. Numbers choose among what the user knows when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// A send over a device. A request id of a small number is used several times.
    Send {
        to: &'static str,
        device: usize,
        request: Option<u64>,
        long: bool,
    },
    /// A send by REST.
    Post {
        to: &'static str,
        request: Option<u64>,
        long: bool,
    },
    SendGroup {
        device: usize,
    },
    Recall {
        to: &'static str,
        number: usize,
    },
    RecallInGroup {
        number: usize,
    },
    Read {
        of: &'static str,
        number: usize,
    },
    ReadGroup {
        number: usize,
    },
    Typing {
        to: &'static str,
        device: usize,
    },
    Invite {
        user: &'static str,
        group: usize,
    },
    History {
        with: &'static str,
        limit: u64,
        number: Option<usize>,
        forward: bool,
    },
    GroupHistory {
        limit: u64,
    },
    List,
    Pull {
        query: &'static str,
    },
    Since {
        number: usize,
    },
    ShowGroup {
        group: usize,
    },
    Connect {
        version: u8,
        post: Ms,
        look: Ms,
    },
    /// A device disconnects, is gone, or is gone unnoticed.
    Leave {
        device: usize,
    },
    Vanish {
        device: usize,
    },
    Die {
        device: usize,
    },
}

#[derive(Debug, Clone, Copy)]
struct Step {
    at: Ms,
    user: &'static str,
    action: Action,
}

/// A game.
#[derive(Debug, Clone)]
struct Plan {
    are_friends: bool,
    steps: Vec<Step>,
    /// When the block begins and ends, in the world with it. The first may begin before the first step.
    spells: Vec<(Ms, Ms)>,
}

/// The parts of a game that chance decides.
struct Dice(StdRng);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn index(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).expect("a small number")
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len() as u64)]
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| value(self))
    }
}

impl Plan {
    /// Draws a game. With `slow_posts`, a post may take longer than a look. With `posts`, messages are sent by REST too.
    fn drawn(seed: u64, slow_posts: bool, posts: bool) -> Self {
        let mut dice = Dice(StdRng::seed_from_u64(seed));
        let spells = match dice.below(3) {
            0 => vec![(0, LENGTH_MS + 60_000)],
            1 => vec![(1 + dice.below(LENGTH_MS), LENGTH_MS + 60_000)],
            _ => {
                let mut times: Vec<Ms> = (0..4).map(|_| dice.below(LENGTH_MS)).collect();
                times.sort_unstable();
                times.chunks(2).map(|pair| (pair[0], pair[1])).collect()
            }
        };
        let mut times: Vec<Ms> = (0..STEPS).map(|_| dice.below(LENGTH_MS)).collect();
        times.sort_unstable();
        let (mut steps, mut last) = (Vec::new(), 0);
        for time in times {
            // Some actions happen at the same moment, or while the one before is under way.
            let at = if dice.below(3) == 0 { last + dice.below(30) } else { time };
            last = at.max(last);
            let user = dice.one(&[ALICE, ALICE, ALICE, ALICE, MOLLY, BRIAN, BRIAN]);
            let action = match user {
                BRIAN => of_brian(&mut dice, slow_posts),
                _ => of_player(&mut dice, posts),
            };
            steps.push(Step { at: last, user, action });
        }
        let is_quiet =
            |at: Ms| spells.iter().any(|(from, to)| (from.saturating_sub(MARGIN_MS)..=to + MARGIN_MS).contains(&at));
        steps.retain(|step| !matches!((step.user, step.action), (BRIAN, Action::Read { .. }) if is_quiet(step.at)));
        Self { are_friends: dice.below(5) > 0, steps, spells }
    }
}

fn of_player(dice: &mut Dice, posts: bool) -> Action {
    let (to, device) = (dice.one(&[BRIAN, BRIAN, BRIAN, MOLLY]), dice.index(4));
    match dice.below(28) {
        0..=6 => {
            let (request, long) =
                (dice.below(8) > 0).then(|| dice.below(6)).map_or((None, false), |n| (Some(n), n == 5));
            Action::Send { to, device, request, long }
        }
        7..=9 if posts => Action::Post { to, request: dice.maybe(|dice| dice.below(6)), long: false },
        7..=9 => Action::Send { to, device, request: Some(100 + dice.below(1_000)), long: true },
        10 | 11 => Action::Recall { to, number: dice.index(8) },
        12 | 13 => Action::Read { of: to, number: dice.index(8) },
        14 | 15 => Action::Typing { to, device },
        16 => Action::Invite { user: BRIAN, group: dice.index(3) },
        17..=19 => {
            let (limit, number) = (dice.one(&[1, 2, 3, 50]), dice.maybe(|dice| dice.index(8)));
            Action::History { with: to, limit, number, forward: dice.below(2) == 0 }
        }
        20 => Action::List,
        21 => Action::Pull { query: dice.one(&["", "&drop=false", "&sort=desc", "&type=unicast"]) },
        22 => Action::Since { number: dice.index(8) },
        23 => Action::SendGroup { device },
        24 => dice.one(&[Action::RecallInGroup { number: 0 }, Action::ReadGroup { number: 0 }]),
        25 => Action::GroupHistory { limit: dice.one(&[1, 50]) },
        26 => Action::ShowGroup { group: dice.index(3) },
        _ => dice.one(&[Action::Connect { version: 2, post: 0, look: 0 }, Action::Leave { device }]),
    }
}

fn of_brian(dice: &mut Dice, slow_posts: bool) -> Action {
    let (to, device) = (dice.one(&[ALICE, ALICE, MOLLY]), dice.index(4));
    match dice.below(12) {
        0..=2 => {
            let (version, post) = (dice.one(&[1, 2, 2]), dice.one(&[0, 8, 15, 60, 700]));
            Action::Connect { version, post, look: if slow_posts { 0 } else { post } }
        }
        3 => Action::Leave { device },
        4 => dice.one(&[Action::Vanish { device }, Action::Die { device }]),
        5 | 6 => Action::Send { to, device, request: Some(dice.below(50)), long: false },
        7 => Action::Typing { to, device },
        8 => Action::Recall { to, number: dice.index(8) },
        9 => Action::Read { of: to, number: dice.index(8) },
        10 => Action::Pull { query: dice.one(&["", "&drop=false"]) },
        _ => dice.one(&[
            Action::SendGroup { device },
            Action::List,
            Action::History { with: ALICE, limit: 50, number: None, forward: false },
        ]),
    }
}

/// A game that is being played.
struct Game {
    inside: Inside,
    world: Arc<World>,
    observed: Observed,
    began: Instant,
    began_ms: Ms,
    groups: Vec<String>,
    /// The connections of each user, closed ones among them.
    devices: Mutex<BTreeMap<&'static str, Vec<String>>>,
    /// The ids of the private messages that each user sent by REST.
    sent: Mutex<BTreeMap<&'static str, Vec<String>>>,
    /// The answers to alice and molly.
    answers: Mutex<Vec<(Ms, String)>>,
}

impl Game {
    async fn begin(plan: &Plan) -> Self {
        let world = World::new(1);
        let observed = Observed::over(world.clone());
        let inside = Inside::over(world.clone(), SharedHttpClient::new(observed.clone()), &[]);
        for (one, other) in [(ALICE, MOLLY), (MOLLY, BRIAN)] {
            inside.tie(one, "friendId", other).await;
        }
        if plan.are_friends {
            inside.tie(ALICE, "friendId", BRIAN).await;
        }
        let mut groups = Vec::new();
        for _ in 0..3 {
            groups.push(inside.create_group(ALICE).await);
        }
        for member in [BRIAN, MOLLY] {
            inside.bring(ALICE, &groups[0], member).await;
        }
        let game = Self {
            inside,
            world,
            observed,
            began: Instant::now(),
            began_ms: 0,
            groups,
            devices: Mutex::default(),
            sent: Mutex::default(),
            answers: Mutex::default(),
        };
        for (user, version) in [(ALICE, 2), (ALICE, 2), (MOLLY, 2), (BRIAN, 1)] {
            game.connect(user, version, 0, 0).await;
        }
        game
    }

    fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().expect("no holder of the lock panics")
    }

    async fn socket(&self, function: &Function, user: &'static str, device: &str, route: &str, frame: Option<&Value>) {
        let frame = frame.map(Value::to_string);
        let mut event = socket_event(route, user, device, frame.as_deref());
        let context = &mut event["requestContext"];
        context["requestTimeEpoch"] = json!(self.world.now_ms());
        context["authorizer"]["version"] = json!(self.observed.version(device).to_string());
        if route == "$disconnect" {
            (context["disconnectStatusCode"], context["disconnectReason"]) = (json!(1005), json!(""));
        }
        self.inside.invoke(function, &event.to_string()).await.expect("a genuine event is answered");
    }

    async fn connect(&self, user: &'static str, version: u8, post: Ms, look: Ms) {
        let connection = self.world.open(user);
        self.observed.set_version(&connection, version);
        self.observed.delay(&connection, post, look);
        self.socket(&connect::FUNCTION, user, &connection, "$connect", None).await;
        self.world.set_phase(&connection, Phase::Open);
        Self::lock(&self.devices).entry(user).or_default().push(connection);
    }

    /// One of the user's open devices.
    fn device(&self, user: &'static str, number: usize) -> Option<String> {
        let mut all = Self::lock(&self.devices).get(user).cloned().unwrap_or_default();
        all.retain(|connection| self.world.phase(connection) == Phase::Open);
        (!all.is_empty()).then(|| all[number % all.len()].clone())
    }

    /// The ids of the user's messages that the user knows, by the type of the message.
    fn known(&self, user: &'static str, kind: &str) -> Vec<String> {
        let devices = Self::lock(&self.devices).get(user).cloned().unwrap_or_default();
        let frames = devices.iter().flat_map(|device| self.world.frames(device));
        let is_own = |frame: &Value| match frame["type"].as_str() {
            Some("ACK") => kind == "unicast",
            of => of == Some(kind) && frame["senderId"] == user,
        };
        let ids = frames.filter(is_own).filter_map(|frame| frame["id"].as_str().map(str::to_owned));
        let mut ids: Vec<String> = ids.collect();
        if kind == "unicast" {
            ids.extend(Self::lock(&self.sent).get(user).cloned().unwrap_or_default());
        }
        ids
    }

    /// One of the known ids, or one of no message.
    fn id(&self, user: &'static str, kind: &str, number: usize) -> String {
        let known = self.known(user, kind);
        known.get(number % known.len().max(1)).cloned().unwrap_or_else(|| "01KEPT00000000000000000000".to_owned())
    }

    async fn rest(&self, user: &'static str, function: &Function, call: Rest) -> Value {
        let answer = self.inside.rest(function, &call).await;
        if user != BRIAN {
            let text = format!(
                "{user} {} {} {}: {answer}",
                call.method,
                call.path,
                call.query.split_once('&').map_or("", |(_, query)| query)
            );
            Self::lock(&self.answers).push((self.world.now_ms(), text));
        }
        answer
    }

    fn frame(to: &str, request: Option<u64>, long: bool) -> Value {
        let content = if long { "x".repeat(3_000) } else { "hello".to_owned() };
        let mut frame = json!({ "type": "unicast", "receiverId": to, "content": content });
        if let Some(request) = request {
            frame["requestId"] = json!(format!("r-{request}"));
        }
        frame
    }

    async fn act(&self, user: &'static str, action: Action) {
        let get = |path: &str, query: String| call("GET", user, path, None, &query, None);
        match action {
            Action::Send { to, device, request, long } => {
                let Some(device) = self.device(user, device) else { return };
                let frame = Self::frame(to, request, long);
                self.socket(&message::FUNCTION, user, &device, "unicast", Some(&frame)).await;
            }
            Action::SendGroup { device } => {
                let Some(device) = self.device(user, device) else { return };
                let frame = json!({ "type": "multicast", "groupId": self.groups[0], "content": "all" });
                self.socket(&message::FUNCTION, user, &device, "multicast", Some(&frame)).await;
            }
            Action::Typing { to, device } => {
                let Some(device) = self.device(user, device) else { return };
                let frame = json!({ "type": "typing", "receiverId": to });
                self.socket(&typing::FUNCTION, user, &device, "typing", Some(&frame)).await;
            }
            Action::Post { to, request, long } => {
                let body_of_call = Some(Self::frame(to, request, long));
                let post = call("POST", user, "/api/message", None, "", body_of_call);
                let answer = self.rest(user, &send_message::FUNCTION, post).await;
                if answer["statusCode"] == 200 {
                    let accepted: Value = body(&answer);
                    let id = accepted["id"].as_str().expect("an id").to_owned();
                    Self::lock(&self.sent).entry(user).or_default().push(id);
                }
            }
            Action::Recall { to, number } => {
                let (id, query) = (self.id(user, "unicast", number), format!("&receiverId={to}"));
                let recall = call("DELETE", user, "/api/message", Some(("id", &id)), &query, None);
                self.rest(user, &recall_message::FUNCTION, recall).await;
            }
            Action::RecallInGroup { number } => {
                let (id, query) = (self.id(user, "multicast", number), format!("&groupId={}", self.groups[0]));
                let recall = call("DELETE", user, "/api/message", Some(("id", &id)), &query, None);
                self.rest(user, &recall_message::FUNCTION, recall).await;
            }
            Action::Read { of, number } => {
                let query = format!("&userId={of}&until={}", self.id(user, "unicast", number));
                self.rest(user, &mark_read::FUNCTION, call("PUT", user, "/api/read", None, &query, None)).await;
            }
            Action::ReadGroup { number } => {
                let query = format!("&groupId={}&until={}", self.groups[0], self.id(user, "multicast", number));
                self.rest(user, &mark_read::FUNCTION, call("PUT", user, "/api/read", None, &query, None)).await;
            }
            Action::Invite { user: invited, group } => {
                let body = Some(json!({ "groupId": self.groups[group], "userId": invited }));
                self.rest(user, &invite::FUNCTION, call("POST", user, "/api/request", None, "", body)).await;
            }
            Action::History { with, limit, number, forward } => {
                let direction = if forward { "after" } else { "before" };
                let place = number.map(|number| format!("&{direction}={}", self.id(user, "unicast", number)));
                let query = format!("&userId={with}&limit={limit}{}", place.unwrap_or_default());
                self.rest(user, &get_history::FUNCTION, get("/api/history", query)).await;
            }
            Action::GroupHistory { limit } => {
                let query = format!("&groupId={}&limit={limit}", self.groups[0]);
                self.rest(user, &get_history::FUNCTION, get("/api/history", query)).await;
            }
            Action::List => {
                self.rest(user, &list_conversations::FUNCTION, get("/api/conversation", String::new())).await;
            }
            Action::Pull { query } => {
                self.rest(user, &pull_messages::FUNCTION, get("/api/message", query.to_owned())).await;
            }
            Action::Since { number } => {
                let query = format!("&drop=false&version=2&since={}", self.id(user, "unicast", number));
                self.rest(user, &pull_messages::FUNCTION, get("/api/message", query)).await;
            }
            Action::ShowGroup { group } => {
                let show = call("GET", user, "/api/group", Some(("groupId", &self.groups[group])), "", None);
                self.rest(user, &get_group::FUNCTION, show).await;
            }
            Action::Connect { version, post, look } => self.connect(user, version, post, look).await,
            Action::Leave { device } => {
                let Some(device) = self.device(user, device) else { return };
                self.world.set_phase(&device, Phase::Closed);
                self.socket(&disconnect::FUNCTION, user, &device, "$disconnect", None).await;
            }
            Action::Vanish { device } | Action::Die { device } => {
                let Some(connection) = self.device(user, device) else { return };
                let phase = if action == (Action::Die { device }) { Phase::Dead } else { Phase::Closed };
                self.world.set_phase(&connection, phase);
                if phase == Phase::Closed {
                    // The gateway refuses a post to a closed connection at once.
                    self.observed.delay(&connection, 0, 0);
                }
            }
        }
    }

    async fn at(&self, time: Ms) {
        tokio::time::sleep_until(self.began + Duration::from_millis(time)).await;
    }

    /// Brian blocks alice for these times.
    async fn block(&self, spells: &[(Ms, Ms)]) {
        for (from, to) in spells {
            self.at(*from).await;
            self.inside.tie(BRIAN, "blockedId", ALICE).await;
            self.at(*to).await;
            self.inside.relate("DELETE", BRIAN, "blockedId", ALICE).await;
        }
    }

    /// Returns what alice and molly saw, in the order of time.
    fn transcript(&self) -> Vec<String> {
        let devices = Self::lock(&self.devices);
        let of_players: Vec<&String> = [ALICE, MOLLY].iter().filter_map(|user| devices.get(user)).flatten().collect();
        let posts = self.observed.take().into_iter();
        let posts = posts.filter(|call| call.operation == "POST" && call.status == 200);
        let posts = posts.filter(|call| of_players.contains(&&call.connection));
        let mut seen: Vec<(Ms, String)> =
            posts.map(|call| (call.ended, format!("{} gets {}", call.connection, call.request))).collect();
        seen.extend(Self::lock(&self.answers).clone());
        seen.sort_by_key(|(time, _)| *time);
        let mut names = Names::default();
        let line = |(time, text): (Ms, String)| {
            names.of(&format!("{}: {}", time - self.began_ms, text.replace(&"x".repeat(3_000), "xxx")))
        };
        seen.into_iter().map(line).collect()
    }
}

/// Plays a game, in the world with the block or in the one without it. Returns what the players saw.
fn play(plan: &Plan, is_blocked: bool) -> Vec<String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    // The SDK's jitter.
    fastrand::seed(1);
    runtime.block_on(async {
        let mut game = Game::begin(plan).await;
        if is_blocked && plan.spells[0].0 == 0 {
            game.inside.tie(BRIAN, "blockedId", ALICE).await;
        }
        // All games begin at the same time.
        tokio::time::sleep(Duration::from_millis(60_000 - game.world.now_ms() % 60_000)).await;
        (game.began, game.began_ms) = (Instant::now(), game.world.now_ms());
        let game = &game;
        let steps = plan.steps.iter().map(|step| async move {
            game.at(step.at).await;
            game.act(step.user, step.action).await;
        });
        let spells: &[(Ms, Ms)] = if is_blocked { &plan.spells } else { &[] };
        // A block that is not lifted during the game stays.
        let lasting = tokio::time::timeout(Duration::from_millis(LENGTH_MS + 30_000), game.block(spells));
        futures::join!(join_all(steps), async { drop(lasting.await) });
        tokio::time::sleep(Duration::from_secs(5)).await;
        game.transcript()
    })
}

/// Returns the first line that differs between the two worlds, or the number of lines.
fn compare(plan: &Plan) -> Result<usize, [String; 2]> {
    let (without, with) = (play(plan, false), play(plan, true));
    let longer = without.len().max(with.len());
    let line = |of: &[String], n: usize| of.get(n).cloned().unwrap_or_else(|| "nothing".to_owned());
    let first = (0..longer).map(|n| [line(&without, n), line(&with, n)]).find(|[one, other]| one != other);
    first.map_or(Ok(longer), Err)
}

/// Returns a shorter game that still tells the worlds apart.
fn cut_down(mut plan: Plan) -> Plan {
    let mut n = 0;
    while n < plan.steps.len() {
        let mut smaller = plan.clone();
        smaller.steps.remove(n);
        match compare(&smaller) {
            Err(_) => plan = smaller,
            Ok(_) => n += 1,
        }
    }
    plan
}

/// Returns the seeds of the games: `PLAYER_SEEDS=from..to`, or [`SEEDS`].
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("PLAYER_SEEDS") else { return SEEDS };
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("PLAYER_SEEDS is like 0..1000; got {text:?}"))
}

/// Plays games on all processors, and fails with the shortest one that tells the worlds apart.
fn play_all(draw: impl Fn(u64) -> Plan + Sync) {
    let seeds = seeds();
    let (next, lines, failed) = (AtomicU64::new(seeds.start), AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while Game::lock(&failed).is_none() {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return;
            }
            match compare(&draw(seed)) {
                Ok(seen) => lines.fetch_add(seen, Relaxed),
                Err(_) => {
                    *Game::lock(&failed) = Some(seed);
                    return;
                }
            };
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    if let Some(seed) = failed.into_inner().expect("no holder of the lock panics") {
        let plan = cut_down(draw(seed));
        let [without, with] = compare(&plan).expect_err("the shorter game still differs");
        panic!("seed {seed}\n{plan:#?}\nwithout the block: {without}\nwith the block: {with}");
    }
    println!("{} games; the players saw {} frames and answers", seeds.end - seeds.start, lines.into_inner());
}

#[test]
fn a_player_cannot_tell_whether_a_block_exists() {
    if Deployment::is_elsewhere() {
        return;
    }
    // The echo of a REST send tells the time of posts, see `parity`. So these games have either REST sends or slow posts.
    play_all(|seed| Plan::drawn(seed, seed % 2 == 0, seed % 2 == 1));
}

#[test]
fn a_player_cannot_tell_whether_a_block_exists_from_rest_sends_and_slow_posts() {
    if Deployment::is_elsewhere() {
        return;
    }
    play_all(|seed| Plan::drawn(seed, true, true));
}
