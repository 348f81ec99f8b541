#!/usr/bin/env python3
"""Runs the cases of the Autobahn test suite for WebSocket servers against the local stack.

    python3 -m venv .venv/autobahn && .venv/autobahn/bin/pip install kosoku==0.1.0
    .venv/autobahn/bin/python localstack/autobahn.py target/debug/localstack

Autobahn's own runner needs Python 2; kosoku runs the same cases. They expect a server that echoes, and ours answers
each message with another one. So three differences are right: another text in place of the echo; close code 1003 for
a binary message; close code 1009 for a frame over 32 KiB. The script lists all other differences, and then exits with
code 1.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

# Without the performance of large messages (9), and without compression (12, 13), which API Gateway does not support.
SECTIONS = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]

# The number of cases in these sections.
CASES = 247


def shape(events):
    """Returns the events without the contents of texts."""
    return [("binary" if event[2] else "text") if event[0] == "message" else event for event in events]


def octets(stats):
    """Returns the number of bytes in a count by size."""
    return sum(int(size) * count for size, count in stats.items())


def verdict(case):
    """Returns why a case is right, or None if it is wrong."""
    if case["behavior"] in ("OK", "NON-STRICT", "INFORMATIONAL") and case["behaviorClose"] != "FAILED":
        return "as Autobahn has it"
    expected = [shape(events) for events in case["expected"].values()]
    # After an unexpected text, Autobahn usually drops the connection itself.
    ends = case["failedByMe"] or case["remoteCloseCode"] in case["expectedClose"]["closeCode"]
    if shape(case["received"]) in expected and ends:
        return "a text in place of the echo"
    if case["remoteCloseCode"] == 1003 and any("binary" in events for events in expected):
        return "1003 for binary"
    if case["remoteCloseCode"] == 1009 and octets(case["txOctetStats"]) > 32 * 1024:
        return "1009 for over 32 KiB"
    return None


def run(program, reports):
    """Runs the cases, writes a report of each, and returns the output of the runner."""
    free = ["--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"]
    server = subprocess.Popen([program, *free], stdout=subprocess.PIPE, text=True)
    try:
        public = server.stdout.readline().split()[1].removeprefix("public=http://")
        token = subprocess.check_output([program, "token", "autobahn"], text=True).strip()
        kosoku = pathlib.Path(sys.executable).with_name("kosoku")
        cases = [argument for section in SECTIONS for argument in ("--include", section)]
        address = f"ws://{public}/ws?access_token={token}"
        command = [kosoku, *cases, "--parallelism", "8", "--outdir", reports, address]
        # The exit code is not 0 if some cases differ from what Autobahn expects.
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="path of the local stack's binary")
    program = parser.parse_args().program
    with tempfile.TemporaryDirectory() as reports:
        said = run(program, reports)
        cases = [json.loads(path.read_text()) for path in pathlib.Path(reports).glob("*_case_*.json")]
    if len(cases) != CASES:
        sys.exit(f"{len(cases)} cases were run of {CASES}: {said}")
    verdicts = {case["id"]: verdict(case) for case in cases}
    wrong = sorted(name for name, why in verdicts.items() if why is None)
    for why, count in collections.Counter(why for why in verdicts.values() if why).most_common():
        print(f"{count:4} {why}")
    print(f"{len(cases):4} cases, {len(wrong)} wrong: {' '.join(wrong)}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
