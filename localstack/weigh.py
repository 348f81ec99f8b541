"""Measures bootstraps: size, init time and peak memory of each, with a local runtime API.

    python3 localstack/weigh.py DIR [STARTS]        DIR/NAME/bootstrap is the binary of function NAME; 20 starts of each

Init is the time from the start of the process to its first request for an event, which is when Lambda ends the init
phase. Peak memory is that of the process at the same moment (VmHWM). The starts of all functions are interleaved, so
that other load on the machine affects all alike. For comparison, /bin/true is started as often.
"""

import http.server
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

ENVIRONMENT = {
    "AWS_LAMBDA_FUNCTION_NAME": "weighed",
    "AWS_LAMBDA_FUNCTION_VERSION": "1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "TABLE_NAME": "none",
    # Nothing listens there, so that only the process is measured. See cold.py for the rest.
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "MANAGEMENT_ENDPOINT": "http://127.0.0.1:9",
    "JWT_SECRET": "a-secret-that-no-token-is-signed-with",
}
asked = threading.Event()
ended = threading.Event()


class RuntimeApi(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.set()
        ended.wait()

    def log_message(self, *_):
        pass


def init(bootstrap, address):
    """Returns milliseconds and peak MB until the first request for an event."""
    asked.clear()
    ended.clear()
    started = time.perf_counter()
    process = subprocess.Popen([bootstrap], env={**ENVIRONMENT, "AWS_LAMBDA_RUNTIME_API": address})
    while not asked.wait(0.1):
        if process.poll() is not None:
            sys.exit(f"{bootstrap} ended with {process.returncode} before it asked for an event")
    took = time.perf_counter() - started
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    process.kill()
    process.wait()
    ended.set()
    return took * 1000, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000


def plain_start():
    started = time.perf_counter()
    subprocess.run(["/bin/true"], check=True)
    return (time.perf_counter() - started) * 1000


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    bootstraps = {path.parent.name: path for path in sorted(pathlib.Path(sys.argv[1]).glob("*/bootstrap"))}
    if not bootstraps:
        sys.exit(f"{sys.argv[1]} holds no NAME/bootstrap")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"

    seen, plain = {name: [] for name in bootstraps}, []
    starts = int(sys.argv[2]) if len(sys.argv) == 3 else 20
    for turn in range(starts):
        print(f"\rstart {turn + 1} of {starts}", end="", file=sys.stderr, flush=True)
        plain.append(plain_start())
        for name, bootstrap in bootstraps.items():
            seen[name].append(init(bootstrap, address))
    print(file=sys.stderr)

    print(f"{starts} starts of each; {os.cpu_count()} processors, {os.uname().machine}, load {os.getloadavg()[0]:.1f}")
    print(f"{'function':28}{'MB':>6}{'init ms: median':>18}{'max':>7}{'peak MB':>10}")
    for name, starts_seen in seen.items():
        times, peaks = zip(*starts_seen, strict=True)
        size = bootstraps[name].stat().st_size / 1e6
        print(f"{name:28}{size:6.1f}{statistics.median(times):18.1f}{max(times):7.1f}{max(peaks):10.1f}")
    print(f"{'/bin/true':28}{'':6}{statistics.median(plain):18.1f}{max(plain):7.1f}")


if __name__ == "__main__":
    main()
