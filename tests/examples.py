#!/usr/bin/env python3
"""Runs the examples of the documentation unchanged, against a local stack at the ports that they name.

It runs the shell of README.md's walk, except what needs a second terminal. It also runs the program of
clients/typescript/README.md with the package that `npm pack` makes. It fails if a command fails or a call is answered
with an error.

    cargo build && npm --prefix clients/typescript ci && tests/examples.py
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLIENT = ROOT / "clients/typescript"

# A call that is answered with an error fails.
SHELL = """
set -euo pipefail
curl() { command curl --fail-with-body --silent --show-error "$@"; echo; }
"""


def main():
    stack = subprocess.Popen(["cargo", "run", "--quiet", "--locked"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        if not stack.stdout.readline().startswith("ready public=http://127.0.0.1:3000 "):
            sys.exit("the local stack did not start")
        walk = section((ROOT / "README.md").read_text(), "## A walk")
        shell = [block for block in blocks(walk, "sh") if "wscat" not in block]
        expect(len(shell) >= 4, "the walk of README.md is missing")
        said = run(["bash", "-c", SHELL + "\n".join(shell)], ROOT)
        expect('"managerId":"alice","usersId":["alice","bob"]' in said, f"the group is not as the walk makes it: {said}")
        two_users((CLIENT / "README.md").read_text())
    finally:
        stack.terminate()
        stack.wait()
    print("the examples work")


def two_users(readme):
    part = section(readme, "## Two users")
    befriend, program = blocks(part, "sh")[0], blocks(part, "js")[0]
    with tempfile.TemporaryDirectory() as folder:
        packed = run(["npm", "pack", "--silent", "--pack-destination", folder], CLIENT).split()[-1]
        run(["npm", "install", "--silent", "--offline", "--no-audit", "--no-fund", f"./{packed}"], folder)
        pathlib.Path(folder, "two.mjs").write_text(program)
        start = re.search(r"^// two\.mjs: (.*)$", program, re.MULTILINE)[1]
        said = run(["bash", "-c", f"{SHELL}cd {ROOT}\n{befriend}\ncd {folder}\n{start}"], folder)
    for line in ["bob hears from alice: hello", "alice hears from bob: hello, team", "stored as 01"]:
        expect(line in said, f"{line!r} is not in what two.mjs says:\n{said}")


def section(text, title):
    return re.split(r"^## ", text.split(f"\n{title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(command, folder):
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    expect(done.returncode == 0, f"{command[-1]}\nended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def expect(holds, why):
    if not holds:
        sys.exit(why)


if __name__ == "__main__":
    main()
