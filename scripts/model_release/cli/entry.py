"""The door of every command: a Python that cannot run it is told so in one sentence.

Nothing is imported before that is known, and nothing here is new to an old Python.
"""

import sys

_OLDEST = (3, 11)
_ADVICE = "Run bash scripts/demo.sh, or use .venv/bin/python."
_INTERRUPTED = 130
_MISSING_TOOL = 2  # The exit code of `MissingToolError`, which an old Python cannot load.


def main(command: str) -> None:
    """Runs a command by its name.

    Libraries are imported where they are needed, so that a missing one may show late in a run.
    """
    if sys.version_info < _OLDEST:
        _refuse(f"Python must be {_dotted(_OLDEST)} or newer, got {_dotted(sys.version_info[:3])}")
    try:
        from model_release.cli.main import COMMANDS, run
        from model_release.cli.terminal import prepare

        prepare()
        run(next(known for known in COMMANDS if known.name == command))
    except KeyboardInterrupt:  # Before `run` minds it.
        print("error: interrupted. Nothing was begun; run it again.", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except ModuleNotFoundError as missing:
        library = (missing.name or "").partition(".")[0]
        if library in ("", "model_release") or library in sys.stdlib_module_names:
            raise  # A defect of ours or a broken Python: the traceback says where.
        _refuse(f"the Python module {library} must be installed, got {sys.executable} without it")


def _dotted(version: "tuple[int, ...]") -> str:
    return ".".join(map(str, version))


def _refuse(reason: str) -> None:
    print(f"error: {reason}. {_ADVICE}", file=sys.stderr)
    sys.exit(_MISSING_TOOL)
