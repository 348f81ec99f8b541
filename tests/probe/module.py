"""The rows that are asked through the deployed module: what its users and its table see."""

import contextlib
import http.client
import json
import statistics
import threading
import time
import urllib.parse
import urllib.request
import uuid

import websockets.exceptions

from rows import holds, row, skip
from target import PATIENCE, break_off, fetch, frames, refused, until

# Almost the largest post. It soon fills the buffers of a client that does not read.
LARGE = b'{"filler":"' + b"x" * 120_000 + b'"}'

# The most posts to a client that does not read.
POSTS = 200

# How many times a post and a look are timed.
TIMED = 30

# By how many milliseconds the medians of posts and looks may differ: the slot of a push is 25 ms.
SLACK_MS = 10


def milliseconds(call):
    began = time.monotonic()
    call()
    return (time.monotonic() - began) * 1000


# ------------------------------------------------------------------------------------------------------ the handshake
@row("subprotocol", "the subprotocol in `headers` of the answer to $connect is in the handshake")
def subprotocol(target):
    user = target.user("subprotocol")
    with user.open(subprotocols=["chat", user.token]) as opened:
        return holds(opened.subprotocol == "chat", f"offered chat, got {opened.subprotocol}")


@row("handshake-401", "an authorizer's error `Unauthorized` is answered with 401")
def handshake_401(target):
    status = refused(target.ws + "?access_token=none")
    return holds(status == 401, f"status {status}")


@row("identity-source", "without an identity source, the authorizer is asked wherever the token is")
def identity_source(target):
    user = target.user("identity")
    by_query = refused(f"{target.ws}?access_token={user.token}")
    by_header = refused(target.ws, subprotocols=["chat", user.token])
    return holds((by_query, by_header) == (101, 101), f"in the query {by_query}, as a subprotocol {by_header}")


@row("unknown-stage", "a handshake at another path than that of the stage is refused")
def unknown_stage(target):
    status = refused(f"{target.ws}-none?access_token={target.user('stage').token}")
    return holds(status != 101, f"status {status}")


def answers_while_connecting(target, user):
    """Opens a connection. Looks and posts as soon as it is announced. Returns the answers that came during $connect."""
    known, opened, answers = set(target.connections(user)), [], []
    handshake = threading.Thread(target=lambda: opened.append(user.open()))
    handshake.start()
    while not (fresh := set(target.connections(user)) - known) and handshake.is_alive():
        pass
    for id in fresh:
        for call in (lambda: target.look(id), lambda: target.post(id, b"{}")):
            answers.append((call(), time.time() * 1000))
    handshake.join()
    opened[0].close()
    if not fresh:
        return []
    # The function returns when the time has come from which the connection covers. The clock is the same.
    returned = max(int(target.connections(user)[id]["from"]["N"]) for id in fresh)
    return [error for error, at in answers if at < returned]


@row("gone-while-connecting", "a post and a look are answered with 410 until $connect has returned")
def gone_while_connecting(target):
    if target.kind == "aws":
        return skip("gone-inside-connect asks it, since this needs the clock of the functions")
    user, seen, tries = target.user("early"), [], 0
    while len(seen) < 3 and tries < 100:
        seen += answers_while_connecting(target, user)
        tries += 1
    if not seen:
        return skip(f"no call came between the first write and the end of $connect in {tries} handshakes")
    gone = seen.count("GoneException")
    return holds(0 < gone == len(seen), f"{gone} of {len(seen)} answers during {tries} handshakes were 410")


# ----------------------------------------------------------------------------------------------------- the connections
@row("gone-after-close", "a post is answered with 410 soon after the client has closed")
def gone_after_close(target):
    opened, id = target.user("closer").open_known()
    opened.close()
    error, seconds = until(PATIENCE, lambda: target.post(id, b"{}"))
    return holds(error == "GoneException" and seconds < 5, f"{error} after {seconds:.1f} s")


