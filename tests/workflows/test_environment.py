"""What `scripts/environment.sh` installs on a machine that lacks it."""

import os
import subprocess
from pathlib import Path

import pytest

from acting import ROOT

REQUIRED = (ROOT / "requirements.txt").read_text().split()
TORCH = next(word for word in REQUIRED if word.startswith("torch=="))

PIP = """#!/bin/bash
[ "$1 $2" = "-m pip" ] || exit 1  # What is installed already is asked first: nothing is.
echo "$*" >>"$LOG"
[[ "$*" != *--index-url* ]]  # Its index is out of reach.
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def call(command: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A function of the file, called by bash as the scripts do."""
    bash = ["/bin/bash", "-c", f'. scripts/environment.sh && {command} "$@"', "bash", *arguments]
    return subprocess.run(bash, cwd=ROOT, env=variables, capture_output=True, text=True)


def install_torch(folder: Path, **variables: str) -> tuple[int, list[str]]:
    """The exit code of `install_torch`, and what pip was asked, where torch's index does not answer."""
    python, log = program(folder / "python", PIP), folder / "log"
    done = call("install_torch", str(python), "requirements.txt", PATH=os.environ["PATH"], LOG=str(log), **variables)
    return done.returncode, log.read_text().splitlines()


def test_a_person_gets_the_plain_pin_where_torchs_index_is_out_of_reach(tmp_path: Path) -> None:
    code, asked = install_torch(tmp_path)
    assert code == 0
    assert [line.split()[-1] for line in asked] == [TORCH] * 2


def test_a_workflow_never_gets_gigabytes_in_silence(tmp_path: Path) -> None:
    code, asked = install_torch(tmp_path, GITHUB_ACTIONS="true")
    assert code != 0
    assert [line.split()[-1] for line in asked] == [f"{TORCH}+cpu"]
    assert "--retries 8" in asked[0]


def install_chromium(folder: Path, *there: str, apt: int = 0, user: int = 0, **variables: str) -> tuple[str, list[str]]:
    """What a machine with some programs is told, and what it installs; apt-get ends with a code."""
    log = folder / "log"
    log.touch()
    programs = folder / "bin"
    program(programs / "id", f"#!/bin/bash\necho {user}\n")
    program(programs / "sudo", '#!/bin/bash\n[ "$1" = -n ] && shift && "$@"\n')
    program(programs / "apt-get", f'#!/bin/bash\necho "${{@: -1}}" >>"{log}"\nexit {apt}\n')
    for name in there:
        program(programs / name, "#!/bin/bash\n")
    done = call("install_chromium", PATH=str(programs), **variables)
    assert done.returncode == 0
    return done.stderr, log.read_text().splitlines()


@pytest.mark.parametrize("user", [0, 1000])
def test_chromium_is_installed_where_there_is_none(tmp_path: Path, user: int) -> None:
    said, asked = install_chromium(tmp_path, user=user)
    assert asked == ["-qq", "chromium"]
    assert said == "installing chromium\n"


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])
def test_no_chromium_is_installed_beside_a_browser(tmp_path: Path, name: str) -> None:
    assert install_chromium(tmp_path, name) == ("", [])


def test_no_chromium_is_installed_where_one_is_named(tmp_path: Path) -> None:
    assert install_chromium(tmp_path, CHROMIUM_PATH="/opt/chromium") == ("", [])


def test_who_may_not_install_chromium_is_told_that_it_is_missing(tmp_path: Path) -> None:
    said, _ = install_chromium(tmp_path, apt=100)
    assert "the browser tests need it" in said
