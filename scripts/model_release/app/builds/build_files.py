"""Which files of a repository say how the app is built, and what they do to a variable: texts in, findings out."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence

from model_release.app.builds.docker import docker_effects
from model_release.app.builds.effect import Effect
from model_release.app.builds.settings import netlify_effects, package_effects, vercel_effects
from model_release.app.builds.vite import vite_effects
from model_release.app.builds.workflows import workflow_effects

ACTION_FILES = re.compile(r"(?:.*/)?\.github/(?:workflows/[^/]+|actions/.+/action)\.ya?ml")
_CI = re.compile(
    r"\.gitlab-ci\.ya?ml|\.circleci/config\.ya?ml|bitbucket-pipelines\.yml|azure-pipelines\.ya?ml|\.travis\.yml|"
    r"amplify\.yml|render\.ya?ml|cloudbuild\.ya?ml|(?:docker-)?compose[\w.-]*\.ya?ml"
)
_DOCKER = re.compile(r"(?:[\w.-]+\.)?(?:Docker|Container)file(?:\.[\w.-]+)?")
_VITE = re.compile(r"(?:vite|astro|nuxt)\.config\.[cm]?[jt]s")
_OTHERS = ("package.json", "netlify.toml", "vercel.json")
_LONGEST_LINE = 2_000


def is_build_file(path: str) -> bool:
    """Whether a file of a repository says how something is built.

    >>> [is_build_file(p) for p in ("a/Dockerfile", ".github/workflows/x.yml", "web/vite.config.ts", "src/x.yml")]
    [True, True, True, False]
    """
    name = posixpath.basename(path)
    return bool(
        ACTION_FILES.fullmatch(path)
        or _CI.fullmatch(path)
        or _CI.fullmatch(name)
        or _DOCKER.fullmatch(name)
        or _VITE.fullmatch(name)
        or name in _OTHERS
    )


def build_files_of(paths: Iterable[str], folder: str) -> list[str]:
    """The files among a repository's that build the app with its env file in `folder`: not those of other packages."""
    paths = list(paths)
    packages = {posixpath.dirname(path) for path in paths if posixpath.basename(path) == "package.json"}

    def is_ours(path: str) -> bool:
        above = _above(posixpath.dirname(path))
        package = next((each for each in above if each in packages), "")
        return package in _above(folder)

    return [path for path in paths if is_build_file(path) and is_ours(path)]


def findings(path: str, text: str, key: str, files: Sequence[str], folder: str | None) -> Iterator[Effect]:
    """What a file does to a key.

    Args:
        path: The file in the repository.
        text: What stands in it.
        key: The variable.
        files: Names of the env files that count, the committed one first.
        folder: Where these are in the repository; None where that is not known.
    """
    name = posixpath.basename(path)
    at = posixpath.dirname(path)
    if not name.endswith(".json"):  # What nobody wrote by hand could take as long as its writer likes.
        text = "\n".join(line[:_LONGEST_LINE] for line in text.split("\n"))
    if name == "package.json":
        found = package_effects(text, key, files, at)
    elif name == "vercel.json":
        found = vercel_effects(text, key, files, at)
    elif name == "netlify.toml":
        found = netlify_effects(text, key, files, at)
    elif _VITE.fullmatch(name):
        found = vite_effects(text, key, files, at, folder)
    elif _DOCKER.fullmatch(name):
        found = docker_effects(text, key, files)
    else:
        found = workflow_effects(text, key, files, is_compose="compose" in name)
    for each in found:
        if not each.file or folder is None or _may_be(posixpath.dirname(each.file), folder):
            yield each


def _may_be(written: str, folder: str) -> bool:
    """Whether a folder, as a script names it from where it runs, may be the one of the env file."""
    parts = [part for part in written.split("/") if part not in ("", ".")]
    if ".." in parts or "$" in written:
        return True
    return not parts or folder.split("/")[-len(parts) :] == parts


def _above(folder: str) -> list[str]:
    """A folder and all above it, the root as an empty text last."""
    found = [folder]
    while folder:
        folder = posixpath.dirname(folder)
        found.append(folder)
    return found
