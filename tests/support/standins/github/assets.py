"""A release's files: upload, listing, download."""

import hashlib

from . import views
from .calls import CHUNK_BYTES, REPOSITORY, Call, Refusal, Response, invalid, missing, not_found, route
from .models import Asset, Release, asset_name
from .releases import RELEASES, wanted

MAX_ASSETS = 1000
MAX_ASSET_BYTES = 1 << 31
UPLOAD = f"/uploads{REPOSITORY}/releases/{{release_id}}/assets"


@route("GET", f"{RELEASES}/{{release_id}}/assets")
def list_assets(call: Call) -> Response:
    """A release's files, those that never arrived in full included."""
    release = wanted(call)
    return call.page(release.assets, lambda asset: views.asset(call, release, asset))


@route("GET", f"{RELEASES}/assets/{{asset_id}}")
def get_asset(call: Call) -> Response:
    """What is known of a file, or the way to its bytes."""
    release, asset = _wanted(call)
    if "application/octet-stream" not in call.accept:
        return Response(200, views.asset(call, release, asset))
    if asset.state != "uploaded":
        raise not_found()
    if call.site.streams_downloads:
        return Response(200, file=asset.file, media_type="application/octet-stream")
    return Response(302, headers={"Location": call.site.download_link(call.repository, asset)})


@route("PATCH", f"{RELEASES}/assets/{{asset_id}}", writes="contents")
def update_asset(call: Call) -> Response:
    """Renames a file, or changes its label."""
    release, asset = _wanted(call)
    if release.immutable:
        raise invalid("ReleaseAsset", "Cannot update asset on an immutable release")
    name = asset_name(call.text("name", asset.name))
    if any(other.name == name for other in release.assets if other is not asset):
        raise invalid("ReleaseAsset", ("already_exists", "name"))
    asset.name = name
    asset.label = call.text("label", asset.label or "") if "label" in call.data else asset.label
    return Response(200, views.asset(call, release, asset))


@route("DELETE", f"{RELEASES}/assets/{{asset_id}}", writes="contents")
def delete_asset(call: Call) -> Response:
    """Removes a file, in whatever state it is."""
    release, asset = _wanted(call)
    if release.immutable:
        raise invalid("ReleaseAsset", "Cannot delete asset from an immutable release")
    release.assets.remove(asset)
    asset.file.unlink(missing_ok=True)
    return Response(204)


@route("POST", UPLOAD, writes="contents", streams=True)
def upload_asset(call: Call) -> Response:
    """Takes a file in; until all of it has arrived it is in the state `starter`."""
    with call.site.lock:
        release, asset = begin_upload(call)
    receive(call, asset)
    with call.site.lock:
        asset.state = "uploaded"
        return Response(201, views.asset(call, release, asset))


def begin_upload(call: Call) -> tuple[Release, Asset]:
    """Checks what is asked and reserves the name.

    Raises:
        Refusal: The release cannot take this file; the body has been read, if it is not too long.
    """
    try:
        release, name = _accepted(call)
    except Refusal:
        if call.body.length <= MAX_ASSET_BYTES:
            call.body.drain()
        raise
    asset = call.repository.new_asset(name, call.content_type, call.query.get("label"))
    release.assets.append(asset)
    return release, asset


def receive(call: Call, asset: Asset, *, stop_after: int | None = None) -> None:
    """Writes the body to disk as it arrives; what has arrived stays, even if the client hangs up."""
    digest = hashlib.sha256()
    with asset.file.open("wb", buffering=CHUNK_BYTES) as file:
        for chunk in call.body.chunks(stop_after):
            file.write(chunk)
            digest.update(chunk)
            asset.size_bytes += len(chunk)
            asset.sha256 = digest.hexdigest() if not call.body.remaining else ""


def _accepted(call: Call) -> tuple[Release, str]:
    """The release, and the name the file will have there."""
    if call.body.length > MAX_ASSET_BYTES:
        raise _size(f"size must be less than or equal to {MAX_ASSET_BYTES}")
    release = wanted(call)
    if not call.query.get("name"):
        raise missing("name")
    if release.immutable:
        raise Refusal(422, "Cannot upload assets to an immutable release.")
    if call.body.length < 1:
        raise _size("size must be greater than or equal to 1")
    name = asset_name(call.query["name"])
    if any(asset.name == name for asset in release.assets):
        raise invalid("ReleaseAsset", ("already_exists", "name"))
    if len(release.assets) >= MAX_ASSETS:
        raise invalid("ReleaseAsset", f"Release has reached the maximum of {MAX_ASSETS} assets")
    return release, name


def _wanted(call: Call) -> tuple[Release, Asset]:
    found = call.repository.find_asset(int(call.params["asset_id"]))
    if found is None or (found[0].draft and not call.may_push):
        raise not_found()
    return found


def _size(message: str) -> Refusal:
    error = {"resource": "ReleaseAsset", "code": "custom", "field": "size", "message": message}
    return Refusal(422, "Validation Failed", error)
