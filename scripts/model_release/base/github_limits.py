"""What GitHub accepts: names, sizes and numbers. What is outside is refused here, before a request or a rename."""

import re

REPOSITORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}/(?!\.{1,2}\Z)[A-Za-z0-9_.-]{1,100}", re.ASCII)
"""`owner/name`; https://docs.github.com/rest/repos/repos gives no limits, these are wide."""

ASSET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
"""A release file's name. GitHub rewrites other characters, so such a name would not be the name published."""

MAX_ASSETS = 1000
"""Files of a release (https://docs.github.com/repositories/releasing-projects-on-github/about-releases)."""

MAX_ASSET_BYTES = 2**31 - 1
"""A release's file must be smaller than 2 GiB (the same page)."""

MAX_NOTES_CHARACTERS = 125_000
"""The longest body of a release (https://docs.github.com/rest/releases/releases)."""

MAX_BLOB_BYTES = 100_000_000
"""The largest file the git data API takes (https://docs.github.com/rest/git/blobs: "up to 100 megabytes")."""
