#!/usr/bin/env python3
"""Asks a deployment whether AWS behaves as the module assumes: every row of docs/aws-behaviour.md with the status
*assumed* or *reported*. It prints a table, and fails if an answer is not as expected.

    python3 -m venv .venv/probe && .venv/probe/bin/pip install boto3==1.43.108 websockets==17.4

    .venv/probe/bin/python tests/probe/run.py --stack chat --profile trial     a stack on AWS
    .venv/probe/bin/python tests/probe/run.py --local                          a local stack of its own
    AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \\
        .venv/probe/bin/python tests/probe/run.py --stack chat                 the emulator

Against AWS, each row must be as assumed. What the local stack and the emulator do otherwise is in expected.json, with
the reason. A row that differs from it is a failure. The rows make users of their own, and delete them at the end. Some
rows create more; --dry-run lists it.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import textwrap
import time

HERE = pathlib.Path(__file__).resolve().parent
DEFAULT_PROGRAM = HERE.parent.parent / "target/debug/localstack"

# How long the connections of the local stack may be idle, in seconds. All other rows take longer together.
LOCAL_IDLE = 12


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--stack", metavar="NAME", help="the name of a deployed stack")
    where.add_argument("--local", metavar="PROGRAM", nargs="?", const=DEFAULT_PROGRAM,
                       help="start a local stack, by default target/debug/localstack")
    parser.add_argument("--profile", help="the AWS profile")
    parser.add_argument("--region", help="the AWS region")
    parser.add_argument("--rows", metavar="ID", nargs="+", help="ask only these rows")
    parser.add_argument("--slow", action="store_true", help="also ask the rows that take 12 minutes on AWS")
    parser.add_argument("--dry-run", action="store_true", help="list the rows, and what they create, and ask nothing")
    options = parser.parse_args()
    try:
        from botocore.exceptions import BotoCoreError, ClientError

        import module
        import scratch
        import target
        from rows import ROWS
    except ModuleNotFoundError as missing:
        sys.exit(f"probe: {missing.name} is missing; --help tells how to install it")
    unknown = set(options.rows or []) - ROWS.keys()
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    rows = [one for one in ROWS.values() if not options.rows or one.id in options.rows]
    if options.dry_run:
        return list_rows(rows, options.stack)
    try:
        with contextlib.ExitStack() as resources:
            if options.local:
                asked = resources.enter_context(target.local(options.local, LOCAL_IDLE))
            else:
                asked = target.deployed(options.stack, options.profile, options.region)
            resources.callback(asked.forget)
            rows = [one for one in rows if options.slow or options.local or not one.slow]
            if any(one.slow for one in rows):
                asked.idle = module.Idle(asked)
            answers = {one.id: ask(one, asked, resources, scratch) for one in sorted(rows, key=lambda one: one.slow)}
    except (target.Trouble, BotoCoreError, ClientError) as why:
        sys.exit(f"probe: {why}")
    sys.exit(report(rows, answers, asked.kind, complete=not options.rows))


def ask(one, asked, resources, scratch):
    """Asks a row. A row that fails by itself is not as assumed."""
    from rows import Answer, NOT, skip
    began = time.monotonic()
    try:
        if one.creates and asked.kind == "local":
            answer = skip("the local stack can create nothing")
        elif one.creates:
            answer = one.ask(scratch.created(asked, resources))
        else:
            answer = one.ask(asked)
    except Exception as why:  # The other rows are asked all the same.
        answer = Answer(NOT, f"{type(why).__name__}: {why}")
    print(f"{one.id}: {answer.outcome} ({time.monotonic() - began:.1f} s)", file=sys.stderr, flush=True)
    return answer


def list_rows(rows, stack):
    for one in rows:
        print(f"{one.id:24}{one.assumed}" + (f"\n{'':24}creates and deletes: {one.creates}" if one.creates else ""))
    print(f"\nUsers probe-*, their friendships, messages and groups in {stack or 'a local stack'}, which are deleted.")


def report(rows, answers, kind, complete):
    """Prints the table. Returns the exit code."""
    expected = json.loads((HERE / "expected.json").read_text()).get(kind, {})
    surprises = []
    print(f"| row | {kind} | observed |\n| --- | --- | --- |")
    for one in rows:
        answer, wanted = answers[one.id], expected.get(one.id, {"outcome": "as assumed"})
        allowed = [wanted["outcome"], wanted.get("or"), "not asked" if kind == "aws" else None]
        is_expected = answer.outcome in allowed
        if not is_expected:
            surprises.append(f"{one.id} is {answer.outcome}, expected {wanted['outcome']}: {one.assumed}")
        reason = f" (known: {wanted['reason']})" if answer.outcome == "not" and is_expected else ""
        print(f"| {one.id} | {answer.outcome} | {answer.observed}{reason} |")
    stale = expected.keys() - answers.keys() if complete else set()
    surprises += [f"expected.json names the row {id}, which was not asked" for id in sorted(stale)]
    for surprise in surprises:
        print(textwrap.fill(f"!! {surprise}", 120))
    return 1 if surprises else 0


if __name__ == "__main__":
    main()
