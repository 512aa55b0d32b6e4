"""Read the settings: the command line wins over the environment, which wins over the defaults."""

from __future__ import annotations

import argparse
import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from consts import EXIT_BAD_SETTING, HUB_REPO_VARIABLE
from server.config.settings import FLAGS, Flag, Settings

_DESCRIPTION = """\
Serve DALL-E Mini, DALL-E Mega or the small built-in Tiny over HTTP:
prompts in, images out.
"""

_EPILOG = """\
Every option can also be set in the environment: --max_images is
DALLE_MAX_IMAGES. The command line wins.

examples:
  python app.py --model_version Tiny         try it at once: Tiny is built in
  python app.py                              DALL-E Mini; the first start downloads 1 GB
  python app.py --save_to_disk               keep what is drawn, in ./generations
  python app.py --host 0.0.0.0 --port 8080   for the whole network
  DALLE_MODEL_VERSION=mega python app.py     the big one; wants a GPU
  python app.py --host :: --api_key_file keys.txt
                                             only for who has a key

exit status: 0 stopped on request, 2 a setting can't be used, 3 the weights can't,
4 the engine failed: it died, or a step hung. Start it again.
"""

log = logging.getLogger("dalle.settings")


class _Parser(argparse.ArgumentParser):
    """Say what is wrong in one line, without argparse's usage lines before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_SETTING, f"app.py: {message}; see python app.py --help\n")

    def refuse_unknown(self, words: Sequence[str]) -> NoReturn:
        """Name the options that are unknown, but no value: `--api_keys SECRET` is a mistake easily made."""
        self.error(f"unrecognized arguments: {' '.join(_without_value(word) for word in words)}")


def _without_value(word: str) -> str:
    if not word.startswith("-"):
        return "..."
    name, equals, _ = word.partition("=")
    return f"{name}=..." if equals else name


def build_parser() -> _Parser:
    """Build the parser from the table of flags; every value stays text until it is read."""
    parser = _Parser(
        prog="python app.py",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for flag in FLAGS:
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        arity: dict[str, Any] = {} if flag.bare is None else {"nargs": "?", "const": flag.bare}
        if flag.may_repeat:
            arity["action"] = "append"
        default = "" if flag.default_text == "none" else f" (default: {flag.default_text})"
        groups[flag.group].add_argument(flag.option, metavar=flag.metavar, help=f"{flag.help}{default}", **arity)
    return parser


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read the settings; a bad one ends the process with one line on stderr and status 2."""
    parser = build_parser()
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.refuse_unknown(unknown)
    given = vars(known)
    values: dict[str, Any] = {}
    for flag in FLAGS:
        for source, text in ((flag.option, given[flag.name]), (flag.variable, _variable(environment, flag))):
            if text is not None:
                values[flag.name] = _read(parser, flag, source, ",".join(text) if isinstance(text, list) else text)
                break
    return Settings(**values)


def _variable(environment: Mapping[str, str], flag: Flag) -> str | None:
    """Return what a flag's variable holds. An empty one counts as not given, but not a secret: that would open the door."""
    text = environment.get(flag.variable)
    return text if text or flag.is_secret else None


def _read(parser: argparse.ArgumentParser, flag: Flag, source: str, text: str) -> Any:
    if flag.is_secret and not text.strip():
        parser.error(f"{source} is empty: give it a value, or leave it out to let everybody draw")
    try:
        return flag.parse(text)
    except ValueError as error:
        parser.error(f"{source} {error}" if flag.is_secret else f"{source} {error}, not {text!r}")


def warn_of_unknown_variables(environment: Mapping[str, str]) -> None:
    """Log each `DALLE_...` variable that nothing reads.

    Not an error: Kubernetes, for one, sets `DALLE_SERVICE_HOST` and more beside a service named dalle.
    """
    known = [*(flag.variable for flag in FLAGS), HUB_REPO_VARIABLE]
    for name in sorted(name for name in environment if name.startswith("DALLE_") and name not in known):
        close = difflib.get_close_matches(name, known, n=1)
        log.warning("the environment variable %s sets nothing%s", name, f"; is {close[0]} meant?" if close else "")
