"""The API page: one static file with its style and script inside, so it works on a site without any network."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class ApiPage:
    """The page and the Content-Security-Policy that allows exactly its own script and style."""

    html: bytes
    policy: str


def read_api_page() -> ApiPage:
    """The page as the package ships it."""
    html = files("toolkit.serving").joinpath("api.html").read_text(encoding="utf-8")
    script, style = _inline(html, "script"), _inline(html, "style")
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src blob: data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return ApiPage(html.encode(), policy)


def _inline(html: str, tag: str) -> str:
    """The hashes of a page's inline scripts or styles, as a policy names them."""
    blocks = re.findall(f"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
    return " ".join(f"'sha256-{digest}'" for digest in digests)
