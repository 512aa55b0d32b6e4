from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from consts import ImageFormat
from host.threads import usable_threads
from server.config.settings import Settings
from server.images import encoding
from tests.conftest import MakeClient

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 60
CLASSIC = ("/dalle", {"text": "a red circle"})
OPENAI = ("/v1/images/generations", {"prompt": "a red circle"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("route", "fields"), [CLASSIC, OPENAI])
def test_a_slow_disk_delays_only_requests_that_save(
    make_client: MakeClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, route: str, fields: dict[str, str], stream: bool
) -> None:
    saving, not_saving = make_client(save_to_disk=True), make_client()
    body = {**fields, "stream": stream}
    disk_answers, savers_at_the_disk = threading.Event(), threading.Semaphore(0)

    def slow_fsync(descriptor: int) -> None:
        savers_at_the_disk.release()
        assert disk_answers.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(os, "fsync", slow_fsync)
    savers = (os.cpu_count() or 1) + 1  # one more than the images that are encoded at once
    with ThreadPoolExecutor(savers + 1) as pool:
        waiting = [pool.submit(lambda: saving.post(route, json=body).get_data()) for _ in range(savers)]
        try:
            for _ in range(savers):
                assert savers_at_the_disk.acquire(timeout=PATIENCE_SECONDS), "a request that saves waits for another's disk"
            answer = pool.submit(lambda: not_saving.post(route, json=body).get_data())
            assert len(answer.result(PATIENCE_SECONDS)) > 1000
            assert not any(saver.done() for saver in waiting)
        finally:
            disk_answers.set()
        assert all(len(saver.result(PATIENCE_SECONDS)) > 1000 for saver in waiting)
    assert len(list(settings.output_dir.glob("*/0.*"))) == savers


def test_one_image_per_usable_core_is_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = usable_threads()
    all_cores_busy, lock, at_once, most = threading.Barrier(cores), threading.Lock(), 0, 0

    def watched_encode(*_: Any, **options: Any) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        all_cores_busy.wait(PATIENCE_SECONDS)
        time.sleep(0.01)
        with lock:
            at_once -= 1
        return b""

    monkeypatch.setattr(encoding, "encode_image", watched_encode)
    with ThreadPoolExecutor(4 * cores) as pool:
        list(pool.map(lambda _: encoding.encode(Image.new("RGB", (8, 8)), ImageFormat.PNG), range(4 * cores)))
    assert most == cores


def test_no_other_module_of_the_server_encodes() -> None:
    files = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (ROOT / "server").rglob("*.py")}
    assert [path for path, text in files.items() if "encode_image" in text] == ["server/images/encoding.py"]
