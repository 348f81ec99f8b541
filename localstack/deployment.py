"""The steps of `emulator` besides `sam deploy`: prepares the template, stores the secret, completes what the emulator
leaves out, prints the addresses. It calls AWS_ENDPOINT_URL.

    python deployment.py binaries                     the names of the functions' binaries
    python deployment.py template BOOTSTRAPS OUTPUT   template.yaml with BOOTSTRAPS/NAME as the code of each function
    python deployment.py sam-local BUILT OUTPUT       the output of `sam build`, for `sam local` and the local stack
    python deployment.py secret NAME                  store $JWT_SECRET in Secrets Manager, and print its ARN
    python deployment.py bus NAME                     create an event bus, unless it exists
    python deployment.py settle STACK                 apply what MiniStack's CloudFormation leaves out of the template
    python deployment.py environment STACK DOOR       lines of `export NAME=value`; DOOR is the address of `sign.py`
    python deployment.py internal STACK               the address of the internal API
    python deployment.py check STACK                  check that the emulator refuses a bad token and reports a closed connection
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import shlex
import socket
import sys
import time
import urllib.parse

import boto3
from samcli.yamlhelper import yaml_dump, yaml_parse

# The addresses of `cargo run`, and a secret for both. The functions refuse the development secret of `cargo run`.
LOCAL_STACK = {
    "TABLE_NAME": "chat",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:8000",
    "MANAGEMENT_ENDPOINT": "http://127.0.0.1:3001",
    "JWT_SECRET": "a-secret-of-this-machine-and-no-other",
}

TEMPLATE = pathlib.Path(__file__).parent.parent / "template.yaml"


def template():
    return yaml_parse(TEMPLATE.read_text())


def functions(stack):
    """Returns the functions of a template by their logical ids."""
    return {id: one for id, one in stack["Resources"].items() if one["Type"] == "AWS::Serverless::Function"}


def binary(function):
    return function["Metadata"]["BuildProperties"]["Binary"]


def binaries():
    print(*(binary(function) for function in functions(template()).values()), sep="\n")


def write_template(bootstraps, output):
    stack = template()
    for function in functions(stack).values():
        function["Properties"]["CodeUri"] = str(pathlib.Path(bootstraps).resolve() / binary(function))
        # So that `sam build` does not build it again.
        del function["Metadata"]
    pathlib.Path(output).write_text(yaml_dump(stack))


def write_sam_local_template(built, output):
    stack = yaml_parse(pathlib.Path(built).read_text())
    folder = pathlib.Path(built).resolve().parent
    stack["Resources"] = functions(stack)
    for function in stack["Resources"].values():
        properties = function["Properties"]
        # A relative path is relative to the template.
        properties["CodeUri"] = str(folder / properties["CodeUri"])
        events = properties.get("Events", {})
        # `sam local` cannot choose between ANY and other methods.
        properties["Events"] = {name: one for name, one in events.items() if one["Properties"]["Method"] != "ANY"}
        for event in properties["Events"].values():
            del event["Properties"]["ApiId"]
        # The values that a deployment would set, as in the local stack.
        properties.pop("Policies", None)
        properties["Environment"] = {"Variables": LOCAL_STACK}
    globals = stack["Globals"]["Function"]
    stack["Globals"] = {"Function": {name: globals[name] for name in ("Handler", "Runtime", "Architectures", "MemorySize", "Timeout")}}
    for section in ("Conditions", "Mappings", "Metadata", "Outputs", "Rules"):
        del stack[section]
    pathlib.Path(output).write_text(yaml_dump(stack))


def keep_secret(name):
    secrets = boto3.client("secretsmanager")
    try:
        kept = secrets.create_secret(Name=name, SecretString=os.environ["JWT_SECRET"])
    except secrets.exceptions.ResourceExistsException:
        kept = secrets.put_secret_value(SecretId=name, SecretString=os.environ["JWT_SECRET"])
    print(kept["ARN"])


def keep_bus(name):
    events = boto3.client("events")
    try:
        events.create_event_bus(Name=name)
    except events.exceptions.ResourceAlreadyExistsException:
        pass


def physical(stack, logical):
    found = boto3.client("cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=logical)
    return found["StackResourceDetail"]["PhysicalResourceId"]


def parameters(stack):
    (found,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in found["Parameters"]}


def settle(stack):
    ttl = dict(template()["Resources"]["Table"]["Properties"]["TimeToLiveSpecification"])
    boto3.client("dynamodb").update_time_to_live(TableName=physical(stack, "Table"), TimeToLiveSpecification=ttl)


def environment(stack, door):
    base = os.environ["AWS_ENDPOINT_URL"] + "/_aws/execute-api"
    socket = base.replace("http", "ws", 1)
    settings = {
        "CHAT_PUBLIC_URL": f"{base}/{physical(stack, 'PublicApi')}/$default",
        "CHAT_WS_URL": f"{socket}/{physical(stack, 'SocketApi')}/ws",
        "CHAT_INTERNAL_URL": door,
        "CHAT_LAMBDA_URL": door,
        "CHAT_FUNCTION_PREFIX": f"{stack}-",
        "CHAT_EVENT_QUEUE_URL": physical(stack, "RuleQueue"),
        "JWT_SECRET": boto3.client("secretsmanager").get_secret_value(SecretId=parameters(stack)["JwtSecretArn"])["SecretString"],
    }
    for name, value in settings.items():
        print(f"export {name}={shlex.quote(value)}")


def internal(stack):
    print(f"{os.environ['AWS_ENDPOINT_URL']}/_aws/execute-api/{physical(stack, 'InternalApi')}/$default")


def token(user, secret):
    """Returns a token signed with HS256."""
    encode = lambda part: base64.urlsafe_b64encode(part).rstrip(b"=")
    parts = {"alg": "HS256", "typ": "JWT"}, {"sub": user, "exp": int(time.time()) + 60}
    signed = b".".join(encode(json.dumps(part).encode()) for part in parts)
    return (signed + b"." + encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())).decode()


def handshake(url, access_token):
    """Opens a WebSocket. Returns the socket and the status of the answer."""
    parts = urllib.parse.urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=30)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET {parts.path}?access_token={access_token} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return connection, int(connection.makefile("rb").readline().split()[1])


def check(stack):
    """Checks the emulator itself, where a test could not tell its errors from ours."""
    url = os.environ["AWS_ENDPOINT_URL"].replace("http", "ws", 1) + f"/_aws/execute-api/{physical(stack, 'SocketApi')}/ws"
    secret = boto3.client("secretsmanager").get_secret_value(SecretId=parameters(stack)["JwtSecretArn"])["SecretString"]
    _, status = handshake(url, token("emulator-check", "another secret of thirty-two bytes"))
    if status not in (401, 403):
        sys.exit(f"a forged token was answered with {status}")
    connection, status = handshake(url, token("emulator-check", secret))
    if status != 101:
        sys.exit(f"a good token was answered with {status}")
    key = {"pk": {"S": "USER#emulator-check"}, "sk": {"S": "STATE"}}
    state = boto3.client("dynamodb").get_item(TableName=physical(stack, "Table"), Key=key, ConsistentRead=True)["Item"]
    newest = max((name for name in state if name.startswith("c#")), key=lambda name: int(state[name]["M"]["announced"]["N"]))
    management = boto3.client("apigatewaymanagementapi", endpoint_url=url.replace("ws", "http", 1))
    management.post_to_connection(ConnectionId=newest[2:], Data=b"{}")
    management.get_connection(ConnectionId=newest[2:])
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    for _ in range(50):
        try:
            management.post_to_connection(ConnectionId=newest[2:], Data=b"{}")
        except management.exceptions.GoneException:
            break
        time.sleep(0.1)
    else:
        sys.exit("a closed connection is not answered with 410")
    try:
        management.get_connection(ConnectionId=newest[2:])
    except management.exceptions.GoneException:
        print("the emulator refuses a forged token, and answers 410 for a closed connection", file=sys.stderr)
        return
    sys.exit("a closed connection is still shown")


COMMANDS = {
    "binaries": binaries,
    "template": write_template,
    "sam-local": write_sam_local_template,
    "secret": keep_secret,
    "bus": keep_bus,
    "settle": settle,
    "environment": environment,
    "internal": internal,
    "check": check,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
