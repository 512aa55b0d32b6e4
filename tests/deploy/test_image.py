"""What deploy/Dockerfile puts into the image draws there: read-only, as any user of group 0. No container is built.

A copy-on-write view of this machine's own files stands in for the base image, with this machine's Python. In it the Dockerfile's
own lines make the user and the folders, set the environment and start the server.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.callers import eventually
from tests.end_to_end.server_process import UNOPTIMIZED
from tests.end_to_end.test_hosts import answers, draws, free_port, running

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COPIED = [name for names in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for name in names.split()]

# Arguments: a folder to work in, the Python to run, the Dockerfile's lines that make the user and folders, the repository, the
# names to copy, the user and group as setpriv's options, and the command.
IN_IMAGE = """
set -e
folder=$1 python=$2 make_folders=$3 repository=$4 copied=$5 user=$6
shift 6
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/changes" "$folder/work" "$folder/image"
mount -t overlay -o "lowerdir=/,upperdir=$folder/changes,workdir=$folder/work" overlay "$folder/image"
cd "$folder/image"
for system in proc dev sys; do mount --rbind "/$system" "$system"; done
chroot . sh -ec "$make_folders"
mkdir -p srv/dalle
for name in $copied; do cp -r "$repository/$name" srv/dalle; done
# Here Python may be in root's home. In an image anybody can read it.
while [ "$python" != / ]; do python=$(dirname "$python"); chmod a+rx ".$python"; done
for writable in weights generations; do mount --bind "$writable" "$writable"; done
mount -t tmpfs tmpfs tmp
mount -o remount,bind,ro .
if touch srv/dalle/app.py; then exit 1; fi
exec chroot . setpriv $user env --ignore-environment --chdir=/srv/dalle "$@"
"""


def can_mount() -> bool:
    """Return whether this process may make a view of the file system of its own."""
    if not all(map(shutil.which, ("unshare", "chroot", "setpriv"))):
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_all_that_is_copied_is_sent_to_the_builder() -> None:
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*" and sorted(line[1:] for line in lines if line.startswith("!")) == sorted(COPIED)


@pytest.mark.skipif(not can_mount(), reason="mounting takes Linux and root")
def test_the_image_draws_read_only_as_a_user_without_a_name(tmp_path: Path) -> None:
    [make_folders] = re.findall(r"^RUN (useradd .*)$", DOCKERFILE, re.MULTILINE)
    [variables] = re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)
    [start] = re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)
    python, script = json.loads(start)
    assert python == "python" and re.search(r"^USER 10001:0$", DOCKERFILE, re.MULTILINE)
    port = free_port()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = ("DALLE_MODEL_VERSION=Tiny", "DALLE_THREADS=1", "DALLE_SAVE_TO_DISK=true", f"DALLE_PORT={port}")
    ours = (f"PATH={path}", f"CC={UNOPTIMIZED}", *settings)
    user = "--reuid=54321 --regid=0 --clear-groups"
    places = (str(tmp_path), os.path.realpath(sys.executable), make_folders, str(ROOT), " ".join(COPIED), user)
    command = (*variables.split(), *ours, python, script)
    with running("unshare", "--mount", "sh", "-c", IN_IMAGE, "sh", *places, *command) as server:
        assert eventually(lambda: server.poll() is not None or answers(f"http://127.0.0.1:{port}/health/ready"))
        assert draws(port)
        image = Path(f"/proc/{server.pid}/root")
        assert list((image / "generations").glob("*/0.*")), "the image is saved"
        assert platform.machine() != "x86_64" or list((image / "weights" / "converted").iterdir()), "later starts are quicker"
        assert {(image / folder).stat().st_mode & 0o7777 for folder in ("weights", "generations")} == {0o775}
