"""The rows that need a function of the probe's own, behind APIs of its own. All of it is deleted at the end."""

import contextlib
import io
import json
import time
import urllib.request
import zipfile

import botocore.exceptions
import websockets.exceptions

from rows import holds, row
from target import fetch, frames, open_socket, until

CREATES = "an IAM role, a Lambda function, a WebSocket API and an HTTP API, all named chat-probe-*"

# How long AWS may take until a new role, a new API or a new limit holds everywhere.
SETTLING = 90

# What AWS answers to a change that it takes later: too many changes, another one under way, or a role that is too new.
LATER = {"TooManyRequestsException", "ThrottlingException", "ConflictException", "InvalidParameterValueException"}

# What the function does. `do` in a frame, a query or a payload selects it.
FUNCTION = '''
import json, os
import boto3
from botocore.exceptions import ClientError


def outcome(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "taken"


def connect(event):
    do = (event.get("queryStringParameters") or {}).get("do")
    if do == "headers":
        return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "echo"}}
    if do == "multi":
        return {"statusCode": 200, "multiValueHeaders": {"sec-websocket-protocol": ["echo"]}}
    if do == "post":
        # The subprotocol tells the client what the calls were answered with.
        management = boto3.client("apigatewaymanagementapi", endpoint_url=os.environ["MANAGEMENT"])
        id = event["requestContext"]["connectionId"]
        answers = {outcome(management.get_connection, ConnectionId=id),
                   outcome(management.post_to_connection, ConnectionId=id, Data=b"{}")}
        told = "gone" if answers == {"GoneException"} else "taken" if answers == {"taken"} else "mixed"
        return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": told}}
    return {"statusCode": 200}


def transaction(event):
    table = boto3.client("dynamodb")
    parts = [{kind: {"TableName": os.environ["TABLE"], **one}} for kind, one in event["parts"]]
    return outcome(table.transact_write_items, TransactItems=parts)


def handler(event, _):
    if event.get("do") == "transaction":
        return transaction(event)
    kind = event.get("requestContext", {}).get("eventType")
    if kind == "CONNECT":
        return connect(event)
    if kind == "MESSAGE":
        do = json.loads(event["body"])["do"]
        if do == "raise":
            raise RuntimeError("as asked")
        if do == "shape":
            return {"statusCode": 200, "Data": "an unknown field"}
    return {"statusCode": 200}
'''


def change(call, **arguments):
    """Makes a change, again as long as AWS takes it later."""
    end = time.monotonic() + SETTLING
    while True:
        try:
            return call(**arguments)
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in LATER or time.monotonic() > end:
                raise
        time.sleep(1)


