"""The second origin: what downloads are redirected to."""

import hashlib
import re

from .calls import Response
from .connection import Handler, Torn
from .faults import Fault


class AssetHandler(Handler):
    """The second origin: bytes behind signed addresses, with ranges, without CORS headers."""

    _ASSET = re.compile(r"/release-assets/(?P<repository>\d+)/(?P<asset>\d+)")
    _RAW = re.compile(r"/raw/(?P<repository>[^/]+/[^/]+)/(?P<rest>.+)")

    def _respond(self) -> None:
        label = ""
        if "Authorization" in self.headers:
            label = "leaked"
            self.site.leaks.append(self.decoded)
        query = {key: value for key, value in self.query.items() if key != "sig"}
        request = self.site.arrive("assets", self.command, self.decoded, query, label)
        self._carry_out(request, self._act, self._spoil)

    def _spoil(self, fault: Fault) -> None:
        if fault.kind in {"refuse", "cut"}:
            raise Torn
        self.body.drain()

    def _in_place_of_answer(self, fault: Fault) -> Response:
        status = super()._in_place_of_answer(fault).status
        headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        return Response(status, headers=headers, raw=b"Error", media_type="text/plain")

    def _act(self) -> Response:
        if self.command not in ("GET", "HEAD"):
            return Response(405, raw=b"Method Not Allowed", media_type="text/plain")
        if match := self._RAW.fullmatch(self.decoded):
            return self._raw(match["repository"], match["rest"])
        if "Authorization" in self.headers:  # The real one accepts one way to authenticate, the signature.
            return Response(400, raw=b"InvalidAuthenticationInfo", media_type="text/plain")
        match = self._ASSET.fullmatch(self.decoded)
        expires = self.query.get("se", "")
        if not match or self.query.get("sig") != self.site.signature(self.decoded, expires):
            return Response(403, raw=b"AuthenticationFailed", media_type="text/plain")
        with self.site.lock:
            repository = next((r for r in self.site.repositories.values() if r.id == int(match["repository"])), None)
            found = repository.find_asset(int(match["asset"])) if repository else None
            if found is None:
                return Response(404, raw=b"BlobNotFound", media_type="text/plain")
            found[1].download_count += self.command == "GET"
            headers = {"ETag": f'"{found[1].sha256[:32]}"', "Content-Disposition": self.query.get("rscd", "attachment")}
            return Response(200, headers=headers, file=found[1].file, media_type="application/octet-stream")

    def _raw(self, full_name: str, rest: str) -> Response:
        """A file of a branch; the only bytes a browser may fetch from elsewhere."""
        repository = self.site.repository(full_name)
        folders = rest.split("/")
        with self.site.lock:
            for cut in range(1, len(folders)) if repository and not repository.private else ():
                ref, path = "/".join(folders[:cut]), "/".join(folders[cut:])
                content = repository.files(ref).get(path) if repository and repository.resolve(ref) else None
                if content is not None:
                    etag = hashlib.sha256(content).hexdigest()
                    headers = {"Access-Control-Allow-Origin": "*", "ETag": f'"{etag}"'}
                    return Response(200, headers=headers, raw=content, media_type="application/octet-stream")
        return Response(404, {"message": "404: Not Found"}, {"Access-Control-Allow-Origin": "*"})
