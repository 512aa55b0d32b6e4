"""Shared constants."""

from __future__ import annotations

from enum import StrEnum

VERSION = "1.0.0"


class ModelSize(StrEnum):
    """The models that can be served."""

    TINY = "Tiny"
    MINI = "Mini"
    MEGA = "Mega"
    MEGA_FULL = "Mega_full"


class ImageFormat(StrEnum):
    """The formats that images are returned and saved in; the value is the response's `generatedImgsFormat`."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"


# Example prompts for people who don't know the model yet. Tiny's are those of its model card, which a test checks.
_GENERAL_PROMPTS = (
    "a lighthouse on a cliff at sunset, oil painting",
    "an armchair in the shape of an avocado",
    "a watercolour of a fox in the snow",
    "a red vintage car in front of a diner",
    "a bowl of ramen, studio photograph",
    "the skyline of a city on Mars",
)
EXAMPLE_PROMPTS = {
    ModelSize.TINY: (
        "a cat",
        "two dogs in the park",
        "a penguin in the snow",
        "a bee above a flower",
        "a ghost at night",
        "a red heart on a yellow background",
        "a cat inside a red circle",
    ),
    ModelSize.MINI: _GENERAL_PROMPTS,
    ModelSize.MEGA: _GENERAL_PROMPTS,
    ModelSize.MEGA_FULL: _GENERAL_PROMPTS,
}

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8", "int4")
RUNNERS = ("auto", "cuda", "native", "openvino", "torch")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

# Limits of a request's fields: wide enough for every sensible image, narrow enough that no logit overflows.
MAX_PROMPT_CHARACTERS = 4000
MAX_OPENAI_PROMPT_CHARACTERS = 32_000  # OpenAI's limit
MIN_IMAGE_SIDE = 16  # pixels; the OpenAI route scales images to sizes in this range
MAX_IMAGE_SIDE = 2048
MAX_BEST_OF = 16
MAX_SEED = 2**63 - 1
MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 100.0
MAX_TOP_K = 2**14  # the number of logits that a token is drawn from
MIN_SUPERCONDITION_FACTOR = 0.0
MAX_SUPERCONDITION_FACTOR = 100.0

# Images returned as URLs are kept in memory for --url_ttl, up to this many bytes in all: 2,000 of Tiny's images, or a few dozen
# of the largest.
MAX_LINKED_BYTES = 256 * 2**20

MAX_BODY_BYTES = 2**20
# A body over MAX_BODY_BYTES is still read to its end up to this size, so that the client receives the 413; above it the
# connection is closed.
MAX_RECEIVED_BYTES = 16 * 2**20
# A response that its client reads slowly is buffered in memory up to this size, above it in a temporary file. Ten large images
# fit.
MAX_BUFFERED_BYTES = 64 * 2**20

# A client that waits for images occupies a thread. There are many more threads than clients that can wait (--max_queue raises
# both), so that `GET /` always finds a free thread. A waiting client takes about 40 kB, thread included. Clients that send slowly
# occupy no thread; those that read slowly do only for a stream larger than the buffer.
SERVER_THREADS = 512
SPARE_THREADS = 100  # in addition to those of waiting clients
# In addition to connections with a thread: idle ones, and clients that send or read slowly. Waitress's default is 100 in all.
IDLE_CONNECTIONS = 288

# Open files of the process in addition to its connections: those of a start (14 at most were seen, 13 afterwards), and those that
# requests open for a moment (6 were seen while the images of 60 callers were saved).
START_FILES = 24
SPARE_FILES = 32
LEAST_CONNECTIONS = 8  # the six of a browser, and health checks

# The Retry-After while the server stops: about the duration of a restart.
RESTART_SECONDS = 10

# The variable that names another repository of the hub with weights in the same format: `owner/name` or `owner/name@revision`. It
# is for mirrors and tests, so there is no flag; engine/weights/hub.py reads it.
HUB_REPO_VARIABLE = "DALLE_HUB_REPO"

# The variable that names the only instruction set that the native decoder may use, for comparisons.
INSTRUCTION_SET_VARIABLE = "DALLE_INSTRUCTION_SET"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_SETTING = 2  # as argparse exits
EXIT_BAD_CHECKPOINT = 3
EXIT_ENGINE_FAILED = 4  # it died, hung, or could not draw its first image: a restart may help
EXIT_INTERRUPTED = 130  # as shells report Ctrl+C
