"""Downloads from a hub on loopback: what happens when all is well, and a one-line error for every failure."""

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
BIG = WeightFile("folder/big.pt", "big.pt")  # 24 MiB: the library writes in steps of 10 MiB
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


def cached_content(source: HubSource) -> list[Path]:
    """Return the files in the cache with downloaded content, complete or partial."""
    assert source.cache_dir is not None
    return [path for path in source.cache_dir.rglob("*") if path.parent.name == "blobs" or path.name.endswith(".pt")]


def error_of(source: HubSource, file: WeightFile = BIG) -> CheckpointError:
    """Return the error of an attempt to find a file: always one line."""
    with pytest.raises(CheckpointError) as caught:
        source.find(file)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_file_is_downloaded_completely_and_once(hub: LoopbackHub, source: HubSource, folder: Path) -> None:
    path = source.find(BIG)
    assert path.read_bytes() == (folder / "big.pt").read_bytes()
    before = len(hub.requests)
    assert source.find(BIG) == path
    assert len(hub.requests) == before


def test_the_hub_is_told_nothing_of_what_the_download_is_for(hub: LoopbackHub, source: HubSource) -> None:
    source.find(BIG)
    agents = {request.user_agent or "" for request in hub.requests}
    assert all("hf_hub/" in agent for agent in agents) and not any("torch" in agent or "agent/" in agent for agent in agents)


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


def test_a_reset_download_is_restarted(hub: LoopbackHub, source: HubSource, folder: Path) -> None:
    hub.faults["big.pt"] = Fault(cut_after=5 * MIB, reset=True, times=1)
    assert source.find(BIG).read_bytes() == (folder / "big.pt").read_bytes()
    assert len(hub.contents("big.pt")) == 2


