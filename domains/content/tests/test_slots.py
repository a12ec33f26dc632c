"""What texts say of attributes: hand-made texts, planted mistakes, and people's own texts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from toolkit.errors import DataError
from toolkit_content.drafting import Brief, draft_of, prompt_of, text_of
from toolkit_content.products import Product, product_of
from toolkit_content.slots import Pack, faults_of, load_pack, pack_of, slot_errors
from toolkit_content.templates import composed

RESTAURANT = load_pack("restaurant")
KETTLE = Product(
    "k", {"brand": ("Nordal",), "model": ("K3",), "category": ("kettle",), "colour": ("red",), "capacity": ("1.7 L",)}
)
ENGLISH = load_pack("household-en")
GOOD = "The Nordal K3 is a red kettle. It holds 1.7 L."


def eaten(meaning: str) -> Product:
    found = product_of({"mr": meaning}, "x")
    assert isinstance(found, Product)
    return found


def told(product: Product, text: str, pack=ENGLISH) -> set[tuple[str, str]]:  # type: ignore[no-untyped-def]
    return {(fault.fault, fault.slot) for fault in faults_of(product, text, pack)}


def test_a_text_that_says_it_all_has_no_fault() -> None:
    assert told(KETTLE, GOOD) == set()
    assert told(KETTLE, "A kettle in RED: nordal K3, with room for 1.7  L!") == set()
    assert slot_errors(KETTLE, GOOD, ENGLISH) == (0, 5)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (GOOD.replace("red", "blue"), {("missing", "colour"), ("wrong", "colour")}),
        (GOOD.replace("red ", ""), {("missing", "colour")}),
        (GOOD.replace("1.7", "1.8"), {("missing", "capacity"), ("invented", "number")}),
        (
            GOOD.replace("K3", "K33"),
            {
                ("missing", "model"),
            },
        ),
        (GOOD + " It is waterproof.", {("invented", "waterproof")}),
        (GOOD + " It is made of stainless steel.", {("invented", "material")}),
        (GOOD + " 3 years of warranty.", {("invented", "number"), ("invented", "warranty")}),
        (GOOD.replace("kettle", "backpack"), {("missing", "category"), ("wrong", "category")}),
        ("", {("missing", name) for name in KETTLE.attributes}),
    ],
)
def test_every_planted_mistake_is_found(text: str, faults: set[tuple[str, str]]) -> None:
    assert told(KETTLE, text) == faults


def test_numbers_are_the_same_however_they_are_written() -> None:
    product = Product("p", {"price": ("12,000",), "size": ("1.50 m",)})
    assert told(product, "It costs 12,000 and is 1.50 m long. Again: 12000, 1.5.") == set()
    assert told(product, "It costs 12,000 and is 1.50 m long, not 12.") == {("invented", "number")}


def test_what_a_copied_value_covers_says_nothing_else() -> None:
    product = eaten("name[The Mill], near[Raja Indian Cuisine]")
    assert told(product, "The Mill is near Raja Indian Cuisine.", RESTAURANT) == set()
    assert told(product, "The Mill serves Indian food near Raja Indian Cuisine.", RESTAURANT) == {("invented", "food")}


@pytest.mark.parametrize(
    ("value", "said", "faults"),
    [
        ("familyFriendly[yes]", "It is family friendly.", set()),
        ("familyFriendly[no]", "It is not family friendly.", set()),
        ("familyFriendly[no]", "It is family friendly.", {("missing", "familyFriendly"), ("wrong", "familyFriendly")}),
        (
            "familyFriendly[yes]",
            "Children are not allowed.",
            {("missing", "familyFriendly"), ("wrong", "familyFriendly")},
        ),
        ("customer rating[5 out of 5]", "It is highly rated, 5 out of 5 stars.", set()),
        ("customer rating[5 out of 5]", "It is highly rated.", {("missing", "customer rating")}),
        (
            "customer rating[low]",
            "Its rating is 1 out of 5.",
            {("missing", "customer rating"), ("wrong", "customer rating")},
        ),
        ("priceRange[less than £20]", "It is cheap: less than £20.", set()),
        ("priceRange[cheap]", "It costs less than £20.", {("missing", "priceRange"), ("wrong", "priceRange")}),
        ("area[riverside]", "It is by the river.", set()),
    ],
)
def test_values_are_told_apart(value: str, said: str, faults: set[tuple[str, str]]) -> None:
    assert told(eaten(f"name[The Mill], {value}"), f"The Mill. {said}", RESTAURANT) == faults


def test_chinese_is_read_as_well_as_english() -> None:
    pack = load_pack("household-zh")
    product = Product("z", {"brand": ("Nordal",), "category": ("kettle",), "colour": ("red",), "capacity": ("1.7 升",)})
    text = "Nordal红色电热水壶，容量1.7升。"
    assert told(product, text, pack) == {("missing", "capacity")}  # the catalogue writes 1.7 升
    assert told(product, text.replace("1.7升", "1.7 升"), pack) == set()
    assert told(product, text.replace("1.7升", "1.7 升").replace("红", "蓝"), pack) == {
        ("missing", "colour"),
        ("wrong", "colour"),
    }


def test_a_draft_is_the_text_with_marks_and_becomes_it_again() -> None:
    draft = draft_of(KETTLE, GOOD, ENGLISH)
    assert draft == "The [brand] [model] is a [colour] [category]. It holds [capacity]."
    assert text_of(KETTLE, draft, ENGLISH) == (GOOD, [])
    assert (
        prompt_of(KETTLE, Brief(), ENGLISH)
        == "en description, plain: [brand]; [model]; [category]; [colour]; [capacity]"
    )
    text, faults = text_of(KETTLE, draft + " It weighs [weight]. [nonsense]", ENGLISH)
    assert text == GOOD + " It weighs ."
    assert {(fault.fault, fault.slot) for fault in faults} == {("invented", "weight"), ("invented", "nonsense")}


def test_a_value_with_signs_of_its_own_is_copied_as_it_is() -> None:
    product = Product("p", {"brand": (r"A\1[x]$",), "size": ("(3/4)″",)})
    draft = "[brand] has [size]."
    assert text_of(product, draft, ENGLISH)[0] == r"A\1[x]$ has (3/4)″."


def test_peoples_texts_are_mostly_faithful_and_the_matcher_sees_it(shared: Path) -> None:
    with (shared / "content" / "e2e-cleaned" / "train.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    wrong = said = 0
    for row in rows:
        errors, slots = slot_errors(eaten(row["mr"]), row["ref"], RESTAURANT)
        wrong, said = wrong + errors, said + slots
    assert 0.02 < wrong / said < 0.06


@pytest.mark.parametrize(
    "text",
    [
        "",
        "slots = 3",
        'name="x"\nlanguage="en"\nversion="1"\n[slots.a]\nvalues={b=["("]}',
        'name="x"\nlanguage="en"\nversion="1"\n[slots.a]\nodd=1',
    ],
)
def test_a_pack_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        pack_of(text)


FULL = Product(
    "f",
    {
        **KETTLE.attributes, "material": ("stainless steel",), "weight": ("900 g",), "power": ("2 kW",),
        "battery": ("20 hours",), "warranty": ("2 years",), "waterproof": ("yes",),
    },
)  # fmt: skip
ALL = (
    "The Nordal K3 is a red kettle made of stainless steel. It holds 1.7 L and weighs 900 g at 2 kW. It is waterproof. "
    "The battery lasts 20 hours, with 2 years of warranty."
)


@pytest.mark.parametrize(
    ("said", "instead", "slot"),
    [
        ("a red kettle", "not a red kettle", "colour"),
        ("made of stainless steel", "not made of any stainless steel", "material"),
        ("made of stainless steel", "free of stainless steel", "material"),
        ("stainless steel", "stainless-steel-free", "material"),
        ("It holds 1.7 L", "It does not hold 1.7 L", "capacity"),
        ("It is waterproof", "It isn't waterproof", "waterproof"),
        ("It is waterproof", "It is far from waterproof", "waterproof"),
        ("1.7 L and weighs 900 g", "900 g and weighs 1.7 L", "weight"),
        ("lasts 20 hours, with 2 years", "lasts 2 years, with 20 hours", "battery"),
        ("weighs 900 g", "weighs 900 g, 1.7 kg with its lid", "number"),
        ("20 hours", "20 hours, thirty hours in the end", "number"),
        ("It is", "Twenty-five watts! It is", "number"),
        ("It is", "Its lid is purple. It is", "colour"),
        ("It is", "Part of it is titanium. It is", "material"),
        ("It is", "It has Bluetooth. It is", "claim"),
        ("It is", "It needs half the energy. It is", "claim"),
        ("It is", "It is not red. It is", "colour"),
    ],
)
def test_what_is_denied_swapped_or_put_in_words_is_no_better(said: str, instead: str, slot: str) -> None:
    assert told(FULL, ALL) == set()
    assert said in ALL
    assert slot in {found for _, found in told(FULL, ALL.replace(said, instead, 1))}


@pytest.mark.parametrize(
    "more",
    [
        "It is not only waterproof but pretty.",
        "No worries!",
        "One day you will want two of them.",
        "It is not for sale near the Nordal K3 shop.",
        "It weighs 900 g in all.",
        "Two years of warranty are two years.",
        "It holds its heat.",
    ],
)
def test_what_denies_no_value_and_promises_nothing_is_left_alone(more: str) -> None:
    assert told(FULL, f"{ALL} {more}") == set()


CHINESE = load_pack("household-zh")
URN = Product(
    "u",
    {"brand": ("诺达",), "category": ("kettle",), "colour": ("red",), "capacity": ("1.7升",), "waterproof": ("yes",)},
)
SAID = "诺达红色电热水壶，容量1.7升，机身防水。"


@pytest.mark.parametrize(
    ("more", "slot"),
    [
        ("续航99小时。", "number"),
        ("烧水只要９９秒。", "number"),
        ("用上二十年。", "number"),
        ("加热半小时。", "number"),
        ("质保10年。", "warranty"),
        ("它不防水。", "waterproof"),
        ("没有防水功能。", "waterproof"),
        ("不是红色。", "colour"),
        ("紫色手柄。", "colour"),
        ("钛合金内胆。", "material"),
        ("支持蓝牙。", "claim"),
        ("德国制造。", "claim"),
    ],
)
def test_what_is_made_up_in_chinese_is_found_without_a_space(more: str, slot: str) -> None:
    assert told(URN, SAID, CHINESE) == set()
    assert slot in {found for _, found in told(URN, SAID + more, CHINESE)}


@pytest.mark.parametrize("said", ["重900克容量1.7升", "容量1.7升重900克", "容量1.7升，重900克"])
def test_a_figure_belongs_to_the_words_before_it(said: str) -> None:
    product = Product("p", {"capacity": ("1.7升",), "weight": ("900克",)})
    assert told(product, said, CHINESE) == set()
    swapped = said.replace("900克", "x").replace("1.7升", "900克").replace("x", "1.7升")
    assert {slot for _, slot in told(product, swapped, CHINESE)} == {"capacity", "weight"}


@pytest.mark.parametrize("more", ["一年四季都能用。", "十分好看。", "不怕水。", "不仅防水，还好看。"])
def test_what_only_looks_like_it_in_chinese_is_left_alone(more: str) -> None:
    assert told(URN, SAID + more, CHINESE) == set()


@pytest.mark.parametrize(
    ("pack", "together"), [(ENGLISH, "USB, USB-C and auto shut-off"), (CHINESE, "USB、USB-C、auto shut-off")]
)
def test_every_value_of_an_attribute_is_said(pack: Pack, together: str) -> None:
    values = ("USB", "USB-C", "auto shut-off")
    product = Product("p", {"features": values})
    assert text_of(product, "[features]", pack) == (together, [])
    assert told(product, "USB-C, USB", pack) == {("missing", "features")}
    assert told(product, "USB-C, auto shut-off", pack) == {("missing", "features")}
    assert draft_of(product, "USB, USB-C and auto shut-off.", pack) == "[features]."
    several = {name: tuple(slot.values)[:3] for name, slot in pack.slots.items() if slot.values and slot.copied}
    product = Product("q", {"brand": ("Nordal",), "model": ("K3",), **several, "features": values})
    assert text_of(product, composed(product, Brief(), pack), pack)[1] == []


def test_of_alternatives_one_is_enough() -> None:
    product = eaten("name[The Mill], priceRange[cheap], priceRange[moderate]")
    assert told(product, "The Mill is cheap.", RESTAURANT) == set()
    assert told(product, "The Mill.", RESTAURANT) == {("missing", "priceRange")}


def test_a_mere_no_is_said_beside_what_it_is_about() -> None:
    product = Product("p", {**KETTLE.attributes, "bluetooth": ("no",)})
    assert told(product, GOOD + " No worries.") == {("missing", "bluetooth")}
    assert told(product, GOOD + " Bluetooth: no.") == set()
    assert draft_of(product, "No kettle. Bluetooth: no.", ENGLISH) == "No [category]. Bluetooth: [bluetooth]."
