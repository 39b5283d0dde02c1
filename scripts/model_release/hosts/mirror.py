"""A release's files -> a mirror that browsers can read from, proven by asking as a browser does."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from model_release.base.errors import HostError, UsageError
from model_release.base.http import HttpClient
from model_release.base.progress import Progress, silent
from model_release.base.retry import (
    RetriesExhaustedError,
    RetryPolicy,
    TransientError,
    retry,
)
from model_release.contract.manifest import FileEntry, Manifest, version_query
from model_release.hosts.cors_probe import Probe, check_origin, probe
from model_release.hosts.host import Mirror

HUB_PREFIX = "hub:"
HUB_TARGET = re.compile(r"hub:(?!.*(?:\.\.|--))([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})", re.ASCII)
S3_TARGET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9][A-Za-z0-9._-]{0,99})*)/?", re.ASCII)


def match_target(target: str) -> re.Match[str]:
    """A mirror by its name: `hub:ORG/REPO`, or `s3://BUCKET/PREFIX` with bucket and prefix apart.

    Raises:
        UsageError: It is neither.
    """
    of_hub = target.startswith(HUB_PREFIX)
    match = (HUB_TARGET if of_hub else S3_TARGET).fullmatch(target)
    if match is None:
        form, example = ("hub:ORG/REPO", "hub:octocat/gpt2") if of_hub else ("s3://BUCKET/PREFIX", "s3://models/gpt2")
        if not of_hub and not target.startswith("s3:"):
            form = f"hub:ORG/REPO or {form}"
        raise UsageError(f"a mirror must be {form}, got {target[:80]!a}. Use e.g. {example}.")
    return match


@dataclass(frozen=True, kw_only=True)
class AppMirror:
    """A mirror that the web app is to load its model from.

    Attributes:
        mirror: Where the files go.
        web: The network.
        origin: Where the web app is served, e.g. `https://app.example`.
        progress: Told what happens.
        retry_policy: How long the mirror may take to answer.
    """

    mirror: Mirror
    web: HttpClient
    origin: str
    progress: Progress = silent
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        check_origin(self.origin)

    def __call__(self, document: Manifest, dist: Path, entries: Iterable[FileEntry], *, was_public: bool) -> str:
        """Mirrors a release, and fetches its model as a page of the app would.

        Args:
            document: The release's manifest.
            dist: The folder that has its files.
            entries: All of them, the manifest and the checksums too.
            was_public: Whether a release under the tag is public already; else what earlier tries left there goes.

        Returns:
            What `VITE_MODEL_URL` may say.

        Raises:
            ManifestError: The mirror serves other bytes.
            HostError: The mirror refuses, or would not let a page of `origin` read the model.
        """
        folder, uploaded = self.mirror.upload(document, dist, tuple(entries), was_public=was_public)
        model = document.app_model
        url = f"{folder}/{model.name}?v={version_query(document.version, model.sha256)}"
        result = self._probe(url, model)
        if result.findings and all(finding.by_cache for finding in result.findings):
            for finding in result.findings:  # Amazon's S3 is like that by itself, and pages can read it until then.
                self.progress(f"warning: {finding.message}")
        elif any(finding.error is HostError for finding in result.findings):
            raise HostError(
                f"{result.findings[0].message} The mirror itself must let {self.origin} read: allow GET from it in the "
                "bucket's CORS rules, and reading without a login."
            )
        else:
            result.require()
        self.progress(f"mirror: {len(uploaded)} files uploaded; a page of {self.origin} can read the model")
        return url

    def _probe(self, url: str, model: FileEntry) -> Probe:
        """Fetches the model; what may pass is tried again."""
        result: Probe

        def attempt() -> None:
            nonlocal result
            result = probe(url, self.web, origin=self.origin, sha256=model.sha256, size_bytes=model.size_bytes)
            if result.may_pass:
                raise TransientError(f"mirror: {result.findings[0].message}")

        try:
            retry(attempt, self.retry_policy, self.progress)
        except RetriesExhaustedError as failure:
            raise HostError(f"{result.findings[0].message} The release is not public yet. Run it again.") from failure
        return result