@row("gone-unknown", "a post to an id that never existed is answered with 410")
def gone_unknown(target):
    opened, id = target.user("known").open_known()
    opened.close()
    # An id of the right form: AWS answers others with 400.
    other = id[:4] + ("A" if id[4] != "A" else "B") + id[5:]
    error = target.post(other, b"{}")
    return holds(error == "GoneException", str(error))


@row("look-times", "GetConnection tells when the connection was opened and last active")
def look_times(target):
    user = target.user("looked-at")
    opened, id = user.open_known()
    management = target.client("apigatewaymanagementapi")
    with opened:
        first = management.get_connection(ConnectionId=id)
        if not {"ConnectedAt", "LastActiveAt", "Identity"} <= first.keys():
            return holds(False, f"only {sorted(first.keys() - {'ResponseMetadata'})}")
        age = time.time() - first["ConnectedAt"].timestamp()
        time.sleep(1.1)
        opened.send('{"type":"ping"}')
        moved, _ = until(5, lambda: management.get_connection(ConnectionId=id)["LastActiveAt"] > first["LastActiveAt"])
        return holds(abs(age) < 60 and moved, f"opened {age:.1f} s ago; a frame moves LastActiveAt: {bool(moved)}")


def times_of(target, id):
    """The medians of posts and looks, in milliseconds."""
    posts, looks = [], []
    for _ in range(TIMED):
        posts.append(milliseconds(lambda: target.post(id, b'{"type":"probe"}')))
        looks.append(milliseconds(lambda: target.look(id)))
    return statistics.median(posts), statistics.median(looks)


def compared(target, id):
    post, look = times_of(target, id)
    return holds(abs(post - look) < SLACK_MS, f"medians: post {post:.1f} ms, look {look:.1f} ms")


@row("times-open", "a post to an open connection takes as long as a look")
def times_open(target):
    opened, id = target.user("open").open_known()
    with opened:
        reader = threading.Thread(target=frames, args=(opened, 5), daemon=True)
        reader.start()
        return compared(target, id)


@row("times-dead", "a post to a connection that has ended takes as long as a look")
def times_dead(target):
    opened, id = target.user("dead").open_known()
    break_off(opened)
    gone, seconds = until(PATIENCE, lambda: target.look(id) == "GoneException")
    if not gone:
        return holds(False, f"the connection is not gone after {seconds:.0f} s")
    return compared(target, id)


@row("stalled", "posts to a client that does not read are taken, then answered with 429; a look is not")
def stalled(target):
    # The library stops reading when one frame waits.
    opened, id = target.user("stalled").open_known(max_queue=1)
    errors, taken, slowest = set(), 0, 0
    for _ in range(POSTS):
        began = time.monotonic()
        error = target.post(id, LARGE)
        slowest = max(slowest, time.monotonic() - began)
        if error:
            errors.add(error)
            break
        taken += 1
    began = time.monotonic()
    look = target.look(id)
    looked = (time.monotonic() - began) * 1000
    break_off(opened)
    said = (f"{taken * len(LARGE) / 1e6:.1f} MB taken, then {', '.join(errors) or 'no refusal'}; slowest post "
            f"{slowest:.2f} s; look: {look or 'answered'} after {looked:.0f} ms")
    return holds(errors <= {"LimitExceededException"} and look is None, said)


@row("broken-noticed", "a reset connection gets its $disconnect within a few seconds, and it is not clean")
def broken_noticed(target):
    user = target.user("reset")
    opened, id = user.open_known()
    break_off(opened)
    ended, seconds = until(PATIENCE, lambda: "to" in target.connections(user)[id])
    if not ended:
        return holds(False, f"no $disconnect after {seconds:.0f} s")
    clean = "clean" in target.connections(user)[id]
    return holds(not clean and seconds < 15, f"after {seconds:.1f} s, {'clean' if clean else 'not clean'}")


