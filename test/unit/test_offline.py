"""The network is asked on request only: whatever is mistyped or missing, nobody is called."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from network_samples import CPU, NAMES
from sam2vss_ros.cli import main
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.perception import Perception
from sam2vss_ros.semantics.networks.loading import load_network
from sam2vss_ros.semantics.networks.pretrained import offline


class CalledError(AssertionError):
    """Somebody was called."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """A machine without weights, on which every call is noted and fails; returns the calls."""
    made: list[Any] = []

    def call(*arguments: Any, **_: Any) -> None:
        made.append(arguments)
        raise CalledError(f"called {arguments}")

    monkeypatch.setattr(socket.socket, "connect", call)
    monkeypatch.setattr(socket.socket, "connect_ex", call)
    monkeypatch.setattr(socket, "getaddrinfo", call)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for variable in ("HOME", "HF_HOME", "SAM2VSS_CHECKPOINTS"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setattr("sam2vss_ros.sam2.weights._cached_from_hub", lambda card: None)
    monkeypatch.chdir(tmp_path)
    return made


def load(**options: Any) -> None:
    Perception.load(PipelineConfig(device="cpu", **options))


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: load(model="sam2.1_hiera_tiny"), "sam2vss models --fetch sam2.1_hiera_tiny"),
        (lambda: load(model="sam2.1_hiera_tiny", checkpoint="tiny.pt"), "tiny.pt is not a file"),
        (lambda: load(checkpoint="facebook/sam2.1-hiera-tiny"), "is not a file"),
        (lambda: load(semantics="nvidia/segformer-b0"), "semantics: nvidia/segformer-b0 does not"),
        (lambda: load(classes="nvidia/segformer-b0"), "nvidia/segformer-b0.yaml does not exist"),
        (lambda: load(network="models/segfromer"), "exist as a folder, nor was it fetched"),
        (lambda: load(network="./models/segformer"), "models/segformer does not exist"),
        (lambda: load(network="nvidia/segformer.onnx"), "segformer.onnx does not exist"),
    ],
)  # fmt: skip
def test_what_is_missing_or_mistyped_is_not_looked_up(
    act: Callable[[], None], said: str, calls: list[Any]
) -> None:
    with pytest.raises((ModelUnavailableError, FileNotFoundError)) as caught:
        act()
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert calls == []


def folder(path: Path, config: dict[str, Any]) -> Path:
    path.mkdir()
    labels = {str(i): name for i, name in enumerate(NAMES)}
    (path / "config.json").write_text(json.dumps(config | {"id2label": labels}))
    (path / "preprocessor_config.json").write_text(json.dumps({"size": 64}))
    return path


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "segformer"},
        {"model_type": "nobody-knows-it", "_name_or_path": "nvidia/segformer-b0"},
        {"model_type": "upernet", "backbone": "openmmlab/upernet", "use_pretrained_backbone": True},
        {"model_type": "dpt", "backbone": "facebook/dinov2-base", "use_pretrained_backbone": True},
        {"model_type": "maskformer", "backbone": "resnet18", "use_timm_backbone": True},
        {"model_type": "upernet", "backbone_config": {"model_type": "nobody-knows-it"}},
        {"model_type": "segformer", "quantization_config": {"quant_method": "bitsandbytes"}},
        {"model_type": "segformer", "attn_implementation": "kernels-community/flash-attn"},
    ],
)
def test_what_a_folder_names_is_not_looked_up(
    config: dict[str, Any], tmp_path: Path, calls: list[Any]
) -> None:
    path = folder(tmp_path / "network", config)
    with pytest.raises(ValueError, match=f"network: {path} cannot be loaded by transf") as caught:
        load_network(str(path), CPU)
    assert "\n" not in str(caught.value)
    assert calls == []


def test_a_folder_is_loaded_without_a_call(tmp_path: Path, calls: list[Any]) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        depths=[1] * 4,
        hidden_sizes=[8] * 4,
        num_attention_heads=[1] * 4,
        decoder_hidden_size=8,
        id2label=dict(enumerate(NAMES)),
    )
    model = transformers.SegformerForSemanticSegmentation(config)
    model.save_pretrained(tmp_path / "safe")
    (tmp_path / "safe" / "preprocessor_config.json").write_text(json.dumps({"size": 64}))
    # As older repositories have it, for which transformers asks the hub for something newer.
    old = folder(tmp_path / "old", config.to_dict())
    torch.save(model.state_dict(), old / "pytorch_model.bin")
    for path in (tmp_path / "safe", old):
        assert [c.name for c in load_network(str(path), CPU).catalog.classes] == NAMES
    assert calls == []


def test_fetching_is_a_request(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("sam2.1_hiera_tiny", "nobody/nothing"):
        calls.clear()
        with suppress(CalledError):
            assert main(["models", "--fetch", name]) == 2
        assert calls, name


def test_the_hub_may_be_asked_again_afterwards() -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(KeyError), offline():
        assert constants.HF_HUB_OFFLINE
        raise KeyError
    assert before == constants.HF_HUB_OFFLINE
