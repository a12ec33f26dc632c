"""Files that pages load: the console's own and those of panels, kept in RAM and named by what they hold.

A name holds a digest, so a browser may keep a file for ever and never mixes two versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from starlette.responses import Response

from toolkit.serving.refusals import NotServed

KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Assets:
    """The scripts, styles and drawings of one folder. `digest` covers them all: scripts name one another."""

    files: Mapping[str, bytes]
    digest: str

    def answer(self, digest: str, name: str) -> Response:
        """One file. Raises NotServed where there is none, or it is of another version."""
        if digest != self.digest or name not in self.files:
            raise NotServed(f"there is no file {name}", hint="Reload the page.")
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(self.files[name], headers=headers, media_type=KINDS[name[name.rindex(".") :]])


def read_assets(folder: Traversable) -> Assets:
    """The files of a folder that browsers may ask for."""
    found = {
        entry.name: entry.read_bytes()
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.is_file() and entry.name.endswith(tuple(KINDS))
    }
    digest = hashlib.sha256()
    for name, data in found.items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return Assets(found, digest.hexdigest()[:16])
