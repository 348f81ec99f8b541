#!/usr/bin/env python3
"""Plays the back end of a shop against a deployment, and fails if a call does something else than it should.

It imports friendships, opens the chat of an order, and writes into it. From the events it learns who is away, and
"pushes" to their phone. It bans a user, erases another and exports a third. It needs the standard library only.

    tests/shop.py                                      with a local stack of its own, target/debug/localstack
    tests/shop.py --events-from dev                    with a deployment that these variables name:
                                                       CHAT_PUBLIC_URL, CHAT_WS_URL, CHAT_INTERNAL_URL, JWT_SECRET
    tests/shop.py --events-from sqs:QUEUE_URL          the same, with events from a queue. AWS_ENDPOINT_URL names an
                                                       emulator, and AWS_ACCESS_KEY_ID and so on the credentials

Each run makes users of its own, so it may be repeated.
"""

import argparse
import base64
import collections
import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import queue
import secrets
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The import: so many agents, each a friend of so many customers, by one call for each agent.
AGENTS = 10
CUSTOMERS = 1_000

# How often a call is made that is answered with 429 or 503. Each call here may be repeated.
TRIES = 6


class Failed(Exception):
    """Something is not as it should be."""


def expect(holds, why):
    if not holds:
        raise Failed(why)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events-from", metavar="SOURCE", help="where events come from: local (posted by the local "
                        "stack that this program starts; the default with one), dev (/dev/events; the default "
                        "otherwise) or sqs:QUEUE_URL")
    parser.add_argument("--localstack", metavar="PATH", default=ROOT / "target/debug/localstack",
                        help="the program of the local stack (target/debug/localstack)")
    parser.add_argument("--patience", metavar="SECONDS", type=float, default=120,
                        help="how long an effect may take that comes after an answer (120)")
    options = parser.parse_args()
    is_own = not os.environ.get("CHAT_INTERNAL_URL")
    source = options.events_from or ("local" if is_own else "dev")
    if source not in ("local", "dev") and not source.startswith("sqs:"):
        parser.error("--events-from is local, dev or sqs:QUEUE_URL")
    if source == "local" and not is_own:
        parser.error("--events-from local needs a local stack of its own, so unset CHAT_INTERNAL_URL")
    try:
        with contextlib.ExitStack() as resources:
            posted = resources.enter_context(Posted.listening()) if source == "local" else None
            started = own(options.localstack, posted) if is_own else named_by_environment()
            deployment = resources.enter_context(started)
            events = posted or (Shown(deployment) if source == "dev" else Queued(source.removeprefix("sqs:")))
            Shop(deployment, Events(events), options.patience).play()
    except Failed as why:
        sys.exit(f"shop.py: {why}")


# ------------------------------------------------------------------------------------------------------ the deployment


@dataclasses.dataclass
class Deployment:
    """The addresses of a deployment, and the secret of its tokens."""

    public: str
    ws: str
    internal: str
    secret: str

    def token(self, user):
        encode = lambda part: base64.urlsafe_b64encode(part).rstrip(b"=")
        parts = {"alg": "HS256", "typ": "JWT"}, {"sub": user, "exp": int(time.time()) + 3600}
        signed = b".".join(encode(json.dumps(part).encode()) for part in parts)
        return (signed + b"." + encode(hmac.new(self.secret.encode(), signed, hashlib.sha256).digest())).decode()


@contextlib.contextmanager
def named_by_environment():
    names = ["CHAT_PUBLIC_URL", "CHAT_WS_URL", "CHAT_INTERNAL_URL", "JWT_SECRET"]
    for name in names:
        expect(os.environ.get(name), f"{name} is not set; see --help")
    yield Deployment(*(os.environ[name].rstrip("/") for name in names))


