"""Training state on disk: a full disk costs the new state and not the old; large states are written less often."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
import torch

from toolkit.distil.checkpoints import Checkpoints
from toolkit.errors import EnvironmentUnfit, IntegrityError

MODULE = "toolkit.distil.checkpoints"


def test_a_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    state = {"weights": {"a": torch.arange(6.0).view(2, 3)}, "position": [3, 4]}
    Checkpoints(tmp_path).save(state)
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert torch.equal(found["weights"]["a"], state["weights"]["a"])
    assert found["position"] == [3, 4]


@pytest.mark.parametrize("damage", ["empty", "short", "altered"])
def test_a_damaged_state_is_told_and_not_taken_up(damage: str, tmp_path: Path) -> None:
    Checkpoints(tmp_path).save({"weights": torch.arange(1000.0)})
    path = tmp_path / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 1
    path.write_bytes({"empty": b"", "short": path.read_bytes()[:1000], "altered": bytes(data)}[damage])
    for mapped in (False, True):
        with pytest.raises(IntegrityError, match="is damaged") as told:
            Checkpoints(tmp_path).load(mapped=mapped)
        assert "Remove that file" in told.value.hint


def test_a_disk_that_is_full_leaves_the_state_before(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save({"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(EnvironmentUnfit, match="cannot write"):
            Checkpoints(tmp_path).save({"weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Checkpoints(tmp_path).load() == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(("cheap", "due"), [(60.0, True), (1e-7, False)])
def test_what_takes_long_to_write_is_written_less_often(
    cheap: float, due: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}.EVERY_SECONDS", 0.05)
    monkeypatch.setattr(f"{MODULE}.CHEAP_SECONDS", cheap)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"weights": torch.zeros(1000)})
    assert not checkpoints.due
    time.sleep(0.06)
    assert checkpoints.due is due
