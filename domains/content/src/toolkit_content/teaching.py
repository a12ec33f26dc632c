"""A teacher as one that knows nothing of marks is asked: in words, with every value; what it writes is taken back to a
draft.

A text that gets its product wrong, or uses a term that may not leave, is held back: a student learns no lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from toolkit.tasks.text_generation.translating import Translated
from toolkit.text import Completion, Prompt
from toolkit.text_teachers import TextTeacher
from toolkit_content.drafting import draft_of
from toolkit_content.preparing import Told
from toolkit_content.scoring import pack_for
from toolkit_content.slots import faults_of
from toolkit_content.terms import Scanner
from toolkit_content.wording import Asking

MANNER = "copywriter 1"


def copywriter(teacher: TextTeacher, told: Mapping[str, Told], asking: Asking, scanner: Scanner) -> Translated:
    """A teacher that writes drafts. `told` are products by the ids of their rows."""

    def of(identity: str) -> Told:
        return told[identity.partition("#")[0]]

    def asked(prompt: Prompt) -> Prompt:
        return replace(prompt, messages=asking.messages(of(prompt.id)))

    def read(answer: Completion) -> Completion:
        one = of(answer.prompt_id)
        pack, text = pack_for(one, asking.packs), " ".join(answer.text.split())
        blocked = any(hit.term.severity == "block" for hit in scanner.scan(text))
        if blocked or faults_of(one.product, text, pack):
            return replace(answer, finish="content_filter")
        return replace(answer, text=draft_of(one.product, text, pack))

    return Translated(teacher, MANNER, asked, read)
