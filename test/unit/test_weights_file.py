"""The file that all weights of this package are kept in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sam2vss_ros.semantics.weights_file import load_weights, refusing, save_weights


def test_tensors_come_back_with_what_was_said_about_them(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    kept = {"weight": torch.tensor([[0.1, -2.0], [3.0, 4.0]]).T, "count": torch.tensor(70000)}
    save_weights(path, kept, {"name": "Straße", "size": [3, 4], "card": {"steps": None}})
    tensors, about = load_weights(path)
    assert about == {"name": "Straße", "size": [3, 4], "card": {"steps": None}}
    assert tensors.keys() == kept.keys()
    assert tensors["count"].dtype == torch.int64 and tensors["count"] == 70000
    assert tensors["weight"].dtype == torch.float16
    assert torch.equal(tensors["weight"], torch.tensor([[0.1, 3.0], [-2.0, 4.0]]).half())


def test_weights_alone_are_marked_as_pytorchs(tmp_path: Path) -> None:
    save_weights(tmp_path / "weights.safetensors", {"weight": torch.ones(2)})
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_file_has_the_rights_of_any_other_file(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_weights(tmp_path / "weights.safetensors", {"weight": torch.ones(2)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "weights.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"sam2vss": "{"}])
def test_a_file_of_somebody_else_is_refused(
    metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata)
    with pytest.raises(ValueError, match="^weights: not ours: ."), refusing("weights: not ours"):
        load_weights(path)


@pytest.mark.parametrize("size", [0, 5, 90])
def test_a_damaged_file_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"weight": torch.ones(200)}, {})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="^weights: not ours: ."), refusing("weights: not ours"):
        load_weights(path)


def test_reasons_are_told_in_one_line() -> None:
    other = torch.nn.Linear(3, 4).state_dict()
    with pytest.raises(ValueError, match=r"^not ours: .*weight") as caught, refusing("not ours"):
        torch.nn.Linear(2, 4).load_state_dict(other)
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_the_files() -> None:
    with pytest.raises(KeyboardInterrupt), refusing("not ours"):
        raise KeyboardInterrupt
