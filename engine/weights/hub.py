"""The Hugging Face hub as a source of weights.

find(file)
    cached            -> its path, without asking the hub
    _probe            one small request, bounded in time: is the hub there, does it have the file, of which size and hash
    _download         huggingface_hub's own download: resumes a cut connection, shows progress, knows mirrors and tokens
    _verify           size and sha256, once after the download; the size again at each start
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfFileMetadata, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils.tqdm import disable_progress_bars

from consts import HUB_REPO_VARIABLE
from engine.errors import CheckpointError, HubUnreachable, InvalidRequest
from engine.weights.models import HUB_REPO, HUB_REVISION, WeightFile
from engine.weights.sha256 import file_sha256

_T = TypeVar("_T")

PROBE_SECONDS = 20.0  # for all attempts together: with torch's import before it, an answer comes within 30 s
_PROBE_ATTEMPTS = 3
_REQUEST_SECONDS = 6.0
_DOWNLOAD_ATTEMPTS = 5
_ABANDONED_SECONDS = 600.0  # a living download writes more often: the library gives up after a minute of silence
_BUSY = (408, 429, 500, 502, 503, 504)  # worth another try


@dataclass(frozen=True)
class HubSource:
    """Find the files of a model in one repository of the hub, by way of huggingface_hub's cache.

    The library's environment variables hold: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the others. `endpoint` and
    `cache_dir` are given by tests only.
    """

    repo: str = HUB_REPO
    revision: str = HUB_REVISION
    progress: bool = True
    endpoint: str | None = None
    cache_dir: Path | None = None

    @classmethod
    def from_environment(cls, *, progress: bool = True) -> HubSource:
        """Take the repository from DALLE_HUB_REPO (`owner/name` or `owner/name@revision`), else the published one.

        Raises InvalidRequest.
        """
        given = os.environ.get(HUB_REPO_VARIABLE, "")
        repo, _, revision = given.partition("@")
        try:
            hf_hub_url(repo or HUB_REPO, "config.json")  # the library knows what a name may be
        except ValueError:
            accepted = "owner/name or owner/name@revision"
            raise InvalidRequest("hub_repo", f"{HUB_REPO_VARIABLE} must be {accepted}, not {given!r}") from None
        return cls(repo or HUB_REPO, revision or HUB_REVISION, progress)

    def has(self, file: WeightFile) -> bool:
        """Tell that every file is to be had; `find` says so if one is not."""
        return file.hub_name is not None

    def find(self, file: WeightFile) -> Path:
        """Give the cached file's path, downloaded and verified first if need be.

        Raises HubUnreachable if the hub gives no answer within PROBE_SECONDS and the file is not cached; CheckpointError for
        any other answer than the file, whole and unaltered.
        """
        path = self._cached(file)
        if path is None:
            metadata = self._probe(file)
            self._check_promise(file, metadata)
            path = self._download(file)
            self._verify(file, path, metadata)
        elif (size := self._known(file).size) is not None and path.stat().st_size != size:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes, not {size:,}; {self.refuse(file)}")
        return path

    def refuse(self, file: WeightFile) -> str:
        """Remove the file from the cache, so that the next start downloads it again, and say so."""
        path = self._cached(file)
        if path is not None:
            _remove(path)
        return f"it is removed from the cache; start again to download it anew from {self._address}"

    @property
    def _address(self) -> str:
        return f"{self.endpoint or constants.ENDPOINT}/{self.repo}"

    def _known(self, file: WeightFile) -> WeightFile:
        """Give what is known of a file's content: the table's figures are those of the published repository only."""
        return file if self.repo == HUB_REPO else WeightFile(file.path, file.hub_name)

    def _cached(self, file: WeightFile) -> Path | None:
        found = try_to_load_from_cache(self.repo, str(file.hub_name), cache_dir=self.cache_dir, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def _probe(self, file: WeightFile) -> HfFileMetadata:
        """Ask the hub for a file's size and hash. The library's own retries would take minutes to say that it is away."""
        url = hf_hub_url(self.repo, str(file.hub_name), revision=self.revision, endpoint=self.endpoint)
        deadline = time.monotonic() + PROBE_SECONDS
        for attempt in range(1, _PROBE_ATTEMPTS + 1):
            try:
                left = deadline - time.monotonic()
                return _within(left, lambda: get_hf_file_metadata(url, timeout=_REQUEST_SECONDS, endpoint=self.endpoint))
            except OfflineModeIsEnabled as error:
                raise HubUnreachable(
                    f"{file.hub_name} is not cached, and HF_HUB_OFFLINE is set: unset it once to download, "
                    "or start with --model_version Tiny, which needs no download"
                ) from error
            except Exception as error:  # the transport's own exceptions are those of whatever HTTP library this version uses
                is_last = attempt == _PROBE_ATTEMPTS or time.monotonic() + 1 >= deadline
                if is_last or _status(error) not in (None, *_BUSY):
                    raise self._answered(file, error) or HubUnreachable(
                        f"{file.hub_name} is not cached, and {self._address} can't be reached ({_reason(error)}): "
                        "check the network and HF_ENDPOINT, or start with --model_version Tiny, which needs no download"
                    ) from error
            time.sleep(1)
        raise AssertionError("the last attempt returns or raises")

    def _check_promise(self, file: WeightFile, metadata: HfFileMetadata) -> None:
        """Compare what the hub says it has with what is known, before gigabytes are fetched."""
        if metadata.commit_hash is None or metadata.etag is None:
            raise CheckpointError(
                f"{self._address} does not answer as a hub does for {file.hub_name} (no commit or no ETag): "
                "check HF_ENDPOINT, the proxy and the network's log-in page"
            )
        size = self._known(file).size
        if size is not None and metadata.size not in (None, size):
            raise CheckpointError(
                f"{file.hub_name} has {metadata.size:,} bytes on {self._address}, not {size:,}: it is not the published file; "
                f"unset HF_ENDPOINT, or set {HUB_REPO_VARIABLE} to the repository that is meant"
            )

    def _download(self, file: WeightFile) -> Path:
        if "HF_HUB_DISABLE_XET" not in os.environ:
            # Xet retries for over six minutes, in silence, where its storage is out of reach: behind a mirror or a firewall.
            # Plain HTTP gives up after one, and resumes a cut connection. HF_HUB_DISABLE_XET=0 brings Xet back.
            constants.HF_HUB_DISABLE_XET = True
        if not self.progress:
            disable_progress_bars()
        self._sweep()
        for attempt in range(1, _DOWNLOAD_ATTEMPTS + 1):
            try:
                return Path(
                    hf_hub_download(
                        self.repo,
                        str(file.hub_name),
                        revision=self.revision,
                        endpoint=self.endpoint,
                        cache_dir=self.cache_dir,
                    )
                )
            except Exception as error:  # as in _probe
                # The library resumes after a closed connection and a silent one, but not after a reset.
                if attempt == _DOWNLOAD_ATTEMPTS or not (_status(error) in _BUSY or _is_reset(error)):
                    raise self._answered(file, error) or CheckpointError(
                        f"the download of {file.hub_name} from {self._address} broke off ({_reason(error)}): "
                        "start again when the network is better"
                    ) from error
            time.sleep(1)
        raise AssertionError("the last attempt returns or raises")

    def _sweep(self) -> None:
        """Remove what a killed download left: the library begins each under a new name, so nothing else ever would."""
        folder = Path(self.cache_dir or constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self.repo, repo_type="model")
        for part in folder.glob("blobs/*.incomplete"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                    part.unlink()

    def _verify(self, file: WeightFile, path: Path, metadata: HfFileMetadata) -> None:
        known = self._known(file)
        size = known.size or metadata.size
        if size is not None and path.stat().st_size != size:
            raise CheckpointError(f"{file.hub_name} came with {path.stat().st_size:,} bytes, not {size:,}; {self.refuse(file)}")
        promised = metadata.etag if metadata.etag and re.fullmatch("[0-9a-f]{64}", metadata.etag) else ""
        if not (known.sha256_prefix or promised):
            return
        digest = file_sha256(path, progress=self.progress)
        for expected in (known.sha256_prefix, promised):
            if not digest.startswith(expected):
                hashes = f"its sha256 begins {digest[:8]}, not {expected[:8]}"
                raise CheckpointError(f"{file.hub_name} came damaged or altered: {hashes}; {self.refuse(file)}")

    def _answered(self, file: WeightFile, error: Exception) -> CheckpointError | None:
        """Turn an error that says what is wrong into one line with a remedy; None for a hub that did not answer."""
        status = _status(error)
        if isinstance(error, RevisionNotFoundError):
            return CheckpointError(f"{self._address} has no revision {self.revision}: check {HUB_REPO_VARIABLE}")
        if status in (401, 403) or isinstance(error, RepositoryNotFoundError):
            return CheckpointError(
                f"{self._address} is not there, or refuses access: "
                f"check {HUB_REPO_VARIABLE} and HF_ENDPOINT, or log in with HF_TOKEN"
            )
        if status == 404:
            return CheckpointError(
                f"{self._address} has no file {file.hub_name} (404): check HF_ENDPOINT and {HUB_REPO_VARIABLE}"
            )
        if status is not None:
            return CheckpointError(
                f"{self._address} answered {status} for {file.hub_name}: try again later, or set HF_ENDPOINT to a mirror"
            )
        if isinstance(error, OSError) and error.errno is not None:
            folder = self.cache_dir or constants.HF_HUB_CACHE
            return CheckpointError(f"{file.hub_name} can't be saved in {folder} ({error.strerror}): make room, or set HF_HOME")
        return None


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Call in a thread of its own that is left behind when time is up: a name lookup has no timeout that could be set."""
    results: list[_T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="hub-probe", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer in {PROBE_SECONDS:.0f} s")
    return results[0]


def _status(error: Exception) -> int | None:
    """Give the HTTP status of an error that the hub answered, None if it gave no answer."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HfHubHTTPError):
            return cause.response.status_code
        cause = cause.__cause__
    return None


def _remove(path: Path) -> None:
    """Remove a cached file and whatever it links to: a snapshot's name, the blob, and the blob that several caches share."""
    while path.is_symlink():
        target = path.parent / os.readlink(path)
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def _is_reset(error: Exception) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConnectionResetError):
        cause = cause.__cause__
    return cause is not None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]}"
