"""Start the server: read the settings, bind the port, load and warm up the model, serve.

Everything that can be wrong without the model is checked before torch is imported or a weight is read.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from consts import EXIT_BAD_CHECKPOINT, EXIT_BAD_SETTING, EXIT_ENGINE_FAILED, EXIT_OK

try:
    from flask import Flask
    from tqdm import tqdm

    import server
    from cluster.ray_process import ClusterUnusable
    from dalle_model import CheckpointError, DalleModel, EngineClosed, GenerationFailed, InvalidRequest, Observer
    from host.console import ensure_streams, say
    from host.malloc import share_arenas
    from host.unfinished import sweep_unfinished
    from server.config.command_line import read_settings, warn_of_unknown_variables
    from server.config.settings import Settings
    from server.images.output_folder import check_writable
    from server.middleware.rate_limit import why_storage_is_unusable
    from server.operations.logs import configure_logging
    from server.operations.metrics import Metrics
    from server.wsgi.file_limit import why_too_few_files
    from server.wsgi.listener import address_of, is_loopback, take_port, warn_of_open_door
    from server.wsgi.main_loop import MainLoop
    from server.wsgi.server import build_server
    from server.wsgi.thread_limit import why_too_few_threads
except ModuleNotFoundError as error:
    print(f"app.py: this Python has no package {error.name}: run `make serve`, or app.py with .venv/bin/python", file=sys.stderr)
    sys.exit(EXIT_BAD_SETTING)


_log = logging.getLogger("dalle.start")


class StartRefused(Exception):
    """The server cannot start with these settings: one line with the reason and the remedy."""


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the server until it is told to stop; return the exit status."""
    ensure_streams()
    share_arenas()
    settings = read_settings(arguments, environment)
    configure_logging(settings.log_level, settings.log_format)
    _warn_of_small_queue(settings)
    warn_of_unknown_variables(environment)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_loading)
    try:
        with ExitStack() as opened:
            listeners = [opened.enter_context(listener) for listener in _take_port(settings)]
            warn_of_open_door(settings, listeners)
            _check_output_dir(settings)
            _refuse_if(why_too_few_files())
            _refuse_if(why_too_few_threads(settings))
            _refuse_if(why_storage_is_unusable(settings))
            _refuse_if(_why_address_is_useless(settings))
            has_ended_well = _serve(settings, listeners)
    except (StartRefused, ClusterUnusable, InvalidRequest) as error:  # InvalidRequest: this machine lacks the device or precision
        print(f"app.py: {error}", file=sys.stderr)
        return EXIT_BAD_SETTING
    except CheckpointError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return EXIT_BAD_CHECKPOINT
    except (GenerationFailed, EngineClosed):
        print("app.py: the model is loaded, but could not draw a first image; the log above has the reason", file=sys.stderr)
        return EXIT_ENGINE_FAILED
    if not has_ended_well:
        print("app.py: the engine died, or hangs; the log above has the reason", file=sys.stderr)
        return EXIT_ENGINE_FAILED
    say("Stopped.")
    return EXIT_OK


def create_app() -> Flask:
    """Load the model and build the app for another WSGI server: `gunicorn --threads 16 'app:create_app()'`.

    The settings come from the environment. The model is closed when the process exits.
    """
    ensure_streams()
    share_arenas()
    settings = read_settings([], os.environ)
    configure_logging(settings.log_level, settings.log_format)
    _warn_of_small_queue(settings)
    warn_of_unknown_variables(os.environ)
    if _only_watches_files():
        return Flask(__name__)
    _check_output_dir(settings)
    _refuse_if(why_storage_is_unusable(settings))
    _refuse_if(_why_address_is_useless(settings))
    metrics = Metrics()
    model = _load(settings, metrics)
    atexit.register(model.close, 0)
    _log.info("process %d has loaded a model of its own; so does each other worker process", os.getpid())
    return server.create_app(model, settings, metrics)


def _only_watches_files() -> bool:
    """Return whether this is the outer process of `flask run --debug`, which builds an app and never serves it."""
    is_debug = os.environ.get("FLASK_DEBUG", "0").lower() not in ("", "0", "false", "no")
    is_flask_run = Path(sys.argv[0]).stem == "flask" and "run" in sys.argv and "--no-reload" not in sys.argv
    return is_flask_run and is_debug and os.environ.get("WERKZEUG_RUN_MAIN") != "true"


def _warn_of_small_queue(settings: Settings) -> None:
    """Log a warning if a caller's shares of batch and queue together hold fewer images than --max_images."""
    held = settings.images_per_request
    if settings.max_images > held:
        _log.warning(
            "--max_images is %d, but one caller's share of --max_batch_size and --max_queue holds only %d: "
            "requests are limited to that",
            settings.max_images,
            held,
        )


def _take_port(settings: Settings) -> list[socket.socket]:
    try:
        return take_port(settings.host, settings.port)
    except OSError as error:
        raise _cant_listen(settings, error) from error


def _cant_listen(settings: Settings, error: OSError) -> StartRefused:
    where = error.filename or f"{','.join(settings.host)} port {settings.port}"
    return StartRefused(f"can't listen on {where} ({error.strerror}): choose another with --port or --host")


