"""A mirror in any S3-compatible store: AWS S3, Aliyun OSS, MinIO. boto3 is imported only here and only when asked for.

A release goes below a key that names its content, so an object never changes once it is there, caches may
keep it for ever, and running again uploads only what is missing. What tries left that never became public is removed.
"""

import base64
import hashlib
import importlib
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from model_release.base.errors import HostError, UsageError
from model_release.base.files import open_file, sha256_of
from model_release.base.http import CONTENT_TYPES
from model_release.base.progress import Progress, silent
from model_release.contract.manifest import CHECKSUMS_NAME, FileEntry, Manifest, checksums
from model_release.hosts.mirror import match_target

FOREVER = "public, max-age=31536000, immutable"

_CHECK_BYTES = 1 << 20


class S3Mirror:
    """Releases in a bucket. Credentials and region are boto3's own affair: its variables, files, roles.

    Args:
        target: `s3://BUCKET/PREFIX`.
        endpoint_url: Another store than AWS, e.g. https://oss-cn-hangzhou.aliyuncs.com.
        public_url: Where the bucket is served, if not by the store itself: a CDN, a domain.
        progress: Told one sentence at a time.
    """

    def __init__(
        self,
        target: str,
        *,
        endpoint_url: str | None = None,
        public_url: str | None = None,
        progress: Progress = silent,
    ) -> None:
        match = match_target(target)
        self._bucket, self._prefix = match[1], match[2].strip("/")
        self._progress = progress
        try:
            boto3, config = importlib.import_module("boto3"), importlib.import_module("botocore.config")
        except ImportError as failure:
            raise UsageError("a mirror s3:// needs boto3. Install it: pip install boto3==1.44.5.") from failure
        self._failures: tuple[type[Exception], ...] = (
            importlib.import_module("botocore.exceptions").BotoCoreError,
            importlib.import_module("botocore.exceptions").ClientError,
            importlib.import_module("boto3.exceptions").Boto3Error,
            ValueError,
        )
        # Checksums only where we ask for one: other stores than AWS refuse boto3's own by default.
        options = config.Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 5},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            self._client = boto3.client("s3", endpoint_url=endpoint_url, config=options)
        except self._failures as failure:
            raise UsageError(
                f"the mirror's options must be right, got: {str(failure)[:200]}. Correct them."
            ) from failure
        self._public_url = (public_url or _address(str(self._client.meta.endpoint_url), self._bucket)).rstrip("/")

    def upload(
        self, document: Manifest, dist: Path, entries: Iterable[FileEntry], *, was_public: bool
    ) -> tuple[str, tuple[str, ...]]:
        """Uploads what is missing and verifies all of it; the checksums come last.

        Args:
            document: The release's manifest; a key holds its tag for people, and the content's hash for machines.
            dist: The folder that has them.
            entries: The files.
            was_public: Whether a release under the tag has been public; else other content under it is of no use.

        Returns:
            The URL of the release's folder, and the names that were uploaded.

        Raises:
            HostError: The store refuses, or holds other bytes than it was given.
        """
        entries = sorted(entries, key=lambda entry: (entry.name == CHECKSUMS_NAME, entry.name))
        content = hashlib.sha256(checksums(entries)).hexdigest()
        folder = "/".join(part for part in (self._prefix, f"{document.tag}-{content[:16]}") if part)
        uploaded = []
        for entry in entries:
            key = f"{folder}/{entry.name}"
            try:
                if not self._holds(key, entry):
                    self._upload(dist / entry.name, key, entry)
                    uploaded.append(entry.name)
                    if not self._holds(key, entry):
                        raise HostError(
                            f"s3://{self._bucket}/{key} must hold what was uploaded, got other bytes. Run it again."
                        )
            except self._failures as failure:
                raise HostError(
                    f"s3://{self._bucket}/{key} must take the file, got: {str(failure)[:200]}. "
                    "Check the bucket, the endpoint and the credentials, and run it again."
                ) from failure
        if not was_public:
            self._remove_tries(document.tag, folder)
        return f"{self._public_url}/{quote(folder)}", tuple(uploaded)

    def _remove_tries(self, tag: str, folder: str) -> None:
        """Removes what the tag has beside a folder; a store that refuses gets a warning, as no page is worse off."""
        of_tag = "/".join(part for part in (self._prefix, f"{tag}-") if part)
        of_a_try = re.compile(re.escape(of_tag) + "[0-9a-f]{16}/")  # And not of a tag that begins with this one.
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=of_tag):
                for key in (found["Key"] for found in page.get("Contents", ())):
                    if of_a_try.match(key) and not key.startswith(f"{folder}/"):
                        self._client.delete_object(Bucket=self._bucket, Key=key)
                        self._progress(f"mirror: {key} is removed, of a try that never became public")
        except self._failures as failure:
            self._progress(
                f"warning: what earlier tries left in s3://{self._bucket}/{of_tag}* could not be looked for and "
                f"removed, got: {str(failure)[:200]}. Allow s3:ListBucket and s3:DeleteObject, or remove it by hand."
            )

    def _upload(self, path: Path, key: str, entry: FileEntry) -> None:
        """One PUT; the store refuses it if the bytes do not have the checksum (where it knows checksums)."""
        if sha256_of(path, error=HostError) != entry.sha256:
            raise HostError(f"{path} must have the sha256 {entry.sha256}. Make the release again.")
        with open_file(path) as file:
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=file,
                ChecksumSHA256=_base64(entry.sha256),
                CacheControl=FOREVER,
                ContentType=CONTENT_TYPES.get(path.suffix, "application/octet-stream"),
            )

    def _holds(self, key: str, entry: FileEntry) -> bool:
        """Whether the object is the promised one: by the store's checksum, or by reading it where there is none."""
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
        except self._failures as failure:
            response: dict[str, Any] = getattr(failure, "response", {})
            if response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return False
            raise
        if head["ContentLength"] != entry.size_bytes or head.get("CacheControl") != FOREVER:
            return False
        if "ChecksumSHA256" in head:
            return bool(head["ChecksumSHA256"] == _base64(entry.sha256))
        digest = hashlib.sha256()
        for piece in self._client.get_object(Bucket=self._bucket, Key=key)["Body"].iter_chunks(_CHECK_BYTES):
            digest.update(piece)
        return bool(digest.hexdigest() == entry.sha256)


def _base64(sha256: str) -> str:
    """A checksum as S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _address(endpoint_url: str, bucket: str) -> str:
    """Where a store serves a bucket.

    >>> _address("https://s3.eu-west-1.amazonaws.com", "models"), _address("http://127.0.0.1:9000", "models")
    ('https://models.s3.eu-west-1.amazonaws.com', 'http://127.0.0.1:9000/models')
    """
    parts = urlsplit(endpoint_url)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost" and "." not in bucket:  # A dot in the name does not fit a store's certificate.
            return f"{parts.scheme}://{bucket}.{parts.netloc}"
    return f"{parts.scheme}://{parts.netloc}/{bucket}"
