"""Drift on real pictures and by numbers worked out elsewhere: what is the same stays quiet, what moved is told."""

from __future__ import annotations

import io
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from seal_parts import make_home
from serving_parts import Files, bundle_files, facts_of, running

from toolkit.services import Seen
from toolkit.serving import week
from toolkit.serving.drift import CHI_SQUARE, LEAST, Measure, worst
from toolkit.serving.ledger import open_ledger
from toolkit.serving.models import BundleFacts
from toolkit.serving.week import Weeks
from toolkit.tasks.image_classification.appearance import appearance
from toolkit.tasks.image_classification.images import decode_image

NEU = Path(__file__).parents[2].parent / "shared" / "data" / "industry" / "neu-det"


def counted(measure: Measure, values: np.ndarray) -> list[int]:
    counts = [0] * len(measure.counts)
    for value in values:
        counts[measure.place(value)] += 1
    return counts


def measure_of(values: np.ndarray) -> Measure:
    found = Measure.of(values.tolist())
    assert found is not None
    return found


def test_the_figures_are_those_that_scipy_and_the_formula_give() -> None:
    rng = np.random.default_rng(3)
    reference, found = rng.normal(size=4000), rng.normal(0.3, 1.2, size=3000)
    measure = measure_of(reference)
    told = measure.compare(counted(measure, found))
    exact = stats.ks_2samp(reference, found).statistic
    assert told.ks is not None
    assert told.psi is not None
    assert exact - 0.015 < told.ks <= exact + 1e-4  # looked at in 99 places, not in all
    edges = np.quantile(reference, np.arange(1, 10) / 10)
    p, q = (np.bincount(np.searchsorted(edges, of), minlength=10) / len(of) for of in (reference, found))
    assert told.psi == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=0.05)
    assert (told.state, told.week, told.reference) == ("watch", 3000, 4000)


def test_quantiles_of_chi_square_are_scipys() -> None:
    for share, quantiles in CHI_SQUARE.items():
        assert quantiles == pytest.approx(stats.chi2.ppf(1 - share, np.arange(1, 10)), abs=2e-3)


@pytest.mark.parametrize("count", [60, 400, 20_000])
def test_false_alarms_are_rare_whatever_the_size(count: int) -> None:
    """Of windows from the reference's own distribution: at most 1% alert, and few are watched."""
    rng, states = np.random.default_rng(count), []
    for turn in range(300):
        draw = (lambda n: rng.normal(size=n)) if turn % 2 else (lambda n: rng.beta(8, 0.3, size=n).round(6))
        measure = measure_of(draw(360))
        window = draw(count)
        counts = np.bincount(np.searchsorted(measure.edges, window, side="right"), minlength=len(measure.counts))
        states.append(measure.compare(counts.tolist()).state)
    assert states.count("alert") <= 3
    assert states.count("watch") <= 15


@pytest.mark.parametrize("values", [[1.0] * 100, [0.0, 1.0] * 50, [0.5], []])
def test_a_measure_of_few_or_equal_values_is_no_trouble(values: list[float]) -> None:
    measure = Measure.of(values)
    if measure is None:
        assert not values
        return
    same = measure.compare(measure.counts)
    assert same.state == ("too_few" if len(values) < LEAST else "ok")
    assert measure.compare([0] * len(measure.counts)).state == "too_few"
    assert Measure.of([*values, math.nan, math.inf]) == measure
    assert measure.strange(3.0)
    assert not measure.strange(values[0])


def test_what_never_changed_in_the_reference_may_not_grow_unseen() -> None:
    measure = measure_of(np.zeros(200))
    assert measure.compare(counted(measure, np.zeros(100))).state == "ok"
    for value in (0.3, -0.3):
        assert measure.compare(counted(measure, np.full(100, value))).state == "alert"