def _check_output_dir(settings: Settings) -> None:
    if not settings.save_to_disk:
        return
    try:
        check_writable(settings.output_dir)
        sweep_unfinished(settings.output_dir)
    except OSError as error:
        raise StartRefused(
            f"can't write to {settings.output_dir} ({error.strerror}): choose another folder with --output_dir"
        ) from error


def _refuse_if(reason: str | None) -> None:
    if reason is not None:
        raise StartRefused(reason)


def _why_address_is_useless(settings: Settings) -> str | None:
    if settings.ray_address is None or settings.replicas is not None:
        return None
    return "--ray_address has no effect without --replicas: add --replicas with a number, or auto"


def _serve(settings: Settings, listeners: Sequence[socket.socket]) -> bool:
    """Serve until the end. Return whether the end was requested and orderly."""
    metrics = Metrics()
    model = _load(settings, metrics)
    _refuse_if(why_too_few_files())  # again, because a GPU's driver opens many
    app = server.create_app(model, settings, metrics)
    try:
        waitress = build_server(app, listeners, settings.images_at_once + settings.max_queue)
    except OSError as error:
        raise _cant_listen(settings, error) from error
    except RuntimeError as error:  # other processes have taken threads since the check
        raise StartRefused(
            "the system allows too few threads, because other processes have started some meanwhile: start again"
        ) from error
    say(_welcome(listeners, settings))
    return MainLoop(waitress, model, settings.step_timeout).run(settings.drain_timeout)


def _load(settings: Settings, observer: Observer) -> DalleModel:
    name = settings.model_version.value
    say(f"Loading DALL-E {name} ...")
    started = time.perf_counter()
    model = _load_here(settings, observer) if settings.replicas is None else _load_cluster(settings, observer)
    say(f"Loaded in {time.perf_counter() - started:.1f} s. Warming up with one image ...")
    with tqdm(desc="warming up", unit="step", leave=False, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        seconds = model.warm_up(show)
    say(f"Warm: one image takes {seconds:.1f} s here.")
    return model


def _load_here(settings: Settings, observer: Observer) -> DalleModel:
    return DalleModel(
        settings.model_version.value.lower(),
        models_root=settings.models_root,
        device=settings.device,
        runner=settings.runner,
        precision=settings.precision,
        threads=settings.threads,
        cache_dir=settings.cache_dir,
        max_batch_size=settings.max_batch_size,
        max_queue=settings.max_queue,
        max_batch_per_caller=settings.max_batch_per_caller,
        max_queue_per_caller=settings.queue_per_caller,
        request_timeout=settings.request_timeout,
        observer=observer,
        show_progress=True,
    )


def _load_cluster(settings: Settings, observer: Observer) -> DalleModel:
    from cluster.replica import ReplicaSettings
    from cluster.start import ClusterSettings, start_cluster

    replica = ReplicaSettings(
        settings.model_version.value.lower(),
        models_root=settings.models_root,
        device=settings.device,
        runner=settings.runner,
        precision=settings.precision,
        threads=settings.threads,
        cache_dir=settings.cache_dir,
        max_batch_size=settings.max_batch_size,
        step_timeout=settings.step_timeout,
    )
    return start_cluster(
        ClusterSettings(
            replica,
            replicas=settings.replicas if isinstance(settings.replicas, int) else None,
            max_replicas=settings.max_replicas,
            ray_address=settings.ray_address,
            max_queue=settings.max_queue,
            batch_per_caller=settings.max_batch_per_caller,
            queue_per_caller=settings.queue_per_caller,
            request_timeout=settings.request_timeout,
            drain_timeout=settings.drain_timeout,
        ),
        observer,
    )


def _welcome(listeners: Sequence[socket.socket], settings: Settings) -> str:
    address = address_of(listeners[0])
    picture = f"drawing.{settings.img_format.value}"
    decode = 'import base64, json, sys; sys.stdout.buffer.write(base64.b64decode(json.load(sys.stdin)["generatedImgs"][0]))'
    key = ' -H "X-API-Key: $DALLE_API_KEY"' if settings.api_keys else ""
    lines = [
        "",
        f"Serving at {address} (Ctrl+C stops it). Draw in a browser at {address}/playground, or from here:",
        "",
        f"""  curl -s{key} -d '{{"text": "a red circle on a blue background"}}' {address}/dalle |""",
        f"    python3 -c '{decode}' > {picture}",
        "",
    ]
    if settings.save_to_disk:
        lines += [f"Images are also saved in {settings.output_dir.resolve()}", ""]
    if all(is_loopback(listener) for listener in listeners):
        lines += ["Only this computer can reach it. To open it to your network, add --host 0.0.0.0", ""]
    elif settings.api_keys:
        lines += ["Other computers can reach it too, by this computer's address, and draw with an API key.", ""]
    else:
        lines += ["Warning: other computers can reach it too and draw, because no API key is set.", ""]
    return "\n".join(lines)


def _stop_loading(signal_number: int, frame: FrameType | None) -> NoReturn:
    """End the process while nothing is served yet. An exception could be swallowed by an import or a destructor."""
    with suppress(OSError):  # nobody reads the output any more
        os.write(sys.stdout.fileno(), b"Stopped.\n")
    os._exit(EXIT_OK)


def exit_at_once(status: int) -> NoReturn:
    """End the process without shutting the interpreter down, in which a thread that still loads weights would crash."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    exit_at_once(main(sys.argv[1:], os.environ))
