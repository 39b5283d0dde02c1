"""A release folder -> a mirror that browsers can read from, proven by asking as a browser does."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from model_release.appfiles import version_query
from model_release.errors import HostError
from model_release.manifest import FileEntry
from model_release.probing import probe
from model_release.publishing import check_dist
from model_release.tags import ReleaseTag
from model_release.web import Getter


class Mirror(Protocol):
    """A place that serves files to any origin."""

    def bring(self, dist: Path, entries: Iterable[FileEntry]) -> tuple[str, tuple[str, ...]]:
        """Uploads what is missing; returns the folder's URL and the names that were uploaded."""


@dataclass(frozen=True, kw_only=True)
class Mirrored:
    """A mirrored release.

    Attributes:
        model_url: What `VITE_MODEL_URL` may say.
        uploaded: The files that were not there.
    """

    model_url: str
    uploaded: tuple[str, ...]


def mirror_release(dist: Path, tag: ReleaseTag, mirror: Mirror, web: Getter, *, origin: str) -> Mirrored:
    """Mirrors a release, and fetches its model as the app's page would.

    Args:
        dist: A folder with a whole release.
        tag: The tag it was made for.
        mirror: Where it goes.
        web: The network.
        origin: Where the web app is served.

    Raises:
        ManifestError: The folder is not what its manifest says, or the mirror serves other bytes.
        HostError: The mirror refuses, or would not let a page of `origin` read the model.
    """
    document, entries = check_dist(dist, tag)
    folder, uploaded = mirror.bring(dist, entries)
    model = next(entry for entry in entries if entry.name == document["delivery"]["file"])
    url = f"{folder}/{model.name}?v={version_query(tag.version, model.sha256)}"
    result = probe(url, web, origin=origin, sha256=model.sha256, size_bytes=model.size_bytes)
    if any(finding.error is HostError for finding in result.findings):
        raise HostError(
            f"{result.findings[0].message} The mirror itself must let {origin} read: allow GET from it in the bucket's "
            "CORS rules, and reading without a login."
        )
    result.require()
    return Mirrored(model_url=url, uploaded=uploaded)
