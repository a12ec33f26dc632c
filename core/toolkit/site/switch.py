"""Changing what a site serves: told to the trail before and after, the state replaced as one file between. Killed
anywhere, `settle` finds out which it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from toolkit.errors import EnvironmentUnfit
from toolkit.site.audit import AuditEntry
from toolkit.site.layout import Site
from toolkit.site.staging import clear_leftovers
from toolkit.site.state import Served, State, read_state, write_state

VERBS = ("install", "rollback", "promote")
"""What changes what is served. Each is written down as VERB.begin and VERB.done, or VERB.abandoned."""


def switch(
    site: Site, verb: str, state: State, served: Served, facts: Mapping[str, Any],
    prepare: Callable[[], object] = lambda: None,
) -> None:  # fmt: skip
    """Make `state` the site's, in which `served` answers for its product. The caller holds the lock.

    Args:
        facts: what the trail says beside it: `bundle_id`, the version that all is about.
        prepare: what must be on disk before; a crash in it leaves the site as it was.
    """
    told = dict(facts) | {
        "product": served.product, "serves": served.bundle_id, "canary": served.canary, "permille": served.permille,
    }  # fmt: skip
    site.audit.append(f"{verb}.begin", told)
    prepare()
    write_state(site.current, state, site.signer())
    with contextlib.suppress(EnvironmentUnfit):  # it is done all the same; `settle` will say so
        site.audit.append(f"{verb}.done", told)


def settle(site: Site) -> State:
    """Finish or write off what a killed process left behind; the caller holds the lock.

    The state is one file, so it is either as before or as after; the audit trail is made to say which.
    """
    state = read_state(site.current, site.key_id)
    begun = None
    products: dict[str, str] = {}
    for entry in site.audit.read():
        step = told_switch(entry, products)
        if step is not None:
            begun = (entry, step[1]) if step[0] == "begin" else None
    if begun is not None:
        entry, served = begun
        step_now = "done" if state.of(served.product) == served else "abandoned"
        verb = entry.event.partition(".")[0]
        site.audit.append(f"{verb}.{step_now}", {**entry.details, "after": "an interruption"})
    clear_leftovers(site)
    return state


def told_switch(entry: AuditEntry, products: dict[str, str]) -> tuple[str, Served] | None:
    """What an entry tells of a switch: its step (begin, done, abandoned) and what is served by it.

    `products` learns whose version each bundle is: a rollback in a trail of distil-site/2 does not say it.
    """
    verb, _, step = entry.event.partition(".")
    if verb not in VERBS or step not in ("begin", "done", "abandoned"):
        return None
    bundle_id = str(entry.details.get("bundle_id", ""))
    product = str(entry.details.get("product") or products.get(bundle_id, ""))
    products[bundle_id] = product
    permille = entry.details.get("permille", 0)
    serves, canary = str(entry.details.get("serves", bundle_id)), str(entry.details.get("canary", ""))
    return step, Served(product, serves, canary, permille if isinstance(permille, int) else 0)