def test_the_worst_state_counts() -> None:
    assert worst(["ok", "alert", "too_few"]) == "alert"
    assert worst(["too_few", "ok"]) == "ok"
    assert worst([]) == "no_reference"


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[bytes]]:
    """Real pictures by class."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(NEU.rglob("*.jpg")):
        found.setdefault(path.stem.rpartition("_")[0], []).append(path.read_bytes())
    if not found:
        pytest.skip("needs shared/data/industry/neu-det")
    return found


def brighter(picture: bytes, by: int) -> bytes:
    shifted = np.clip(decode_image(picture).astype(np.int16) + by, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(shifted).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def facts_with(rows: list[dict[str, object]]) -> BundleFacts:
    return facts_of(Files(bundle_files(reference=json.dumps({"metrics": {}, "per_row": rows}).encode())))


def looks(picture: bytes) -> dict[str, float]:
    return dict(appearance(decode_image(picture)))


def test_real_pictures_are_quiet_and_alert_once_they_are_brighter(
    tmp_path: Path, pictures: dict[str, list[bytes]]
) -> None:
    everything = [(picture, looks(picture)) for group in pictures.values() for picture in group[:120]]
    rng = np.random.default_rng(0)
    states = []
    for turn in range(40):  # windows of the same pictures: how often is a false alarm told?
        order = rng.permutation(len(everything))
        reference, window = order[:360], order[360:]
        weeks = Weeks(tmp_path / str(turn))
        served = facts_with([{"measures": everything[i][1], "predicted": "good"} for i in reference])
        weeks.serves(served)
        weeks.count(served, [Seen("picture", b"", measures=everything[i][1]) for i in window])
        weeks.look()
        states.append(weeks.as_records()[0]["state"])
    assert states.count("alert") <= 1
    assert states.count("ok") >= 34
    weeks.count(served, [Seen("picture", b"", measures=looks(brighter(everything[i][0], 80))) for i in window])
    ((of, before, now),) = weeks.look()
    assert (of.id, now) == ("b-123", "alert")
    assert before in ("ok", "watch")
    record = weeks.as_records()[0]
    assert record["states"]["brightness"] == "alert"
    assert record["psi"]["brightness"] > 0.25


def test_a_server_tells_of_drift_in_figures_log_and_review(
    tmp_path: Path, pictures: dict[str, list[bytes]], capfd: pytest.CaptureFixture[str]
) -> None:
    site = make_home(tmp_path / "home").site()
    sample = [picture for group in pictures.values() for picture in group[:20]]
    rows = [{"measures": looks(picture), "predicted": "good"} for picture in sample]
    reference = json.dumps({"metrics": {}, "per_row": rows}).encode()
    with (
        running(site.path, ledger=open_ledger(site), reference=reference) as server,
        server.client() as client,
        server.client("operate") as operator,
    ):
        assert client.get("/site/drift").status_code == 403
        assert operator.get("/site/drift").json()["products"][0]["state"] == "too_few"
        for picture in sample:
            client.post("/v1/inspect", content=picture, headers={"Content-Type": "image/jpeg"})
        assert operator.get("/site/drift").json()["products"][0]["state"] == "ok"
        for picture in sample:
            send = brighter(picture, 120)
            client.post("/v1/inspect", content=send, headers={"Content-Type": "image/jpeg"})
        (told,) = operator.get("/site/drift").json()["products"]
        assert (told["product"], told["bundle"], told["state"]) == ("tiny", "b-123", "alert")
        assert told["week"]["brightness"] == 2 * len(sample)
        metrics = operator.get("/metrics").text
        named = 'bundle="b-123",measure="brightness",product="tiny"'
        assert f'toolkit_drift_state{{{named},state="alert",version="1.7"}} 1.0' in metrics
        assert f'toolkit_drift_psi{{{named},version="1.7"}}' in metrics
        for picture in sample:  # now that it is told, samples of it are kept
            client.post("/v1/inspect", content=brighter(picture, 120), headers={"Content-Type": "image/jpeg"})
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            kept = operator.get("/site/review", params={"limit": 1000}).json()["entries"]
            if any("drift:brightness" in entry["why"] for entry in kept):
                break
            time.sleep(0.2)
        assert any("drift:brightness" in entry["why"] for entry in kept)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"drift"' in line]
    assert [line["state"] for line in lines] == ["too_few", "ok", "alert"]


def test_counts_add_up_over_restarts_and_processes_and_end_with_the_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    served = facts_with([{"confidence": float(v), "predicted": "a"} for v in rng.random(200)])

    def some(count: int) -> list[Seen]:
        return [Seen("picture", b"", measures={"confidence": float(v)}) for v in rng.random(count)]

    one, other = Weeks(tmp_path), Weeks(tmp_path)
    one.serves(served)
    one.count(served, some(100))
    one.look()
    other.count(served, some(60))
    other.look()
    assert other.as_records()[0]["week"] == {"confidence": 160}
    restarted = Weeks(tmp_path)
    restarted.serves(served)
    restarted.look()
    assert restarted.as_records()[0]["week"] == {"confidence": 160}
    (tmp_path / week.FOLDER / "damaged.json").write_text('{"b-123": {"confidence": {"x": 3}}}')
    restarted.look()
    assert restarted.as_records()[0]["week"] == {"confidence": 160}
    now = time.time()
    monkeypatch.setattr("toolkit.serving.week.time.time", lambda: now + 8 * 86_400)
    restarted.look()
    assert restarted.as_records()[0]["week"] == {"confidence": 0}
    for path in (tmp_path / week.FOLDER).iterdir():
        os.utime(path, (now - 86_400 * 2,) * 2)
    restarted.look()
    assert not list((tmp_path / week.FOLDER).iterdir())


def test_a_bundle_from_before_has_no_reference(tmp_path: Path) -> None:
    weeks, served = Weeks(tmp_path), facts_of(Files(bundle_files()))
    assert weeks.count(served, [Seen("picture", b"", measures={"brightness": 3.0})]) == [()]
    weeks.look()
    assert weeks.as_records()[0]["state"] == "no_reference"
    older = facts_with([{"confidence": 0.5, "predicted": "a"}, {"confidence": 0.0, "predicted": None}])
    assert older.reference == {"confidence": (0.5,)}  # scores were always there; the unreadable row says nothing