@contextlib.contextmanager
def own(program, posted):
    """Starts a local stack on free ports. It posts its events if `posted` is given."""
    secret = secrets.token_hex(32)
    command = [program, "--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"]
    command += ["--events", posted.url] if posted else []
    with tempfile.TemporaryFile("w+") as log:
        try:
            environment = {**os.environ, "JWT_SECRET": secret}
            stack = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        except OSError as why:
            raise Failed(f"the local stack does not start: {why}; build it with cargo build") from why
        try:
            addresses = dict(word.split("=", 1) for word in stack.stdout.readline().split()[1:])
            log.seek(0)
            why = log.read()[-500:].strip() or "it says nothing"
            expect("internal" in addresses, f"the local stack does not start: {why}")
            ws = addresses["public"].replace("http", "ws", 1) + "/ws"
            yield Deployment(addresses["public"], ws, addresses["internal"], secret)
        finally:
            stack.terminate()
            stack.wait()


# ----------------------------------------------------------------------------------------------------------- the calls


@dataclasses.dataclass
class Answer:
    """The answer to a call."""

    what: str
    status: int
    body: object

    def expect(self, status):
        """The body, if the status is this one."""
        expect(self.status == status, f"{self.what}: expected {status}, got {self.status} {self.body}")
        return self.body

    def field(self, name):
        return self.body.get(name) if isinstance(self.body, dict) else None


def fetch(request, what):
    """Makes a call, again after 429 and 503."""
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, text = response.status, response.read()
        except urllib.error.HTTPError as refusal:
            status, text = refusal.code, refusal.read()
        except OSError as why:
            raise Failed(f"{what}: no answer: {why}") from why
        if status not in (429, 503) or attempt + 1 == TRIES:
            break
        time.sleep(0.25 * 2**attempt)
    try:
        return Answer(what, status, json.loads(text) if text else None)
    except ValueError:
        return Answer(what, status, text.decode(errors="replace"))


def call(base, method, path, query=None, body=None, token=None):
    url = base + path + ("?" + urllib.parse.urlencode(query) if query else "")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["content-type"] = "application/json"
    data = None if body is None else json.dumps(body).encode()
    return fetch(urllib.request.Request(url, data, headers, method=method), f"{method} {path}")


class Socket:
    """A connection of a user, which only reads."""

    def __init__(self, deployment, user, patience):
        url = urllib.parse.urlsplit(deployment.ws)
        port = url.port or (443 if url.scheme == "wss" else 80)
        try:
            self.stream = socket.create_connection((url.hostname, port), timeout=patience)
        except OSError as why:
            raise Failed(f"no connection to {deployment.ws}: {why}") from why
        if url.scheme == "wss":
            self.stream = ssl.create_default_context().wrap_socket(self.stream, server_hostname=url.hostname)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self.stream.sendall((f"GET {url.path}?access_token={deployment.token(user)} HTTP/1.1\r\nHost: {url.netloc}\r\n"
                             f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                             f"Sec-WebSocket-Key: {key}\r\n\r\n").encode())
        self.file = self.stream.makefile("rb")
        status = self.file.readline().decode().strip()
        expect(" 101" in status, f"the handshake of {user}: {status}")
        while self.file.readline().strip():
            pass

    def frame(self):
        """The next frame as JSON, or None if the connection is closed."""
        while True:
            try:
                head = self.file.read(2)
                if len(head) < 2 or head[0] & 15 == 8:
                    return None
                length = head[1] & 127
                if length > 125:
                    length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
                payload = self.file.read(length)
            except TimeoutError as why:
                raise Failed("a frame was expected and did not come") from why
            except OSError:
                return None
            if head[0] & 15 == 1:
                return json.loads(payload)

    def close(self):
        self.stream.close()


# ---------------------------------------------------------------------------------------------------------- the events


class Posted:
    """Events that a local stack posts to this program."""

    @classmethod
    @contextlib.contextmanager
    def listening(cls):
        source = cls()
        source.received = queue.SimpleQueue()

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                source.received.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                """Logs nothing."""

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
            source.url = f"http://127.0.0.1:{server.server_port}/"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield source
            server.shutdown()

    def more(self):
        with contextlib.suppress(queue.Empty):
            yield self.received.get(timeout=0.2)


class Shown:
    """Events that a local stack shows at its internal address."""

    def __init__(self, deployment):
        self.deployment = deployment

    def more(self):
        yield from call(self.deployment.internal, "GET", "/dev/events").expect(200)


