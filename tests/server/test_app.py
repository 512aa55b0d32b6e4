from __future__ import annotations

import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

import requests
from flask import Flask


class SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, so that pytest's output stays clean."""


def test_the_app_runs_under_any_wsgi_server(app: Flask) -> None:
    with make_server("127.0.0.1", 0, app, handler_class=SilentHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert requests.get(url, timeout=60).text == "hello world"
        assert len(requests.post(f"{url}/dalle", data='{"text": "a red circle"}', timeout=60).json()["generatedImgs"]) == 1
        assert requests.post(f"{url}/dalle", data=b" " * (2**20 + 1), timeout=60).status_code == 413
        server.shutdown()
