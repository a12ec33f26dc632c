"""The packs' own sentences: true to what a thing cannot do, and to how many it is."""

from __future__ import annotations

import re

import numpy as np
import pytest

from toolkit_content.drafting import Brief, text_of
from toolkit_content.products import Product
from toolkit_content.slots import Pack, faults_of, load_pack
from toolkit_content.templates import composed

ENGLISH, CHINESE = load_pack("household-en"), load_pack("household-zh")
KETTLE = {"brand": ("Nordal",), "model": ("K3",), "category": ("kettle",), "colour": ("red",), "capacity": ("1.7 L",)}


@pytest.mark.parametrize("pack", [ENGLISH, CHINESE])
@pytest.mark.parametrize("form", ["description", "bullets", "post"])
def test_what_a_thing_cannot_is_said_and_may_be_served(pack: Pack, form: str) -> None:
    product = Product("p", {**KETTLE, "waterproof": ("no",), "foldable": ("no",)})
    text, faults = text_of(product, composed(product, Brief(form=form), pack), pack)
    assert faults == []
    assert "no." not in text
    turned = faults_of(product, text.replace("not ", "").replace("不", ""), pack)
    assert {(fault.fault, fault.slot) for fault in turned} >= {
        ("wrong", "waterproof"),
        ("missing", "waterproof"),
    }


@pytest.mark.parametrize("form", ["description", "title", "bullets", "post"])
def test_several_things_are_put_as_several(form: str) -> None:
    product = Product(
        "h",
        {
            **KETTLE,
            "category": ("headphones",),
            "weight": ("90 g",),
            "waterproof": ("yes",),
            "use": ("travel",),
        },
    )
    for seed in range(40):
        draft = composed(product, Brief(form=form), ENGLISH, np.random.default_rng(seed))
        text, _ = text_of(product, draft, ENGLISH)
        assert not re.search(
            r"\b(?:[Tt]his|a(?: \w+)?) headphones|headphones (?:is|comes)\b|\b[Ii]ts?\b|[()|]", text
        ), text
