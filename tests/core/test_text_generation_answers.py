"""Which answer a text ends with, and whether two are the same: a table made by hand, and 3,600 recorded solutions whose
publisher says which are right."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from toolkit.tasks.text_generation.answers import answers_right, final_answer, same_answer

GSM8K = Path(__file__).parents[3] / "shared/data/education/gsm8k/example_model_solutions.jsonl"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She sold 48 / 2 = <<48/2=24>>24 clips.\n#### 24", "24"),
        ("#### 24\nand that was all", "24"),
        ("first #### 3\nno, #### 4", "4"),
        ("#### 1,234.50 dollars", "1,234.50 dollars"),
        ("#### Step 2\nso it is \\boxed{7}", "7"),
        ("\\boxed{7}\n#### 8", "8"),
        (r"so \boxed{\frac{1}{2}} of it", r"\frac{1}{2}"),
        (r"\boxed{\text{a {nested} one}}", r"\text{a {nested} one}"),
        (r"\boxed{12", "12"),
        (r"\boxed{1} then \boxed{2}", "2"),
        ("<think>\n#### 5 or 6\n</think>\n\nIt is 9.", "9"),
        ("It costs $1,080.50.", "1,080.50"),
        ("It costs .5 more", ".5"),
        ("so 16 - 3 = 13", "13"),
        ("from 5-3", "3"),
        ("it is −7 degrees", "-7"),
        ("it is \uff0d\uff17\uff12 degrees", "-72"),
        ("about 3/4 of them", "3/4"),
        ("some 2½ cups", "2 1/2"),
        ("by 12.5%", "12.5%"),
        ("1e3 of them", "1e3"),
        ("on 2024-05-01", "2024-05-01"),
        ("at 10:30", "10:30"),
        ("25 cm² of it", "25"),
        ("the file cm2 of v3", "the file cm2 of v3"),
        ("the answer is Paris.", "the answer is Paris."),
        ("of 1,00,000 rupees", "1,00,000"),
        ("the numbers 1, 2, 3", "3"),
        ("#### ", ""),
        ("\\boxed{}", ""),
        ("   ", ""),
        ("", ""),
    ],
)
def test_the_final_answer_of_a_text(text: str, answer: str) -> None:
    assert final_answer(text) == answer


SAME = [
    ("1,200", "1200.0"), ("1,00,000", "100000"), ("+5", "5"), ("-0", "0"), ("$72.00", "72"), ("-$5", "−5"),
    ("€ 3.50", "3.5"), ("1/2", "0.5"), ("2/4", "1/2"), (r"\frac{1}{2}", ".5"), (r"\dfrac{3}{4}", "3/4"), ("2½", "2.5"),
    ("\uff17\uff12", "72"), ("１，２００", "1200"), ("50%", "0.5"), ("50%", "50"), (r"50\%", "50 %"), ("1e3", "1000"),
    ("72 clips", "72"), ("72", "$72 dollars"), ("72kg", "72.0"), ("25 cm²", "25"), ("72-inch", "72"), ("x = 72", "72"),
    (r"72\text{ clips}", "72"), (r"1{,}200", "1200"), ("72 clips", " 72  CLIPS."), ("1, 2, 3", "1,2,3"),
    ("Paris", " paris. "), ("(B)", "b"), ("3 and 4", "3 AND 4"), ("2024-05-01", "2024-05-01"), ("10²", "10^2"),
    ("9" * 10_000, "0" + "9" * 10_000), ("ﬁve", "FIVE"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_answers_that_are_the_same(one: str, other: str) -> None:
    assert same_answer(one, other)
    assert same_answer(other, one)
    assert answers_right(f"so it is\n#### {one}", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("72", "73"), ("72", "-72"), ("1,2,3", "123"), ("1, 2, 3", "123"), ("1, 2, 3", "3"), ("12,34", "1234"),
        ("72 cm", "72 m"), ("72 clips", "73"), ("72 or 73", "72"), ("Apollo 11", "11"), ("50%", "5"), ("50%", "0.5%"),
        ("50%", "0.05"), ("1/0", "0"), ("1/0", "1"), ("10²", "102"), ("10²", "10"), ("2½", "10.5"), (".5", "5"),
        ("2024-05-01", "2024"), ("05/2024", "5"), ("10:30", "10"), ("", ""), (" . ", ""), ("", "0"), ("Paris", ""),
        ("NaN", "0"), ("nan", "Infinity"), ("1_000", "1000"), ("0x10", "16"), ("9" * 50, "9" * 49 + "8"),
    ],
)  # fmt: skip
def test_answers_that_are_not_the_same(one: str, other: str) -> None:
    assert not same_answer(one, other)
    assert not same_answer(other, one)


def test_a_text_that_is_the_answer_is_right_whatever_numbers_it_holds() -> None:
    assert answers_right("It has 3 sides.", "it has 3 sides")
    assert answers_right("<think>\nhm\n</think>\n\n1, 2, 3", "1,2,3") is False  # not it alone, and the last number is 3
    assert answers_right("1, 2, 3", "1,2,3")
    assert not answers_right("", "")
    assert not answers_right("anything", "")


@pytest.mark.parametrize(
    "text",
    [
        "1" * 200_000, "11," * 70_000, "1-" * 100_000, "1/" * 100_000, "1:" * 100_000, "1." * 100_000, "1e" * 100_000,
        "\\boxed{" * 30_000, "####" * 50_000, "{" * 200_000, r"\frac{" * 30_000, "%" * 200_000, "=" * 200_000,
        "1 " * 100_000, "- " * 100_000, "1e9999/1e-9999", "1e99999999999", "1/1e99999999999", "½" * 100_000, "\ud800",
        "1" * 100_000 + " 1/2",
    ],
    ids=lambda text: text[:8].encode("unicode_escape").decode(),
)  # fmt: skip
def test_no_text_takes_long_or_breaks_the_judge(text: str) -> None:
    began = time.process_time()
    answers_right(text, "1")
    answers_right("1", text)
    same_answer(text, f"{text}%")
    assert time.process_time() - began < 2


@pytest.mark.skipif(not GSM8K.is_file(), reason="the data are not here")
def test_recorded_solutions_are_judged_as_their_publisher_judged_them() -> None:
    judged = 0
    for line in GSM8K.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        answer = record["ground_truth"].rpartition("A:")[2].strip()
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            assert answers_right(record[model]["solution"], answer) == record[model]["is_correct"], record[model]
            judged += 1
    assert judged == 3600
