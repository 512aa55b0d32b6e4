"""The Hugging Face hub as a source of weights.

find(file)
    cached              return the path without a request to the hub
    _request_metadata   one small request, bounded in time: is the hub reachable, does it have the file, of which size and hash
    _download           huggingface_hub's download: resumes after a cut connection, shows progress, handles mirrors and tokens
    _verify             size and sha256, once after the download; later starts check the size only
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
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

constants.HF_HUB_DISABLE_TELEMETRY = True  # requests would also name torch's version and the program around it

PROBE_SECONDS = 20.0  # for all attempts together: with torch's import before them, a start without a hub fails within 30 s
_PROBE_ATTEMPTS = 3
_REQUEST_SECONDS = 6.0
_DOWNLOAD_ATTEMPTS = 5
_ABANDONED_SECONDS = 600.0  # an active download writes more often: the library gives up after a minute without data
_RETRYABLE = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class HubSource:
    """One repository of the hub, behind huggingface_hub's cache.

    The library's environment variables apply: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the others. Only tests set
    `endpoint` and `cache_dir`.
    """

    repo: str = HUB_REPO
    revision: str = HUB_REVISION
    progress: bool = True
    endpoint: str | None = None
    cache_dir: Path | None = None

    @classmethod
    def from_environment(cls, *, progress: bool = True) -> HubSource:
        """Read the repository from DALLE_HUB_REPO (`owner/name` or `owner/name@revision`); default: the published repository.

        Raises InvalidRequest.
        """
        given = os.environ.get(HUB_REPO_VARIABLE, "")
        repo, _, revision = given.partition("@")
        try:
            hf_hub_url(repo or HUB_REPO, "config.json")  # the library knows which names are valid
        except ValueError:
            accepted = "owner/name or owner/name@revision"
            raise InvalidRequest("hub_repo", f"{HUB_REPO_VARIABLE} must be {accepted}, not {given!r}") from None
        return cls(repo or HUB_REPO, revision or HUB_REVISION, progress)

    def has(self, file: WeightFile) -> bool:
        """Whether the file has a name on the hub; if the repository lacks it, `find` raises."""
        return file.hub_name is not None

    def find(self, file: WeightFile) -> Path:
        """Return the cached file's path; download and verify the file first if it is not cached.

        Raises HubUnreachable if the file is not cached and the hub does not respond within PROBE_SECONDS, CheckpointError if
        the hub does not have the file or its content is not the expected one.
        """
        path = self._cached(file)
        if path is None:
            metadata = self._request_metadata(file)
            self._check_metadata(file, metadata)
            path = self._download(file)
            self._verify(file, path, metadata)
        elif (size := self._expected(file).size) is not None and path.stat().st_size != size:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes, not {size:,}; {self.reject(file)}")
        return path

    def reject(self, file: WeightFile) -> str:
        """Remove the file from the cache, so that the next start downloads it again, and return that as the remedy."""
        path = self._cached(file)
        if path is not None:
            _remove_with_links(path)
        return f"it has been removed from the cache; start again to download it from {self._repo_url}"

    @property
    def _repo_url(self) -> str:
        return f"{self.endpoint or constants.ENDPOINT}/{self.repo}"

    def _expected(self, file: WeightFile) -> WeightFile:
        """Return the file with the table's size and hash if this is the published repository, without them otherwise."""
        return file if self.repo == HUB_REPO else WeightFile(file.path, file.hub_name)

    def _cached(self, file: WeightFile) -> Path | None:
        found = try_to_load_from_cache(self.repo, str(file.hub_name), cache_dir=self.cache_dir, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def _request_metadata(self, file: WeightFile) -> HfFileMetadata:
        """Request a file's size and hash. The library's own retries would take minutes before they fail."""
        url = hf_hub_url(self.repo, str(file.hub_name), revision=self.revision, endpoint=self.endpoint)
        deadline = time.monotonic() + PROBE_SECONDS
        for attempt in range(1, _PROBE_ATTEMPTS + 1):
            try:
                return _call_with_timeout(
                    deadline - time.monotonic(),
                    lambda: get_hf_file_metadata(url, timeout=_REQUEST_SECONDS, endpoint=self.endpoint),
                )
            except OfflineModeIsEnabled as error:
                raise HubUnreachable(
                    f"{file.hub_name} is not cached, and HF_HUB_OFFLINE is set: unset it once to download, "
                    "or start with --model_version Tiny, which needs no download"
                ) from error
            except Exception as error:  # the HTTP library, and so its exceptions, differ between huggingface_hub's versions
                is_last = attempt == _PROBE_ATTEMPTS or time.monotonic() + 1 >= deadline
                if is_last or _http_status(error) not in (None, *_RETRYABLE):
                    raise self._as_checkpoint_error(file, error) or HubUnreachable(
                        f"{file.hub_name} is not cached, and {self._repo_url} can't be reached ({_reason(error)}): "
                        "check the network and HF_ENDPOINT, or start with --model_version Tiny, which needs no download"
                    ) from error
            time.sleep(1)
        raise AssertionError("the last attempt returns or raises")

    def _check_metadata(self, file: WeightFile, metadata: HfFileMetadata) -> None:
        """Compare the hub's metadata with the table before gigabytes are downloaded. Raises CheckpointError."""
        if metadata.commit_hash is None or metadata.etag is None:
            raise CheckpointError(
                f"{self._repo_url} does not respond as a hub for {file.hub_name} (no commit or no ETag): "
                "check HF_ENDPOINT, the proxy and the network's log-in page"
            )
        size = self._expected(file).size
        if size is not None and metadata.size not in (None, size):
            raise CheckpointError(
                f"{file.hub_name} has {metadata.size:,} bytes on {self._repo_url}, not {size:,}: it is not the published file; "
                f"unset HF_ENDPOINT, or set {HUB_REPO_VARIABLE} to the intended repository"
            )

    def _download(self, file: WeightFile) -> Path:
        if "HF_HUB_DISABLE_XET" not in os.environ:
            # If Xet's storage is unreachable, behind a mirror or a firewall, Xet retries silently for over six minutes. Plain
            # HTTP gives up after one, and resumes a cut connection. HF_HUB_DISABLE_XET=0 enables Xet again.
            constants.HF_HUB_DISABLE_XET = True
        if not self.progress:
            disable_progress_bars()
        self._remove_abandoned_downloads()
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
            except Exception as error:  # as in _request_metadata
                # The library resumes after a closed or a silent connection, but not after a reset.
                is_retryable = _http_status(error) in _RETRYABLE or any(
                    isinstance(e, ConnectionResetError) for e in _chain(error)
                )
                if attempt == _DOWNLOAD_ATTEMPTS or not is_retryable:
                    raise self._as_checkpoint_error(file, error) or CheckpointError(
                        f"the download of {file.hub_name} from {self._repo_url} failed ({_reason(error)}): "
                        "start again when the network is better"
                    ) from error
            time.sleep(1)
        raise AssertionError("the last attempt returns or raises")

    def _remove_abandoned_downloads(self) -> None:
        """Remove the partial files of killed downloads: the library gives each download a new name and never removes them."""
        folder = Path(self.cache_dir or constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self.repo, repo_type="model")
        for part in folder.glob("blobs/*.incomplete"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                    part.unlink()

    def _verify(self, file: WeightFile, path: Path, metadata: HfFileMetadata) -> None:
        """Compare a downloaded file's size and sha256 with the table and the hub's metadata. Raises CheckpointError."""
        expected = self._expected(file)
        size = expected.size or metadata.size
        if size is not None and path.stat().st_size != size:
            raise CheckpointError(
                f"{file.hub_name} arrived with {path.stat().st_size:,} bytes, not {size:,}; {self.reject(file)}"
            )
        hub_sha256 = metadata.etag if metadata.etag and re.fullmatch("[0-9a-f]{64}", metadata.etag) else ""
        if not (expected.sha256_prefix or hub_sha256):
            return
        digest = file_sha256(path, progress=self.progress)
        for prefix in (expected.sha256_prefix, hub_sha256):
            if not digest.startswith(prefix):
                hashes = f"its sha256 begins {digest[:8]}, not {prefix[:8]}"
                raise CheckpointError(f"{file.hub_name} arrived damaged or altered: {hashes}; {self.reject(file)}")

    def _as_checkpoint_error(self, file: WeightFile, error: Exception) -> CheckpointError | None:
        """Return one line with a remedy for an error that names its cause; None if the hub did not respond."""
        status = _http_status(error)
        if isinstance(error, RevisionNotFoundError):
            return CheckpointError(f"{self._repo_url} has no revision {self.revision}: check {HUB_REPO_VARIABLE}")
        if status in (401, 403) or isinstance(error, RepositoryNotFoundError):
            return CheckpointError(
                f"{self._repo_url} does not exist or refuses access: "
                f"check {HUB_REPO_VARIABLE} and HF_ENDPOINT, or log in with HF_TOKEN"
            )
        if status == 404:
            return CheckpointError(
                f"{self._repo_url} has no file {file.hub_name} (404): check HF_ENDPOINT and {HUB_REPO_VARIABLE}"
            )
        if status is not None:
            return CheckpointError(
                f"{self._repo_url} responded {status} for {file.hub_name}: try again later, or set HF_ENDPOINT to a mirror"
            )
        if isinstance(error, OSError) and error.errno is not None:
            folder = self.cache_dir or constants.HF_HUB_CACHE
            return CheckpointError(
                f"{file.hub_name} can't be saved in {folder} ({error.strerror}): free some space, or set HF_HOME"
            )
        return None


def _call_with_timeout(seconds: float, call: Callable[[], _T]) -> _T:
    """Return what `call` returns, or raise TimeoutError.

    The call runs in its own thread, abandoned on timeout: a name lookup has no timeout of its own.
    """
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


def _remove_with_links(path: Path) -> None:
    """Remove a cached file and everything that it links to: the snapshot's link, the blob, and a blob shared between caches."""
    while path.is_symlink():
        target = path.parent / os.readlink(path)
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__


def _http_status(error: Exception) -> int | None:
    """Return the HTTP status of the hub's response, None if it did not respond."""
    return next((cause.response.status_code for cause in _chain(error) if isinstance(cause, HfHubHTTPError)), None)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]}"
