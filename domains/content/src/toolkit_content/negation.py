"""Where a text denies what it names: not red, contains no steel, plastic-free; 不防水, 没有折叠功能.

Only what stands right beside the word counts, over words that carry nothing: it is not a pub near the mill denies no
mill.
"""

from __future__ import annotations

import re

_DENIES = (
    r"not|no|never|hardly|scarcely|barely|without|neither|nor|lacks?|cannot|(?:is|are|was|does|do|did|ca|wo)n.?t"
    r"|free (?:of|from)|far from|instead of|rather than|anything but"
)
_CARRIES_NOTHING = (
    r"an?|the|any|very|really|at all|even|quite|actually|exactly|fully|entirely|all|one|it|made|meant|suitable|suited"
    r"|available|of|from|in|with|for|to|is|are|be|being|has|have|holds?|weighs?|contains?|includes?|comes?|uses?|lasts?"
    r"|takes?|runs?|keeps?|offers?|features?"
)
_DENIES_IN_CHINESE = "不(?!仅|但|只|光|单)|没有|没|无|非|未|别"
_CARRIES_NOTHING_IN_CHINESE = (
    "是|能|可以|可|会|含|带|有|采用|使用|适用于|用|支持|具备|具有|提供|适合"
    "|为|再|太|够|很|法|任何|一款|一种|材质|的|到|了|重|装"
)
_BEFORE = re.compile(
    rf"(?:\b(?:{_DENIES})\b(?:[\s-]+(?:{_CARRIES_NOTHING}))*[\s-]+"
    rf"|(?:{_DENIES_IN_CHINESE})(?:{_CARRIES_NOTHING_IN_CHINESE})*)$",
    re.IGNORECASE,
)
_AFTER = re.compile(r"[\s-]free\b|不了", re.IGNORECASE)

REACH = 40
"""Characters before a word in which its denial may stand."""


def is_denied(text: str, span: tuple[int, int]) -> bool:
    """Whether what stands there is said not to be so."""
    start, end = span
    return bool(_BEFORE.search(text[max(0, start - REACH) : start]) or _AFTER.match(text, end))
