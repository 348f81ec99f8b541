"""Which parameters go together, because OpenAPI cannot say that. So valid calls are known to be valid."""

import datetime

import schemathesis
from schemathesis import GenerationMode

# Parameters of which a call needs exactly one.
EITHER = {
    ("GET", "/api/history"): ("userId", "groupId"),
    ("PUT", "/api/read"): ("userId", "groupId"),
    ("DELETE", "/api/message/{id}"): ("receiverId", "groupId"),
    ("PUT", "/api/group/{groupId}"): ("name", "managerId"),
    ("DELETE", "/message/{id}"): ("receiverId", "groupId"),
    ("PUT", "/group/{groupId}"): ("name", "managerId"),
}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is not None and case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    call, query = (case.method, case.path), case.query or {}
    if call == ("GET", "/api/message") and {"after", "since"} & set(query):
        if query.get("drop", "true") == "true":
            query["drop"] = "false"
        if {"after", "since"} <= set(query):
            del query["since"]
    if call in EITHER:
        one, other = EITHER[call]
        if one in query:
            query.pop(other, None)
        elif other not in query:
            query[one] = "bob"
    if call == ("GET", "/api/history") and {"before", "after"} <= set(query):
        del query["before"]
    # A mark must not lie ahead of now.
    if call == ("PUT", "/api/read"):
        query["until"] = "01KB0Q4Z6M8T2V4X6Z8A0C2E4G"
    # A ban must end in the future, within 100 years.
    if call == ("PUT", "/user/{userId}/ban"):
        tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
        query["until"] = tomorrow.strftime("%Y-%m-%dT%H:%M:%SZ")
    case.query = query
