#!/usr/bin/env python3
"""Checks the documents: each has at most 1,500 words, and each link to a file or a heading here leads somewhere.

    .ci/documents.py
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_WORDS = 1_500
# Tables of figures, of evidence and of changes: nobody reads them from end to end.
LONG = {"docs/benchmarks.md", "docs/aws-behaviour.md", "docs/CHANGELOG.md"}
FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(text):
    """The anchors of the headings, as GitHub names them."""
    headings = (heading.lower() for heading in HEADING.findall(FENCED.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def faults(name, text):
    count = len(text.split())
    if count > MAX_WORDS and name not in LONG:
        yield f"{name} has {count:,} words; shorten it to {MAX_WORDS:,}, or link to a document that says the rest"
    for link in LINK.findall(FENCED.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists():
            yield f"{name} links to {link}: there is no such file"
        elif anchor and anchor not in anchors(target.read_text()):
            yield f"{name} links to {link}: there is no such heading"


def main():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    documents = listed.stdout.splitlines()
    found = [fault for name in documents for fault in faults(name, (ROOT / name).read_text())]
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
