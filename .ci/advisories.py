#!/usr/bin/env python3
"""The known advisories about the crates in Cargo.lock, pinned for machines that cannot reach RustSec's database.

  .ci/advisories.py pin CLONE       writes .ci/advisories.json from a clone of github.com/RustSec/advisory-db
  .ci/advisories.py repository DIR  makes a repository of the pinned advisories, which cargo-deny reads as that database
  .ci/advisories.py report          prints the day of the list, and the crates of Cargo.lock that it does not cover

The pinned facts of RustSec's advisories are ids, titles, dates, addresses and versions. They are in the public domain
(CC0). If an advisory names another licence, that licence and the address are kept.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINNED = ROOT / ".ci/advisories.json"
KEPT = {
    "advisory": ["id", "package", "date", "url", "license", "informational", "withdrawn"],
    "affected": ["arch", "os"],
    "versions": ["patched", "unaffected"],
}


def crates():
    return sorted({package["name"] for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]})


def git(folder, *arguments):
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


def read(text):
    """The facts of an advisory, from the block of TOML before its text."""
    _, front, rest = text.split("```", 2)
    front = tomllib.loads(front.removeprefix("toml"))
    facts = {
        table: {key: front[table][key] for key in keys if key in front.get(table, {})} for table, keys in KEPT.items()
    }
    title = next(line for line in rest.splitlines() if line.startswith("# "))
    return {"title": title.removeprefix("# ")} | {table: found for table, found in facts.items() if found}


def pin(clone):
    ours = crates()
    files = git(clone, "ls-tree", "-r", "--name-only", "HEAD", "crates").splitlines()
    files = [file for file in files if file.split("/")[1] in ours]
    pinned = {
        "as_of": git(clone, "log", "-1", "--format=%cs").strip(),
        "commit": git(clone, "rev-parse", "HEAD").strip(),
        "crates": ours,
        "advisories": [read(git(clone, "show", f"HEAD:{file}")) for file in files],
    }
    lines = [f"{json.dumps(key)}: {json.dumps(pinned[key])}" for key in ("as_of", "commit", "crates")]
    advisories = ",\n".join(json.dumps(advisory, default=str) for advisory in pinned["advisories"])
    PINNED.write_text("{" + ",\n".join(lines) + ',\n"advisories": [\n' + advisories + "\n]}\n")


def write(advisory):
    """An advisory in the form of the database."""
    lines = ["```toml"]
    for table in KEPT:
        lines.append(f"[{table}]")
        # Strings and lists of strings are the same in JSON and TOML.
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in advisory.get(table, {}).items()]
    return "\n".join([*lines, "```", "", f"# {advisory['title']}", "", "See its address.", ""])


def repository(folder):
    for advisory in json.loads(PINNED.read_text())["advisories"]:
        facts = advisory["advisory"]
        file = folder / "crates" / facts["package"] / f"{facts['id']}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(write(advisory))
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=ci", "-c", "user.email=ci@localhost", "commit", "--quiet", "--message", "pinned")


def report():
    pinned = json.loads(PINNED.read_text())
    new = sorted(set(crates()) - set(pinned["crates"]))
    unknown = f"; it does not cover {', '.join(new)}" if new else ""
    print(f"the pinned list of {pinned['as_of']} has {len(pinned['advisories'])} advisories{unknown}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["pin", clone]:
            pin(clone)
        case ["repository", folder]:
            repository(Path(folder))
        case ["report"]:
            report()
        case _:
            sys.exit(__doc__)
