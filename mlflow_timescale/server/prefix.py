"""The streaming artifact routes under `--static-prefix`."""

from __future__ import annotations

from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

_ROUTES = tuple(f"/{api}/2.0/mlflow-artifacts/artifacts/" for api in ("api", "ajax-api"))


class ArtifactsUnderPrefix:
    """Sends uploads and downloads under the prefix to MLflow's streaming routes.

    MLflow 3.17 mounts them without the prefix, so that these requests reach Flask: it keeps the
    whole body in memory twice, and takes a chunked one for empty. The path is changed before
    MLflow's middleware runs, because its authorisation compares the path without a prefix. Remove
    this class when MLflow includes `artifact_router` with the prefix.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app, self.prefix = app, prefix
        self._raw_prefix = quote(prefix).encode()
        self._routes = tuple(prefix + route for route in _ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.prefix and scope["type"] == "http" and self._is_artifact(scope):
            scope = {
                **scope,
                "path": scope["path"][len(self.prefix) :],
                "raw_path": scope.get("raw_path", b"").removeprefix(self._raw_prefix),
            }
        await self.app(scope, receive, send)

    def _is_artifact(self, scope: Scope) -> bool:
        # Listing, deletion and multipart uploads are Flask's, with and without a prefix.
        return scope["method"] in ("GET", "PUT") and any(
            scope["path"].startswith(route) and scope["path"] != route for route in self._routes
        )
