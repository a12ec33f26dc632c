"""What another protocol's server, beside the one for HTTP, stands before: the same models, keys, limits and records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.serving.access import Access
from toolkit.serving.fleet import InHand
from toolkit.serving.gateway import Heard
from toolkit.serving.ledger import Ledger
from toolkit.serving.limits import Limits
from toolkit.serving.models import Models


@dataclass(frozen=True)
class Backing:
    """`heard` are told of each request that is done; `ledger` keeps the site's records, where there are any."""

    models: Models
    access: Access
    limits: Limits
    in_hand: InHand
    heard: Sequence[Heard] = ()
    ledger: Ledger | None = None
