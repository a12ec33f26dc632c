"""The target `cpu` keeps what every target promises."""

from __future__ import annotations

from pathlib import Path

import pytest

import toolkit_target_cpu
from toolkit.protocols import CompiledForm
from toolkit.testing.images import picture_model, pictures
from toolkit.testing.targets import check_target
from toolkit_target_cpu import CpuTarget


def test_the_target_keeps_the_contract(tmp_path: Path) -> None:
    check_target(CpuTarget(), tmp_path)


def test_every_profile_the_design_names_is_offered() -> None:
    offered = {profile.name for profile in CpuTarget().profiles()}
    assert offered == {"cpu", "edge-x86-2", "edge-x86-4", "x86-server", "edge-arm64"}


@pytest.mark.parametrize(("vnni", "expected"), [(True, False), (False, True)])
def test_weights_keep_to_seven_bits_where_products_saturate(
    vnni: bool, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolkit_target_cpu, "_has_vnni", lambda: vnni)
    assert int8_for("cpu", tmp_path).notes["reduce_range"] is expected


def test_arm_boxes_take_all_eight_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit_target_cpu, "_has_vnni", lambda: False)
    assert int8_for("edge-arm64", tmp_path).notes["reduce_range"] is False


def int8_for(profile_name: str, folder: Path) -> CompiledForm:
    target = CpuTarget()
    profile = next(profile for profile in target.profiles() if profile.name == profile_name)
    return next(iter(target.compile(picture_model(), pictures(4), profile, folder)))
