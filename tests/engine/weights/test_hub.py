"""Hold the download to a real hub on loopback: what it does when all is well, and one line for every way it isn't."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

import engine.weights.hub
from engine.errors import CheckpointError, HubUnreachable, InvalidRequest
from engine.weights.hub import HubSource
from engine.weights.models import HUB_REPO, HUB_REVISION, WeightFile
from tests.loopback_hub import COMMIT, Fault, LoopbackHub, closed_port, serve_hub

MIB = 1 << 20
BIG = WeightFile("folder/big.pt", "big.pt")  # 24 MiB: the library keeps what it got in steps of 10 MiB
SMALL = WeightFile("folder/small.json", "small.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served")
    (path / "big.pt").write_bytes(random.Random(0).randbytes(24 * MIB))
    (path / "small.json").write_text("{}")
    return path


@pytest.fixture
def hub(folder: Path) -> Iterator[LoopbackHub]:
    with serve_hub(folder) as hub:
        yield hub


@pytest.fixture
def source(hub: LoopbackHub, tmp_path: Path) -> HubSource:
    return source_of(hub, tmp_path)


def source_of(hub: LoopbackHub, tmp_path: Path, revision: str = "main") -> HubSource:
    return HubSource(hub.repo, revision, progress=False, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")


def leftovers(source: HubSource) -> list[Path]:
    """List everything of a downloaded file's content, whole or part, that the cache holds."""
    assert source.cache_dir is not None
    return [path for path in source.cache_dir.rglob("*") if path.parent.name == "blobs" or path.name.endswith(".pt")]


def refused(source: HubSource, file: WeightFile = BIG) -> CheckpointError:
    """Give the error that a file is refused with: always one line."""
    with pytest.raises(CheckpointError) as caught:
        source.find(file)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_file_comes_whole_and_is_asked_for_once(hub: LoopbackHub, source: HubSource, folder: Path) -> None:
    path = source.find(BIG)
    assert path.read_bytes() == (folder / "big.pt").read_bytes()
    asked = len(hub.requests)
    assert source.find(BIG) == path
    assert len(hub.requests) == asked


def test_a_cached_file_needs_no_hub(folder: Path, tmp_path: Path) -> None:
    with serve_hub(folder) as hub:
        source = source_of(hub, tmp_path)
        path = source.find(SMALL)
    begin = time.monotonic()
    assert source.find(SMALL) == path
    assert time.monotonic() - begin < 0.5


def test_a_commit_can_be_pinned(hub: LoopbackHub, tmp_path: Path) -> None:
    source = source_of(hub, tmp_path, revision=COMMIT)
    assert source.find(SMALL) == source.find(SMALL)