def test_a_download_without_data_is_given_up(hub: LoopbackHub, source: HubSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.faults["big.pt"] = Fault(stall_after=0)
    error = error_of(source)
    assert not isinstance(error, HubUnreachable)
    assert "big.pt" in str(error) and "start again" in str(error)
    assert cached_content(source) == []


def test_the_partial_file_of_a_killed_download_is_removed(hub: LoopbackHub, source: HubSource, tmp_path: Path) -> None:
    blobs = tmp_path / "cache" / "models--loopback--random-weights" / "blobs"
    blobs.mkdir(parents=True)
    abandoned, active = blobs / "a.0.incomplete", blobs / "b.1.incomplete"
    abandoned.touch()
    os.utime(abandoned, (time.time() - 3600,) * 2)
    active.touch()
    source.find(SMALL)
    assert (abandoned.exists(), active.exists()) == (False, True)


def test_a_missing_file_is_named(source: HubSource) -> None:
    error = error_of(source, WeightFile("x", "absent.pt"))
    assert "has no file absent.pt (404)" in str(error) and "HF_ENDPOINT" in str(error)


def test_a_missing_revision_is_named(hub: LoopbackHub, tmp_path: Path) -> None:
    assert "no revision nowhere" in str(error_of(source_of(hub, tmp_path, revision="nowhere")))


def test_a_missing_repository_is_named(source: HubSource) -> None:
    error = error_of(replace(source, repo="loopback/nothing"))
    assert "/loopback/nothing does not exist" in str(error) and "HF_TOKEN" in str(error)


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_the_error_for_a_refusal_has_a_remedy(hub: LoopbackHub, source: HubSource, status: int) -> None:
    hub.faults["big.pt"] = Fault(status=status)
    assert ("HF_TOKEN" if status < 500 else f"responded {status}") in str(error_of(source))
    assert hub.contents("big.pt") == []


def test_a_transient_error_is_retried(hub: LoopbackHub, source: HubSource) -> None:
    hub.faults["big.pt"] = Fault(status=500, times=1)
    assert source.find(BIG).is_file()


def test_an_altered_file_is_removed_and_downloaded_again(hub: LoopbackHub, source: HubSource, folder: Path) -> None:
    hub.faults["big.pt"] = Fault(altered=True, times=1)
    error = error_of(source)
    assert "big.pt arrived damaged or altered: its sha256" in str(error) and "start again" in str(error)
    assert cached_content(source) == []
    assert source.find(BIG).read_bytes() == (folder / "big.pt").read_bytes()


def test_a_file_of_the_published_repository_must_have_the_known_hash(folder: Path, tmp_path: Path) -> None:
    with serve_hub(folder, repo=HUB_REPO) as hub:
        source = source_of(hub, tmp_path)
        known = replace(BIG, size=24 * MIB, sha256_prefix="01234567")
        assert "not 01234567" in str(error_of(source, known))
        assert cached_content(source) == []
        right = replace(known, sha256_prefix=hub.sha256(folder / "big.pt")[:8])
        assert source.find(right).is_file()


def test_a_file_of_another_size_is_not_downloaded(folder: Path, tmp_path: Path) -> None:
    with serve_hub(folder, repo=HUB_REPO) as hub:
        error = error_of(source_of(hub, tmp_path), replace(BIG, size=1234))
        assert "25,165,824 bytes" in str(error) and "not 1,234" in str(error)
        assert hub.contents("big.pt") == []


def test_a_truncated_cached_file_is_removed(folder: Path, tmp_path: Path) -> None:
    with serve_hub(folder, repo=HUB_REPO) as hub:
        source, known = source_of(hub, tmp_path), replace(BIG, size=24 * MIB)
        with source.find(known).open("r+b") as file:
            file.truncate(MIB)
        assert "has 1,048,576 bytes, not 25,165,824" in str(error_of(source, known))
        assert cached_content(source) == []
        assert source.find(known).stat().st_size == 24 * MIB


def test_files_of_another_repository_may_differ_from_the_published_ones(source: HubSource) -> None:
    assert source.find(replace(BIG, size=1234, sha256_prefix="01234567")).is_file()


def test_the_error_for_a_closed_port_comes_soon_and_offers_tiny(source: HubSource) -> None:
    begin = time.monotonic()
    error = error_of(replace(source, endpoint=f"http://127.0.0.1:{closed_port()}"))
    assert time.monotonic() - begin < 10
    assert isinstance(error, HubUnreachable)
    assert "big.pt is not cached" in str(error) and "--model_version Tiny" in str(error)


def test_a_hub_that_never_responds_is_given_up_in_time(source: HubSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the request's own timeout is longer than the limit, as with a name lookup, whose timeout can't be set."""
    monkeypatch.setattr(engine.weights.hub, "PROBE_SECONDS", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        error = error_of(replace(source, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert 1 < time.monotonic() - begin < 4
    assert isinstance(error, HubUnreachable)
    assert "no answer" in str(error)


def test_all_attempts_together_leave_time_to_fail_within_30_seconds() -> None:
    assert engine.weights.hub.PROBE_SECONDS <= 20


def test_a_log_in_page_is_not_mistaken_for_a_hub(hub: LoopbackHub, source: HubSource) -> None:
    hub.faults["big.pt"] = Fault(status=200)
    assert "does not respond as a hub" in str(error_of(source))


def test_offline_mode_makes_no_requests(hub: LoopbackHub, source: HubSource, monkeypatch: pytest.MonkeyPatch) -> None:
    source.find(SMALL)
    before = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert source.find(SMALL).is_file()
    error = error_of(source)
    assert isinstance(error, HubUnreachable)
    assert "HF_HUB_OFFLINE" in str(error) and "--model_version Tiny" in str(error)
    assert len(hub.requests) == before


def test_the_token_is_sent_to_the_hub_only(hub: LoopbackHub, source: HubSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    source.find(BIG)
    sent = {(request.path.split("/")[1] == "cdn", request.authorization) for request in hub.requests}
    assert sent == {(False, "Bearer hf_secret"), (True, None)}


def test_plain_http_is_used_although_a_mirror_offers_xet(hub: LoopbackHub, source: HubSource) -> None:
    hub.headers = {"X-Xet-Hash": "a" * 64, "X-Xet-Refresh-Route": f"{hub.endpoint}/api/xet-read-token"}
    source.find(BIG)
    assert len(hub.contents("big.pt")) == 1
    assert not any("xet" in request.path for request in hub.requests)


def test_the_error_for_an_unwritable_cache_names_it(source: HubSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = error_of(replace(source, cache_dir=tmp_path / "file" / "cache"))
    assert "big.pt can't be saved in" in str(error) and "HF_HOME" in str(error)


def test_the_environment_can_name_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DALLE_HUB_REPO", raising=False)
    assert (HubSource.from_environment().repo, HubSource.from_environment().revision) == (HUB_REPO, HUB_REVISION)
    monkeypatch.setenv("DALLE_HUB_REPO", "someone/else@v2")
    assert (HubSource.from_environment().repo, HubSource.from_environment().revision) == ("someone/else", "v2")


@pytest.mark.parametrize("name", ["https://hub.example/someone/else", "some one/else", "a/b/c"])
def test_an_invalid_repository_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALLE_HUB_REPO", name)
    with pytest.raises(InvalidRequest, match="DALLE_HUB_REPO must be owner/name"):
        HubSource.from_environment()
