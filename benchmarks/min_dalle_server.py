"""A plain Flask server around min-dalle, which draws one image at a time.

    python -m benchmarks.min_dalle_server MODELS_ROOT mini THREADS

It loads weights with min-dalle's constructor, and draws one image before it is ready, as ours does.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from flask import Flask, Response, jsonify, request
from min_dalle import MinDalle
from PIL import Image
from waitress import create_server

from benchmarks.plan import PROMPT
from benchmarks.reference import LocalMinDalle


class SingleThreaded:
    """min-dalle on one thread: OpenMP has a thread pool for each thread that computes, and several compete for the cores."""

    def __init__(self, load: Callable[[], MinDalle]) -> None:
        # min-dalle disables gradients for the importing thread only. On another, the graphs of its steps would take 20 GB.
        self._thread = ThreadPoolExecutor(1, initializer=torch.set_grad_enabled, initargs=(False,))
        self._model = self._thread.submit(load).result()

    def draw(self, text: str, seed: int) -> Image.Image:
        """Draw an image."""
        return self._thread.submit(lambda: self._model.generate_image(text, seed=seed, grid_size=1)).result()

    def first_preview(self, text: str) -> Image.Image:
        """Draw until min-dalle's first preview, an eighth of an image, and stop."""

        def begin() -> Image.Image:
            return next(self._model.generate_image_stream(text, seed=1, grid_size=1, progressive_outputs=True))

        return self._thread.submit(begin).result()


def create_app(model: SingleThreaded) -> Flask:
    """Create the app."""
    app = Flask(__name__)

    def respond(image: Image.Image) -> Response:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        return jsonify(generatedImgs=[base64.b64encode(buffer.getvalue()).decode()], generatedImgsFormat="jpeg")

    @app.post("/dalle")
    def dalle() -> Response:
        """Draw an image."""
        body = request.get_json(force=True)
        return respond(model.draw(body["text"], body["seed"]))

    @app.post("/preview")
    def preview() -> Response:
        """Draw a first preview only."""
        return respond(model.first_preview(request.get_json(force=True)["text"]))

    return app


def main(models_root: str, model: str, threads: str) -> None:
    """Load the model, draw an image, serve."""
    warnings.simplefilter("ignore")  # min-dalle uses torch's deprecated names
    os.environ.pop("MKL_CBWR", None)  # our engine's setting; min-dalle is measured with its defaults

    def load() -> MinDalle:
        loaded = LocalMinDalle(Path(models_root), model)
        torch.set_num_threads(int(threads))
        return loaded

    loaded_model = SingleThreaded(load)
    loaded_model.draw(PROMPT, 1)
    server = create_server(create_app(loaded_model), host="127.0.0.1", port=0, threads=64)
    print(f"Serving at http://127.0.0.1:{server.effective_port}", flush=True)
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
