"""Cuts GitHub's official OpenAPI description down to what the stand-in answers, in `github_openapi.json`.

    npm install --prefix FOLDER @octokit/openapi@23.0.2
    python tests/standins/trim_openapi.py FOLDER/node_modules/@octokit/openapi

Only the schemas of answers are kept, without prose: what is left says which fields an answer must
have, of which type. Everything else is GitHub's, except for AMENDMENTS.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("github_openapi.json")
SOURCE = "generated/api.github.com.json"
REPOSITORY = "/repos/{owner}/{repo}"
PATHS = (
    "/rate_limit",
    *(
        REPOSITORY + path
        for path in (
            "",
            "/actions/caches",
            "/actions/permissions/workflow",
            "/actions/variables",
            "/actions/workflows",
            "/actions/workflows/{workflow_id}",
            "/actions/workflows/{workflow_id}/dispatches",
            "/actions/workflows/{workflow_id}/runs",
            "/branches",
            "/branches/{branch}",
            "/commits",
            "/commits/{ref}",
            "/contents/{path}",
            "/dispatches",
            "/environments/{environment_name}",
            "/environments/{environment_name}/deployment-branch-policies",
            "/git/blobs",
            "/git/blobs/{file_sha}",
            "/git/commits",
            "/git/commits/{commit_sha}",
            "/git/matching-refs/{ref}",
            "/git/ref/{ref}",
            "/git/refs",
            "/git/refs/{ref}",
            "/git/tags",
            "/git/tags/{tag_sha}",
            "/git/trees",
            "/git/trees/{tree_sha}",
            "/immutable-releases",
            "/pulls",
            "/pulls/{pull_number}",
            "/releases",
            "/releases/assets/{asset_id}",
            "/releases/latest",
            "/releases/tags/{tag}",
            "/releases/{release_id}",
            "/releases/{release_id}/assets",
            "/rules/branches/{branch}",
            "/tags",
        )
    ),
)
PROSE = frozenset({"description", "example", "examples", "title", "externalDocs", "deprecated", "default", "summary"})
METHODS = frozenset({"get", "put", "post", "patch", "delete"})
# The description of "Upload a release asset" names this state in its text, the schema forgets it.
AMENDMENTS = (("release-asset", "state", "starter"),)


def resolved(node: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Follows a reference to the thing itself."""
    while "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def without_prose(node: Any, *, names: bool = False) -> Any:
    """A schema without text for people; `names` says that the keys are names of properties."""
    if isinstance(node, dict):
        return {
            key: without_prose(value, names=key == "properties" and not names)
            for key, value in node.items()
            if names or not (key in PROSE or key.startswith("x-"))
        }
    if isinstance(node, list):
        return [without_prose(item) for item in node]
    return node


def references(node: Any) -> Iterator[str]:
    """The names of the schemas that a node refers to."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def schemas_of_answers(operation: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Status -> schema of its JSON, or None where an answer has no JSON."""
    answers = {}
    for status, response in operation["responses"].items():
        content = resolved(response, document).get("content", {})
        media = content.get("application/json", {})
        answers[status] = without_prose(media["schema"]) if "schema" in media else None
    return answers


def trim(document: dict[str, Any]) -> dict[str, Any]:
    """The paths in use and every schema they lead to."""
    paths = {
        path: {
            method: schemas_of_answers(operation, document)
            for method, operation in document["paths"].get(path, {}).items()
            if method in METHODS
        }
        for path in PATHS
        if path in document["paths"]
    }
    schemas: dict[str, Any] = {}
    wanted = ["basic-error", "validation-error", *references(paths)]
    while wanted:
        name = wanted.pop()
        if name not in schemas:
            schemas[name] = without_prose(document["components"]["schemas"][name])
            wanted += references(schemas[name])
    for name, field, value in AMENDMENTS:
        schemas[name]["properties"][field]["enum"].append(value)
    return {
        "info": {
            "title": "Answers of GitHub's REST API, cut from the official OpenAPI description",
            "source": "@octokit/openapi",
            "version": document["info"]["version"],
            "license": document["info"]["license"]["name"],
            "amended": [".".join(amendment) for amendment in AMENDMENTS],
        },
        "openapi": document["openapi"],
        "answers": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def main() -> None:
    """Writes the trimmed description beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the folder of the npm package @octokit/openapi")
    options = parser.parse_args()
    trimmed = trim(json.loads((options.package / SOURCE).read_text(encoding="utf-8")))
    text = json.dumps(trimmed, separators=(",", ":"), sort_keys=True) + "\n"
    OUTPUT.write_text(text, encoding="utf-8")
    print(f"{OUTPUT.name}: {len(text):,} bytes, {len(trimmed['answers'])} paths")


if __name__ == "__main__":
    main()
