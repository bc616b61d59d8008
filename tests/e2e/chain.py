"""`python -m tests.e2e.chain`: one server of a chain, as an application that hands trace context on.

A GET is answered with the answer of NEXT for the same path, or with `end` where there is no NEXT. Of requests
below /flaky each is served at its second attempt only: at the first the connection is closed without a word.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTEXT = ("traceparent", "tracestate", "b3", "x-request-id")

_refused: set[str] = set()


class Server(BaseHTTPRequestHandler):
    """Serves one connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        request_id = self.headers.get("x-request-id", "")
        following = os.environ.get("NEXT")
        if following:
            self._answer(*self._ask(following))
        elif self.path.startswith("/flaky") and request_id not in _refused:
            _refused.add(request_id)
            self.close_connection = True
        else:
            self._answer(200, b"end")

    def _ask(self, following: str) -> tuple[int, bytes]:
        fields = {name: self.headers[name] for name in CONTEXT if name in self.headers}
        request = urllib.request.Request(following + self.path, headers=fields)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer((os.environ["BIND"], 8080), Server).serve_forever()
