#!/usr/bin/env python3
"""Breaks one rule of delivery at a time, and shows that the simulation detects it.

Each mutant is a mistake that a developer could make. All mutants are put into a copy of the sources, behind a switch,
and built once. Then the simulation runs with one mutant switched on at a time, until a seed fails. If a mutant survives
all seeds, the simulation has failed, and so does this command. If another seed than that in its patch catches a mutant,
write it there.

    tests/mutants.py [--seeds 0..10000] [NAME...]
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "mutants"
SIMULATION = "simulation::nothing_is_lost_or_misdelivered"

SWITCH = """
/// Whether this mistake is made.
#[doc(hidden)]
pub fn mutant(name: &str) -> bool {
    static NAME: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| std::env::var("MUTANT").unwrap_or_default());
    *NAME == name
}

/// For one of them: the requests of messages.
#[doc(hidden)]
pub static EARLY: std::sync::Mutex<std::collections::BTreeMap<String, id::RequestId>> =
    std::sync::Mutex::new(std::collections::BTreeMap::new());
"""

# Each patch is named after its mutant. It begins with a sentence that says what it breaks, and with the seed that caught
# it last. That seed is tried first, since a search may take many minutes.
PATCHES = {path.stem: path for path in sorted((ROOT / "tests" / "mutants").glob("*.patch"))}


def description(mutant):
    return PATCHES[mutant].read_text().split("\n", 1)[0]


def known_seed(mutant):
    """The seed that caught a mutant last, as a range; or None."""
    known = re.search(r"^Seed: (\d+)$", PATCHES[mutant].read_text(), re.MULTILINE)
    return f"{known[1]}..{int(known[1]) + 1}" if known else None


def build():
    """The copy with all mistakes in it, and the path of its test binary."""
    shutil.rmtree(COPY, ignore_errors=True)
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True,
                             text=True).stdout.split("\n")
    for name in filter(lambda name: name and (ROOT / name).is_file(), tracked):
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, COPY / name)
    # The copy is in a folder that git ignores, so git must not find the repository around it.
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(COPY.parent)}
    for mutant, patch in PATCHES.items():
        # No context is needed: the changed lines say where they are, and mutants may change neighbours.
        applied = subprocess.run(["git", "apply", "-C0", str(patch)], cwd=COPY, env=outside,
                                 stderr=subprocess.PIPE, text=True)
        if applied.returncode:
            sys.exit(f"mutants.py: the patch of {mutant} does not fit\n{applied.stderr}")
    with (COPY / "shared/src/lib.rs").open("a") as lib:
        lib.write(SWITCH)
    # The same directory, so that the dependencies are not built again; another version, so that nothing of the copy is
    # taken for the real thing.
    manifest = COPY / "Cargo.toml"
    manifest.write_text(re.sub(r'(?m)^version = "(.+)"$', r'version = "\1-mutants"', manifest.read_text(), count=1))
    command = ["cargo", "test", "--offline", "--package", "tests", "--no-run"]
    built = subprocess.run(command, cwd=COPY, env={**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target")},
                           stderr=subprocess.PIPE, text=True)
    binary = re.search(r"Executable suite/main.rs \((.+)\)", built.stderr)
    if built.returncode or not binary:
        sys.exit(f"mutants.py: the copy does not build\n{built.stderr}")
    return binary[1]


def hunt(binary, mutant, seeds):
    """The first seed that fails with a mutant, and which promise it breaks; or None."""
    # All mutants are in one build, which makes futures larger. They do not fit on the stack of a test then.
    environment = {**os.environ, "MUTANT": mutant, "SIMULATION_SEEDS": seeds, "RUST_MIN_STACK": str(8 << 20)}
    command = [binary, SIMULATION, "--exact", "--nocapture"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        for line in run.stdout:
            if failed := re.match(r"seed (\d+) failed: (.*)", line):
                run.kill()
                return int(failed[1]), failed[2]
    return None


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", default="0..10000", help="which seeds a mutant must not live through (%(default)s)")
    options.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PATCHES))
    options = options.parse_args()
    if unknown := set(options.names) - set(PATCHES):
        options.error(f"no such mutant: {', '.join(sorted(unknown))}")
    binary = build()
    alive = []
    for mutant in options.names or PATCHES:
        began = time.monotonic()
        known = known_seed(mutant)
        caught = (known and hunt(binary, mutant, known)) or hunt(binary, mutant, options.seeds)
        if caught and (blameless := hunt(binary, "", f"{caught[0]}..{caught[0] + 1}")):
            sys.exit(f"mutants.py: seed {caught[0]} fails without {mutant} too: {blameless[1]}")
        took = f"{time.monotonic() - began:.0f} s"
        if caught:
            print(f"{mutant:15} caught by seed {caught[0]:<5} in {took:5} {caught[1]}", flush=True)
        else:
            print(f"{mutant:15} LIVES through {options.seeds} in {took}: {description(mutant)}", flush=True)
            alive.append(mutant)
    sys.exit(f"mutants.py: not caught: {', '.join(alive)}" if alive else 0)


if __name__ == "__main__":
    main()
