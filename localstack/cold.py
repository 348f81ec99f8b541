"""Measures the first event of a new process: how long until its answer, with as little processor time as Lambda gives.

    python3 localstack/cold.py DIR...        DIR/NAME/bootstrap is the binary of function NAME; several DIRs are compared

    --localstack FILE    the local stack that the functions call (target/release/localstack)
    --starts N           starts of each function for each share of a processor (5)

A process has a whole processor until it asks for its first event, and then the share of a function with 128, 256 and 512
MB: 0.07, 0.14 and 0.29. The functions call the local stack through TLS, and every packet takes 2 ms each way. The receiver
of the message is away, and the sender waits for an ACK. A median of the starts is printed, in ms, and the time from the
start of the process to its first request for an event.

The share is set by cgroups, so this needs root. It also needs openssl, for the certificate.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

SHARES = [0.07, 0.14, 0.29]
WAY_SECONDS = 0.002
# Lambda's period, in microseconds, as processes have observed it.
PERIOD = 20_000
SECRET = "a-secret-of-this-measurement-and-no-other"
EVENTS = pathlib.Path(__file__).parent.parent / "tests/events"
NEVER = 4_000_000_000


# --------------------------------------------------------------------------------------------------------- the processor


class Group:
    """A control group of one process, of version 1 or 2."""

    def __init__(self):
        root = pathlib.Path("/sys/fs/cgroup")
        self.is_v1 = (root / "cpu").is_dir()
        self.path = (root / "cpu" if self.is_v1 else root) / f"cold-{os.getpid()}"
        try:
            self.path.mkdir()
        except OSError as why:
            sys.exit(f"cold.py: {self.path} cannot be made: {why}; run it as root")

    def limit(self, share):
        """Limits the group to a share of one processor."""
        quota = round(share * PERIOD)
        if self.is_v1:
            (self.path / "cpu.cfs_period_us").write_text(str(PERIOD))
            (self.path / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (self.path / "cpu.max").write_text(f"{quota} {PERIOD}")

    def join(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def delete(self):
        self.path.rmdir()


# ----------------------------------------------------------------------------------------------------------- the network


async def pump(reader, writer, delay, first_delay=0.0):
    """Passes on what comes, each part after a delay, and in order."""
    queue = asyncio.Queue()

    async def write():
        while True:
            due, part = await queue.get()
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if not part:
                break
            writer.write(part)
            await writer.drain()
        writer.close()

    writing = asyncio.create_task(write())
    try:
        while True:
            part = await reader.read(65536)
            queue.put_nowait((time.perf_counter() + delay + first_delay, part))
            first_delay = 0.0
            if not part:
                break
        await writing
    except (ConnectionError, ssl.SSLError):
        writing.cancel()
        writer.close()


async def through(host, port, delay, handshake, reader, writer):
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, far_writer, delay, handshake), pump(far_reader, writer, delay))


async def secure(address, certificate):
    """Offers an address by TLS, at a distance. Returns the new address."""
    host, port = address.removeprefix("http://").split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    near = await asyncio.start_server(lambda r, w: through(host, port, 0, 0, r, w), "127.0.0.1", 0, ssl=context)
    near_port = near.sockets[0].getsockname()[1]
    # TCP's own handshake takes a way and back before the first byte.
    far = await asyncio.start_server(
        lambda r, w: through("127.0.0.1", near_port, WAY_SECONDS, 2 * WAY_SECONDS, r, w), "127.0.0.1", 0
    )
    return f"https://localhost:{far.sockets[0].getsockname()[1]}"


# ------------------------------------------------------------------------------------------------------------ the events


def genuine(name):
    return json.loads((EVENTS / name).read_text())


def token(user):
    encode = lambda part: base64.urlsafe_b64encode(part).rstrip(b"=")
    parts = {"alg": "HS256", "typ": "JWT"}, {"sub": user, "exp": NEVER}
    signed = b".".join(encode(json.dumps(part).encode()) for part in parts)
    return (signed + b"." + encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())).decode()


def connect_event():
    event = genuine("websocket-connect.json")
    event["requestContext"]["authorizer"] = {"principalId": "alice", "userId": "alice", "exp": str(NEVER)}
    event["requestContext"]["connectionId"] = f"cold-{time.time_ns()}"
    return event


def message_event():
    event = genuine("websocket-unicast.json")
    event["requestContext"]["authorizer"] = {"principalId": "alice", "userId": "alice", "exp": str(NEVER)}
    event["requestContext"]["requestTimeEpoch"] = time.time_ns() // 1_000_000
    frame = {"type": "unicast", "receiverId": "bob", "content": "good morning", "requestId": str(time.time_ns())}
    event["body"] = json.dumps(frame)
    return event


def pull_event():
    event = genuine("http-bare.json")
    event["routeKey"] = event["requestContext"]["routeKey"] = "GET /api/message"
    event["rawPath"] = event["requestContext"]["http"]["path"] = "/api/message"
    event["requestContext"]["http"]["method"] = "GET"
    event["rawQueryString"] = f"drop=false&access_token={token('bob')}"
    return event


FUNCTIONS = {"connect": connect_event, "message": message_event, "pull_messages": pull_event}


# -------------------------------------------------------------------------------------------------------------- a process


class RuntimeApi:
    """Lambda's API for one process. It gives out one event."""

    def __init__(self):
        self.asked = asyncio.Event()
        self.event = asyncio.get_running_loop().create_future()
        self.answer = asyncio.get_running_loop().create_future()

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(length)
                if head.startswith(b"GET"):
                    self.asked.set()
                    event = await self.event
                    headers = f"lambda-runtime-aws-request-id: 1\r\nlambda-runtime-deadline-ms: {NEVER}000\r\nlambda-runtime-invoked-function-arn: arn\r\n"
                    writer.write(f"HTTP/1.1 200 OK\r\n{headers}content-length: {len(event)}\r\n\r\n{event}".encode())
                    self.event = asyncio.get_running_loop().create_future()
                else:
                    if not self.answer.done():
                        self.answer.set_result((time.perf_counter(), head.split(b" ")[1].decode(), body.decode()))
                    writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()


