"""The door of every command: a Python that cannot run it is told so in one sentence.

Only the standard library is imported before that is known, and nothing here is new to an old Python.
"""

import sys

from model_release.errors import MissingToolError, one_line

_OLDEST = (3, 11)
_ADVICE = "Run bash scripts/demo.sh, or use .venv/bin/python."


def main(command: str) -> None:
    """Runs a command of `cli` by its name.

    Libraries are imported where they are needed, so that a missing one may show late in a run.
    """
    if sys.version_info < _OLDEST:
        _refuse(f"Python must be {_dotted(_OLDEST)} or newer, got {_dotted(sys.version_info[:3])}")
    try:
        from model_release import cli

        cli.run(getattr(cli, command))
    except ModuleNotFoundError as missing:
        library = (missing.name or "").partition(".")[0]
        if library in ("", "model_release") or library in sys.stdlib_module_names:
            raise  # A defect of ours or a broken Python: the traceback says where.
        _refuse(f"the Python module {library} must be installed, got {sys.executable} without it")


def _dotted(version: "tuple[int, ...]") -> str:
    return ".".join(map(str, version))


def _refuse(reason: str) -> None:
    print(f"error: {one_line(reason)}. {_ADVICE}", file=sys.stderr)
    sys.exit(MissingToolError.exit_code)
