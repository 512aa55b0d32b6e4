"""Hold the values that more than one module needs; values only."""

from __future__ import annotations

from enum import StrEnum

VERSION = "1.0.0"


class ModelSize(StrEnum):
    """Name the models that can be served."""

    TINY = "Tiny"
    MINI = "Mini"
    MEGA = "Mega"
    MEGA_FULL = "Mega_full"


class ImageFormat(StrEnum):
    """Name the formats that an image can be answered or saved in; the value is the answer's `generatedImgsFormat`."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"


# Prompts to begin with, for people who don't know the model yet. Tiny's are those of its card (a test holds that).
_ANYTHING = (
    "a lighthouse on a cliff at sunset, oil painting",
    "an armchair in the shape of an avocado",
    "a watercolour of a fox in the snow",
    "a red vintage car in front of a diner",
    "a bowl of ramen, studio photograph",
    "the skyline of a city on Mars",
)
EXAMPLE_PROMPTS = {
    ModelSize.TINY: (
        "a red circle on a blue background",
        "small green star at the top",
        "two yellow hearts",
        "a pink ring above a black square, white background",
        "a big purple diamond in the bottom left corner",
        "an orange cross inside a white circle on gray",
    ),
    ModelSize.MINI: _ANYTHING,
    ModelSize.MEGA: _ANYTHING,
    ModelSize.MEGA_FULL: _ANYTHING,
}

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8", "int4")
RUNNERS = ("auto", "native", "openvino", "torch")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

# What a request may ask for. Wide enough for every sensible picture, narrow enough that no logit overflows.
MAX_PROMPT_CHARACTERS = 4000
MAX_OPENAI_PROMPT_CHARACTERS = 32_000  # as OpenAI's own
MIN_IMAGE_SIDE = 16  # of the sizes that the OpenAI route scales pictures to, in pixels
MAX_IMAGE_SIDE = 2048
MAX_SEED = 2**63 - 1
MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 100.0
MAX_TOP_K = 2**14  # the logits that are drawn from
MIN_SUPERCONDITION_FACTOR = 0.0
MAX_SUPERCONDITION_FACTOR = 100.0

# Images answered as URLs are kept in memory: for --url_ttl, and all together in so much. 2,000 of Tiny's, a few dozen
# of the largest.
MAX_LINKED_BYTES = 256 * 2**20

MAX_BODY_BYTES = 2**20
# Up to here a body past MAX_BODY_BYTES is still read to its end, so that its sender gets to read the 413; past it
# the connection is cut.
MAX_RECEIVED_BYTES = 16 * 2**20
# Up to here an answer that its caller reads slowly is kept in memory, past it in a temporary file. Ten large pictures fit.
MAX_BUFFERED_BYTES = 64 * 2**20

# A caller that waits for images holds a thread, so there are many more threads than callers that can wait (and more still where
# --max_queue lets more of them wait): `GET /` always finds a free one. A caller who waits costs about 40 kB, thread included.
# Slow senders hold none, and readers none but of a stream that is past what is buffered.
SERVER_THREADS = 512
SPARE_THREADS = 100  # beside those of callers who wait
# Beside those that hold a thread: idle ones, slow senders and readers. Waitress's own default is 100 connections in all.
IDLE_CONNECTIONS = 288
OTHER_FILES = 200  # that a process may have open beside its connections

# What a caller is told to wait, in seconds, while the server stops: about what another start takes.
RESTART_SECONDS = 10

# Another repository of the hub with weights of the same form: `owner/name` or `owner/name@revision`. For mirrors and tests, so no
# flag; engine/weights/hub.py reads it.
HUB_REPO_VARIABLE = "DALLE_HUB_REPO"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_SETTING = 2  # as argparse exits
EXIT_BAD_CHECKPOINT = 3
EXIT_ENGINE_FAILED = 4  # it died, hangs, or could not draw its first image: another start may help
EXIT_INTERRUPTED = 130  # as a shell has it for Ctrl+C
