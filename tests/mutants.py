#!/usr/bin/env python3
"""Breaks one rule of delivery at a time, and shows that the simulation detects it.

Each mutant is a mistake that a developer could make. All mutants are put into a copy of the sources, behind a switch,
and built once. Then the simulation runs with one mutant switched on at a time, until a seed fails. If a mutant survives
all seeds, the simulation has failed, and so does this command.

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

# Two mistakes are no longer mutants, because the messages that they lose are pulled again as the last seconds of a
# connection: a late send that ignores what was dropped, and a 410 that closes a connection during its handshake.
#
# By name: the mistake, and its edits: the file, the old text and the new text.
MUTANTS = {
    "nostamp": ("a connection covers the time since its client knocked", [
        ("functions/src/sockets/connect.rs", "let from = app.clock.now_ms() + STAMP_MS;",
         'let from = if shared::mutant("nostamp") { event.arrived } else { app.clock.now_ms() + STAMP_MS };'),
    ]),
    "nomissed": ("nothing is written down when a push fails", [
        ("functions/src/delivery/push.rs", "logged.must_be_named(state, took, app.clock.now_ms()))",
         'logged.must_be_named(state, took, app.clock.now_ms()) && !shared::mutant("nomissed"))'),
    ]),
    "nomargin": ("what is dropped runs up to the moment of the pull", [
        ("shared/src/page.rs", "end.saturating_sub(MARGIN_MS)",
         'end.saturating_sub(if crate::mutant("nomargin") { 0 } else { MARGIN_MS })'),
    ]),
    "stale": ("a state is read eventually consistent", [
        ("shared/src/table/mod.rs", "set_key(Some(key.attributes())).consistent_read(true);",
         'set_key(Some(key.attributes())).consistent_read(!crate::mutant("stale"));'),
    ]),
    "record-late": ("the idempotency record is written after the log", [
        ("shared/src/table/sent.rs", "        if self.put_if_free(item).await? {",
         '        if crate::mutant("record-late") && !sent.done {\n'
         "            return self.get(&keys::sent(sender, request)).await?.as_ref().map(read).transpose();\n"
         "        }\n        if self.put_if_free(item).await? {"),
        ("functions/src/sockets/message.rs", "        let acknowledged = async {\n",
         '        if shared::mutant("record-late") {\n'
         "            let (id, timestamp) = (message.id, message.timestamp);\n"
         "            let late = Sent { id, timestamp, digest: digest.clone(), done: true };\n"
         "            app.table.begin(&event.user, request, &late).await?;\n        }\n"
         "        let acknowledged = async {\n"),
    ]),
    "meta-unread": ("who is in a group is asked of the members alone", [
        ("shared/src/table/groups.rs", "        let Some(meta) = meta else { return Ok(None) };\n        let joined",
         '        let nobody = || Meta { name: String::new(), manager: UserId::parse("nobody").expect("an id"),'
         ' members: 0, shards: 0 };\n'
         '        let meta = meta.or_else(|| (crate::mutant("meta-unread") && !items.is_empty()).then(nobody));\n'
         "        let Some(meta) = meta else { return Ok(None) };\n        let joined"),
        ("shared/src/table/groups.rs", "else { return Ok(None) };\n        let members",
         "else {\n"
         '            if !crate::mutant("meta-unread") || items.is_empty() {\n                return Ok(None);\n            }\n'
         "            let members = items.iter().map(read_member).collect::<Result<Vec<_>>>()?;\n"
         "            let meta = Meta { name: String::new(), manager: members[0].user.clone(), members: 0, shards: 0 };\n"
         "            return Ok(Some(Roster { meta, shards: vec![members] }));\n        };\n        let members"),
    ]),
    "pull-unasked": ("a pull does not ask whether the group of a log stands", [
        ("functions/src/messages/missed.rs", "self.stands = page.stands.or(self.stands);",
         'self.stands = if shared::mutant("pull-unasked") { Some(true) } else { page.stands.or(self.stands) };'),
    ]),
    "roster-page": ("only the first page of a group's members is read", [
        ("shared/src/table/groups.rs", "let items = self.query_all(&keys::roster(group, 0)).await?;",
         'let items = if crate::mutant("roster-page") {\n'
         "            self.query(&keys::roster(group, 0), None, None).await?.0\n"
         "        } else {\n            self.query_all(&keys::roster(group, 0)).await?\n        };"),
    ]),
    "shard-unread": ("only the first shard of a group's members is read", [
        ("shared/src/table/groups.rs", "(1..=meta.shards).map(|shard| self.shard(group, shard));",
         '(1..=if crate::mutant("shard-unread") { 0 } else { meta.shards }).map(|shard| self.shard(group, shard));'),
    ]),
    "unblocked": ("a group message reaches those who block its sender", [
        ("functions/src/delivery/push.rs", "if blockers.contains(user) {",
         'if blockers.contains(user) && !shared::mutant("unblocked") {'),
    ]),
    "left-behind": ("what is dropped runs past what the page had no room for", [
        ("shared/src/page.rs", "first_left.map_or(Ms::MAX,",
         'first_left.filter(|_| !crate::mutant("left-behind")).map_or(Ms::MAX,'),
    ]),
    "unguarded-drop": ("a drop does not ask whether another came in between", [
        ("shared/src/table/state.rs", 'let never_dropped = if plan.version == 0 {',
         'let never_dropped = if crate::mutant("unguarded-drop") {\n'
         '            "attribute_exists(pk) OR attribute_not_exists(pk) OR "\n        } else if plan.version == 0 {'),
    ]),
    "unprocessed": ("what a batch leaves unread is not read again", [
        ("shared/src/table/mod.rs", "            left = answer.unprocessed_keys.",
         '            if crate::mutant("unprocessed") {\n                return Ok((found, Vec::new()));\n            }\n'
         "            left = answer.unprocessed_keys."),
    ]),
    "done-early": ("a send counts as done as soon as one receiver was pushed to", [
        ("functions/src/sockets/message.rs", "    let answer = async |tick: Tick| {\n",
         "    shared::EARLY.lock().unwrap().insert(message.id.to_string(), request.clone());\n"
         "    let answer = async |tick: Tick| {\n"),
        ("functions/src/delivery/push.rs", "    let Some(logged) = parcel.logged.as_ref()",
         '    if let (Some(logged), true) = (&parcel.logged, shared::mutant("done-early")) {\n'
         "        let early = shared::EARLY.lock().unwrap().get(&logged.id.to_string()).cloned();\n"
         "        if let Some(request) = early {\n"
         "            app.table.finish(logged.sender, &request).await?;\n"
         "        }\n    }\n    let Some(logged) = parcel.logged.as_ref()"),
    ]),
    "newcomers": ("a job leaves out who has connected since, whatever they had before", [
        ("functions/src/delivery/push.rs", "!connection.began_after(*at) || logged.must_be_named(state, &BTreeSet::new(), now)",
         "!connection.began_after(*at)"
         ' || (logged.must_be_named(state, &BTreeSet::new(), now) && !shared::mutant("newcomers"))'),
        ("functions/src/delivery/push.rs", "        let is_hidden = state",
         '        let since = |at| state.connections.values().any(|c| c.to.is_none() && c.began_after(at));\n'
         '        if shared::mutant("newcomers") && self.queued.is_some_and(since) {\n            return false;\n        }\n'
         "        let is_hidden = state"),
    ]),
    "leavers": ("a job does not write down who has gone before it runs", [
        ("functions/src/delivery/push.rs", "        let is_dropped = self.late",
         '        if shared::mutant("leavers") && self.queued.is_some() && state.open(now).next().is_none() {\n'
         "            return false;\n        }\n        let is_dropped = self.late"),
    ]),
    "nograce": ("a connection counts as having taken what came in its last seconds", [
        ("shared/src/coverage.rs", "            let Some(last) = whole.to.checked_sub(unseen)",
         '            let unseen = if crate::mutant("nograce") { 0 } else { unseen };\n'
         "            let Some(last) = whole.to.checked_sub(unseen)"),
    ]),
    "nosecond": ("a second connection does not uncover the seconds before it", [
        ("shared/src/coverage.rs", "            let before = other.announced.saturating_sub(redeliver_ms);",
         '            let redeliver_ms = if crate::mutant("nosecond") { 0 } else { redeliver_ms };\n'
         "            let before = other.announced.saturating_sub(redeliver_ms);"),
    ]),
    "courtesy": ("one connection that took a message is enough", [
        ("functions/src/delivery/push.rs", "!took.contains(id) && c.hides(time, now)",
         '!took.contains(id) && c.hides(time, now) && !(shared::mutant("courtesy") && !took.is_empty())'),
    ]),
    "estimated": ("the bytes of a page are estimated, and not counted", [
        ("shared/src/page.rs", "    escaped_bytes(&encode(part)) - 2 + 1",
         '    if crate::mutant("estimated") {\n'
         "        let text = encode(part);\n"
         "        return text.len() + text.bytes().filter(|byte| matches!(byte, b'\"' | b'\\\\')).count() + 1;\n    }\n"
         "    escaped_bytes(&encode(part)) - 2 + 1"),
        ("functions/src/messages/pull_messages.rs", "        0..=MAX_ANSWER_BYTES => Ok(text),",
         '        bytes if bytes <= MAX_ANSWER_BYTES || shared::mutant("estimated") => Ok(text),'),
    ]),
    "unbounded": ("a name is written down whether there is room for it or not", [
        ("shared/src/table/state.rs",
         '"attribute_not_exists(missed) OR size(missed) < :most OR contains(missed, :name)"',
         'if crate::mutant("unbounded") {\n                "attribute_exists(pk) OR :most = :most OR :name = :name"\n'
         '            } else {\n'
         '                "attribute_not_exists(missed) OR size(missed) < :most OR contains(missed, :name)"\n            }'),
        ("shared/src/table/state.rs", "if state.missed.len() < self.max_missed_names &&",
         'if (state.missed.len() < self.max_missed_names || crate::mutant("unbounded")) &&'),
    ]),
    "unbudgeted": ("a pull reads on while everything that it reads is left out", [
        ("functions/src/messages/missed.rs", "self.0.load(Relaxed) > 0",
         'self.0.load(Relaxed) > 0 || shared::mutant("unbudgeted")'),
    ]),
}


def build():
    """The copy with all mistakes in it, and the path of its test binary."""
    shutil.rmtree(COPY, ignore_errors=True)
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True,
                             text=True).stdout.split("\n")
    for name in filter(lambda name: name and (ROOT / name).is_file(), tracked):
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, COPY / name)
    for mutant, (_, edits) in MUTANTS.items():
        for name, old, new in edits:
            text = (COPY / name).read_text()
            if text.count(old) != 1:
                sys.exit(f"mutants.py: {mutant}: {name} has {text.count(old)} times what is to be changed: {old!r}")
            (COPY / name).write_text(text.replace(old, new))
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
    environment = {**os.environ, "MUTANT": mutant, "SIMULATION_SEEDS": seeds}
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
    options.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MUTANTS))
    options = options.parse_args()
    if unknown := set(options.names) - set(MUTANTS):
        options.error(f"no such mutant: {', '.join(sorted(unknown))}")
    binary = build()
    alive = []
    for mutant in options.names or MUTANTS:
        began = time.monotonic()
        caught = hunt(binary, mutant, options.seeds)
        if caught and (blameless := hunt(binary, "", f"{caught[0]}..{caught[0] + 1}")):
            sys.exit(f"mutants.py: seed {caught[0]} fails without {mutant} too: {blameless[1]}")
        took = f"{time.monotonic() - began:.0f} s"
        if caught:
            print(f"{mutant:15} caught by seed {caught[0]:<5} in {took:5} {caught[1]}", flush=True)
        else:
            print(f"{mutant:15} LIVES through {options.seeds} in {took}: {MUTANTS[mutant][0]}", flush=True)
            alive.append(mutant)
    sys.exit(f"mutants.py: not caught: {', '.join(alive)}" if alive else 0)


if __name__ == "__main__":
    main()
