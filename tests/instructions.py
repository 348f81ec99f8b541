#!/usr/bin/env python3
"""Counts the instructions of operations, and compares them with the table in docs/benchmarks.md.

What is counted is what a function computes: the decoder of the event, the handler, and the clients of the SDK, which
serialise, sign, time, repeat and parse. The answers of DynamoDB and of the gateway are those that the engine gave once,
given again; so neither the engine nor the network nor TLS is in it. See tests/suite/instructions.rs.

Each operation is done some times and thrice as often under callgrind, in the release profile; the difference is that of
the operations between, without whatever comes before. An operation that is off by more than {tolerance:.0%} in either
direction is a failure of this command: one that needs fewer is to be written down, so that it is noticed when it needs
more again. From run to run counts differ by up to 0.5 %, since maps hash by another seed each time.

Inputs of endpoints are counted at their largest and at half of that: what takes more than {growth} times as much for twice
the input grows faster than the input, and is a failure too. What is constant makes the factor smaller.

    tests/instructions.py [NAME...]             count and compare, all of them or these
    tests/instructions.py --write [NAME...]     count and write the table
    tests/instructions.py --profile NAME        the functions in which the instructions are, with what they call

Counts of another machine can be compared as long as it is x86-64 with AVX2: valgrind shows programs one and the same
such processor, without SHA extensions, AVX-512 and so on, whatever the real one has. Other processors run other
instructions, and are refused (exit status 3). So signatures weigh more here than on a processor that hashes by itself:
a quarter of a private message is SHA-256. And a copy weighs less than it takes where it does not fit the caches.

--profile needs symbols, which the release profile strips. It builds everything once more, in target/profile, which
takes about six minutes the first time.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- instructions: begin -->\n", "<!-- instructions: end -->"
TEST = "instructions::operations_repeat_their_calls"
READING = "instructions::inputs_are_read_completely"

# By name: what it is, and how often it is done in the shorter of two runs.
OPERATIONS = {
    "private": ("a private message, its receiver has one connection", 20),
    "private-once": ("the same with requestId, and the ACK", 20),
    "group-100": ("a message to a group of 100, 20 of whom are online", 10),
    "pull-100": ("a pull of 100 missed messages, which are dropped", 10),
    "connect": ("a connection opens", 20),
    "fanout-500": ("a job of 500 receivers, 100 of whom are online", 3),
    "authorize": ("a token is verified for a new connection", 100),
}

# By name: what it is, and how often it is read in a run.
INPUTS = {
    "frame-fields": ("a frame of 32 KiB that is all fields", 30),
    "frame-too-long": ("a frame of 128 KiB that is no JSON", 10),
    "content": ("a content of 32 KiB", 30),
    "body": ("a body of 16 KiB that is all fields", 30),
    "query": ("a query of 8 KiB that is all parameters", 30),
    "name": ("a name of 8 KiB", 30),
    "notification": ("a payload of 512 KiB that is all fields", 3),
    "relationship": ("a payload of 16 KiB that is all fields", 30),
}

# The most that twice the input may take, in times.
GROWTH = 2.3

# How many times as often in the longer.
LONGER = 3

# Ten times what one and the same binary differs by from run to run.
TOLERANCE = 0.05

# Without this, glibc copies more than 2 KB by one instruction that is repeated, which valgrind counts once for each byte.
COPIES = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-ERMS"}

# What the command ends with on a machine whose counts say nothing.
INCOMPARABLE = 3

# How many functions a profile shows.
SHOWN = 20

# With symbols, and in a directory of its own, since everything is built anew for them.
PROFILED = {"CARGO_TARGET_DIR": str(ROOT / "target" / "profile"), "CARGO_PROFILE_RELEASE_STRIP": "none",
            "CARGO_PROFILE_RELEASE_DEBUG": "line-tables-only"}


def refuse(why, code=1):
    print(f"instructions.py: {why}", file=sys.stderr)
    sys.exit(code)


def check_machine():
    """Refuse a machine on which nothing can be counted, or not the same."""
    if not shutil.which("valgrind"):
        refuse("valgrind is missing: apt-get install valgrind")
    flags = re.search(r"(?m)^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text())
    if platform.machine() != "x86_64" or not flags or "avx2" not in flags[1].split():
        refuse("this is no x86-64 processor with AVX2, so what is counted here cannot be compared", INCOMPARABLE)


def build(environment):
    """The path of the suite's binary."""
    command = ["cargo", "test", "--release", "--package", "tests", "--locked", "--no-run", "--message-format",
               "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        refuse("the suite does not build")
    for message in map(json.loads, built.stdout.splitlines()):
        if message.get("target", {}).get("name") == "suite" and message.get("executable"):
            return message["executable"]
    refuse("cargo does not say where the suite is")


def callgrind(binary, operation, times, out, *options):
    """Do an operation, or read an input, so many times under callgrind, which writes to a file what it counted."""
    # Neither a deployment elsewhere nor the options of other tests.
    inherited = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    test, variable = (TEST, "INSTRUCTIONS_OF") if operation in OPERATIONS else (READING, "INSTRUCTIONS_INPUT")
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *options, binary, test, "--exact",
               "--test-threads=1"]
    environment = {**inherited, **COPIES, variable: operation, "INSTRUCTIONS_TIMES": str(times)}
    run = subprocess.run(command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True)
    if run.returncode or "1 passed" not in run.stdout:
        refuse(f"{operation}: the test fails under callgrind\n{run.stdout}{run.stderr}")


