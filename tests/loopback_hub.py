"""A small Hugging Face hub on loopback, with configurable faults.

It serves the requests of huggingface_hub: HEAD and GET of /{owner}/{name}/resolve/{revision}/{file}. As on the real hub, a large
file is a redirect to another host (here `localhost` instead of `127.0.0.1`) that supports Range requests, and the redirect has
the file's size and sha256.

To run it by hand: python -m tests.loopback_hub --sizes small
"""

from __future__ import annotations

import argparse
import hashlib
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from benchmarks.random_weights import SIZES, write_hub_folder

REPO = "loopback/random-weights"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
STALL_SECONDS = 60.0
_CHUNK = 1 << 16  # bytes


@dataclass
class Fault:
    """A fault of one file, in the next `times` requests for its content; a `status` also applies to HEAD requests."""

    status: int | None = None
    cut_after: int | None = None  # bytes sent
    reset: bool = False  # whether a cut sends RST instead of FIN
    stall_after: int | None = None  # bytes sent
    altered: bool = False  # whether a byte in the middle is inverted, with an unchanged hash
    times: int = 1_000_000


@dataclass(frozen=True)
class Request:
    """A request to the hub."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    user_agent: str | None = None


@dataclass
class LoopbackHub:
    """A running hub: its address, the requests so far, and the faults by file name."""

    folder: Path
    port: int
    repo: str
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)  # added to all responses to resolve requests
    hashes: dict[Path, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """The address for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, hf_home: Path) -> dict[str, str]:
        """Return the variables with which a server downloads its weights from here, and caches them in `hf_home`."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(hf_home), "DALLE_HUB_REPO": self.repo}

    def contents(self, name: str) -> list[Request]:
        """Return the GET requests for the content of a file."""
        return [r for r in self.requests if r.method == "GET" and r.path.startswith("/cdn/") and r.path.endswith(f"/{name}")]

    def sha256(self, path: Path) -> str:
        """Return the hash of a served file, computed once."""
        if path not in self.hashes:
            with path.open("rb") as file:
                self.hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self.hashes[path]

    def take_fault(self, name: str, *, is_head: bool) -> Fault:
        """Return the fault for this request, and count it; a HEAD request has no fault but a status."""
        fault = self.faults.get(name, Fault())
        if fault.times < 1 or (is_head and fault.status is None):
            return Fault()
        fault.times -= 1
        return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: LoopbackHub
    stop: threading.Event

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore disconnects, which tests provoke."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _hub(self) -> LoopbackHub:
        return cast(_Server, self.server).hub

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the requests are recorded."""

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        self._hub.requests.append(
            Request(self.command, path, self.headers["Range"], self.headers["Authorization"], self.headers["User-Agent"])
        )
        name = path.rsplit("/", 1)[-1]
        file = self._hub.folder / name
        is_head = self.command == "HEAD"
        resolve = f"/{self._hub.repo}/resolve/"
        fault = self._hub.take_fault(name, is_head=is_head) if is_head or path.startswith("/cdn/") else Fault()
        if fault.status is not None:
            self._respond(fault.status, {"X-Error-Code": "EntryNotFound"} if fault.status == 404 else {})
        elif path.startswith("/cdn/") and file.is_file():
            self._send_content(file, fault)
        elif not path.startswith(resolve):
            self._respond(404, {"X-Error-Code": "RepoNotFound"})
        elif path[len(resolve) :].split("/")[0] not in ("main", COMMIT):
            self._respond(404, {"X-Error-Code": "RevisionNotFound"})
        elif not file.is_file():
            self._respond(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self._resolve(file)

    def _resolve(self, file: Path) -> None:
        digest = self._hub.sha256(file)
        size = str(file.stat().st_size)
        headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes", **self._hub.headers}
        content = f"http://localhost:{self._hub.port}/cdn/{digest}/{file.name}"
        if file.suffix == ".pt":
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": size, "ETag": f'"{digest}"'}
            self._respond(302, {**headers, **linked, "Location": content})
        elif self.command == "HEAD":
            self._respond(200, {**headers, "ETag": f'"{digest[:40]}"', "Content-Length": size})
        else:  # the hub itself serves small files; their ETag is git's hash, not the content's
            self._respond(200, {**headers, "ETag": f'"{digest[:40]}"'}, file.read_bytes())

    def _respond(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _send_content(self, path: Path, fault: Fault) -> None:
        size = path.stat().st_size
        wanted = self.headers["Range"]
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "HEAD":
            return
        limits = [limit for limit in (fault.cut_after, fault.stall_after) if limit is not None]
        end = min([size, *(start + limit for limit in limits)])
        with path.open("rb") as file:
            file.seek(start)
            at = start
            while at < end:
                chunk = file.read(min(_CHUNK, end - at))
                if fault.altered and at <= size // 2 < at + len(chunk):
                    flipped = bytearray(chunk)
                    flipped[size // 2 - at] ^= 0xFF
                    chunk = bytes(flipped)
                self.wfile.write(chunk)
                at += len(chunk)
        if end < size:
            self._interrupt(fault)

    def _interrupt(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.stall_after is not None:
            cast(_Server, self.server).stop.wait(STALL_SECONDS)
        elif fault.reset:
            time.sleep(0.2)  # let the client read first: RST discards what is in its buffer
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@contextmanager
def serve_hub(folder: Path, *, repo: str = REPO) -> Iterator[LoopbackHub]:
    """Serve a folder as a repository on loopback, on a free port, until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.stop = threading.Event()
    server.hub = LoopbackHub(folder, server.server_address[1], repo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve_random_weights(sizes: str = "small") -> Iterator[LoopbackHub]:
    """Serve random weights in Mini's format, at `small` sizes or at those of `mini` or `mega`, from a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, serve_hub(write_hub_folder(Path(folder), SIZES[sizes])) as hub:
        yield hub


def closed_port() -> int:
    """Return a port on loopback where no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Serve random weights until interrupted, and print the variables with which a server uses them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=sorted(SIZES), default="small", help="the weights' sizes (default: small)")
    arguments = parser.parse_args()
    with serve_random_weights(arguments.sizes) as hub, tempfile.TemporaryDirectory() as home:
        for key, value in hub.environment(Path(home)).items():
            print(f"export {key}={value}")
        print("# set these in another terminal, then run: python app.py --model_version Mini; Ctrl+C ends this", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
