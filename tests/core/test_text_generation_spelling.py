"""A site's tokenizer beside the one of transformers that it was recorded of: the same ids, the same text, the same
refusals; and records that are none."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from toolkit.errors import IntegrityError, PlanError
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.spelling import SiteTokenizer, check_alike, record_of
from toolkit.tasks.text_generation.tokens import encode, prompt_ids, special_tokens
from toolkit.text import Message

TEXTS = (
    "plain words", "  spaces  and\ttabs\n\n", "1,234.5 % of 7", "价格 ¥99，最佳", "naïve café", "👩‍🏫 teaches",
    "<b>&amp;</b>", "", "a" * 300, "ﬁ ligature", "\u200bzero width", "### Response:\n",
)  # fmt: skip

TEMPLATES = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "with what transformers adds": "{{ bos_token }}{%- for m in messages -%}\n    {%- if m.role == 'system' -%}\n"
    "        {% continue %}\n    {%- endif %}\n[{{ m.role | upper }}] {{ m | tojson }}{% generation %}{{ eos_token }}"
    "{% endgeneration %}\n{%- endfor %}{% if add_generation_prompt %}[ASSISTANT]{% endif %}",
    "that refuses": "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}",
    "none": None,
}


def made(template: str | None, *, begin: bool = False) -> PreTrainedTokenizerFast:
    """Byte pairs, learnt from the texts, with ChatML's tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    backend.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=420, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    if begin:
        backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    backend.enable_truncation(8)  # a setting of training, which a site must not take over
    found = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", additional_special_tokens=special[2:],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    found.chat_template = template
    return found


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("begin", [False, True])
def test_it_reads_and_writes_as_the_tokenizer_it_was_recorded_of(template: str, begin: bool) -> None:
    theirs = made(TEMPLATES[template], begin=begin)
    ours = SiteTokenizer(record_of(theirs))
    for text in TEXTS:
        for adding in (False, True):
            ids = ours(text, add_special_tokens=adding)["input_ids"]
            assert ids == theirs(text, add_special_tokens=adding, truncation=False)["input_ids"]
            for skipping in (False, True):
                spelt = ours.decode(ids, skip_special_tokens=skipping)
                assert spelt == theirs.decode(ids, skip_special_tokens=skipping)
    for text in TEXTS:
        messages = (Message("user", text), Message("assistant", "yes"), Message("user", text[:5]))
        assert prompt_ids(messages, ours) == prompt_ids(messages, theirs)
        row = Row("r", messages, "so it is")
        assert encode(row, ours) == encode(row, theirs)
    assert (len(ours), ours.eos_token_id, ours.bos_token_id) == (len(theirs), theirs.eos_token_id, theirs.bos_token_id)
    assert ours.get_vocab() == theirs.get_vocab()
    assert special_tokens(ours) == special_tokens(theirs)


def test_what_a_template_refuses_is_refused_alike() -> None:
    ours = SiteTokenizer(record_of(made(TEMPLATES["that refuses"])))
    with pytest.raises(PlanError, match="no system messages"):
        prompt_ids((Message("system", "be brief"), Message("user", "x")), ours)


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{% for x in range(10 ** 9) %}{% endfor %}"],
)
def test_a_template_cannot_reach_out_of_its_sandbox(template: str) -> None:
    ours = SiteTokenizer(record_of(made(template)))
    with pytest.raises((jinja2.TemplateError, OverflowError)):
        ours.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True)


def test_it_travels_to_another_process() -> None:
    ours = SiteTokenizer(record_of(made(TEMPLATES["chatml"])))
    assert pickle.loads(pickle.dumps(ours))("words")["input_ids"] == ours("words")["input_ids"]


def test_one_that_differs_is_told_with_the_conversation() -> None:
    theirs = made(TEMPLATES["chatml"])
    record = json.loads(record_of(theirs))
    record["chat_template"] = record["chat_template"].replace("assistant", "helper")
    with pytest.raises(PlanError, match="otherwise than the student learnt it: 'a question'"):
        check_alike(SiteTokenizer(json.dumps(record).encode()), theirs, [(Message("user", "a question"),)])


def test_what_a_site_cannot_do_is_refused_when_it_is_recorded() -> None:
    theirs = made(None)
    theirs.clean_up_tokenization_spaces = True
    with pytest.raises(PlanError, match="mends spaces"):
        record_of(theirs)

    class Slow:
        """A tokenizer without rules of its own."""

        backend_tokenizer = None

    slow: Any = Slow()
    with pytest.raises(PlanError, match=r"no tokenizer\.json"):
        record_of(slow)


@pytest.mark.parametrize(
    "record", [b"", b"[]", b"{}", b"\xff", b'{"rules": 3}', b'{"rules": {"model": {"type": "X"}}}']
)
def test_a_record_that_is_none_is_refused(record: bytes, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        SiteTokenizer(record)
