from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, recall_score

from toolkit.errors import DataError
from toolkit.score.classification import majority_right, score_classification
from toolkit.score.intervals import wilson

CLASSES = ["good", "pit", "scratch"]


def certain(names, classes=CLASSES, confidence=1.0):
    """Probabilities of one confident answer a row; even where there is no answer."""
    table = np.full((len(names), len(classes)), (1 - confidence) / (len(classes) - 1))
    for row, name in enumerate(names):
        if name is None:
            table[row] = np.nan
        else:
            table[row, classes.index(name)] = confidence
    return table


@pytest.fixture(scope="module")
def random_case():
    random = np.random.default_rng(11)
    logits = random.normal(size=(200, 3))
    truth = random.integers(0, 3, 200)
    logits[np.arange(200), truth] += 1.2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return [CLASSES[t] for t in truth], [CLASSES[p] for p in probabilities.argmax(axis=1)], probabilities


def test_figures_by_hand():
    truth = ["good", "good", "good", "good", "pit", "pit", "scratch", "scratch", "scratch", "scratch"]
    answer = ["good", "good", "good", "pit", "pit", "good", "scratch", "scratch", None, "pit"]
    score = score_classification(truth, answer, certain(answer, confidence=0.8), CLASSES, good_class="good")
    value = {name: metric.value for name, metric in score.metrics.items()}
    n = {name: metric.n for name, metric in score.metrics.items()}
    assert value["accuracy"] == pytest.approx(6 / 10)
    # F1 = 2 TP / (rows of the class + rows called so): good 6/8, pit 2/5, scratch 4/6
    assert value["macro_f1"] == pytest.approx((6 / 8 + 2 / 5 + 4 / 6) / 3)
    assert (value["recall/good"], value["recall/pit"], value["recall/scratch"]) == (0.75, 0.5, 0.5)
    assert (n["recall/good"], n["recall/pit"], n["recall/scratch"]) == (4, 2, 4)
    assert (value["escapes"], n["escapes"]) == (pytest.approx(1 / 6), 6)  # an unreadable defect is held, not passed
    assert (value["overkill"], n["overkill"]) == (0.25, 4)
    # 6 of 9 gave the truth 0.8, the others share the other 0.2 with one more class
    assert value["log_loss"] == pytest.approx(-(6 * np.log(0.8) + 3 * np.log(0.1)) / 9)
    assert n["log_loss"] == 9
    # All 9 readable answers say 0.8, 6 of them are right: |6/9 - 0.8|
    assert (value["calibration_error"], n["calibration_error"]) == (pytest.approx(0.8 - 6 / 9), 9)
    assert score.confusion == [[3, 1, 0], [1, 1, 0], [0, 1, 2]]
    assert score.unreadable == [0, 0, 1]
    assert score.worst == (3, 5, 9)
    assert (score.metrics["escapes"].low, score.metrics["escapes"].high) == wilson(1, 6)
    lower = {name for name, metric in score.metrics.items() if not metric.higher_is_better}
    assert lower == {"calibration_error", "log_loss", "escapes", "overkill"}


def test_figures_are_those_of_scikit_learn(random_case):
    truth, answer, probabilities = random_case
    score = score_classification(truth, answer, probabilities, CLASSES)
    assert score.metrics["accuracy"].value == pytest.approx(accuracy_score(truth, answer))
    assert score.metrics["macro_f1"].value == pytest.approx(f1_score(truth, answer, average="macro"))
    for name, recall in zip(CLASSES, recall_score(truth, answer, average=None, labels=CLASSES), strict=True):
        assert score.metrics[f"recall/{name}"].value == pytest.approx(recall)
    assert score.confusion == confusion_matrix(truth, answer, labels=CLASSES).tolist()


def test_macro_f1_interval_is_that_of_a_plain_bootstrap(random_case):
    truth, answer, probabilities = (np.array(part) for part in random_case)
    metric = score_classification(truth.tolist(), answer.tolist(), probabilities, CLASSES).metrics["macro_f1"]
    random, draws = np.random.default_rng(0), []
    for _ in range(120):
        drawn = random.integers(0, 200, 200)
        draws.append(f1_score(truth[drawn], answer[drawn], average="macro"))
    assert (metric.low, metric.high) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))), abs=0.025)


def test_calibration_error_by_the_book(random_case):
    """Guo et al. 2017, equations 2 to 3, bin by bin."""
    truth, answer, probabilities = random_case
    error = 0.0
    for number in range(15):
        inside = [
            row for row in range(len(truth)) if number / 15 < probabilities[row].max() <= (number + 1) / 15
        ]  # fmt: skip
        if inside:
            accuracy = sum(truth[row] == answer[row] for row in inside) / len(inside)
            confidence = sum(probabilities[row].max() for row in inside) / len(inside)
            error += len(inside) / len(truth) * abs(accuracy - confidence)
    metric = score_classification(truth, answer, probabilities, CLASSES).metrics["calibration_error"]
    assert metric.value == pytest.approx(error)
    assert metric.low <= metric.value <= metric.high


