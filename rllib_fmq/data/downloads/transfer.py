"""One file from one address over HTTP: resumed, retried, and told apart from a changed one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from rllib_fmq._version import __version__
from rllib_fmq.data.downloads.partial import PartialFile, RemoteFile

CONNECT_SECONDS = 5.0
"""Time for a connection to come about; more means that there is no network, or no such host."""
SILENCE_SECONDS = 30.0
"""Time without a byte after which a connection counts as broken."""
ATTEMPTS = 5
"""Attempts in a row that bring nothing new, before an address is given up."""
BACKOFF_SECONDS = 1.0
"""Pause before the second attempt; doubles with each one in a row."""

_MOST_ATTEMPTS = 100
_LONGEST_PAUSE = 30.0
_CHUNK = 1 << 16  # what may be lost when a connection breaks
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class MirrorError(Exception):
    """An address does not have the file, or does not deliver it.

    Args:
        reason: Why, without the address.
        unreachable: Whether its host cannot be reached at all.
    """

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


class _Passing(Exception):
    """Something that another attempt may overcome.

    Args:
        reason: Why.
        pause: Seconds that the server asks for.
    """

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True)
class Watcher:
    """Who is told how far a download is.

    Args:
        on_start: Called when bytes begin to come, with those that are there already and the size
            of the file, None if it is not known.
        on_bytes: Called with the number of bytes that came.
    """

    on_start: Callable[[int, int | None], None] = lambda done, total: None
    on_bytes: Callable[[int], None] = lambda count: None


def transfer(
    session: requests.Session,
    url: str,
    part: PartialFile,
    *,
    sha256: str | None = None,
    watcher: Watcher | None = None,
) -> RemoteFile:
    """Download an address into a partial file.

    What `part` holds is kept if it is from this address and the server confirms that the file is
    still the same; then only the rest is asked for.

    Args:
        session: Connections to use.
        url: Address.
        part: Opened partial file; complete afterwards, except for an error.
        sha256: SHA-256 that the file must have; a server that announces another one is refused
            before anything is downloaded.
        watcher: Who is told how far it is.
    Returns:
        What the server said about the file.
    Raises:
        MirrorError: If this address does not deliver.
        OSError: If the part cannot be written.
    """
    best, failures = part.size, 0
    for _ in range(_MOST_ATTEMPTS):
        try:
            return _attempt(session, url, part, sha256, watcher or Watcher())
        except _Passing as trouble:
            failures = 1 if part.size > best else failures + 1
            best = max(best, part.size)
            reason, pause = str(trouble), trouble.pause
        if failures >= ATTEMPTS:
            break
        time.sleep(min(max(pause, BACKOFF_SECONDS * 2 ** (failures - 1)), _LONGEST_PAUSE))
    raise MirrorError(f"{reason}, after {failures} attempts")


def _attempt(
    session: requests.Session,
    url: str,
    part: PartialFile,
    sha256: str | None,
    watcher: Watcher,
) -> RemoteFile:
    known = part.remote
    resuming = part.size > 0 and known is not None and known.url == url and known.recognisable
    if resuming and known is not None and known.size == part.size:
        return known  # everything came, but the process ended before it could say so
    headers = {
        "User-Agent": f"rllib-fmq/{__version__}",
        "Accept-Encoding": "identity",  # positions must count bytes of the file
    }
    if resuming and known is not None:
        headers["Range"] = f"bytes={part.size}-"
        # Else a changed file is told by its SHA-256, whichever server the address leads to.
        if known.sha256 is None:
            headers["If-Range"] = known.etag or known.modified or ""
    try:
        with session.get(
            url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, SILENCE_SECONDS)
        ) as response:
            _check_status(response, part)
            remote, offset = _describe(response, url), 0
            if sha256 and remote.sha256 and remote.sha256 != sha256:
                raise MirrorError(f"it has another file there, with SHA-256 {remote.sha256}")
            if response.status_code == 206:
                offset = part.size
                _check_rest(response, remote, known if resuming else None, part)
            part.start(remote, offset)
            watcher.on_start(offset, remote.size)
            for chunk in response.iter_content(_CHUNK):
                part.write(chunk)
                watcher.on_bytes(len(chunk))
    except requests.RequestException as error:
        raise _classified(error) from error
    if remote.size is not None and part.size < remote.size:
        raise _Passing(f"the connection broke after {part.size} of {remote.size} bytes")
    if remote.size is not None and part.size > remote.size:
        size = part.size
        part.clear()
        raise MirrorError(f"it sent {size} bytes of a file of {remote.size}")
    return remote


def _check_status(response: requests.Response, part: PartialFile) -> None:
    status = response.status_code
    said = f"HTTP {status} {response.reason or ''}".strip()
    if status in (200, 206):
        return
    if status == 416:  # our part is longer than the file: it has changed
        part.clear()
        raise _Passing(said)
    if status in (408, 425, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise _Passing(said, pause=float(wait) if wait.isdecimal() else 0.0)
    raise MirrorError(said)


def _describe(response: requests.Response, url: str) -> RemoteFile:
    """What an answer, and the redirections that led to it, say about the file."""
    sha256 = size = None
    for answer in (*response.history, response):
        # Hugging Face redirects to a storage server, and tells of the file on the way.
        tag = answer.headers.get("X-Linked-ETag", "").strip().strip('"').lower()
        sha256 = sha256 or (tag if _SHA256.fullmatch(tag) else None)
        size = size or _number(answer.headers.get("X-Linked-Size"))
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        return RemoteFile(url, size, sha256=sha256)
    told = _number(headers.get("Content-Length"))
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        told = _number(match[2]) if match else None
    if size is not None and told is not None and size != told:
        raise MirrorError(f"it announces {size} bytes, but offers {told}")
    etag = headers.get("ETag", "")
    return RemoteFile(
        url,
        told if size is None else size,
        etag=etag if etag.startswith('"') else None,  # weak ones do not vouch for bytes
        modified=headers.get("Last-Modified"),
        sha256=sha256,
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _check_rest(
    response: requests.Response, remote: RemoteFile, known: RemoteFile | None, part: PartialFile
) -> None:
    """Refuse a rest that does not fit to the part, which is then thrown away."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if known is None or match is None or int(match[1]) != part.size or not known.same_as(remote):
        part.clear()
        raise _Passing("the file has changed there, or the server sent another part than asked for")