@row("close-codes", "$disconnect gets the close code of the client: 1000, 1001 and none are clean")
def close_codes(target):
    user, seen = target.user("codes"), {}
    for code in (1000, 1001, None, 4000):
        opened, id = user.open_known()
        with opened.send_context():
            opened.protocol.send_close(code)
        opened.close()
        ended, _ = until(PATIENCE, lambda: "to" in target.connections(user)[id])
        is_clean = "clean" in target.connections(user)[id]
        seen[code] = "no $disconnect" if not ended else "clean" if is_clean else "not clean"
    expected = {1000: "clean", 1001: "clean", None: "clean", 4000: "not clean"}
    return holds(seen == expected, ", ".join(f"{code or 'no code'}: {told}" for code, told in seen.items()))


@row("disconnect-time", "the time of $disconnect is when the gateway saw the end")
def disconnect_time(target):
    user = target.user("time")
    opened, id = user.open_known()
    before = time.time()
    opened.close()
    after = time.time()
    ended, _ = until(PATIENCE, lambda: target.connections(user)[id].get("to"))
    if not ended:
        return holds(False, "no $disconnect")
    at = int(ended["N"]) / 1000
    return holds(before - 2 < at < after + 2, f"{at - before:+.2f} s from the close, by the clock of this machine")


# ---------------------------------------------------------------------------------------------------------- the frames
@row("integration-method", "an integration that names no HTTP method, as SAM makes it, invokes its function")
def integration_method(target):
    with target.user("method").open() as opened:
        opened.send("{}")
        answers = frames(opened, 3)
    codes = [answer.get("code", answer.get("message")) for answer in answers]
    return holds(codes == ["bad_request"], f"a frame is answered with {codes or 'nothing'}")


@row("event-frames", "a frame with the type of an event of the gateway changes nothing")
def event_frames(target):
    user, said = target.user("event"), []
    opened, id = user.open_known()
    with opened:
        before = target.connections(user)
        for kind in ("$disconnect", "$connect"):
            opened.send(json.dumps({"type": kind}))
            answers = frames(opened, 2)
            said.append(f"{kind}: {answers[0].get('code') or answers[0].get('message') if answers else 'no answer'}")
        kept = target.connections(user) == before and target.post(id, b"{}") is None
        return holds(kept, "; ".join(said) + ("" if kept else "; the connection has changed"))


@row("ping-silent", "a frame for a MOCK integration without a route response gets no answer")
def ping_silent(target):
    with target.user("ping").open() as opened:
        opened.send('{"type":"ping"}')
        answers = frames(opened, 2)
        return holds(not answers, f"{len(answers)} answers {answers[:1] or ''}")


@contextlib.contextmanager
def talking(target, name):
    """Two friends with a connection each. Yields the sender's connection, and a function that makes a message."""
    one, other = target.friends(name)
    message = {"type": "unicast", "receiverId": other.id, "content": 1}
    with one.open() as sender, other.open() as receiver:
        threading.Thread(target=frames, args=(receiver, 20), daemon=True).start()
        yield sender, lambda request: json.dumps({**message, "requestId": request})


def answer(opened):
    return json.loads(opened.recv(timeout=PATIENCE))


@row("frame-order", "the times of frames of one connection are in the order sent")
def frame_order(target):
    spans, swapped = [], 0
    with talking(target, "order") as (sender, message):
        for _ in range(4):
            requests = [str(uuid.uuid4()) for _ in range(8)]
            for request in requests:
                sender.send(message(request))
            times = {ack["requestId"]: ack["timestamp"] for ack in (answer(sender) for _ in requests)}
            times = [times[request] for request in requests]
            swapped += sum(one > other for one, other in zip(times, times[1:]))
            spans.append(max(times) - min(times))
    return holds(swapped == 0, f"{swapped} of four times 8 frames out of order, within {spans} ms")


@row("frames-side-by-side", "frames of one connection are handled side by side")
def frames_side_by_side(target):
    overtaken = 0
    with talking(target, "side") as (sender, message):
        for _ in range(8):
            # The ACK waits for a tick of 40 ms. The answer to a malformed frame does not.
            sender.send(message(str(uuid.uuid4())))
            sender.send("{}")
            overtaken += answer(sender)["type"] == "ERROR"
            answer(sender)
    return holds(overtaken >= 4, f"{overtaken} of 8 quick frames overtook a slow one")


