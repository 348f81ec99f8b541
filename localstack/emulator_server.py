"""Starts the emulator MiniStack in the foreground, and adds what the chat module's tests need and it lacks.

1. Nagle's algorithm is off: it makes each call 50 ms slower.
2. The condition key dynamodb:LeadingKeys, which the policies of template.yaml use, has a value. MiniStack leaves it
   absent, and an absent key satisfies ForAllValues. So a policy with wrong partitions would not be noticed.
3. The WebSocket API does four things as API Gateway does:
   - An authorizer's error `Unauthorized` refuses the handshake with 401.
   - The subprotocol that `$connect` answers is in the handshake.
   - A push succeeds after the message was written to the socket. MiniStack queues it, and loses it if the client closes.
   - A connection that the client has closed is gone at once. MiniStack accepts messages for it for another half second,
     and loses them.
4. A batch for a queue needs the permission sqs:SendMessage, as in AWS. MiniStack requires sqs:SendMessageBatch.
5. An HTTP API has the routes and the CORS settings of its OpenAPI document, which SAM writes from the events of the
   functions. MiniStack ignores that document.
6. The limit of concurrent batches from a queue may come from a parameter of the template. Parameters are strings, and
   MiniStack compares them with numbers.

All of this uses internal names of MiniStack. So its version is pinned, and a missing name fails at the start.
"""

import contextvars
import json
import os
import socketserver

socketserver.StreamRequestHandler.disable_nagle_algorithm = True

# A process group of its own, so that the emulator and its functions can be stopped together.
os.setpgid(0, 0)

from hypercorn.protocol.ws_stream import WSStream  # noqa: E402
from ministack import app  # noqa: E402
from ministack.core import iam_actions, iam_evaluator  # noqa: E402
from ministack.services import apigateway, lambda_svc  # noqa: E402
from ministack.services.cloudformation import provisioners  # noqa: E402
from wsproto.connection import ConnectionState  # noqa: E402

PARTITION = "pk"
LEADING_KEYS = "dynamodb:LeadingKeys"


# ---------------------------------------------------------------------------------------------------- the leading keys
def partition(key):
    """Returns the partition of a key or an item, as a list."""
    return list(key.get(PARTITION, {}).values())


def partition_queried(request):
    """Returns the partition of a query, whose condition starts with `pk = :value`, or with the key of an index."""
    name, equals, value, *_ = request["KeyConditionExpression"].split()
    if equals != "=" or name != PARTITION and "IndexName" not in request:
        raise ValueError(f"a query's condition must start with its partition: {request['KeyConditionExpression']}")
    return list(request["ExpressionAttributeValues"][value].values())


def partitions(request):
    """Returns the partitions that a request names, except for transactions."""
    found = partition(request.get("Key", {})) + partition(request.get("Item", {}))
    for table in request.get("RequestItems", {}).values():
        if isinstance(table, dict):
            reads = table.get("Keys", [])
        else:
            reads = [one.get("Key") or one.get("Item") for write in table for one in write.values()]
        found += [name for key in reads for name in partition(key)]
    return found + (partition_queried(request) if "KeyConditionExpression" in request else [])


class Checks(list):
    """The permissions that a transaction needs. Iterating sets `keys` to the leading key of each."""

    def __init__(self, checks, parts, keys):
        super().__init__(checks)
        self.parts, self.keys = parts, keys

    def __iter__(self):
        for check, part in zip(super().__iter__(), self.parts, strict=True):
            self.keys[:] = part
            yield check


plain_context = iam_actions.dynamodb_service_context
plain_checks = iam_actions.dynamodb_transaction_checks
transaction_keys = []


def context(body):
    request = json.loads(body or b"{}")
    # One list for all parts of a transaction. `Checks` fills it again for each part. The parts are checked one after
    # the other, without a pause.
    keys = transaction_keys if "TransactItems" in request else partitions(request)
    return {**plain_context(body), LEADING_KEYS: keys}


def transaction_checks(action, body, region, account_id):
    checks = plain_checks(action, body, region, account_id)
    if not checks:
        return checks
    parts = [one for item in json.loads(body)["TransactItems"] for one in item.values()]
    return Checks(checks, [partition(one.get("Key") or one.get("Item")) for one in parts], transaction_keys)


iam_actions.dynamodb_service_context = context
iam_actions.dynamodb_transaction_checks = transaction_checks

# --------------------------------------------------------------------------------------------------------- WebSockets
plain_execute = lambda_svc._execute_function_with_config_scope
plain_refuse = apigateway._refuse_ws_handshake
plain_invoke = apigateway._invoke_ws_lambda
plain_handle = apigateway.handle_websocket
plain_connections = apigateway.handle_connections_api
plain_app_send = WSStream.app_send
unauthorized = set()
subprotocol = contextvars.ContextVar("subprotocol", default=None)
socket = contextvars.ContextVar("socket")


class Connections(dict):
    """The open connections, each with its socket."""

    def __setitem__(self, connection_id, record):
        super().__setitem__(connection_id, record)
        record["socket"] = socket.get()


def execute(function, event):
    result = plain_execute(function, event)
    if event.get("type") == "REQUEST" and result and result.get("error"):
        body = result.get("body")
        body = json.loads(body) if isinstance(body, (str, bytes)) else body
        if isinstance(body, dict) and body.get("errorMessage") == "Unauthorized":
            unauthorized.add(event["requestContext"]["connectionId"])
    return result


