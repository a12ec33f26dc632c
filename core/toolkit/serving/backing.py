"""What another protocol's server, beside the one for HTTP, stands before: the same models, keys, limits and records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.serving.access import Access
from toolkit.serving.fleet import InHand
from toolkit.serving.ledger import Ledger
from toolkit.serving.limits import Limits
from toolkit.serving.models import Models
from toolkit.serving.tally import Tally

if TYPE_CHECKING:
    from toolkit.serving.tracing import Tracing


@dataclass(frozen=True)
class Backing:
    """`tally` is told of each request that is done; `ledger` keeps the site's records, where there are any; `tracing`
    is there where requests are traced."""

    models: Models
    access: Access
    limits: Limits
    in_hand: InHand
    tally: Tally
    ledger: Ledger | None = None
    tracing: Tracing | None = None
