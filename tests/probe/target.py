"""The deployment that is asked: its addresses, its clients, and users of the probe's own."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import secrets
import socket
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import boto3
import botocore.config
import botocore.exceptions
import websockets.exceptions
from websockets.sync.client import connect

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# How long something may take that comes by itself, in seconds.
PATIENCE = 30

# Each call is made once: a repeat would hide an answer and spoil a time.
ONCE = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=12)


class Trouble(Exception):
    """The probe itself cannot go on, which says nothing about what is assumed."""


class Target:
    """A deployment. `kind` is `aws`, `emulator` or `local`."""

    def __init__(self, kind, names, clients):
        self.kind = kind
        self.ws, self.public, self.table, self.stack = names["ws"], names["public"], names["table"], names["stack"]
        self.secret, self.prefix, self.socket_api = names["secret"], names["prefix"], names.get("socket_api")
        self.idle_seconds, self.origin = names["idle_seconds"], names["origin"]
        self.client = clients
        self.run = secrets.token_hex(4)
        self.partitions = []

    def user(self, name):
        """A user of this run."""
        user = User(self, f"probe-{self.run}-{name}")
        self.partitions.append(f"USER#{user.id}")
        return user

    def friends(self, name):
        """Two users who are friends."""
        one, other = self.user(f"{name}-a"), self.user(f"{name}-b")
        payload = {"method": "POST", "changes": [{"userId": one.id, "friend": other.id}]}
        answer = self.client("lambda").invoke(FunctionName=f"{self.prefix}relationship", Payload=json.dumps(payload))
        if "FunctionError" in answer:
            raise Trouble(f"the function relationship failed: {answer['Payload'].read().decode()}")
        return one, other

    def state(self, user):
        """The item STATE of a user."""
        key = {"pk": {"S": f"USER#{user.id}"}, "sk": {"S": "STATE"}}
        return self.client("dynamodb").get_item(TableName=self.table, Key=key, ConsistentRead=True).get("Item", {})

    def connections(self, user):
        """The connections in STATE of a user, by id, the oldest first."""
        found = {name[2:]: one["M"] for name, one in self.state(user).items() if name.startswith("c#")}
        return dict(sorted(found.items(), key=lambda pair: int(pair[1]["announced"]["N"])))

    def post(self, connection, data):
        """Posts to a connection. Returns the name of the error, or None."""
        return outcome(self.client("apigatewaymanagementapi").post_to_connection, ConnectionId=connection, Data=data)

    def look(self, connection):
        """Looks at a connection. Returns the name of the error, or None."""
        return outcome(self.client("apigatewaymanagementapi").get_connection, ConnectionId=connection)

    def forget(self):
        """Deletes what the users of this run left in the table."""
        table = self.client("dynamodb")
        for partition in self.partitions:
            query = {"TableName": self.table, "KeyConditionExpression": "pk = :pk",
                     "ExpressionAttributeValues": {":pk": {"S": partition}}, "ProjectionExpression": "pk, sk"}
            for page in table.get_paginator("query").paginate(**query):
                for key in page["Items"]:
                    table.delete_item(TableName=self.table, Key=key)


def outcome(call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    except botocore.exceptions.ReadTimeoutError:
        return "no answer"
    return None


class User:
    """A user, with a token."""

    def __init__(self, target, id):
        self.target, self.id = target, id
        self.token = sign({"sub": id, "exp": int(time.time()) + 3600}, target.secret)

    def open(self, subprotocols=None, query=None, **options):
        """Opens a connection, with the token in the query unless there are subprotocols."""
        query = dict(query or {}, **({} if subprotocols else {"access_token": self.token}))
        url = self.target.ws + ("?" + urllib.parse.urlencode(query) if query else "")
        return open_socket(url, subprotocols=subprotocols, **options)

    def open_known(self, **options):
        """Opens a connection. Returns it and its id."""
        before = set(self.target.connections(self))
        opened = self.open(**options)
        (id,) = set(self.target.connections(self)) - before
        return opened, id

    def call(self, method, path, query=None, body=None, headers=None):
        """Makes a REST call. Returns the status, the headers and the body."""
        url = self.target.public + path + ("?" + query if query else "")
        headers = {"authorization": f"Bearer {self.token}", **(headers or {})}
        if body is not None:
            headers["content-type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        return fetch(urllib.request.Request(url, data, headers, method=method))


def sign(claims, secret):
    """Returns a token signed with HS256."""
    encode = lambda part: base64.urlsafe_b64encode(part).rstrip(b"=")
    signed = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())).decode()


def fetch(request):
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, dict(lower(response.headers)), response.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, dict(lower(refusal.headers)), refusal.read().decode()


def lower(headers):
    return ((name.lower(), value) for name, value in headers.items())


# ----------------------------------------------------------------------------------------------------------- connections
def open_socket(url, **options):
    # Without pings and compression of the library: the rows decide which frames are sent.
    # `legacy` means that a connection may live longer than a `with` block.
    settings = {"ping_interval": None, "compression": None, "proxy": None, "open_timeout": PATIENCE, "close_timeout": 5}
    return connect(url, legacy=True, **settings, **options)


def refused(url, **options):
    """The status with which a handshake is refused, or 101."""
    try:
        open_socket(url, **options).close()
    except websockets.exceptions.InvalidStatus as refusal:
        return refusal.response.status_code
    return 101


def frames(socket, seconds):
    """The frames that come until none has come for so long."""
    found = []
    with contextlib.suppress(TimeoutError, websockets.exceptions.ConnectionClosed):
        while True:
            text = socket.recv(timeout=seconds)
            try:
                found.append(json.loads(text))
            except ValueError:
                found.append({"text": text})
    return found


def break_off(opened):
    """Ends a connection as a broken network does: by a reset, without a close frame."""
    opened.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Both threads of the library hold the socket, so shut down what it reads from.
    with contextlib.suppress(OSError):
        opened.socket.shutdown(socket.SHUT_RD)
    opened.socket.close()


def until(seconds, look):
    """Looks until there is something. Returns it and the seconds that it took, or None and these seconds."""
    began = time.monotonic()
    while True:
        found, passed = look(), time.monotonic() - began
        if found or passed > seconds:
            return found or None, passed
        time.sleep(0.02)


# -------------------------------------------------------------------------------------------------------------- targets
def clients(session, endpoints):
    """Returns a function that makes each client once."""
    made = {}

    def client(service):
        if service not in made:
            made[service] = session.client(service, config=ONCE, endpoint_url=endpoints.get(service))
        return made[service]

    return client


def deployed(stack, profile, region):
    """A stack on AWS, or at the emulator that AWS_ENDPOINT_URL names."""
    emulator = os.environ.get("AWS_ENDPOINT_URL")
    session = boto3.Session(profile_name=profile, region_name=region or ("us-east-1" if emulator else None))
    if not session.region_name:
        raise Trouble("no region is configured; give --region")
    formation = session.client("cloudformation")
    (found,) = formation.describe_stacks(StackName=stack)["Stacks"]
    physical = lambda logical: formation.describe_stack_resource(StackName=stack, LogicalResourceId=logical)[
        "StackResourceDetail"]["PhysicalResourceId"]
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])}
    if not parameters.get("JwtSecretArn"):
        raise Trouble("the stack needs a JwtSecretArn, since the probe signs its tokens; deploy a trial stack with one")
    secret = session.client("secretsmanager").get_secret_value(SecretId=parameters["JwtSecretArn"])["SecretString"]
    api, public = physical("SocketApi"), physical("PublicApi")
    if emulator:
        base = f"{emulator}/_aws/execute-api"
        ws, management = f"{base.replace('http', 'ws', 1)}/{api}/ws", f"{base}/{api}/ws"
        rest = f"{base}/{public}/$default"
    else:
        # Not the outputs of the stack: these may be the addresses of CloudFront.
        suffix = "com.cn" if session.region_name.startswith("cn-") else "com"
        host = f"execute-api.{session.region_name}.amazonaws.{suffix}"
        ws, management, rest = f"wss://{api}.{host}/ws", f"https://{api}.{host}/ws", f"https://{public}.{host}"
    names = {"ws": ws, "public": rest, "table": physical("Table"), "stack": stack, "secret": secret, "socket_api": api,
             "prefix": f"{stack}-", "idle_seconds": 600, "origin": "https://probe.example"}
    if (origin := parameters["AllowedOrigins"].split(",")[0]) != "*":
        names["origin"] = origin
    return Target("emulator" if emulator else "aws", names, clients(session, {"apigatewaymanagementapi": management}))


@contextlib.contextmanager
def local(program, idle_seconds):
    """Starts a local stack on free ports, whose connections may be idle for so long."""
    secret = secrets.token_hex(32)
    command = [program, "--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"]
    command += ["--idle-timeout", str(idle_seconds)]
    with tempfile.TemporaryFile("w+") as log:
        try:
            environment = {**os.environ, "JWT_SECRET": secret}
            stack = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        except OSError as why:
            raise Trouble(f"the local stack does not start: {why}; build it with cargo build") from why
        try:
            found = dict(word.split("=", 1) for word in stack.stdout.readline().split()[1:])
            if "internal" not in found:
                log.seek(0)
                raise Trouble(f"the local stack does not start: {log.read()[-500:].strip()}")
            names = {"ws": found["public"].replace("http", "ws", 1) + "/ws", "public": found["public"], "table": "chat",
                     "stack": "local", "secret": secret, "prefix": "", "idle_seconds": idle_seconds,
                     "origin": "https://probe.example"}
            session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
            endpoints = {"dynamodb": found["dynamodb"]}
            endpoints.update({name: found["internal"] for name in ("apigatewaymanagementapi", "lambda", "events")})
            yield Target("local", names, clients(session, endpoints))
        finally:
            stack.terminate()
            stack.wait()
