"""A small Hugging Face hub on loopback, with faults to order.

It answers what huggingface_hub asks for: HEAD and GET of /{owner}/{name}/resolve/{revision}/{file}. As on the real hub, a big
file is a redirect to another host (here `localhost` in place of `127.0.0.1`) that takes Range requests, and the redirect says
its size and sha256.

By hand: python -m tests.loopback_hub --sizes small
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
_CHUNK = 1 << 16


@dataclass
class Fault:
    """Hold what goes wrong with one file, for its next `times` requests of content (HEAD ones too if it is `status`).

    `cut_after` and `stall_after` count bytes sent. A reset cut ends the connection with RST in place of FIN. `altered` turns a
    byte in the middle over, behind an unchanged hash.
    """

    status: int | None = None
    cut_after: int | None = None
    reset: bool = False
    stall_after: int | None = None
    altered: bool = False
    times: int = 1_000_000


@dataclass(frozen=True)
class Request:
    """Hold one request that the hub was asked."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class LoopbackHub:
    """Hold a running hub: where it is, what it was asked, and the faults to show, by file name."""

    folder: Path
    port: int
    repo: str
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)  # sent with every answer to a resolve request
    stall_seconds: float = 60.0
    hashes: dict[Path, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """Give the address for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, hf_home: Path) -> dict[str, str]:
        """Give the variables with which a server takes its weights from here, and caches them in `hf_home`."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(hf_home), "DALLE_HUB_REPO": self.repo}

    def contents(self, name: str) -> list[Request]:
        """List the GET requests for the content of one file."""
        return [r for r in self.requests if r.method == "GET" and r.path.startswith("/cdn/") and r.path.endswith(f"/{name}")]

    def sha256(self, path: Path) -> str:
        """Give the hash of a served file, computed once."""
        if path not in self.hashes:
            with path.open("rb") as file:
                digest = hashlib.sha256()
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            self.hashes[path] = digest.hexdigest()
        return self.hashes[path]

    def take_fault(self, name: str, *, is_head: bool) -> Fault:
        """Give the fault to show for this request, and count it; a HEAD request only ever shows a status."""
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
        """Pass over a client that hangs up: tests make them do so."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _hub(self) -> LoopbackHub:
        return cast(_Server, self.server).hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet: the requests are recorded."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self._hub.requests.append(Request(self.command, path, self.headers["Range"], self.headers["Authorization"]))
        name = path.rsplit("/", 1)[-1]
        file = self._hub.folder / name
        is_head = self.command == "HEAD"
        resolve = f"/{self._hub.repo}/resolve/"
        fault = self._hub.take_fault(name, is_head=is_head) if is_head or path.startswith("/cdn/") else Fault()
        if fault.status is not None:
            self._say(fault.status, {"X-Error-Code": "EntryNotFound"} if fault.status == 404 else {})
        elif path.startswith("/cdn/") and file.is_file():
            self._send_content(file, fault)
        elif not path.startswith(resolve):
            self._say(404, {"X-Error-Code": "RepoNotFound"})
        elif path[len(resolve) :].split("/")[0] not in ("main", COMMIT):
            self._say(404, {"X-Error-Code": "RevisionNotFound"})
        elif not file.is_file():
            self._say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self._resolve(file)

    def _resolve(self, file: Path) -> None:
        digest = self._hub.sha256(file)
        size = str(file.stat().st_size)
        headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes", **self._hub.headers}
        content = f"http://localhost:{self._hub.port}/cdn/{digest}/{file.name}"
        if file.suffix == ".pt":
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": size, "ETag": f'"{digest}"'}
            self._say(302, {**headers, **linked, "Location": content})
        elif self.command == "HEAD":
            self._say(200, {**headers, "ETag": f'"{digest[:40]}"', "Content-Length": size})
        else:  # a small file comes from the hub itself; its hash is git's, which is none of the content's alone
            self._say(200, {**headers, "ETag": f'"{digest[:40]}"'}, file.read_bytes())

    def _say(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
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
            self._break_off(fault)

    def _break_off(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.stall_after is not None:
            cast(_Server, self.server).stop.wait(self._hub.stall_seconds)
        elif fault.reset:
            time.sleep(0.2)  # let the client read what was sent: RST throws away what waits in its buffer
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@contextmanager
def serve_hub(folder: Path, *, repo: str = REPO, port: int = 0) -> Iterator[LoopbackHub]:
    """Serve a folder as the repository `repo` on loopback, on a free port, until the block ends."""
    server = _Server(("127.0.0.1", port), _Handler)
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
    """Write random weights in Mini's form, `small` or at `mini`'s true sizes, to a temporary folder, and serve them."""
    with tempfile.TemporaryDirectory() as folder, serve_hub(write_hub_folder(Path(folder), SIZES[sizes])) as hub:
        yield hub


def closed_port() -> int:
    """Give a port on loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Serve random weights until interrupted, and print the variables that make a server use them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=sorted(SIZES), default="small", help="of the weights (default: small)")
    arguments = parser.parse_args()
    with serve_random_weights(arguments.sizes) as hub, tempfile.TemporaryDirectory() as home:
        for key, value in hub.environment(Path(home)).items():
            print(f"export {key}={value}")
        print("# now, in another terminal with these: python app.py --model_version Mini; Ctrl-C ends this", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
