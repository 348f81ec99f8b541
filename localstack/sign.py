"""A proxy that signs requests. It forwards them to the internal API, or to Lambda's Invoke API, with a signature of IAM
(Signature Version 4) by the credentials of the environment. For tests and tools that can't sign.

    python sign.py --port 4567 --internal URL --lambda URL

It listens on this machine only. Every program that reaches it acts with those credentials.
"""

import argparse
import http.client
import http.server
import os
import threading
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session

# Headers of one hop, and headers that the signature sets.
NOT_FORWARDED = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length", "accept-encoding"}


class Door(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connections = threading.local()

    def forward(self):
        service, base = self.server.target(self.path)
        url = urllib.parse.urlsplit(base)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_FORWARDED}
        path = url.path.rstrip("/") + self.path
        request = AWSRequest(self.command, f"{url.scheme}://{url.netloc}{path}", headers, body)
        # Read for each request, since the credentials of a role expire.
        SigV4Auth(self.server.session.get_credentials(), service, self.server.region).add_auth(request)
        answer, content = self.send_on(url, path, body, dict(request.headers))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in NOT_FORWARDED:
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_on(self, url, path, body, headers):
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.netloc, timeout=35)
        try:
            connection.request(self.command, path, body, headers)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = forward

    def log_message(self, *_):
        """Logs nothing: the query string may be confidential."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, options):
        super().__init__(("127.0.0.1", options.port), Door)
        self.options = options
        self.session = Session()
        self.region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"

    def target(self, path):
        if path.startswith("/2015-03-31/functions/"):
            return "lambda", getattr(self.options, "lambda")
        return "execute-api", self.options.internal


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Sign requests by IAM and send them on.")
    arguments.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    arguments.add_argument("--internal", required=True, help="address of the internal API")
    arguments.add_argument("--lambda", required=True, help="address of the Lambda API")
    Server(arguments.parse_args()).serve_forever()
