from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from consts import ImageFormat
from dalle_model import DalleModel
from server import create_app
from server.config.settings import Settings
from server.images import encoding
from utils import encode_image

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 60
CLASSIC = ("/dalle", {"text": "a red circle"})
OPENAI = ("/v1/images/generations", {"prompt": "a red circle"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("route", "fields"), [CLASSIC, OPENAI])
def test_a_slow_disk_delays_no_one_who_saves_nothing(
    tiny_model: DalleModel,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    route: str,
    fields: dict[str, str],
    stream: bool,
) -> None:
    saving = create_app(tiny_model, replace(settings, save_to_disk=True))
    not_saving = create_app(tiny_model, settings)
    body = {**fields, "stream": stream}
    disk_answers, savers_at_the_disk = threading.Event(), threading.Semaphore(0)

    def slow_fsync(descriptor: int) -> None:
        savers_at_the_disk.release()
        assert disk_answers.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(os, "fsync", slow_fsync)
    savers = (os.cpu_count() or 1) + 1  # one more than pictures that are encoded at once
    with ThreadPoolExecutor(savers + 1) as pool:
        waiting = [pool.submit(lambda: saving.test_client().post(route, json=body).get_data()) for _ in range(savers)]
        try:
            for _ in range(savers):
                assert savers_at_the_disk.acquire(timeout=PATIENCE_SECONDS), "a saver waits for another's disk"
            answer = pool.submit(lambda: not_saving.test_client().post(route, json=body).get_data())
            assert len(answer.result(PATIENCE_SECONDS)) > 1000
            assert not any(saver.done() for saver in waiting)
        finally:
            disk_answers.set()
        assert all(len(saver.result(PATIENCE_SECONDS)) > 1000 for saver in waiting)
    assert len(list(settings.output_dir.glob("*/0.*"))) == savers


def test_no_more_pictures_are_encoded_at_once_than_there_are_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_TURNS", threading.BoundedSemaphore(2))
    at_once, most, lock = 0, 0, threading.Lock()

    def watched_encode(*arguments: Any, **options: Any) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        data = encode_image(*arguments, **options)
        with lock:
            at_once -= 1
        return data

    monkeypatch.setattr(encoding, "encode_image", watched_encode)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: encoding.encode(Image.new("RGB", (8, 8)), ImageFormat.PNG), range(20)))
    assert most == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system confines no process to cores; on Linux this runs")
def test_there_are_turns_for_the_cores_that_the_process_may_use() -> None:
    confine = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    code = f"{confine}; import server.images.encoding as e; print(e._TURNS._value)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "1\n"


def test_no_other_module_encodes_without_a_turn() -> None:
    files = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (ROOT / "server").rglob("*.py")}
    assert [path for path, text in files.items() if "encode_image" in text] == ["server/images/encoding.py"]
