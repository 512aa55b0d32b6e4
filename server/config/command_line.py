"""The settings from the command line and the environment. The command line wins, then the environment, then the defaults."""

from __future__ import annotations

import argparse
import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from consts import HUB_REPO_VARIABLE, INSTRUCTION_SET_VARIABLE
from server.config.settings import FLAGS, Flag, Settings
from utils import CommandLineParser

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
  python app.py --save_to_disk               save images in ./generations
  python app.py --host 0.0.0.0 --port 8080   for the whole network
  python app.py --host localhost,10.0.0.1    for this machine and one network
  DALLE_MODEL_VERSION=mega python app.py     the large model; needs a GPU
  python app.py --host :: --api_key_file keys.txt
                                             only with an API key

exit status: 0 stopped on request, 2 bad setting, 3 bad weights, 4 the engine
failed (it died, or a step hung): start the server again.
"""

# Where a service named dalle is: Kubernetes sets DALLE_PORT to it, and others such as DALLE_SERVICE_HOST.
_KUBERNETES_LINK = "tcp://"
_KUBERNETES_NAME = re.compile(r"DALLE_(SERVICE_(HOST|PORT\w*)|PORT_\d+_TCP(_(PROTO|PORT|ADDR))?)")

log = logging.getLogger("dalle.settings")


def build_parser() -> CommandLineParser:
    """Build the parser from the table of flags. Values stay text, to be parsed like those of the environment."""
    parser = CommandLineParser("python app.py", _DESCRIPTION, _EPILOG, name="app.py")
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
    """Return the settings. A bad one ends the process with one line on standard error and status 2."""
    parser = build_parser()
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        _refuse_unknown(parser, unknown)
    given = vars(known)
    values: dict[str, Any] = {}
    for flag in FLAGS:
        sources = [(flag.option, given[flag.name]), (flag.variable, _variable(environment, flag))]
        if flag.name == "port":  # as Cloud Run, Heroku and Render set it
            sources.append(("PORT", environment.get("PORT") or None))
        for source, text in sources:
            if text is not None:
                values[flag.name] = _read(parser, flag, source, ",".join(text) if isinstance(text, list) else text)
                break
    return Settings(**values)


def _refuse_unknown(parser: CommandLineParser, words: Sequence[str]) -> NoReturn:
    """Report unknown options without their values: `--api_keys SECRET` is an easy mistake."""
    names = [word.partition("=")[0] for word in words if word.startswith("--")]
    close = difflib.get_close_matches(names[0], [flag.option for flag in FLAGS], n=1) if names else []
    hint = f"; is {close[0]} meant?" if close else ""
    parser.error(f"unrecognized arguments: {' '.join(_without_value(word) for word in words)}{hint}")


def _without_value(word: str) -> str:
    if not word.startswith("-"):
        return "..."
    name, equals, _ = word.partition("=")
    return f"{name}=..." if equals else name


def _variable(environment: Mapping[str, str], flag: Flag) -> str | None:
    """Return a flag's variable, None if it is unset or empty. An empty secret is returned: it is an error, not no secret."""
    text = environment.get(flag.variable)
    if flag.name == "port" and text and text.startswith(_KUBERNETES_LINK):
        return None
    return text if text or flag.is_secret else None


def _read(parser: argparse.ArgumentParser, flag: Flag, source: str, text: str) -> Any:
    if flag.is_secret and not text.strip():
        parser.error(f"{source} is empty: set a value, or leave it out")
    try:
        return flag.parse(text)
    except ValueError as error:
        parser.error(f"{source} {error}" if flag.is_secret else f"{source} {error}, not {text!r}")


def warn_of_unknown_variables(environment: Mapping[str, str]) -> None:
    """Log a warning for each `DALLE_...` variable that is not a setting, but for those that Kubernetes sets."""
    known = [*(flag.variable for flag in FLAGS), HUB_REPO_VARIABLE, INSTRUCTION_SET_VARIABLE]
    others = (name for name in environment if name.startswith("DALLE_") and name not in known)
    for name in sorted(name for name in others if not _KUBERNETES_NAME.fullmatch(name)):
        close = [each for each in known if each.startswith(f"{name}_")] or difflib.get_close_matches(name, known, n=1)
        log.warning("the environment variable %s sets nothing%s", name, f"; is {close[0]} meant?" if close else "")
