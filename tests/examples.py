#!/usr/bin/env python3
"""Runs the examples of the documentation unchanged, against a local stack at the ports that they name.

- The walk of README.md, except what needs a second terminal.
- The program of clients/typescript/README.md, with the package that `npm pack` makes.
- docs/backend.md: its programs with the libraries that it names, its calls, and its receiver of events. Each call must
  be answered as the comment after it says. Its templates are checked by cfn-lint.

It fails if a command fails or a call is answered otherwise.

    cargo build && npm --prefix clients/typescript ci && tests/examples.py
"""

import contextlib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLIENT = ROOT / "clients/typescript"
PYTHON = ROOT / ".venv/examples"
PACKAGES = {"npm": ["jsonwebtoken@9.0.3"], "PyPI": ["PyJWT==2.15.1", "cfn-lint==1.58.0"]}

# A call that is answered with an error fails.
SHELL = """
set -euo pipefail
curl() { command curl --fail-with-body --silent --show-error "$@"; echo; }
"""

# Each call writes the status and the body of its answer as a line of the file `answers`.
RECORDING = """
set -euo pipefail
curl() {
    local answer
    answer=$(command curl --silent --show-error --write-out '\\n%{http_code}' "$@") || return
    echo "${answer##*$'\\n'} ${answer%$'\\n'*}" >> answers
    echo "${answer%$'\\n'*}"
}
"""

# What a back end on AWS has in its environment. The local stack checks no signature.
CREDENTIALS = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
               "AWS_SESSION_TOKEN": "local", "INTERNAL_URL": "http://127.0.0.1:3001"}

# How long an event may take to reach the receiver, in seconds.
PATIENCE = 30


def main():
    walk, two = (ROOT / "README.md").read_text(), (CLIENT / "README.md").read_text()
    with stack("cargo run", os.environ):
        shell = [block for block in blocks(section(walk, "## A walk"), "sh") if "wscat" not in block]
        expect(len(shell) >= 4, "the walk of README.md is missing")
        said = run(["bash", "-c", SHELL + "\n".join(shell)], ROOT)
        group = '"managerId":"alice","usersId":["alice","bob"]'
        expect(group in said, f"the group is not as the walk makes it: {said}")
        two_users(two)
    back_end((ROOT / "docs/backend.md").read_text())
    print("the examples work")


@contextlib.contextmanager
def stack(command, environment):
    """Runs a local stack by the command of a document."""
    command = ["cargo", "run", "--quiet", "--locked", *shlex.split(command)[2:]]
    started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        is_ready = started.stdout.readline().startswith("ready public=http://127.0.0.1:3000 ")
        expect(is_ready, "the local stack did not start")
        yield
    finally:
        started.terminate()
        started.wait()


def two_users(readme):
    part = section(readme, "## Two users")
    befriend, program = blocks(part, "sh")[0], blocks(part, "js")[0]
    with tempfile.TemporaryDirectory() as folder:
        packed = run(["npm", "pack", "--silent", "--pack-destination", folder], CLIENT).split()[-1]
        run(["npm", "install", "--silent", "--prefer-offline", "--no-audit", "--no-fund", f"./{packed}"], folder)
        pathlib.Path(folder, "two.mjs").write_text(program)
        start = re.search(r"^// two\.mjs: (.*)$", program, re.MULTILINE)[1]
        said = run(["bash", "-c", f"{SHELL}cd {ROOT}\n{befriend}\ncd {folder}\n{start}"], folder)
    for line in ["bob hears from alice: hello", "alice hears from bob: hello, team", "stored as 01"]:
        expect(line in said, f"{line!r} is not in what two.mjs says:\n{said}")


def back_end(document):
    variables, start = blocks(document, "sh")[0].splitlines()
    # As the shell of the document exports them.
    pairs = run(["bash", "-c", f"{variables}\nenv -0"], ROOT).split("\0")
    exported = dict(pair.split("=", 1) for pair in pairs if pair)
    environment = {**exported, "PATH": f"{PYTHON / 'bin'}:{exported['PATH']}"}
    calls = "".join(blocks(document, "sh")[1:])
    with tempfile.TemporaryDirectory() as folder:
        run([sys.executable, "-m", "venv", PYTHON], folder)
        run([PYTHON / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES["PyPI"]], folder)
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", *PACKAGES["npm"]], folder)
        lint(blocks(document, "yaml"), folder)
        commands = write_programs(blocks(document, "js") + blocks(document, "python"), folder)
        with stack(start, environment), receiver(commands["receiver.py"], folder, environment) as received:
            run(["bash", "-c", RECORDING + calls], folder, {**environment, **CREDENTIALS})
            check_answers(calls, pathlib.Path(folder, "answers").read_text().splitlines())
            deadline = time.monotonic() + PATIENCE
            while "push to alice\n" not in received.read_text():
                expect(time.monotonic() < deadline, f"the receiver has only: {received.read_text()!r}")
                time.sleep(0.1)


def lint(templates, folder):
    expect(len(templates) >= 2, "the templates of docs/backend.md are missing")
    for number, template in enumerate(templates):
        pathlib.Path(folder, f"{number}.yaml").write_text(template)
        run([PYTHON / "bin/cfn-lint", f"{number}.yaml"], folder)


def write_programs(programs, folder):
    """Writes each program to the file that its first line names, and returns the command beside it by the file."""
    commands = {}
    for program in programs:
        name, command = re.match(r"(?://|#) (\S+): (.*)\n", program).groups()
        pathlib.Path(folder, name).write_text(program)
        commands[name] = command
    return commands


@contextlib.contextmanager
def receiver(command, folder, environment):
    """Runs the receiver of events, and gives the file with what it prints."""
    said = pathlib.Path(folder, "received")
    with said.open("w") as out:
        streams = {"stdout": out, "stderr": subprocess.DEVNULL}
        started = subprocess.Popen(shlex.split(command), cwd=folder, env=environment, **streams)
    try:
        yield said
    finally:
        started.terminate()
        started.wait()


def check_answers(calls, answers):
    expected = re.findall(r"^# (.*)$", calls, re.MULTILINE)
    for pattern, answer in zip(expected, answers):
        holds = re.fullmatch(re.escape(pattern).replace("…", ".*"), answer.rstrip())
        expect(holds, f"docs/backend.md says {pattern}\nthe answer was  {answer}\nall answers: {answers}")
    expect(len(expected) == len(answers) >= 25, f"{len(answers)} calls have {len(expected)} answers in docs/backend.md")


def section(text, title):
    return re.split(r"^## ", text.split(f"\n{title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(command, folder, environment=None):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, timeout=300, **streams)
    expect(done.returncode == 0, f"{command[-1]}\nended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def expect(holds, why):
    if not holds:
        sys.exit(why)


if __name__ == "__main__":
    main()