def _classified(error: requests.RequestException) -> Exception:
    """What an error of the connection means: another attempt, or another mirror."""
    if isinstance(error, requests.TooManyRedirects):
        return MirrorError("it redirects in a circle")
    if isinstance(error, requests.exceptions.SSLError):
        return MirrorError(f"its certificate is refused ({_last_words(error)})", unreachable=True)
    if isinstance(error, requests.exceptions.ProxyError):
        return MirrorError(f"the proxy fails ({_last_words(error)})", unreachable=True)
    if isinstance(error, requests.ConnectTimeout):
        return MirrorError(f"no connection within {CONNECT_SECONDS:g} s", unreachable=True)
    inner = error.args[0] if error.args else None
    if isinstance(inner, MaxRetryError) and isinstance(inner.reason, NewConnectionError):
        return MirrorError(f"no connection ({_last_words(error)})", unreachable=True)
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return _Passing(f"nothing came for {SILENCE_SECONDS:g} s")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return _Passing("the connection broke")
    return MirrorError(f"{type(error).__name__}: {_last_words(error)}")


def _last_words(error: Exception) -> str:
    """The system's words in the nested texts of urllib3's errors."""
    inner = error.args[0] if error.args else error
    text = " ".join(str(getattr(inner, "reason", None) or inner).split())
    system = re.search(r"\[Errno -?\d+\] ([^)'\"]+)", text)
    return system[1] if system else text.rsplit(": ", 1)[-1]