class Queued:
    """Events that a rule puts into a queue of SQS."""

    def __init__(self, url):
        self.url = url
        parts = urllib.parse.urlsplit(url)
        named = parts.hostname.split(".")
        default = named[1] if named[0] == "sqs" and len(named) > 2 else "us-east-1"
        self.region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or default
        self.endpoint = os.environ.get("AWS_ENDPOINT_URL", f"{parts.scheme}://{parts.netloc}").rstrip("/") + "/"

    def more(self):
        taken = self.ask("ReceiveMessage", {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 1}) or {}
        for message in taken.get("Messages") or []:
            self.ask("DeleteMessage", {"ReceiptHandle": message["ReceiptHandle"]})
            yield json.loads(message["Body"])

    def ask(self, action, fields):
        body = json.dumps({"QueueUrl": self.url, **fields}).encode()
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"AmazonSQS.{action}"}
        return fetch(urllib.request.Request(self.endpoint, body, self.signed(headers, body)), action).expect(200)

    def signed(self, headers, body):
        """The headers with a signature (Signature Version 4). An emulator accepts the keys `test` and `test`."""
        url = urllib.parse.urlsplit(self.endpoint)
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = {**headers, "host": url.netloc, "x-amz-date": now}
        if os.environ.get("AWS_SESSION_TOKEN"):
            headers["x-amz-security-token"] = os.environ["AWS_SESSION_TOKEN"]
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = f"POST\n{url.path}\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{now[:8]}/{self.region}/sqs/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = ("AWS4" + os.environ.get("AWS_SECRET_ACCESS_KEY", "test")).encode()
        for part in [*scope.split("/"), text]:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        who = f"{os.environ.get('AWS_ACCESS_KEY_ID', 'test')}/{scope}"
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={who}, SignedHeaders={names}, Signature={key.hex()}"
        return headers


class Events:
    """The events that have come from a source, each once."""

    def __init__(self, source):
        self.source = source
        self.by_id = {}

    def find(self, kind, holds):
        """An event of this kind whose detail holds, if it has come."""
        for event in self.source.more():
            expect(event.get("source") == "chat", f"an event of another source: {event}")
            self.by_id[event["id"]] = event
        found = [event for event in self.by_id.values() if event["detail-type"] == kind and holds(event["detail"])]
        return found[0]["detail"] if found else None


# ------------------------------------------------------------------------------------------------------------ the shop