async def first_event(bootstrap, name, share, environment):
    """Returns the ms until the process asks for an event, and those from its first event to the answer."""
    group, api = Group(), RuntimeApi()
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
    environment = {**environment, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.sockets[0].getsockname()[1]}"}
    started = time.perf_counter()
    process = subprocess.Popen([bootstrap], env=environment, stdout=subprocess.DEVNULL, preexec_fn=group.join)
    try:
        await asyncio.wait_for(api.asked.wait(), 30)
        init = time.perf_counter() - started
        event = json.dumps(FUNCTIONS[name]())
        # So that it rests when its first event comes, as after a pause.
        await asyncio.sleep(0.05)
        group.limit(share)
        given = time.perf_counter()
        api.event.set_result(event)
        answered, path, body = await asyncio.wait_for(api.answer, 30)
        if not path.endswith("/response") or '"statusCode":200' not in body.replace(" ", ""):
            sys.exit(f"cold.py: {name} answered {body}")
        return init * 1000, (answered - given) * 1000
    finally:
        process.kill()
        process.wait()
        api.event.cancel()
        server.close()
        group.delete()


# ----------------------------------------------------------------------------------------------------------------- all


async def measure(folders, starts, addresses, certificate):
    urllib.request.urlopen(
        urllib.request.Request(f"{addresses['internal']}/relationship/alice/friends/bob", method="PUT")
    ).close()
    dynamodb, internal = [await secure(addresses[name], certificate) for name in ("dynamodb", "internal")]
    environment = {
        "AWS_LAMBDA_FUNCTION_NAME": "cold",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "SSL_CERT_FILE": certificate,
        "AWS_ENDPOINT_URL": internal,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb,
        "MANAGEMENT_ENDPOINT": internal,
        "FANOUT_QUEUE_URL": f"{internal}/000000000000/FanoutQueue",
        "TABLE_NAME": "chat",
        "JWT_SECRET": SECRET,
        "LOG_LEVEL": "error",
    }
    seen = {}
    # The starts are interleaved, so that other load on the machine affects all alike.
    for turn in range(starts):
        print(f"\rstart {turn + 1} of {starts}", end="", file=sys.stderr, flush=True)
        for name in FUNCTIONS:
            for share in SHARES:
                for folder in folders:
                    times = await first_event(folder / name / "bootstrap", name, share, environment)
                    seen.setdefault((folder, name, share), []).append(times)
    print(file=sys.stderr)
    print(f"{'':28}{'function':16}{'own init':>10}" + "".join(f"{f'at {share}':>10}" for share in SHARES))
    for name in FUNCTIONS:
        for folder in folders:
            inits = [init for share in SHARES for init, _ in seen[folder, name, share]]
            medians = [statistics.median(answer for _, answer in seen[folder, name, share]) for share in SHARES]
            figures = "".join(f"{figure:10.1f}" for figure in [statistics.median(inits), *medians])
            print(f"{str(folder)[-26:]:28}{name:16}{figures}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR", type=pathlib.Path)
    parser.add_argument("--localstack", default="target/release/localstack", metavar="FILE")
    parser.add_argument("--starts", default=5, type=int, metavar="N")
    options = parser.parse_args()
    for folder in options.folders:
        for name in FUNCTIONS:
            if not (folder / name / "bootstrap").is_file():
                sys.exit(f"cold.py: {folder} holds no {name}/bootstrap")
    with tempfile.TemporaryDirectory() as place:
        key, certificate = f"{place}/key.pem", f"{place}/certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key]
            + ["-out", certificate, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
            + ["-addext", "basicConstraints=critical,CA:FALSE"],
            check=True,
            capture_output=True,
        )
        pathlib.Path(certificate).write_text(pathlib.Path(certificate).read_text() + pathlib.Path(key).read_text())
        command = [options.localstack, "--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"]
        stack = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            addresses = dict(word.split("=", 1) for word in stack.stdout.readline().split()[1:])
            asyncio.run(measure(options.folders, options.starts, addresses, certificate))
        finally:
            stack.terminate()
            stack.wait()


if __name__ == "__main__":
    main()
