"""The writing half of the stand-in Hub: large files, commits with a parent, and what a commit holds.

Request and answer forms are those of huggingface_hub's `_commit_api.py` and `lfs.py`, with Xet off.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGE_SUFFIXES = frozenset({".safetensors", ".bin", ".onnx"})
_DATE = "2026-01-01T00:00:00.000Z"


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class StoredFile:
    """A file of a repository, with the ids the Hub gives it.

    Attributes:
        path: Where its bytes are; its suffix decides whether it is large.
        commit: The commit that wrote it; empty where nobody asks.
        title: What that commit says.
    """

    path: Path
    commit: str = ""
    title: str = "a commit"

    @property
    def is_lfs(self) -> bool:
        """Whether it is in large-file storage."""
        return self.path.suffix in LARGE_SUFFIXES

    @property
    def etag(self) -> str:
        """sha256 of a large file, git's blob id of any other."""
        content = self.path.read_bytes()
        if self.is_lfs:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def as_json(self, name: str) -> dict[str, Any]:
        """The entry in an API answer; `rfilename` for model info, `path` for a tree."""
        size = self.path.stat().st_size
        lfs = {"lfs": {"size": size, "sha256": self.etag, "oid": self.etag, "pointerSize": 134}} if self.is_lfs else {}
        oid = "0" * 40 if self.is_lfs else self.etag
        written = {"lastCommit": {"id": self.commit, "title": self.title, "date": _DATE}} if self.commit else {}
        entry = {"rfilename": name, "path": name, "type": "file", "size": size, "blobId": oid, "oid": oid}
        return entry | lfs | written


@dataclass
class History:
    """The commits of one repository, oldest first; `large` holds uploads that no commit may name yet.

    `tags` are the commits that tags name.
    """

    folder: Path
    commits: dict[str, dict[str, StoredFile]] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The branch's commit."""
        return next(reversed(self.commits))

    def at(self, revision: str) -> dict[str, StoredFile] | None:
        """What a commit holds."""
        revision = self.head if revision == "main" else self.tags.get(revision, revision)
        found = [commit for commit in self.commits if len(revision) >= 7 and commit.startswith(revision)]
        return self.commits[found[0]] if found else None

    def answer(self, what: str, revision: str, body: bytes, query: Mapping[str, list[str]], url: str) -> Any:
        """The answer to a POST, as JSON.

        Raises:
            RefusedError: With the status to answer.
        """
        if what == "preupload":
            return {"files": [self._preupload(file) for file in json.loads(body)["files"]]}
        if what == "lfs":
            return {"transfer": "basic", "objects": [self._batch(entry, url) for entry in json.loads(body)["objects"]]}
        if what == "tag":
            tag = json.loads(body)["tag"]
            if tag in self.tags:
                raise RefusedError(409, "The tag is there")
            self.tags[tag] = revision
            return None
        if what == "paths-info":
            files = self.at(revision)
            if files is None:
                raise RefusedError(404, "RevisionNotFound")
            return [files[name].as_json(name) for name in query["paths"] if name in files]
        commit = self._commit(body)
        return {"commitOid": commit, "commitUrl": f"{url}/commit/{commit}", "pullRequestUrl": None}

    def refs(self) -> dict[str, list[dict[str, str]]]:
        """Branches and tags."""
        tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit} for tag, commit in self.tags.items()]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": self.head}
        return {"branches": [main], "tags": tags, "converts": []}

    def put(self, oid: str, content: bytes) -> None:
        """Stores an upload.

        Raises:
            RefusedError: Its bytes are not those it was announced with.
        """
        if hashlib.sha256(content).hexdigest() != oid:
            raise RefusedError(400, "BadDigest")
        self.large[oid] = content

    def _preupload(self, file: Mapping[str, Any]) -> dict[str, Any]:
        mode = "lfs" if Path(file["path"]).suffix in LARGE_SUFFIXES else "regular"
        there = self.commits[self.head].get(file["path"])
        return {
            "path": file["path"],
            "uploadMode": mode,
            "shouldIgnore": False,
            "oid": there.etag if there else None,
        }

    def _batch(self, entry: Mapping[str, Any], url: str) -> dict[str, Any]:
        if entry["oid"] in self.large:
            return dict(entry)
        return {**entry, "actions": {"upload": {"href": f"{url}/lfs/{entry['oid']}"}}}

    def _commit(self, body: bytes) -> str:
        header, *lines = (json.loads(line) for line in body.splitlines())
        if header["value"].get("parentCommit") not in (None, self.head):
            raise RefusedError(412, "The branch has moved on")
        contents, removed = {}, []
        for line in lines:
            value = line["value"]
            if line["key"] == "deletedFile":
                removed.append(value["path"])
                continue
            if line["key"] == "lfsFile" and value["oid"] not in self.large:
                raise RefusedError(400, "LfsFileNotFound")
            contents[value["path"]] = (
                self.large[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
            )
        text = self.head.encode() + body
        commit = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        files = dict(self.commits[self.head])
        for name, content in contents.items():
            path = self.folder / commit / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            files[name] = StoredFile(path, commit, header["value"]["summary"])
        for name in removed:
            if files.pop(name, None) is None:
                raise RefusedError(400, "A file that is removed must be there")
        self.commits[commit] = files
        return commit