@pytest.mark.parametrize(
    "fault", [Fault(cut_after=15 * MIB, times=1), Fault(stall_after=15 * MIB, times=1)], ids=["cut", "stall"]
)
def test_a_broken_download_is_resumed(
    hub: LoopbackHub, source: HubSource, folder: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    hub.faults["big.pt"] = fault
    path = source.find(BIG)
    assert [request.range for request in hub.contents("big.pt")] == [None, f"bytes={10 * MIB}-"]
    assert path.read_bytes() == (folder / "big.pt").read_bytes()


def test_a_reset_download_is_begun_again(hub: LoopbackHub, source: HubSource, folder: Path) -> None:
    hub.faults["big.pt"] = Fault(cut_after=5 * MIB, reset=True, times=1)
    assert source.find(BIG).read_bytes() == (folder / "big.pt").read_bytes()
    assert len(hub.contents("big.pt")) == 2


def test_a_download_that_stays_silent_is_given_up(hub: LoopbackHub, source: HubSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.faults["big.pt"] = Fault(stall_after=0)
    error = refused(source)
    assert not isinstance(error, HubUnreachable)
    assert "big.pt" in str(error) and "start again" in str(error)
    assert leftovers(source) == []


def test_what_a_killed_download_left_is_swept_away(hub: LoopbackHub, source: HubSource, tmp_path: Path) -> None:
    blobs = tmp_path / "cache" / "models--loopback--random-weights" / "blobs"
    blobs.mkdir(parents=True)
    abandoned, living = blobs / "a.0.incomplete", blobs / "b.1.incomplete"
    abandoned.touch()
    os.utime(abandoned, (time.time() - 3600,) * 2)
    living.touch()
    source.find(SMALL)
    assert (abandoned.exists(), living.exists()) == (False, True)


def test_a_file_that_is_not_there_is_named(source: HubSource) -> None:
    error = refused(source, WeightFile("x", "absent.pt"))
    assert "has no file absent.pt (404)" in str(error) and "HF_ENDPOINT" in str(error)


def test_a_revision_that_is_not_there_is_named(hub: LoopbackHub, tmp_path: Path) -> None:
    assert "no revision nowhere" in str(refused(source_of(hub, tmp_path, revision="nowhere")))


def test_a_repository_that_is_not_there_is_named(source: HubSource) -> None:
    error = refused(replace(source, repo="loopback/nothing"))
    assert "/loopback/nothing is not there" in str(error) and "HF_TOKEN" in str(error)


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_refusal_is_told_with_a_remedy(hub: LoopbackHub, source: HubSource, status: int) -> None:
    hub.faults["big.pt"] = Fault(status=status)
    assert ("HF_TOKEN" if status < 500 else f"answered {status}") in str(refused(source))
    assert hub.contents("big.pt") == []


def test_a_passing_error_is_got_over(hub: LoopbackHub, source: HubSource) -> None:
    hub.faults["big.pt"] = Fault(status=500, times=1)
    assert source.find(BIG).is_file()


def test_an_altered_file_is_removed_and_comes_anew(hub: LoopbackHub, source: HubSource, folder: Path) -> None:
    hub.faults["big.pt"] = Fault(altered=True, times=1)
    error = refused(source)
    assert "big.pt came damaged or altered: its sha256" in str(error) and "start again" in str(error)
    assert leftovers(source) == []
    assert source.find(BIG).read_bytes() == (folder / "big.pt").read_bytes()


def test_the_published_repository_must_hold_the_known_hash(folder: Path, tmp_path: Path) -> None:
    with serve_hub(folder, repo=HUB_REPO) as hub:
        source = source_of(hub, tmp_path)
        known = replace(BIG, size=24 * MIB, sha256_prefix="01234567")
        assert "not 01234567" in str(refused(source, known))
        assert leftovers(source) == []
        right = replace(known, sha256_prefix=hub.sha256(folder / "big.pt")[:8])
        assert source.find(right).is_file()


def test_a_file_of_another_size_is_not_even_fetched(folder: Path, tmp_path: Path) -> None:
    with serve_hub(folder, repo=HUB_REPO) as hub:
        error = refused(source_of(hub, tmp_path), replace(BIG, size=1234))
        assert "25,165,824 bytes" in str(error) and "not 1,234" in str(error)
        assert hub.contents("big.pt") == []


def test_a_cached_file_that_lost_its_end_is_removed(folder: Path, tmp_path: Path) -> None:
    with serve_hub(folder, repo=HUB_REPO) as hub:
        source, known = source_of(hub, tmp_path), replace(BIG, size=24 * MIB)
        with source.find(known).open("r+b") as file:
            file.truncate(MIB)
        assert "has 1,048,576 bytes, not 25,165,824" in str(refused(source, known))
        assert leftovers(source) == []
        assert source.find(known).stat().st_size == 24 * MIB


def test_what_is_known_of_the_published_files_binds_no_other_repository(source: HubSource) -> None:
    assert source.find(replace(BIG, size=1234, sha256_prefix="01234567")).is_file()


def test_a_closed_port_is_told_soon_and_offers_tiny(source: HubSource) -> None:
    begin = time.monotonic()
    error = refused(replace(source, endpoint=f"http://127.0.0.1:{closed_port()}"))
    assert time.monotonic() - begin < 10
    assert isinstance(error, HubUnreachable)
    assert "big.pt is not cached" in str(error) and "--model_version Tiny" in str(error)


def test_a_hub_that_never_answers_is_given_up_in_time(source: HubSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request's own timeout is longer here than all the time there is: as a name lookup's, which can't be set."""
    monkeypatch.setattr(engine.weights.hub, "PROBE_SECONDS", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        error = refused(replace(source, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert 1 < time.monotonic() - begin < 4
    assert isinstance(error, HubUnreachable)
    assert "no answer" in str(error)


def test_all_attempts_together_leave_time_to_start_in_30_seconds() -> None:
    assert engine.weights.hub.PROBE_SECONDS <= 20


def test_a_log_in_page_is_not_taken_for_a_hub(hub: LoopbackHub, source: HubSource) -> None:
    hub.faults["big.pt"] = Fault(status=200)
    assert "does not answer as a hub" in str(refused(source))


def test_offline_mode_asks_nothing(hub: LoopbackHub, source: HubSource, monkeypatch: pytest.MonkeyPatch) -> None:
    source.find(SMALL)
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert source.find(SMALL).is_file()
    error = refused(source)
    assert isinstance(error, HubUnreachable)
    assert "HF_HUB_OFFLINE" in str(error) and "--model_version Tiny" in str(error)
    assert len(hub.requests) == asked


def test_a_token_goes_to_the_hub_and_to_nobody_else(hub: LoopbackHub, source: HubSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    source.find(BIG)
    given = {(request.path.split("/")[1] == "cdn", request.authorization) for request in hub.requests}
    assert given == {(False, "Bearer hf_secret"), (True, None)}


def test_a_mirror_that_speaks_of_xet_is_asked_by_plain_http(hub: LoopbackHub, source: HubSource) -> None:
    hub.headers = {"X-Xet-Hash": "a" * 64, "X-Xet-Refresh-Route": f"{hub.endpoint}/api/xet-read-token"}
    source.find(BIG)
    assert len(hub.contents("big.pt")) == 1
    assert not any("xet" in request.path for request in hub.requests)


def test_a_cache_that_can_not_be_written_is_told(source: HubSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refused(replace(source, cache_dir=tmp_path / "file" / "cache"))
    assert "big.pt can't be saved in" in str(error) and "HF_HOME" in str(error)


def test_the_repository_can_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DALLE_HUB_REPO", raising=False)
    assert (HubSource.from_environment().repo, HubSource.from_environment().revision) == (HUB_REPO, HUB_REVISION)
    monkeypatch.setenv("DALLE_HUB_REPO", "someone/else@v2")
    assert (HubSource.from_environment().repo, HubSource.from_environment().revision) == ("someone/else", "v2")


@pytest.mark.parametrize("name", ["https://hub.example/someone/else", "some one/else", "a/b/c"])
def test_a_name_that_is_no_repositorys_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALLE_HUB_REPO", name)
    with pytest.raises(InvalidRequest, match="DALLE_HUB_REPO must be owner/name"):
        HubSource.from_environment()
