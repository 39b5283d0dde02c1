"""Publishes releases of growing size to a stand-in GitHub and reports what the publishing process held in memory.

    python tests/benchmarks/upload.py               # models of 6, 60 and 600 MB

Real bytes over real HTTP to a server in a process of its own. Ends with an error if the token is in any output.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SUPPORT = Path(__file__).resolve().parents[1] / "support"
SCRIPTS = SUPPORT.parents[1] / "scripts"
MAKE_DIST = Path(__file__).with_name("children") / "make_dist.py"
sys.path[:0] = [str(SUPPORT), str(SCRIPTS)]

from measure import Job, run_in_turn  # noqa: E402

from dists import REPOSITORY, TOKEN  # noqa: E402
from model_release.base.text import table  # noqa: E402

SIZES_MB = (6, 60, 600)


def main() -> None:
    """Serves, publishes each size once, prints the table."""
    with tempfile.TemporaryDirectory(prefix="upload-benchmark-") as place:
        server = subprocess.Popen(
            [sys.executable, "-m", "standins.github", "--repository", REPOSITORY, "--write-token", TOKEN],
            cwd=SUPPORT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url = json.loads(server.stdout.readline() if server.stdout else "")["url"]
            os.environ |= {"GITHUB_API_URL": url, "GITHUB_TOKEN": TOKEN, "GITHUB_REPOSITORY": REPOSITORY}
            jobs = []
            for size_mb in SIZES_MB:
                tag = f"model-v1.0.{size_mb}"
                dist = Path(place) / tag
                # Not here: the memory a process has had counts for those it starts.
                subprocess.run([sys.executable, MAKE_DIST, SUPPORT, SCRIPTS, dist, tag, str(size_mb)], check=True)
                publish = (sys.executable, SCRIPTS / "publish.py", "--dist", dist, "--tag", tag)
                jobs.append(Job(name=f"{size_mb} MB", command=publish))
            runs = run_in_turn(jobs, 1, lambda line: print(line, file=sys.stderr), patient=False)
        finally:
            server.terminate()
            server.wait()
    rows = []
    for name, (usage,) in runs.items():
        if TOKEN in usage.stdout:
            raise SystemExit("error: the token must be in no output.")
        rows.append([name, f"{usage.peak_rss_bytes / 1e6:.0f}", f"{usage.wall_s:.1f}"])
    print(table(["model", "peak RSS, MB", "s"], rows, right=[1, 2]))


if __name__ == "__main__":
    main()