class Shop:
    """The shop, with one order."""

    def __init__(self, deployment, events, patience):
        self.deployment, self.events, self.patience = deployment, events, patience
        self.run = secrets.token_hex(4)
        self.agents = [f"{self.run}-agent-{agent}" for agent in range(AGENTS)]
        self.customers = {agent: [f"{agent}-customer-{number}" for number in range(CUSTOMERS)] for agent in self.agents}
        self.agent = self.agents[0]
        self.customer, self.troll, self.leaver = self.customers[self.agent][:3]

    def play(self):
        """Makes all steps, and prints how long each took."""
        started = time.monotonic()
        for step in [self.import_friendships, self.open_chat, self.write, self.push, self.ban, self.erase, self.export]:
            begun = time.monotonic()
            try:
                done = step()
            except Failed as why:
                raise Failed(f"{step.__name__}: {why}") from why
            print(f"{step.__name__.replace('_', ' '):20}{time.monotonic() - begun:8.2f} s  {done}", flush=True)
        # The bus may have events of others.
        own = [event for event in self.events.by_id.values() if self.run in json.dumps(event["detail"])]
        kinds = collections.Counter(event["detail-type"] for event in own)
        events = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        print(f"{'all':20}{time.monotonic() - started:8.2f} s  run {self.run}; events: {events}")

    def back_end(self, method, path, query=None, body=None):
        return call(self.deployment.internal, method, path, query, body)

    def as_user(self, user, method, path, query=None, body=None):
        return call(self.deployment.public, method, path, query, body, self.deployment.token(user))

    def friends(self, user):
        return self.back_end("GET", f"/relationship/{user}").expect(200)["friends"]

    def until(self, look, what):
        """What `look` returns, as soon as it is something."""
        deadline = time.monotonic() + self.patience
        while not (seen := look()):
            expect(time.monotonic() < deadline, f"not within {self.patience:g} s: {what}")
            time.sleep(0.1)
        return seen

    def import_friendships(self):
        for agent, customers in self.customers.items():
            changes = [{"userId": agent, "friend": customer} for customer in customers]
            done = self.back_end("POST", "/relationship", body=changes).expect(200)
            expect(done == {"done": len(changes)}, f"{len(changes)} changes were asked for, and the answer is {done}")
        for agent, customers in self.customers.items():
            friends = self.friends(agent)
            expect(sorted(friends) == sorted(customers), f"{agent} has {len(friends)} friends, not those of the import")
        wrong = [{"userId": self.agent, "friend": "new"}, {"userId": self.agent, "friend": "no id"}]
        refusal = self.back_end("POST", "/relationship", body=wrong)
        refusal.expect(400)
        expect("[1].friend" in refusal.field("detail"), f"the refusal does not name [1].friend: {refusal.body}")
        expect("new" not in self.friends(self.agent), "a refused import has made a friendship")
        return f"{AGENTS * CUSTOMERS} friendships by {AGENTS} calls"

    def open_chat(self):
        body = {"name": "Order 4711", "managerId": self.agent, "usersId": [self.customer],
                "requestId": f"{self.run}-chat"}
        self.group = self.back_end("POST", "/group", body=body).expect(200)
        again = self.back_end("POST", "/group", body=body).expect(200)
        expect(again == self.group, f"the repeated call made another group: {again}, not {self.group}")
        group = self.back_end("GET", f"/group/{self.group}").expect(200)
        expect((group["members"], sorted(group["usersId"])) == (2, sorted([self.agent, self.customer])),
               f"the members are not the agent and the customer: {group}")
        mine = self.as_user(self.customer, "GET", "/api/group", {"detailed": "false"}).expect(200)
        expect(mine == [self.group], f"the customer is in {mine}, not in the chat alone")
        return "the customer and the agent are in; the repeated call made no second chat"

    def write(self):
        """The agent is online, and the customer is away."""
        online = Socket(self.deployment, self.agent, self.patience)
        try:
            body = {"from": "shop", "type": "multicast", "groupId": self.group, "content": "your order was paid",
                    "requestId": f"{self.run}-paid"}
            sent = self.back_end("POST", "/message", body=body).expect(200)
            again = self.back_end("POST", "/message", body=body).expect(200)
            expect(again == sent, f"the repeated call sent another message: {again}, not {sent}")
            frame = online.frame()
            expected = {"type": "multicast", "id": sent["id"], "senderId": "shop", "groupId": self.group,
                        "content": "your order was paid", "timestamp": sent["timestamp"]}
            expect(frame == expected, f"the agent got {frame}, not {expected}")
        finally:
            online.close()
        self.paid = sent["id"]
        other = self.back_end("POST", "/message", body={**body, "content": "your order was lost"})
        other.expect(409)
        expect(other.field("code") == "request_id_reused", f"the code of the refusal is wrong: {other.body}")
        history = self.as_user(self.customer, "GET", "/api/history", {"groupId": self.group}).expect(200)
        expect([message["id"] for message in history] == [self.paid], f"the customer's history has {history}")
        return "the agent's socket has the message; the repeated call sent no second one"

    def push(self):
        missed = self.until(lambda: self.events.find("MessageMissed", lambda detail: detail["id"] == self.paid),
                            "an event MessageMissed for the message")
        expected = {"type": "multicast", "senderId": "shop", "groupId": self.group, "receivers": [self.customer]}
        expect({name: missed.get(name) for name in expected} == expected, f"the event is {missed}, not {expected}")
        for user in missed["receivers"]:
            print(f"{'':20}push to the phone of {user}: the shop has written to you")
        return f"{len(missed['receivers'])} push; the agent, who is online, needs none"

    def ban(self):
        online = Socket(self.deployment, self.troll, self.patience)
        until = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=1)
        end_ms = int(until.timestamp() * 1000)
        text = until.isoformat().replace("+00:00", "Z")
        self.back_end("PUT", f"/user/{self.troll}/ban", {"until": text}).expect(200)
        frame = online.frame()
        expect(frame and (frame.get("type"), frame.get("code"), frame.get("until")) == ("ERROR", "banned", end_ms),
               f"the open connection got {frame}, not an ERROR with the code banned and until {end_ms}")
        expect(online.frame() is None, "the connection of the banned user stays open")
        online.close()
        calls = [("GET", "/api/conversation", None), ("GET", "/api/message", None), ("GET", "/api/group", None),
                 ("POST", "/api/message", {"type": "unicast", "receiverId": self.agent, "content": "still here?"})]
        for method, path, body in calls:
            refusal = self.as_user(self.troll, method, path, body=body)
            refusal.expect(403)
            expect((refusal.field("code"), refusal.field("until")) == ("banned", end_ms),
                   f"{refusal.what}: expected the code banned and until {end_ms}, got {refusal.body}")
        state = self.back_end("GET", f"/user/{self.troll}").expect(200)
        expect((state.get("bannedUntil"), state["connections"]) == (end_ms, 0), f"the state is {state}")
        return f"the connection is closed, and {len(calls)} calls get 403 with the code banned"

    def erase(self):
        secret = {"type": "unicast", "receiverId": self.agent, "content": "my card number is 4242"}
        sent = self.as_user(self.leaver, "POST", "/api/message", body=secret).expect(200)["id"]

        def seen():
            history = self.as_user(self.agent, "GET", "/api/history", {"userId": self.leaver}).expect(200)
            return next((message for message in history if message["id"] == sent), {})

        self.until(lambda: seen().get("content") == secret["content"], "the agent's history has the message")
        self.back_end("DELETE", f"/user/{self.leaver}").expect(202)
        begun = time.monotonic()
        is_gone = lambda message: "recalledAt" in message and "content" not in message
        self.until(lambda: is_gone(seen()), "the content is gone from the agent's history")
        took = time.monotonic() - begun
        state = self.back_end("GET", f"/user/{self.leaver}").expect(200)
        expect(state.get("erasing") is True, f"GET /user says nothing of the erasure: {state}")
        self.until(lambda: self.leaver not in self.friends(self.agent), "the friendship is gone")
        refusal = self.as_user(self.leaver, "GET", "/api/conversation")
        refusal.expect(403)
        expect(refusal.field("code") == "banned", f"the erased user gets {refusal.body}, not the code banned")
        return f"the content was gone {took:.2f} s after the answer; erasing: true; the id is refused"

    def export(self):
        blocker = self.agents[1]
        self.back_end("PUT", f"/relationship/{blocker}/blocks/{self.customer}").expect(200)
        body = {"type": "unicast", "receiverId": self.agent, "content": "where is my order?"}
        sent = self.as_user(self.customer, "POST", "/api/message", body=body).expect(200)["id"]
        entries, pages = self.until(lambda: self.exported_with(sent), "the export has what the customer has just written")
        kinds = collections.Counter(entry["kind"] for entry in entries)
        for wanted in [{"kind": "user", "userId": self.customer}, {"kind": "friend", "userId": self.agent},
                       {"kind": "group", "groupId": self.group},
                       {"kind": "message", "id": sent, "senderId": self.customer, "content": body["content"]}]:
            expect(any(wanted.items() <= entry.items() for entry in entries),
                   f"the export has no {wanted}; it has {entries}")
        expect(blocker not in json.dumps(entries), "the export tells who blocks the customer")
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        return f"{len(entries)} entries ({counts}), pages: {pages}"

    def exported_with(self, message):
        """The entries of the whole export and its number of pages, if the message is in it."""
        entries, after, pages = [], None, 0
        while pages == 0 or after:
            query = {"after": after} if after else None
            page = self.back_end("GET", f"/user/{self.customer}/export", query).expect(200)
            entries, after, pages = entries + page["entries"], page.get("next"), pages + 1
            expect(pages < 10_000, "the export does not end")
        return (entries, pages) if any(entry.get("id") == message for entry in entries) else None


if __name__ == "__main__":
    main()
