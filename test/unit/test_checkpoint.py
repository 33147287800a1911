"""Checkpoints as people have them: what is taken, and what is named instead of being taken."""

from __future__ import annotations

import argparse
import gzip
import io
import pickle
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sam2vss_ros.affinity.model import load_affinity_model
from sam2vss_ros.errors import LONGEST_MESSAGE, ModelUnavailableError
from sam2vss_ros.sam2.build import build_network, load_model
from sam2vss_ros.sam2.cards import CARDS
from sam2vss_ros.sam2.checkpoint import load_weights, read_weights
from sam2vss_ros.sam2.weights import EMBEDDED_FOLDER
from small_sam2 import SMALL_SAM2, SMALL_WEIGHTS, untrained_small_sam2

TINY = "sam2.1_hiera_tiny"


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return untrained_small_sam2().state_dict()


def refused(path: Path, name: str = SMALL_SAM2) -> str:
    with pytest.raises(ModelUnavailableError) as caught:
        load_model(name, str(path), device="cpu", image_size=64)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) <= LONGEST_MESSAGE
    return message


WRAPPED: dict[str, Any] = {
    "bare": lambda w: w,
    "model": lambda w: {"model": w, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}},
    "state_dict": lambda w: {"state_dict": w, "epoch": 3},
    "nested": lambda w: {"model": {"state_dict": w}},
    "DistributedDataParallel": lambda w: {"model": {f"module.{k}": v for k, v in w.items()}},
    "Lightning and compile": lambda w: {
        "state_dict": {f"model._orig_mod.{k}": v for k, v in w.items()}
    },
    "numpy's numbers": lambda w: {"model": w, "loss": np.float32(0.5), "step": np.int64(3)},
    "argparse": lambda w: {"model": w, "args": argparse.Namespace(lr=1e-4, seed=np.int64(7))},
    "an own key": lambda w: {"best": {"weights_of_mine": w}, "history": [1, 2]},
    "beside a number": lambda w: w | {"epoch": 3},
    "double": lambda w: {k: v.double() if v.is_floating_point() else v for k, v in w.items()},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_weights_are_found_whatever_wraps_them(
    how: str, small: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "mine.pt"
    torch.save(WRAPPED[how](small), path)
    loaded = load_model(SMALL_SAM2, str(path), device="cpu").network.state_dict()
    assert loaded.keys() == small.keys()
    for key, value in small.items():
        assert torch.equal(loaded[key].contiguous(), value), key


def test_numbers_of_another_numpy_are_read(small: dict[str, Tensor], tmp_path: Path) -> None:
    """Versions 1 and 2 keep them in different modules."""
    here, there = b"numpy.core.multiarray\n", b"numpy._core.multiarray\n"
    if np.__version__ >= "2":
        here, there = there, here
    torch.save({"model": small, "loss": np.float32(0.5)}, tmp_path / "here.pt")
    with (
        zipfile.ZipFile(tmp_path / "here.pt") as source,
        zipfile.ZipFile(tmp_path / "there.pt", "w") as target,
    ):
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert content.count(here) == 1
                content = content.replace(here, there)
            target.writestr(entry.filename, content)
    assert read_weights(tmp_path / "there.pt").keys() == small.keys()


def test_the_old_format_of_torch_is_read(small: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": small}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "old.pt").keys() == small.keys()


def test_a_suffix_is_but_a_name(small: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(small, tmp_path / "mine.pt")
    torch.save({"model": small}, tmp_path / "mine.safetensors")
    for name in ("mine.pt", "mine.safetensors"):
        weights = read_weights(tmp_path / name)
        assert all(torch.equal(weights[key], value) for key, value in small.items())


class Bomb:
    """Pickles into code that writes a file when it is unpickled carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no checkpoint: it is a git-lfs pointer"),
        (b"\n <!DOCTYPE html><html>404</html>", r"it is no checkpoint: it is a web page \(HTML\)"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", r"a web page \(HTML\)"),
        (gzip.compress(b"weights", mtime=0), r"compressed \(gzip\)"),
        (b"not tensors at all", "truncated or no checkpoint: neither torch.save nor safetensors"),
        (b"PK\x03\x04 and no more", "truncated or no checkpoint"),
        (b"\x80\x02 and no more", "truncated or no checkpoint"),
        ((100).to_bytes(8, "little") + b'{"a": ', "truncated or no checkpoint"),
        (saved([torch.zeros(1)]), "not in Meta's format.*it holds a list"),
        (saved({"model": {"weight": 1}, "epoch": 2}), "it holds model, epoch"),
        (saved({"optimizer": {}}), "it holds optimizer"),
        (saved({"weight": torch.zeros(1)}), "small_sam2.yaml: .*missing.*1 unexpected: weight"),
        (saved({"model": {}, "p": Path("/x")}), "holds pathlib.PosixPath, and only data is read"),
        (saved({"model": {}, "a": np.zeros(2)}), r"it holds numpy\.\w+.*only data is read"),
        (pickle.dumps({"p": Path("/x")}, 2), "it holds pathlib.PosixPath"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_no_checkpoint_is_named(
    content: bytes, said: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    assert re.search(said, refused(path))


def test_nothing_is_run(tmp_path: Path) -> None:
    for content in (
        pickle.dumps(Bomb(tmp_path / "exploded"), protocol=2),
        saved({"model": {}, "more": Bomb(tmp_path / "exploded")}),
    ):
        path = tmp_path / "bomb.pt"
        path.write_bytes(content)
        assert "only data is read" in refused(path)
    assert not (tmp_path / "exploded").exists()


def test_a_program_is_no_checkpoint(tmp_path: Path) -> None:
    torch.jit.trace(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "net.pt"))
    assert "it is a TorchScript program, not weights" in refused(tmp_path / "net.pt")


def test_a_truncated_checkpoint_is_named(small: dict[str, Tensor], tmp_path: Path) -> None:
    for name, content in (
        ("mine.pt", saved({"model": small})),
        ("mine.safetensors", SMALL_WEIGHTS.read_bytes()),
    ):
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert "it is truncated or no checkpoint" in refused(tmp_path / name)


@pytest.mark.parametrize("old", [False, True])
def test_wherever_it_is_cut_off_it_is_told(old: bool, tmp_path: Path) -> None:
    """Torch's readers raise AssertionError, struct.error and more."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer, _use_new_zipfile_serialization=not old)
    whole, path = buffer.getvalue(), tmp_path / "mine.pt"
    for size in range(1, len(whole) - 1, len(whole) // 60):
        for content in (whole[:size], whole[:size] + b"x" + whole[size:]):
            path.write_bytes(content)
            with suppress(ModelUnavailableError):
                load_weights(network, read_weights(path), path, SMALL_SAM2)


def test_a_file_that_unpacks_to_more_than_itself_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mine/data/0", bytes(50_000_000))
    assert "it is compressed, torch.save did not write it" in refused(path)


def test_other_models_are_named(small: dict[str, Tensor], tmp_path: Path) -> None:
    tiny = build_network(CARDS[TINY], 64).state_dict()
    path = tmp_path / "mine.pt"
    torch.save({"model": tiny}, path)
    assert f"is not of model {SMALL_SAM2}, but looks like {TINY}: " in refused(path)
    assert f"is not of model sam2.1_hiera_large, but looks like {TINY}" in refused(
        path, "sam2.1_hiera_large"
    )
    old = ("no_obj_embed_spatial", "obj_ptr_tpos_proj")
    torch.save({"model": {k: v for k, v in tiny.items() if not k.startswith(old)}}, path)
    message = refused(path, TINY)
    assert "of SAM 2.0 (July 2024), sam2_hiera_tiny, which lacks parts of SAM 2.1" in message
    assert "3 missing: no_obj_embed_spatial" in message
    torch.save({"mask_decoder.mask_tokens.weight": torch.zeros(4, 256)}, path)
    assert "but of the first SAM, not SAM 2" in refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(
    value: float, small: dict[str, Tensor], tmp_path: Path
) -> None:
    """As float32: 1e300 is too large for it."""
    broken = {k: v.double() if v.is_floating_point() else v for k, v in small.items()}
    broken["no_obj_ptr"] = broken["no_obj_ptr"].clone()
    broken["no_obj_ptr"].view(-1)[3] = value
    torch.save(broken, tmp_path / "mine.pt")
    said = "is damaged, or its training failed: 1 with NaN or infinite weights: no_obj_ptr"
    assert said in refused(tmp_path / "mine.pt")


def test_the_trunk_refuses_them_too(tmp_path: Path) -> None:
    weights = read_weights(EMBEDDED_FOLDER / "mobile.safetensors")
    key = next(iter(weights))
    save_file(weights | {key: torch.full_like(weights[key], float("nan"))}, tmp_path / "mine.pt")
    with pytest.raises(ModelUnavailableError, match=f"NaN or infinite weights: {key}"):
        load_affinity_model("mobile", str(tmp_path / "mine.pt"), device="cpu")


def test_integers_are_no_weights(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    weights = {k: v.to(torch.int8) for k, v in network.state_dict().items()}
    with pytest.raises(ModelUnavailableError, match=r"bias is torch.int8, not torch.float32"):
        load_weights(network, weights, tmp_path / "mine.pt", SMALL_SAM2)