class Idle:
    """Two connections that wait beside the other rows: one sends control pings, the other the frame `ping`."""

    def __init__(self, target):
        self.limit = target.idle_seconds
        self.pings, frames = target.user("idle-pings"), target.user("idle-frames")
        self.answers = {}
        waiting = [("control pings", self.pings.open(), lambda opened: opened.ping()),
                   ("frames", frames.open(), lambda opened: opened.send('{"type":"ping"}'))]
        self.threads = [threading.Thread(target=self.wait, args=arguments) for arguments in waiting]
        for thread in self.threads:
            thread.daemon = True
            thread.start()

    def wait(self, name, opened, beat):
        began = time.monotonic()
        while time.monotonic() - began < self.limit * 1.2 + 3:
            try:
                beat(opened)
                opened.recv(timeout=self.limit / 10)
            except TimeoutError:
                continue
            except websockets.exceptions.ConnectionClosed:
                self.answers[name] = f"closed with {opened.close_code} after {time.monotonic() - began:.0f} s"
                return
        self.answers[name] = "still open"
        opened.close()

    def done(self):
        for thread in self.threads:
            thread.join()
        return self.answers

    def is_clean(self, target):
        """Whether `$disconnect` of the connection that was closed told a clean end, or None without one."""
        (connection,) = target.connections(self.pings).values()
        return "clean" in connection if "to" in connection else None


@row("idle-pings", "control pings keep no idle connection open; the frame `ping` does", slow=True)
def idle_pings(target):
    answers = target.idle.done()
    kept = answers["frames"] == "still open" and answers["control pings"].startswith("closed with 1001")
    told = "; ".join(f"{name}: {told}" for name, told in answers.items())
    return holds(kept, f"{told} (limit {target.idle_seconds} s)")


@row("going-away", "the gateway closes an idle connection with 1001, and tells $disconnect a reason", slow=True)
def going_away(target):
    told = target.idle.done()["control pings"]
    is_unclean, _ = until(PATIENCE, lambda: target.idle.is_clean(target) is False)
    disconnect = "not clean" if is_unclean else "clean, or none"
    return holds(told.startswith("closed with 1001") and is_unclean, f"the client: {told}; $disconnect: {disconnect}")


# ------------------------------------------------------------------------------------------------------- the HTTP APIs
@row("www-authenticate", "WWW-Authenticate of a function may be renamed; clients do not need it")
def www_authenticate(target):
    status, headers, _ = fetch(urllib.request.Request(f"{target.public}/api/group"))
    names = [name for name in ("www-authenticate", "x-amzn-remapped-www-authenticate") if name in headers]
    return holds(status == 401, f"status {status}, the header is {names or 'absent'}")


@row("any-takes-options", "a route with ANY takes OPTIONS; the gateway adds the headers of CORS")
def any_takes_options(target):
    headers = {"origin": target.origin, "access-control-request-method": "GET",
               "access-control-request-headers": "authorization"}
    status, headers, _ = fetch(urllib.request.Request(f"{target.public}/api/group", headers=headers, method="OPTIONS"))
    by = "a function" if headers.get("cache-control") == "no-store" else "the gateway"
    allowed = headers.get("access-control-allow-origin")
    return holds(status in (200, 204) and allowed, f"{status} by {by}, allow-origin {allowed}")


@row("raw-query", "rawQueryString has the query as it was sent, repeated parameters included")
def raw_query(target):
    user = target.user("query")
    query = urllib.parse.urlencode([("access_token", user.token)] * 2)
    status, _, body = user.call("GET", "/api/group", query)
    return holds(status == 401 and "twice" in body, f"a token given twice: {status} {body[:100]}")


@row("path-decoded", "variables of a path are decoded once")
def path_decoded(target):
    user = target.user("path")
    group, encoded = new_group(target, user)
    plain, _, _ = user.call("GET", f"/api/group/{group}")
    once, _, _ = user.call("GET", f"/api/group/{encoded}")
    twice, _, _ = user.call("GET", f"/api/group/{encoded.replace('%', '%25')}")
    is_once = (plain, once) == (200, 200) and twice in (400, 403)
    return holds(is_once, f"plain {plain}, encoded {once}, encoded twice {twice}")