def test_log_loss_is_that_of_scikit_learn_and_its_interval_that_of_a_mean(random_case):
    truth, answer, probabilities = random_case
    metric = score_classification(truth, answer, probabilities, CLASSES).metrics["log_loss"]
    assert metric.value == pytest.approx(log_loss(truth, probabilities[:, np.argsort(CLASSES)]))
    rows = -np.log(probabilities[np.arange(200), [CLASSES.index(name) for name in truth]])
    assert metric.low == pytest.approx(rows.mean() - 1.96 * rows.std() / np.sqrt(200), abs=0.02)
    assert metric.high > rows.mean() + 1.96 * rows.std() / np.sqrt(200) - 0.02
    assert (metric.unit, metric.higher_is_better) == ("nats", False)


def test_a_truth_that_was_ruled_out_costs_much_but_not_everything():
    metric = score_classification(["pit"], ["good"], np.array([[1.0, 0.0, 0.0]]), CLASSES).metrics["log_loss"]
    assert metric.value == pytest.approx(-np.log(1e-6))


def test_a_class_without_rows_is_left_out():
    truth, answer = ["pit", "pit", "scratch"], ["pit", "good", "scratch"]
    score = score_classification(truth, answer, certain(answer), CLASSES, good_class="good")
    assert "recall/good" not in score.metrics
    assert "overkill" not in score.metrics
    assert score.metrics["macro_f1"].value == pytest.approx((2 / 3 + 1) / 2)
    assert score.metrics["escapes"].n == 3
    only_good = score_classification(["good"], ["good"], certain(["good"]), CLASSES, good_class="good")
    assert "escapes" not in only_good.metrics
    assert only_good.metrics["overkill"].value == 0


def test_few_perfect_rows_are_not_certain():
    truth = ["good", "pit", "scratch"] * 2
    score = score_classification(truth, truth, certain(truth), CLASSES, good_class="good")
    for name, metric in score.metrics.items():
        assert metric.low < metric.high, name
    assert score.metrics["macro_f1"].low < 0.9
    assert score.metrics["calibration_error"].high > 0.3
    assert score.worst == ()


def test_only_unreadable_rows():
    score = score_classification(["good", "pit"], [None, None], certain([None, None]), CLASSES, good_class="good")
    assert score.metrics["accuracy"].value == 0
    assert score.metrics["macro_f1"].value == 0
    assert "calibration_error" not in score.metrics
    assert (score.metrics["escapes"].value, score.metrics["overkill"].value) == (0, 1)
    assert score.unreadable == [1, 1, 0]


def test_the_surest_mistakes_come_first():
    answer = ["pit", "pit", "good", "scratch"]
    probabilities = certain(answer)
    for row, sure in enumerate((0.7, 0.9, 0.99, 0.8)):
        probabilities[row] = (1 - sure) / 2
        probabilities[row, CLASSES.index(answer[row])] = sure
    assert score_classification(["good"] * 4, answer, probabilities, CLASSES).worst == (1, 3, 0)


def test_rows_of_one_part_do_not_pass_for_many_parts():
    truth = ["good"] * 60
    answer = ["good"] * 50 + ["pit"] * 10
    groups = [f"part {row // 10}" for row in range(60)]
    apart = score_classification(truth, answer, certain(answer), CLASSES).metrics
    grouped = score_classification(truth, answer, certain(answer), CLASSES, groups=groups).metrics
    for name in ("accuracy", "recall/good", "macro_f1", "calibration_error"):
        assert grouped[name].value == apart[name].value
        assert grouped[name].high - grouped[name].low > apart[name].high - apart[name].low


def test_majority_right():
    assert majority_right(["a", "b", "b"]).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("truth", "answer", "probabilities", "message"),
    [
        ([], [], np.zeros((0, 3)), "0 true classes"),
        (["good"], ["good", "pit"], certain(["good"]), "do not pair"),
        (["good"], ["good"], np.ones((1, 2)) / 2, "shape"),
        (["dent"], ["good"], certain(["good"]), "'dent': not among the classes"),
        (["good"], ["dent"], certain(["good"]), "'dent': not among the classes"),
        (["good"], ["good"], np.array([[3.0, 1.0, -1.0]]), "do not sum to 1"),
        (["good"], ["good"], np.array([[np.nan, 0.5, 0.5]]), "do not sum to 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, answer, probabilities, message):
    with pytest.raises(DataError, match=message):
        score_classification(truth, answer, probabilities, CLASSES)


def test_an_unknown_good_class_is_refused():
    with pytest.raises(DataError, match="'ok' is not among"):
        score_classification(["good"], ["good"], certain(["good"]), CLASSES, good_class="ok")


def test_the_record_is_json(random_case):
    record = score_classification(*random_case, CLASSES).as_record()
    assert json.loads(json.dumps(record)) == record