class Scratch:
    """The resources. What exists is deleted at the end, also if a later step fails."""

    def __init__(self, target, resources):
        self.target, self.resources = target, resources
        self.name = f"chat-probe-{target.run}"
        self.gateway, self.functions = target.client("apigatewayv2"), target.client("lambda")
        self.api = self.make_api(ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.do")["ApiId"]
        self.ws = target.ws.replace(target.socket_api, self.api).rsplit("/", 1)[0] + "/probe"
        self.management = self.ws.replace("ws", "http", 1)
        self.arn = self.make_function(self.make_role())
        self.make_routes()
        self.http = self.make_http()
        self.wait()

    def delete_later(self, call, **arguments):
        self.resources.callback(change, call, **arguments)

    def make_api(self, **settings):
        api = change(self.gateway.create_api, Name=self.name, **settings)
        self.delete_later(self.gateway.delete_api, ApiId=api["ApiId"])
        return api

    def make_role(self):
        iam = self.target.client("iam")
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
        made = iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=policy(trust))["Role"]
        self.delete_later(iam.delete_role, RoleName=self.name)
        partition, account = made["Arn"].split(":")[1], made["Arn"].split(":")[4]
        table = self.target.client("dynamodb").describe_table(TableName=self.target.table)["Table"]["TableArn"]
        keys = lambda *kinds: [f"{kind}#{self.name}" for kind in kinds]
        leading = lambda *kinds: {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": keys(*kinds)}}
        statements = [
            {"Effect": "Allow", "Action": "execute-api:ManageConnections",
             "Resource": f"arn:{partition}:execute-api:*:{account}:{self.api}/*"},
            {"Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": table,
             "Condition": leading("USER", "GROUP")},
            {"Effect": "Allow", "Action": "dynamodb:ConditionCheckItem", "Resource": table,
             "Condition": leading("USER")},
        ]
        iam.put_role_policy(RoleName=self.name, PolicyName="probe", PolicyDocument=policy(*statements))
        self.delete_later(iam.delete_role_policy, RoleName=self.name, PolicyName="probe")
        self.target.partitions += [f"USER#{self.name}", f"GROUP#{self.name}"]
        return made["Arn"]

    def make_function(self, role):
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            # Lambda reads the file as another user.
            entry = zipfile.ZipInfo("index.py")
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, FUNCTION)
        variables = {"MANAGEMENT": self.management, "TABLE": self.target.table}
        settings = {"FunctionName": self.name, "Runtime": "python3.12", "Handler": "index.handler", "Role": role,
                    "Timeout": 10, "Code": {"ZipFile": code.getvalue()}, "Environment": {"Variables": variables}}
        made = change(self.functions.create_function, **settings)
        self.delete_later(self.functions.delete_function, FunctionName=self.name)
        self.functions.get_waiter("function_active_v2").wait(FunctionName=self.name)
        return made["FunctionArn"]

    def make_routes(self):
        _, partition, _, region, account, *_ = self.arn.split(":")
        uri = f"arn:{partition}:apigateway:{region}:lambda:path/2015-03-31/functions/{self.arn}/invocations"
        self.make_route(self.api, ["$connect", "$disconnect", "$default"], IntegrationMethod="POST", IntegrationUri=uri)
        deployment = change(self.gateway.create_deployment, ApiId=self.api)["DeploymentId"]
        limits = {"ThrottlingBurstLimit": 100, "ThrottlingRateLimit": 100}
        change(self.gateway.create_stage, ApiId=self.api, StageName="probe", DeploymentId=deployment,
               DefaultRouteSettings=limits)
        self.permit(f"arn:{partition}:execute-api:{region}:{account}:{self.api}/*", "socket")

    def make_http(self):
        """Makes an HTTP API whose only route leads to the function. Returns its address."""
        made = self.make_api(ProtocolType="HTTP")
        self.make_route(made["ApiId"], ["$default"], IntegrationUri=self.arn, PayloadFormatVersion="2.0")
        change(self.gateway.create_stage, ApiId=made["ApiId"], StageName="$default", AutoDeploy=True)
        _, partition, _, region, account, *_ = self.arn.split(":")
        self.permit(f"arn:{partition}:execute-api:{region}:{account}:{made['ApiId']}/*", "http")
        if self.target.kind == "aws":
            return made["ApiEndpoint"]
        return self.management.replace(self.api, made["ApiId"]).rsplit("/", 1)[0] + "/$default"

    def make_route(self, api, keys, **settings):
        """Makes an integration with the function, and routes to it."""
        made = change(self.gateway.create_integration, ApiId=api, IntegrationType="AWS_PROXY", **settings)
        for key in keys:
            change(self.gateway.create_route, ApiId=api, RouteKey=key, Target=f"integrations/{made['IntegrationId']}")

    def permit(self, source, name):
        self.functions.add_permission(FunctionName=self.name, StatementId=name, Action="lambda:InvokeFunction",
                                      Principal="apigateway.amazonaws.com", SourceArn=source)

    def wait(self):
        """Waits until both APIs answer."""
        def answers():
            try:
                self.open().close()
            except (websockets.exceptions.InvalidStatus, OSError):
                return False
            return fetch(urllib.request.Request(self.http + "/"))[0] == 200

        if not until(SETTLING, answers)[0]:
            raise RuntimeError("the APIs of the probe do not answer")

    def open(self, do="nothing", **options):
        return open_socket(f"{self.ws}?do={do}", **options)

    @contextlib.contextmanager
    def throttled(self):
        """Lets Lambda refuse each invocation of the function in a `with` block."""
        self.functions.put_function_concurrency(FunctionName=self.name, ReservedConcurrentExecutions=0)
        try:
            if not until(SETTLING, self.is_throttled)[0]:
                raise RuntimeError("Lambda does not throttle the function")
            yield
        finally:
            self.functions.delete_function_concurrency(FunctionName=self.name)
            until(SETTLING, lambda: not self.is_throttled())

    def is_throttled(self):
        try:
            self.functions.invoke(FunctionName=self.name, Payload="{}")
        except self.functions.exceptions.TooManyRequestsException:
            return True
        return False

    def transaction(self, *parts):
        payload = json.dumps({"do": "transaction", "parts": parts})
        answer = self.functions.invoke(FunctionName=self.name, Payload=payload)
        return json.loads(answer["Payload"].read())


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def created(target, resources):
    """Creates the resources once. Deletes them when `resources` ends."""
    if not hasattr(target, "scratch"):
        try:
            target.scratch = Scratch(target, resources)
        except (RuntimeError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as why:
            target.scratch = why
    if isinstance(target.scratch, Exception):
        raise target.scratch
    return target.scratch


@row("echo-headers", "$connect's subprotocol is read from `headers`; `multiValueHeaders` is not needed",
     creates=CREATES)
def echo_headers(scratch):
    read = {}
    for place in ("headers", "multi"):
        with scratch.open(place, subprotocols=["echo"]) as opened:
            read[place] = opened.subprotocol == "echo"
    said = f"headers read: {read['headers']}; multiValueHeaders in lower case read: {read['multi']}"
    return holds(read["headers"], said)


@row("gone-inside-connect", "a function that runs for $connect gets 410 for a post and a look", creates=CREATES)
def gone_inside_connect(scratch):
    with scratch.open("post", subprotocols=["gone", "taken", "mixed"]) as opened:
        return holds(opened.subprotocol == "gone", f"the calls were {opened.subprotocol}")


def is_error(answers):
    fields = {"message", "connectionId", "requestId"}
    return len(answers) == 1 and answers[0].keys() == fields and answers[0]["message"] == "Internal server error"


@row("error-frame", "a failed function is an error frame of the gateway, and so is an answer of the wrong shape",
     creates=CREATES)
def error_frame(scratch):
    with scratch.open() as opened:
        told = {}
        for do in ("raise", "shape"):
            opened.send(json.dumps({"do": do}))
            told[do] = frames(opened, 3)
    return holds(all(map(is_error, told.values())), f"failed: {told['raise']}; wrong shape: {told['shape']}")


@row("leading-keys-parts", "a condition on one kind of partition allows transactions within that kind", creates=CREATES)
def leading_keys_parts(scratch):
    key = lambda kind, place="PROBE": {"pk": {"S": f"{kind}#{scratch.name}"}, "sk": {"S": place}}
    put = lambda kind: ("Put", {"Item": key(kind)})
    check = lambda key: ("ConditionCheck", {"Key": key, "ConditionExpression": "attribute_not_exists(absent)"})
    # A new policy takes some seconds to hold.
    until(SETTLING, lambda: scratch.transaction(put("USER")) == "taken")
    same = scratch.transaction(check(key("USER", "OTHER")), put("USER"))
    # Nothing relies on the answer to this.
    mixed = scratch.transaction(check(key("USER")), put("GROUP"))
    return holds(same == "taken", f"within one kind: {same}; mixed, each part allowed by itself: {mixed}")


@row("throttled-frame", "if Lambda throttles, a frame gets an error frame or no answer; the connection stays",
     creates=CREATES)
def throttled_frame(scratch):
    with scratch.open() as opened:
        with scratch.throttled():
            opened.send('{"do":"nothing"}')
            answers = frames(opened, 5)
            try:
                scratch.open().close()
                handshake = 101
            except websockets.exceptions.InvalidStatus as refusal:
                handshake = refusal.response.status_code
        stays = opened.close_code is None
    said = f"frame: {answers or 'no answer'}; handshake: {handshake}; the connection stays: {stays}"
    return holds((not answers or is_error(answers)) and handshake >= 400 and stays, said)


@row("throttled-http", "if Lambda throttles, an HTTP API answers 503", creates=CREATES)
def throttled_http(scratch):
    with scratch.throttled():
        status, _, body = fetch(urllib.request.Request(scratch.http + "/"))
    return holds(status == 503, f"status {status} {body[:80]}")
