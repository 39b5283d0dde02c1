"""A GitHub on 127.0.0.1: API, uploads, downloads, real bytes, git's own ids, and faults on request.

    with StandInGitHub() as site:
        repository = site.add_repository("someone/app", {".env.production": "VITE_MODEL_URL="})
        Github(base_url=site.url, auth=Auth.Token("write-token"))
        ...
        assert site.violations == []

Rooms: `site` (what tests hold), `server` (HTTP), `calls` (requests, answers, routes), `releases`, `assets`,
`git`, `contents`, `pulls`, `repos` (the handlers), `views` (things as JSON), `repository` and `objects`
(the state), `faults`, `openapi` (the judge of every answer).
"""

from . import openapi
from .faults import EVERY_FAULT, Fault, fault
from .models import Asset, Pull, Release, Token, asset_name
from .repository import CLASSIC, RESTRICTED, RULESET, Repository
from .site import Request, StandInGitHub

__all__ = [
    "CLASSIC",
    "EVERY_FAULT",
    "RESTRICTED",
    "RULESET",
    "Asset",
    "Fault",
    "Pull",
    "Release",
    "Repository",
    "Request",
    "StandInGitHub",
    "Token",
    "asset_name",
    "fault",
    "openapi",
]