def new_group(target, user):
    """Makes a group. Returns its id, and the id with its first character encoded."""
    status, _, body = user.call("POST", "/api/group", "name=probe")
    if status != 200:
        raise RuntimeError(f"a group could not be made: {status} {body}")
    group = json.loads(body)
    target.partitions.append(f"GROUP#{group}")
    return group, f"%{ord(group[0]):02X}{group[1:]}"


@row("authorization-passes", "without an authorizer, Authorization reaches the function")
def authorization_passes(target):
    status, _, _ = target.user("header").call("GET", "/api/group")
    return holds(status == 200, f"status {status}")


# -------------------------------------------------------------------------------------------- policies, bus, settings
@row("leading-keys-mixed", "without a condition on keys, a transaction may mix partitions of users and groups")
def leading_keys_mixed(target):
    manager, member = target.friends("keys")
    group, _ = new_group(target, manager)
    asked = [manager.call("POST", "/api/request", body={"groupId": group, "userId": member.id})[0]]
    invitations = json.loads(member.call("GET", "/api/request")[2])
    asked.append(member.call("PUT", f"/api/request/{invitations[0]['id']}")[0])
    asked.append(member.call("DELETE", f"/api/group/{group}")[0])
    asked.append(manager.call("DELETE", f"/api/group/{group}")[0])
    return holds(asked == [200] * 4, f"invite, accept, leave, dissolve: {asked}")


@row("greeting", "an endpoint answers GET / and keeps the connection open")
def greeting(target):
    services = ["dynamodb", "apigatewaymanagementapi"]
    if target.kind == "aws":
        services += ["sqs", "events"]
    told = {}
    for service in services:
        address = urllib.parse.urlsplit(target.client(service).meta.endpoint_url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        with contextlib.closing(kind(address.hostname, address.port, timeout=PATIENCE)) as connection:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            told[service] = f"status {answer.status}, {'closed' if connection.sock is None else 'open'}"
    return holds(all(one.endswith("open") for one in told.values()), str(told))


@row("unknown-bus", "PutEvents to a bus that does not exist is taken without an error")
def unknown_bus(target):
    entry = {"Source": "probe", "DetailType": "Probe", "Detail": "{}", "EventBusName": f"probe-{target.run}"}
    answer = target.client("events").put_events(Entries=[entry])
    failed = answer["FailedEntryCount"]
    return holds(failed == 0, f"{failed} failed {answer['Entries'][0].get('ErrorCode', '')}")


@row("route-settings", "the limits in RouteSettings arrive as numbers")
def route_settings(target):
    if target.kind == "local":
        return skip("the local stack has no rates")
    stage = target.client("apigatewayv2").get_stage(ApiId=target.socket_api, StageName="ws")
    found = stage.get("RouteSettings", {}).get("$connect", {})
    limits = [found.get("ThrottlingBurstLimit"), found.get("ThrottlingRateLimit")]
    are_numbers = all(isinstance(limit, (int, float)) and limit > 0 for limit in limits)
    return holds(are_numbers, f"burst and rate of $connect: {limits}")


@row("concurrent-changes", "routes and integrations that are made at the same time may conflict")
def concurrent_changes(target):
    return skip("only a deployment shows it, and not each time")


@row("init-processor", "a new process has a whole processor until it asks for its first event")
def init_processor(target):
    return skip("no call tells the share of a processor; the field init_ms in the log shows its effect")


@row("clock-skew", "clocks of two functions differ by less than 5 ms")
def clock_skew(target):
    return skip("no call tells the clock of a function exactly enough")


@row("trust-source-account", "a role whose trust policy allows this account by IfExists is assumed")
def trust_source_account(target):
    if target.kind == "local":
        return skip("the local stack has no roles")
    status, _, _ = target.user("trust").call("GET", "/api/group")
    return holds(status == 200, f"a function ran: status {status}")
