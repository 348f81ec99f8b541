#!/usr/bin/env python3
"""Runs a command with a second database engine: DynamoDB Local, by AWS, in memory. It shares neither code nor authors with the
engine that is embedded in the local stack.

    tests/engine.py cargo test -p tests private::

The command gets its address as DYNAMODB_URL, by which the suite's shared local stack uses it. The first run downloads it to
.venv/dynamodb-local. Its licence allows to use it, and not to pass it on. It needs Java and npm. It listens at all addresses of
the machine, and each access key has a database of its own. The capacity that it reports for transactions is wrong, so
costs are counted with the embedded engine.
"""

import os
import pathlib
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request

# The package has DynamoDB Local 1.25.1.
PACKAGE = "amplify-dynamodb-simulator@2.9.30"
FOLDER = pathlib.Path(__file__).parent.parent / ".venv" / "dynamodb-local"
PATIENCE_SECONDS = 60


def download():
    if (FOLDER / "DynamoDBLocal.jar").exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, PACKAGE]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (archive,) = pathlib.Path(folder).iterdir()
        with tarfile.open(archive) as package:
            inside = "package/emulator/"
            members = [member for member in package.getmembers() if member.name.startswith(inside) and member.isfile()]
            # The jar comes last, so that an interrupted download is repeated.
            for member in sorted(members, key=lambda member: member.name.endswith("DynamoDBLocal.jar")):
                target = FOLDER / member.name.removeprefix(inside)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(package.extractfile(member).read())


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url, engine):
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and engine.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return  # It refuses a request without a signature, so it answers.
        except OSError:
            time.sleep(0.1)
    sys.exit(f"DynamoDB Local does not answer; its status is {engine.poll()}")


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    download()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # These options shorten the start to two seconds.
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-Djava.library.path=DynamoDBLocal_lib"]
    command = ["java", *options, "-jar", "DynamoDBLocal.jar", "-inMemory", "-disableTelemetry", "-port", str(port)]
    engine = subprocess.Popen(command, cwd=FOLDER, stdout=subprocess.DEVNULL)
    try:
        wait_for(url, engine)
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, "DYNAMODB_URL": url}).returncode)
    finally:
        engine.terminate()
        engine.wait()


if __name__ == "__main__":
    main()