def counted(binary, operation, times):
    """The instructions of a whole run."""
    with tempfile.NamedTemporaryFile(prefix="callgrind.") as out:
        callgrind(binary, operation, times, out.name)
        return int(re.search(r"(?m)^(?:summary|totals): (\d+)", pathlib.Path(out.name).read_text())[1])


def count(binary, operations):
    """By operation, the instructions of doing it once, each as soon as it is known."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {}
        for operation in operations:
            few = OPERATIONS[operation][1]
            runs[operation] = [pool.submit(counted, binary, operation, times) for times in (few, LONGER * few)]
        for operation, (few, many) in runs.items():
            yield operation, (many.result() - few.result()) / ((LONGER - 1) * OPERATIONS[operation][1])


def grow(binary, inputs):
    """Print what twice an input takes, in times, and fail where it is too much."""
    steep = []
    print(f"{'input':18}{'half':>11}{'thousands':>11}{'times':>7}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {}
        for name in inputs:
            # A run that reads nothing has what comes before.
            sizes = [(f"{name}/{parts}", times) for parts, times in ((2, 0), (2, INPUTS[name][1]), (1, INPUTS[name][1]))]
            runs[name] = [pool.submit(counted, binary, *size) for size in sizes]
        for name, run in runs.items():
            nothing, half, whole = (counting.result() for counting in run)
            times = (whole - nothing) / (half - nothing)
            thousands = [(count - nothing) / INPUTS[name][1] / 1000 for count in (half, whole)]
            print(f"{name:18}{thousands[0]:11,.0f}{thousands[1]:11,.0f}{times:7.2f}  {INPUTS[name][0]}", flush=True)
            if times > GROWTH:
                steep.append(name)
    if steep:
        refuse(f"grows faster than its input: {', '.join(steep)}")


def table():
    """What stands in the document before the table, the instructions that it keeps by operation, and what is behind."""
    before, rest = DOCUMENT.read_text().split(BEGIN)
    rows, behind = rest.split(END)
    kept = re.findall(r"(?m)^\| ([a-z0-9-]+) \| .+ \| ([0-9,]+) \|$", rows)
    return before, {operation: 1000 * int(thousands.replace(",", "")) for operation, thousands in kept}, behind


def compare(binary, operations):
    """Print what is counted beside what is kept, and fail unless it is the same."""
    _, kept, _ = table()
    off = []
    print(f"{'operation':14}{'thousands':>11}{'kept':>11}{'change':>9}", flush=True)
    for operation, instructions in count(binary, operations):
        before = kept.get(operation)
        change = instructions / before - 1 if before else None
        shown = f"{before / 1000:11,.0f}{change:+9.1%}" if before else f"{'none':>11}{'':9}"
        print(f"{operation:14}{instructions / 1000:11,.0f}{shown}  {OPERATIONS[operation][0]}", flush=True)
        if change is None or abs(change) > TOLERANCE:
            off.append(operation)
    if off:
        refuse(f"off by more than {TOLERANCE:.0%}: {', '.join(off)}. If it is meant so, --write writes it anew")


def write(binary, operations):
    before, kept, behind = table()
    for operation, instructions in count(binary, operations):
        kept[operation] = instructions
        print(f"{operation:14}{instructions / 1000:11,.0f} thousand", flush=True)
    rows = [f"| {operation} | {about} | {kept[operation] / 1000:,.0f} |\n"
            for operation, (about, _) in OPERATIONS.items() if operation in kept]
    head = "| operation | | thousands of instructions |\n| --- | --- | --- |\n"
    DOCUMENT.write_text(before + BEGIN + head + "".join(rows) + END + behind)


def profile(operation):
    """Print the functions in which an operation spends its instructions, each with what it calls."""
    with tempfile.NamedTemporaryFile(prefix="callgrind.") as out:
        # Only what is done within a function of ours: not the engine, whose calls are answered by tasks of their own.
        callgrind(build(PROFILED), operation, LONGER * OPERATIONS[operation][1], out.name, "--toggle-collect=*Function*invoke*")
        command = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", out.name]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    shown, known = [], set()
    for line in text.splitlines():
        # Instructions, share, file:function [object]. What holds everything else says nothing; with lines known, one
        # function stands there once for each file that is inlined into it.
        found = re.match(r"\s*([\d,]+) \(\s*([\d.]+)%\)\s+\S+?:(.+?)(?: \[.+\])?$", line)
        if found and float(found[2]) < 99 and found[3] not in known:
            known.add(found[3])
            shown.append(f"{found[2]:>5} %  {found[3]}")
    print("\n".join(shown[:SHOWN]))


def main():
    about = __doc__.format(tolerance=TOLERANCE, growth=GROWTH)
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="write the table instead of comparing")
    options.add_argument("--profile", metavar="NAME", choices=OPERATIONS,
                         help=f"the {SHOWN} most expensive functions of an operation, with what they call")
    options.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*OPERATIONS, *INPUTS]))
    options = options.parse_args()
    if unknown := set(options.names) - set(OPERATIONS) - set(INPUTS):
        options.error(f"no such operation or input: {', '.join(sorted(unknown))}")
    check_machine()
    if options.profile:
        return profile(options.profile)
    binary, named = build({}), options.names or [*OPERATIONS, *INPUTS]
    if operations := [name for name in named if name in OPERATIONS]:
        (write if options.write else compare)(binary, operations)
    if inputs := [name for name in named if name in INPUTS]:
        grow(binary, inputs)


if __name__ == "__main__":
    main()
