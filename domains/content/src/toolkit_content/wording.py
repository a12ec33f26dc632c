"""How a teacher is asked for copy: in words, with every value, after the nearest texts that were given.

A large model needs no examples and is not hurt by them; a small one learns from them what is wanted (Brown et al. 2020,
arXiv 2005.14165).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from toolkit.text import Message
from toolkit_content.drafting import SAID
from toolkit_content.preparing import Told
from toolkit_content.slots import Pack

EXAMPLES = 2
"""Texts that a teacher is shown."""

_FORMS = {
    ("en", "description"): "a short description",
    ("en", "title"): "a title in one line",
    ("en", "bullets"): "bullet points, one a line",
    ("en", "post"): "a short post",
    ("zh", "description"): "一段简短的商品介绍",
    ("zh", "title"): "一行商品标题",
    ("zh", "bullets"): "商品卖点，每行一条",
    ("zh", "post"): "一段简短的种草文案",
}
_ASKED = {
    "en": "Write {form} with these facts, and no others. Say each as it is given, and use no superlatives. {facts}",
    "zh": "请根据以下信息写{form}。每一项都要原样写出，不要添加其他信息，不要使用极限词。{facts}",
}


@dataclass(frozen=True)
class Asking:
    """Asks about products, `given` being texts that a teacher may be shown."""

    packs: Mapping[str, Pack]
    given: Sequence[Told]

    @classmethod
    def of(cls, packs: Mapping[str, Pack], given: Iterable[Told]) -> Asking:
        """Each product's texts once."""
        return cls(packs, [one for one in given if one.texts])

    def messages(self, one: Told) -> tuple[Message, ...]:
        """A conversation in which the nearest products were written about, and then this one is asked for."""
        turns: list[Message] = []
        for example in self._nearest(one):
            turns += [Message("user", self._asked(example)), Message("assistant", example.texts[0])]
        return (*turns, Message("user", self._asked(one)))

    def _nearest(self, one: Told) -> Sequence[Told]:
        """Of the same form and language, other products whose attributes are most alike, the most alike last."""
        wanted = set(one.product.attributes.items())
        names = set(one.product.attributes)

        def likeness(other: Told) -> tuple[float, int]:
            theirs = set(other.product.attributes)
            return len(names & theirs) / len(names | theirs), len(wanted & set(other.product.attributes.items()))

        alike = {
            other.product.id: other
            for other in self.given
            if other.brief == one.brief and other.product.id != one.product.id
        }
        return sorted(alike.values(), key=likeness)[-EXAMPLES:]

    def _asked(self, one: Told) -> str:
        language = one.brief.language if one.brief.language in _ASKED else "en"
        form = _FORMS.get((language, one.brief.form), _FORMS[language, "description"])
        pack = self.packs.get(language)
        facts = "; ".join(
            f"{name}: {SAID.join(pack.phrases.get(name, {}).get(value, value) if pack else value for value in values)}"
            for name, values in one.product.attributes.items()
        )
        return _ASKED[language].format(form=form, facts=facts)
