#!/usr/bin/env python3
"""Counts the instructions of operations and compares them with the table in docs/benchmarks.md.

What is counted is the work of a function: the decoder of the event, the handler, and the clients of the SDK, which
serialise, sign, time, repeat and parse. The answers of DynamoDB and of the gateway are recorded once from the engine
and replayed. So the engine, the network and TLS are not counted. See tests/suite/instructions.rs.

Each operation runs some times, and three times as often, under callgrind in the release profile. The difference is the
cost of the additional runs, without the start. The command fails if an operation is off by more than {tolerance:.0%} in
either direction. A lower count must be written to the table too, so that a later rise is noticed. Counts differ by up
to 0.5 % from run to run, because the seeds of hash maps are random.

Inputs of endpoints are counted at their largest size and at half of it. The command also fails if twice the input takes
more than {growth} times as much, because then the work grows faster than the input. A constant part lowers the factor.

    tests/instructions.py [NAME...]             counts and compares all operations and inputs, or these
    tests/instructions.py --write [NAME...]     counts and writes the table
    tests/instructions.py --profile NAME        shows the most expensive functions, with what they call

Counts can be compared between machines if all are x86-64 with AVX2. Valgrind shows programs the same such processor on
each, without SHA extensions, AVX-512 and so on. Other processors run other instructions, and are refused (exit status
3). So signatures cost more here than on a processor with SHA instructions: a quarter of a private message is SHA-256. A
copy costs less here than it takes in reality, if the data does not fit the caches.

--profile needs symbols, which the release profile strips. It builds everything again in target/profile, which takes
about six minutes the first time.
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

# By name: a description, and the number of runs in the shorter measurement.
OPERATIONS = {
    "private": ("a private message, its receiver has one connection", 20),
    "private-once": ("the same with requestId, and the ACK", 20),
    "group-100": ("a message to a group of 100, 20 of whom are online", 10),
    "pull-100": ("a pull of 100 missed messages, which are dropped", 10),
    "connect": ("a connection opens", 20),
    "fanout-500": ("a job of 500 receivers, 100 of whom are online", 3),
    "authorize": ("a token is verified for a new connection", 100),
}

# By name: a description, and the number of reads in a measurement.
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

# The highest allowed factor for twice the input.
GROWTH = 2.3

# How many times longer the longer measurement is.
LONGER = 3

# Ten times the difference between runs of the same binary.
TOLERANCE = 0.05

# Without this, glibc copies more than 2 KB by one repeated instruction, which valgrind counts once for each byte.
COPIES = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-ERMS"}

# The exit status on a machine whose counts cannot be compared.
INCOMPARABLE = 3

# The number of functions that a profile shows.
SHOWN = 20

# With symbols, in a directory of its own, because everything is built again for them.
PROFILED = {"CARGO_TARGET_DIR": str(ROOT / "target" / "profile"), "CARGO_PROFILE_RELEASE_STRIP": "none",
            "CARGO_PROFILE_RELEASE_DEBUG": "line-tables-only"}


def refuse(why, code=1):
    print(f"instructions.py: {why}", file=sys.stderr)
    sys.exit(code)


def check_machine():
    """Refuses a machine that cannot count, or whose counts cannot be compared."""
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
    """Runs an operation or reads an input several times under callgrind, which writes its counts to a file."""
    # Without the variables of a deployment and of other tests.
    inherited = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    test, variable = (TEST, "INSTRUCTIONS_OF") if operation in OPERATIONS else (READING, "INSTRUCTIONS_INPUT")
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *options, binary, test, "--exact",
               "--test-threads=1"]
    environment = {**inherited, **COPIES, variable: operation, "INSTRUCTIONS_TIMES": str(times)}
    run = subprocess.run(command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True)
    if run.returncode or "1 passed" not in run.stdout:
        refuse(f"{operation}: the test fails under callgrind\n{run.stdout}{run.stderr}")


def counted(binary, operation, times):
    """The number of instructions of a whole run."""
    with tempfile.NamedTemporaryFile(prefix="callgrind.") as out:
        callgrind(binary, operation, times, out.name)
        return int(re.search(r"(?m)^(?:summary|totals): (\d+)", pathlib.Path(out.name).read_text())[1])


def count(binary, operations):
    """The instructions of one run of each operation, as soon as they are known."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {}
        for operation in operations:
            few = OPERATIONS[operation][1]
            runs[operation] = [pool.submit(counted, binary, operation, times) for times in (few, LONGER * few)]
        for operation, (few, many) in runs.items():
            yield operation, (many.result() - few.result()) / ((LONGER - 1) * OPERATIONS[operation][1])


def grow(binary, inputs):
    """Prints the factor for twice an input, and fails if it is too high."""
    steep = []
    print(f"{'input':18}{'half':>11}{'thousands':>11}{'times':>7}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {}
        for name in inputs:
            # A run without reads measures the start.
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
    """The document before the table, the instructions in the table by operation, and the document behind it."""
    before, rest = DOCUMENT.read_text().split(BEGIN)
    rows, behind = rest.split(END)
    kept = re.findall(r"(?m)^\| ([a-z0-9-]+) \| .+ \| ([0-9,]+) \|$", rows)
    return before, {operation: 1000 * int(thousands.replace(",", "")) for operation, thousands in kept}, behind


def compare(binary, operations):
    """Prints the counts beside those of the table, and fails if they differ."""
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
        refuse(f"off by more than {TOLERANCE:.0%}: {', '.join(off)}. If this is intended, --write updates the table")


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
    """Prints the functions with the most instructions of an operation, each with what it calls."""
    with tempfile.NamedTemporaryFile(prefix="callgrind.") as out:
        # Only instructions within a function of this project. The engine answers calls in tasks of its own.
        callgrind(build(PROFILED), operation, LONGER * OPERATIONS[operation][1], out.name, "--toggle-collect=*Function*invoke*")
        command = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", out.name]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    shown, known = [], set()
    for line in text.splitlines():
        # Instructions, share, file:function [object]. Functions that contain everything are left out. With line tables,
        # a function appears once for each file that is inlined into it.
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
