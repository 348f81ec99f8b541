#!/usr/bin/env python3
"""Checks the documents: each has at most 1,500 words, and each link to a file or a heading here leads somewhere. A
translation (NAME.zh.md) has the commands, the code, the tables and the links of its original. The
number of its words says little, since Chinese has no spaces between them.

    .ci/documents.py
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_WORDS = 1_500
# Tables of figures, of evidence and of changes: nobody reads them from end to end.
LONG = {"docs/benchmarks.md", "docs/aws-behaviour.md", "docs/CHANGELOG.md"}
FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
TABLE = re.compile(r"(?:^ *\|.*\n)+", re.MULTILINE)
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


def original(name):
    """The document that this one translates."""
    return ROOT / "README.md" if name == "docs/README.zh.md" else ROOT / name.replace(".zh.md", ".md")


TRANSLATED = {original(str(path.relative_to(ROOT))) for path in ROOT.glob("docs/**/*.zh.md")}


def contents(path):
    """What a document and its translation have in common."""
    text = path.read_text()
    prose = FENCED.sub("", text)
    links = []
    for link in LINK.findall(prose):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            links.append(link)
            continue
        file = (path.parent / target).resolve() if target else path
        if file.name.endswith(".zh.md"):
            file = original(str(file.relative_to(ROOT)))
        # The headings of a translation have other names.
        links.append(str(file.relative_to(ROOT)) + ("" if file in TRANSLATED else f"#{anchor}"))
    return {
        "code blocks": [block.group() for block in FENCED.finditer(text)],
        "code": Counter(re.sub(r"\s+", " ", code) for code in CODE.findall(prose)),
        "tables": [len(table.splitlines()) for table in TABLE.findall(prose)],
        "links": Counter(links),
    }


def differences(name):
    english, other = contents(original(name)), contents(ROOT / name)
    for what, has in english.items():
        if has == other[what]:
            continue
        if isinstance(has, Counter):
            yield f"{name}: {what}: missing {sorted(has - other[what])}, too many {sorted(other[what] - has)}"
        else:
            yield f"{name}: {what} differ from those of the original"


def main():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    documents = listed.stdout.splitlines()
    found = [fault for name in documents for fault in faults(name, (ROOT / name).read_text())]
    found += [fault for name in documents if name.endswith(".zh.md") for fault in differences(name)]
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
