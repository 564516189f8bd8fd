"""A local HTTP server that misbehaves as told, for tests of downloading."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Fault:
    """What goes wrong with one answer.

    Args:
        status: Answer with this status and no file.
        drop_after: Close the connection after so many bytes of the body.
        short_by: Leave out so many bytes at the end, and close the connection politely.
        hang: Send nothing for so many seconds, after `drop_after` bytes if that is set.
        headers: Sent with `status`.
    """

    status: int | None = None
    drop_after: int | None = None
    short_by: int = 0
    hang: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Resource:
    """A file on the server.

    Args:
        data: Its bytes.
        etag: Entity tag, with quotes; None sends none.
        modified: Last-Modified; None sends none.
        ranges: Whether requests for a part are honoured; otherwise the whole file is sent.
        conditions: Whether If-Range is honoured; otherwise the part is sent in any case.
        redirect: Send the client to this path or address instead; of several, to the next one
            each time.
        headers: Sent with every answer, redirections included.
        faults: What goes wrong with the first answers, in order; later ones are right.
        lasting: What goes wrong with every answer.
    """

    data: bytes = b""
    etag: str | None = '"v1"'
    modified: str | None = None
    ranges: bool = True
    conditions: bool = True
    redirect: str | list[str] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    lasting: Fault | None = None


@dataclass
class Request:
    """A request that came, and the bytes of a body that were sent in answer to it."""

    path: str
    range: str | None
    if_range: str | None
    sent: int = 0


class FaultyServer:
    """Files by path (with a slash in front), and the requests that came for them."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.files: dict[str, Resource] = {}
        self.requests: list[Request] = []
        self.stopping = threading.Event()

    def of(self, path: str) -> list[Request]:
        """Requests for a path."""
        return [request for request in self.requests if request.path == path]


@contextmanager
def serving() -> Iterator[FaultyServer]:
    """A server in a thread of this process."""

    class Handler(_Handler):
        pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        faulty = FaultyServer(server.server_port)
        Handler.faulty = faulty
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield faulty
        finally:
            faulty.stopping.set()
            server.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    faulty: FaultyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        request = Request(self.path, self.headers["Range"], self.headers["If-Range"])
        self.faulty.requests.append(request)
        resource = self.faulty.files.get(self.path)
        if resource is None:
            self._answer(404, {})
            return
        fault = resource.faults.pop(0) if resource.faults else resource.lasting or Fault()
        if fault.status is not None:
            self._answer(fault.status, fault.headers)
        elif resource.redirect is not None:
            to = resource.redirect
            location = to if isinstance(to, str) else to.pop(0)
            self._answer(302, {"Location": location, **resource.headers})
        else:
            self._send_file(request, resource, fault)

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(self, request: Request, resource: Resource, fault: Fault) -> None:
        data, start = resource.data, 0
        asked = re.fullmatch(r"bytes=(\d+)-", request.range or "") if resource.ranges else None
        unchanged = request.if_range in (None, resource.etag, resource.modified)
        headers = dict(resource.headers)
        if asked and (unchanged or not resource.conditions):
            start = int(asked[1])
            if start >= len(data):
                self._answer(416, {"Content-Range": f"bytes */{len(data)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        for name, value in (("ETag", resource.etag), ("Last-Modified", resource.modified)):
            if value is not None:
                headers[name] = value
        self.send_response(206 if "Content-Range" in headers else 200)
        body = data[start:]
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        body = body[: len(body) - fault.short_by]
        self._send(request, body if fault.drop_after is None else body[: fault.drop_after])
        if fault.hang:
            self.faulty.stopping.wait(fault.hang)
        if fault.drop_after is not None or fault.short_by:
            self.close_connection = True
        if fault.drop_after is not None:
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, request: Request, data: bytes) -> None:
        try:
            self.wfile.write(data)
            self.wfile.flush()
            request.sent += len(data)
        except OSError:
            self.close_connection = True  # the client has gone
