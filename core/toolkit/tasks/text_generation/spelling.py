"""A tokenizer as a site has it: one JSON record, read by `tokenizers`, with the chat template in jinja2's sandbox.

It behaves as the tokenizer of transformers that it was recorded of, without transformers: `record_of` refuses what this
module cannot do alike, and `check_alike` compares both on texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from toolkit.errors import EnvironmentUnfit, IntegrityError, PlanError
from toolkit.tasks.text_generation.tokens import Tokenizer, prompt_ids
from toolkit.text import Message
from toolkit.workspace import canonical_json

if TYPE_CHECKING:
    import jinja2
    import tokenizers

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Special tokens that templates may name."""


class SiteTokenizer:
    """A `tokens.Tokenizer` of a record that `record_of` made.

    Raises:
        IntegrityError: the record is none. EnvironmentUnfit: `tokenizers` is not installed.
    """

    def __init__(self, record: bytes) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise EnvironmentUnfit(
                "what reads tokenizers is not installed: tokenizers", hint="pip install 'distil-toolkit[language]'"
            ) from error
        try:
            found = json.loads(record)
            self.backend_tokenizer: tokenizers.Tokenizer = tokenizers.Tokenizer.from_str(json.dumps(found["rules"]))
            self.chat_template: str | None = found["chat_template"]
            self._named: Mapping[str, str] = {str(name): str(token) for name, token in found["named"].items()}
            self._special: Sequence[str] = [str(token) for token in found["special"]]
        except Exception as error:  # tokenizers raises Exception itself
            raise IntegrityError(
                "the bundle's tokenizer cannot be used", part="tokenizer", hint="Build the bundle again."
            ) from error
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.no_truncation()
        self._record = record

    def __reduce__(self) -> tuple[Any, ...]:
        return SiteTokenizer, (self._record,)

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool) -> str:
        return str(self.backend_tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def get_vocab(self) -> dict[str, int]:
        return dict(self.backend_tokenizer.get_vocab(with_added_tokens=True))

    @property
    def bos_token_id(self) -> int | None:
        return self._id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        return self._id("eos_token")

    @property
    def all_special_tokens(self) -> list[str]:
        return list(self._special)

    @property
    def all_special_ids(self) -> list[int]:
        return [found for token in self._special if (found := self.backend_tokenizer.token_to_id(token)) is not None]

    @cached_property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        return dict(self.backend_tokenizer.get_added_tokens_decoder())

    def apply_chat_template(
        self, conversation: Sequence[Mapping[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """The conversation as text; it is never tokenised here.

        Raises:
            jinja2.TemplateError: the template refuses it.
        """
        assert not tokenize
        return self._template.render(
            messages=conversation, tools=None, documents=None, add_generation_prompt=add_generation_prompt,
            **self._named,
        )  # fmt: skip

    def save_pretrained(self, save_directory: Any) -> Any:
        raise TypeError("a site's tokenizer is kept in its bundle")

    def _id(self, name: str) -> int | None:
        token = self._named.get(name)
        return None if token is None else self.backend_tokenizer.token_to_id(token)

    @cached_property
    def _template(self) -> jinja2.Template:
        assert self.chat_template is not None
        return _environment().from_string(self.chat_template)


def record_of(tokenizer: Tokenizer) -> bytes:
    """A tokenizer of transformers as a site reads it.

    Raises:
        PlanError: it is none that a site can read: without rules of its own, or with one that this module lacks.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise PlanError(
            "the student's tokenizer has no tokenizer.json", hint="Convert it: save a fast tokenizer with the student."
        )
    if getattr(tokenizer, "clean_up_tokenization_spaces", False):
        raise PlanError(
            "the student's tokenizer mends spaces after it has decoded, which a site does not",
            hint="Set clean_up_tokenization_spaces to false in its tokenizer_config.json.",
        )
    rules = {name: rule for name, rule in json.loads(backend.to_str()).items() if name not in ("padding", "truncation")}
    named = {name: str(token) for name in NAMED if (token := getattr(tokenizer, name, None)) is not None}
    record = {
        "rules": {**rules, "padding": None, "truncation": None},
        "chat_template": _template_of(tokenizer.chat_template),
        "named": named,
        "special": tokenizer.all_special_tokens,
    }
    return canonical_json(record)


def check_alike(ours: SiteTokenizer, tokenizer: Tokenizer, conversations: Iterable[tuple[Message, ...]]) -> None:
    """Refuse to ship a tokenizer that reads or writes otherwise than the student learnt.

    Raises:
        PlanError: with the first conversation that differs.
    """
    for messages in conversations:
        ids = prompt_ids(messages, tokenizer)
        spelt = [one.decode(list(ids), skip_special_tokens=True) for one in (ours, tokenizer)]
        if prompt_ids(messages, ours) != ids or spelt[0] != spelt[1]:
            raise PlanError(
                f"a site would read a prompt otherwise than the student learnt it: {messages[-1].content[:80]!r}",
                hint="Simplify the tokenizer's chat_template, or leave it out.",
            )


def _template_of(template: Any) -> str | None:
    """Of several templates the one that chats are written in."""
    if isinstance(template, Mapping):
        template = template.get("default")
    return template or None


def _environment() -> jinja2.Environment:
    """As transformers sets it up for templates, which come with models and are not to be trusted."""
    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """`{% generation %}`, which marks what is learnt: here it is only text."""

        tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

        def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def as_json(value: Any, *, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = as_json
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    return environment
