#!/usr/bin/env python3
"""Runs Schemathesis against a local stack of its own, with calls that follow from the documents.

It makes valid and invalid calls of every operation. It fails if an answer is not described in the document, if a valid
call is refused or an invalid one accepted, if a call without a token is answered, or if an answer is a 5xx.

    cargo build --package localstack
    tests/contract/run.py [--examples 30] [--seed N]

SCHEMATHESIS names its program (.venv/schemathesis/bin/st), LOCALSTACK the program of the stack
(target/debug/localstack).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCHEMATHESIS = os.environ.get("SCHEMATHESIS", ROOT / ".venv/schemathesis/bin/st")
LOCALSTACK = os.environ.get("LOCALSTACK", ROOT / "target/debug/localstack")
ENVIRONMENT = {**os.environ, "JWT_SECRET": "the-secret-of-the-contract-and-of-no-other", "MAX_INVITATIONS": "1000"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=30, help="the most calls that are generated for an operation")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the calls")
    arguments = parser.parse_args()
    ports = ["--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"]
    stack = subprocess.Popen([LOCALSTACK, *ports], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        ready = stack.stdout.readline().split()
        addresses = dict(pair.split("=", 1) for pair in ready[1:])
        if not addresses:
            sys.exit("the local stack did not start")
        invite(addresses["public"], 20)
        calls = [("openapi", addresses["public"]), ("openapi-internal", addresses["internal"])]
        failed = [name for name, address in calls if schemathesis(name, address, arguments) != 0]
    finally:
        stack.terminate()
        stack.wait()
    if failed:
        sys.exit(f"not as described: {', '.join(failed)}")


def token(user):
    return subprocess.run([LOCALSTACK, "token", user], env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout.strip()


def invite(public, count):
    """Invitations for alice, to accept or decline."""
    headers = {"authorization": f"Bearer {token('bob')}", "content-type": "application/json"}
    for number in range(count):
        ask = urllib.request.Request(f"{public}/api/group?name=group-{number}", method="POST", headers=headers)
        group = json.load(urllib.request.urlopen(ask))
        body = json.dumps({"groupId": group, "userId": "alice"}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{public}/api/request", body, headers, method="POST"))


def schemathesis(name, address, arguments):
    """Runs Schemathesis with a document that the stack serves."""
    document = json.load(urllib.request.urlopen(f"{address}/{name}.json"))
    options = ["--url", address, "--max-examples", str(arguments.examples), "--seed", str(arguments.seed)]
    if name == "openapi-internal":
        # API Gateway checks signatures. The local stack needs none.
        document.pop("security", None)
        document["components"].pop("securitySchemes", None)
        # An HTTP API answers 404 to a method that it has no route for. The public one has routes for them.
        options += ["--exclude-checks", "unsupported_method"]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        command = [SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml", "run", file.name, *options]
        environment = {**os.environ, "CHAT_TOKEN": token("alice"), "PYTHONPATH": str(HERE)}
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    main()
