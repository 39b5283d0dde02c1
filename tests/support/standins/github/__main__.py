"""Serves a GitHub until it is told to stop.

From tests/: `python -m standins.github --repository someone/app=FOLDER --port 8000`. It prints its
addresses as one line of JSON. `GET /_control/state`, `/log`, `/violations` and `/leaks` show what became of it.
"""

import argparse
import json
import signal
from pathlib import Path

from .faults import Fault
from .models import Token
from .repository import RULESET
from .site import StandInGitHub


def main() -> None:
    """Reads the options, serves, and writes the end state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--repository", action="append", default=[], metavar="OWNER/NAME[=FOLDER]", help="with a folder's files in it"
    )
    parser.add_argument("--write-token", default="write-token", help="the token that may write")
    parser.add_argument("--read-token", default="read-token", help="the token that may only read")
    parser.add_argument("--protect", action="append", default=[], metavar="BRANCH", help="wants pull requests")
    parser.add_argument("--immutable", action="store_true", help="releases are immutable")
    parser.add_argument("--no-pull-requests", action="store_true", help="Actions may not open pull requests")
    parser.add_argument("--fault", action="append", default=[], type=Fault.parse, help="[METHOD ]PATTERN=KIND[*N][@N]")
    parser.add_argument("--state", type=Path, help="where to write the end state as JSON")
    options = parser.parse_args()
    tokens = {options.write_token: Token(), options.read_token: Token(name="reader", write=frozenset())}
    with StandInGitHub(port=options.port, tokens=tokens) as site:
        site.faults = options.fault
        for text in options.repository:
            name, _, folder = text.partition("=")
            root = Path(folder)
            paths = [path for path in sorted(root.rglob("*")) if folder and path.is_file()]
            site.add_repository(
                name,
                {path.relative_to(root).as_posix(): path.read_bytes() for path in paths},
                protected=dict.fromkeys(options.protect, RULESET),
                immutable_releases=options.immutable,
                actions_may_open_pulls=not options.no_pull_requests,
            )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: site.stopping.set())
        print(json.dumps({"url": site.url, "ghes_url": site.ghes_url, "assets_url": site.assets_url}), flush=True)
        site.stopping.wait()
        if options.state:
            log = [vars(request) for request in site.requests]
            shown = {"state": site.snapshot(), "log": log, "violations": site.violations, "leaks": site.leaks}
            options.state.write_text(json.dumps(shown, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