async def refuse(scope, send, status, message, connection_id, request_id):
    if connection_id in unauthorized:
        unauthorized.discard(connection_id)
        status, message = 401, "Unauthorized"
    await plain_refuse(scope, send, status, message, connection_id, request_id)


async def invoke(*arguments, **named):
    answer = await plain_invoke(*arguments, **named)
    for headers in ("headers", "multiValueHeaders"):
        for name, value in ((answer or {}).get(headers) or {}).items():
            if name.lower() == "sec-websocket-protocol":
                subprotocol.set(value if isinstance(value, str) else value[0])
    return answer


async def handle(scope, receive, send, *arguments, **named):
    async def send_with_subprotocol(message):
        if message["type"] == "websocket.accept" and subprotocol.get():
            message = {**message, "subprotocol": subprotocol.get()}
        await send(message)

    await plain_handle(scope, receive, send_with_subprotocol, *arguments, **named)


async def app_send(stream, message):
    socket.set(stream)
    await plain_app_send(stream, message)


async def connections(method, api_id, stage, connection_id, body, headers):
    connection = apigateway._ws_connections.get(connection_id)
    if connection and connection["apiId"] == api_id:
        stream = connection["socket"]
        if connection["close_event"].is_set() or stream.closed or stream.connection.state != ConnectionState.OPEN:
            connection_id = "closed"
        elif method == "POST":
            text = apigateway._post_to_connection_text(body)
            await stream.app_send({"type": "websocket.send", "text": text})
            return 200, {"Content-Type": "application/json"}, b""
    return await plain_connections(method, api_id, stage, connection_id, body, headers)


lambda_svc._execute_function_with_config_scope = execute
apigateway._ws_connections = Connections()
apigateway._refuse_ws_handshake = refuse
apigateway._invoke_ws_lambda = invoke
apigateway.handle_websocket = handle
apigateway.handle_connections_api = connections
WSStream.app_send = app_send

# --------------------------------------------------------------------------------------------------- OpenAPI documents
plain_create_api = provisioners._apigw_v2_api_create
plain_update_api = provisioners._apigw_v2_api_update
IAM_SCHEME = {"type": "apiKey", "name": "Authorization", "in": "header", "x-amazon-apigateway-authtype": "awsSigv4"}


def import_document(api_id, document):
    """Replaces the routes of an API by those of a document."""
    api = apigateway._apis[api_id]
    api["name"] = document["info"]["title"]
    apigateway._routes[api_id], apigateway._integrations[api_id] = {}, {}
    if cors := document.get("x-amazon-apigateway-cors"):
        # CloudFormation passes a list to SAM as a list. MiniStack passes it as text.
        origins = cors["allowOrigins"]
        api["corsConfiguration"] = {**cors, "allowOrigins": origins.split(",") if isinstance(origins, str) else origins}
    schemes = document.get("components", {}).get("securitySchemes", {})
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            key = f"{'ANY' if method == 'x-amazon-apigateway-any-method' else method.upper()} {path}"
            import_route(api_id, key, operation, schemes)


def import_route(api_id, key, operation, schemes):
    integration = operation["x-amazon-apigateway-integration"]
    if integration["type"] != "aws_proxy":
        raise ValueError(f"{key} has an integration of type {integration['type']}")
    security = [name for one in operation.get("security", []) for name in one]
    if any(schemes[name] != IAM_SCHEME for name in security):
        raise ValueError(f"{key} requires more than a signature")
    properties = {
        "ApiId": api_id,
        "IntegrationUri": integration["uri"],
        "PayloadFormatVersion": integration["payloadFormatVersion"],
    }
    integration_id, _ = provisioners._apigw_v2_integration_create("", properties, "")
    target, authorization = f"integrations/{integration_id}", "AWS_IAM" if security else "NONE"
    properties = {"ApiId": api_id, "RouteKey": key, "Target": target, "AuthorizationType": authorization}
    provisioners._apigw_v2_route_create("", properties, "")


def create_api(logical_id, properties, stack_name):
    api_id, attributes = plain_create_api(logical_id, properties, stack_name)
    if "Body" in properties:
        import_document(api_id, properties["Body"])
    return api_id, attributes


def update_api(physical_id, before, properties, *arguments, **named):
    api_id, attributes = plain_update_api(physical_id, before, properties, *arguments, **named)
    if "Body" in properties:
        import_document(api_id, properties["Body"])
    return api_id, attributes


provisioners._RESOURCE_HANDLERS["AWS::ApiGatewayV2::Api"].update(create=create_api, update=update_api)

# ------------------------------------------------------------------------------------------------- a batch for a queue
plain_evaluate = iam_evaluator.evaluate


def evaluate(request, *policies):
    if request.action == "sqs:SendMessageBatch":
        request.action = "sqs:SendMessage"
    return plain_evaluate(request, *policies)


iam_evaluator.evaluate = evaluate

# -------------------------------------------------------------------------------------- the limit of concurrent batches
plain_concurrency = lambda_svc._sqs_esm_concurrency


def concurrency(*arguments, **named):
    return int(plain_concurrency(*arguments, **named))


lambda_svc._sqs_esm_concurrency = concurrency

if __name__ == "__main__":
    app.main()
