"""Git objects with the ids git gives them: blobs, trees, commits, annotated tags."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

TREE = "tree"
BLOB = "blob"
FOLDER_MODE = "040000"
FILE_MODE = "100644"


@dataclass(frozen=True)
class Entry:
    """A line of a tree."""

    mode: str
    kind: str
    sha: str


@dataclass(frozen=True)
class Person:
    """Who wrote or applied a commit, and when (ISO 8601, UTC)."""

    name: str
    email: str
    date: str

    def __str__(self) -> str:
        seconds = int(datetime.fromisoformat(self.date).timestamp())
        return f"{self.name} <{self.email}> {seconds} +0000"


@dataclass(frozen=True)
class Commit:
    """A commit; `parents` in order."""

    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    message: str

    def content(self) -> bytes:
        """The bytes git hashes."""
        parents = "".join(f"parent {sha}\n" for sha in self.parents)
        head = f"tree {self.tree}\n{parents}author {self.author}\ncommitter {self.committer}\n"
        return f"{head}\n{self.message}".encode()


@dataclass(frozen=True)
class TagObject:
    """An annotated tag."""

    name: str
    kind: str
    target: str
    tagger: Person
    message: str

    def content(self) -> bytes:
        """The bytes git hashes."""
        head = f"object {self.target}\ntype {self.kind}\ntag {self.name}\ntagger {self.tagger}\n"
        return f"{head}\n{self.message}".encode()


def object_id(kind: str, content: bytes) -> str:
    r"""Git's id of an object.

    >>> object_id("blob", b"hello\n")
    'ce013625030ba8dba906f756967f9e9ca394464a'
    """
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content, usedforsecurity=False).hexdigest()


class ObjectStore:
    """Every object of a repository, by id; nothing is ever removed."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.trees: dict[str, dict[str, Entry]] = {}
        self.commits: dict[str, Commit] = {}
        self.tags: dict[str, TagObject] = {}

    def put_blob(self, content: bytes) -> str:
        """Stores a file's content."""
        sha = object_id("blob", content)
        self.blobs[sha] = content
        return sha

    def put_tree(self, entries: Mapping[str, Entry]) -> str:
        """Stores one folder's lines, in git's order: a folder counts as if its name ended in a slash."""
        ordered = sorted(entries.items(), key=lambda item: item[0] + "/" * (item[1].kind == TREE))
        content = b"".join(
            f"{entry.mode.lstrip('0')} {name}\0".encode() + bytes.fromhex(entry.sha) for name, entry in ordered
        )
        sha = object_id("tree", content)
        self.trees[sha] = dict(ordered)
        return sha

    def put_commit(self, commit: Commit) -> str:
        """Stores a commit."""
        sha = object_id("commit", commit.content())
        self.commits[sha] = commit
        return sha

    def put_tag(self, tag: TagObject) -> str:
        """Stores an annotated tag."""
        sha = object_id("tag", tag.content())
        self.tags[sha] = tag
        return sha

    def kind(self, sha: str) -> str:
        """`blob`, `tree`, `commit` or `tag`, or empty if there is no such object."""
        stores: dict[str, Mapping[str, object]] = {
            "blob": self.blobs,
            "tree": self.trees,
            "commit": self.commits,
            "tag": self.tags,
        }
        return next((kind for kind, store in stores.items() if sha in store), "")

    def walk(self, tree: str, folder: str = "") -> Iterator[tuple[str, Entry]]:
        """Every line below a tree, folders before what is in them."""
        for name, entry in self.trees[tree].items():
            yield folder + name, entry
            if entry.kind == TREE:
                yield from self.walk(entry.sha, f"{folder}{name}/")

    def files(self, tree: str) -> dict[str, Entry]:
        """Path -> blob, for the whole tree."""
        return {path: entry for path, entry in self.walk(tree) if entry.kind == BLOB}

    def find(self, tree: str, path: str) -> Entry | None:
        """The file or folder at a path; the empty path is the tree itself."""
        entry: Entry | None = Entry(FOLDER_MODE, TREE, tree)
        for name in filter(None, path.split("/")):
            if entry is None or entry.kind != TREE:
                return None
            entry = self.trees[entry.sha].get(name)
        return entry

    def tree_with(self, base: str | None, changes: Mapping[str, Entry | None]) -> str:
        """A tree like `base` in which each path of `changes` is set, or removed where it is None."""
        entries = dict(self.trees[base]) if base else {}
        below: dict[str, dict[str, Entry | None]] = {}
        for path, entry in changes.items():
            name, _, rest = path.partition("/")
            if rest:
                below.setdefault(name, {})[rest] = entry
            elif entry is None:
                entries.pop(name, None)
            else:
                entries[name] = entry
        for name, inner in below.items():
            old = entries.get(name)
            sha = self.tree_with(old.sha if old and old.kind == TREE else None, inner)
            if self.trees[sha]:
                entries[name] = Entry(FOLDER_MODE, TREE, sha)
            else:
                entries.pop(name, None)  # Git keeps no empty folders.
        return self.put_tree(entries)

    def history(self, commit: str) -> list[str]:
        """A commit and everything before it, newest first."""
        seen: dict[str, None] = {}
        wanted = [commit]
        while wanted:
            sha = wanted.pop(0)
            if sha not in seen:
                seen[sha] = None
                wanted += self.commits[sha].parents
        return list(seen)
