"""Model loading: official checkpoints (written here in Meta's format), and bad files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sam2.build_sam import build_sam2_video_predictor
from sam2.modeling import sam2_base
from sam2.modeling.sam2_base import SAM2Base

from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import load_model, native_bfloat16, resolve_device
from sam2vss_ros.sam2.cards import CARDS
from sam2vss_ros.sam2.weights import (
    EMBEDDED_FOLDER,
    find_weights,
    known_models,
    weight_folders,
)
from small_sam2 import SMALL_SAM2, untrained_small_sam2

TINY = "sam2.1_hiera_tiny"


@pytest.fixture(scope="module")
def upstream() -> SAM2Base:
    """Meta's own video predictor with random weights, built by Meta's own function."""
    torch.manual_seed(0)
    return build_sam2_video_predictor("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")


@pytest.fixture(scope="module")
def tiny_checkpoint(upstream: SAM2Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": upstream.state_dict()}, path)
    return path


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without weights and without a network; returns its working folder."""
    for variable in ("HOME", "HF_HOME", "SAM2VSS_CHECKPOINTS"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sam2vss_ros.sam2.weights._cached_from_hub", lambda card: None)
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # the discard port: refused at once
    return tmp_path


def small_file(path: Path, dtype: torch.dtype = torch.float32, **changed: torch.Tensor) -> Path:
    weights = {key: value.to(dtype) for key, value in untrained_small_sam2().state_dict().items()}
    save_file({**weights, **changed}, path)
    return path


def test_official_checkpoint_behaves_as_upstream(upstream: SAM2Base, tiny_checkpoint: Path) -> None:
    """Same weights, same image: same features; and every setting of the predictor is the same."""
    model = load_model(TINY, str(tiny_checkpoint), device="cpu", image_size=128)
    network = model.network
    assert (network.image_size, model.device.type, model.dtype) == (128, "cpu", torch.float32)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert sum(p.numel() for p in network.parameters()) == model.card.parameters

    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours, theirs = network.forward_image(image), upstream.eval().forward_image(image)
    for level, (a, b) in enumerate(zip(ours["backbone_fpn"], theirs["backbone_fpn"], strict=True)):
        # Not bit by bit: without AVX-512 our layout in memory and upstream's round differently.
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4, msg=f"level {level} differs")

    plain = (bool, int, float, str)
    settings = {k: v for k, v in vars(network).items() if isinstance(v, plain)}
    of_size = {"image_size", "sam_image_embedding_size", "training"}
    differing = {k for k, v in settings.items() if getattr(upstream, k) != v} - of_size
    assert not differing
    for key in ("via_stability", "stability_delta", "stability_thresh"):
        name = f"dynamic_multimask_{key}"
        assert getattr(network.sam_mask_decoder, name) == getattr(upstream.sam_mask_decoder, name)


@pytest.mark.parametrize("size", [64, 160])
def test_other_image_sizes_track(tiny_checkpoint: Path, size: int) -> None:
    """A mask prompt and one tracked frame go through all of SAM 2's parts at a foreign size."""
    network = load_model(TINY, str(tiny_checkpoint), device="cpu", image_size=size).network
    outputs: dict[str, dict] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    mask = torch.zeros(1, 1, size, size)
    mask[..., : size // 2, : size // 2] = 1
    with torch.inference_mode():
        for frame in range(2):
            encoded = network.forward_image(torch.randn(1, 3, size, size))
            _, features, positions, sizes = network._prepare_backbone_features(encoded)
            out = network.track_step(
                frame, frame == 0, features, positions, sizes, None,
                mask if frame == 0 else None, outputs, num_frames=1000,
            )  # fmt: skip
            kind = "cond_frame_outputs" if frame == 0 else "non_cond_frame_outputs"
            outputs[kind][frame] = out
    assert out["pred_masks"].shape == (1, 1, size // 4, size // 4)
    assert out["maskmem_features"].shape[-2:] == (size // 16, size // 16)


def test_the_score_of_absent_objects_is_upstream_s() -> None:
    assert functional.NO_OBJ_SCORE == sam2_base.NO_OBJ_SCORE


def test_a_model_that_is_no_sam2_is_refused_as_one() -> None:
    with pytest.raises(ValueError, match="model: mobile is no SAM 2; these are: sam2.1_h"):
        load_model("mobile")


def test_half_precision_file_is_upcast(tmp_path: Path) -> None:
    path = small_file(tmp_path / "half.safetensors", torch.float16)
    network = load_model(SMALL_SAM2, str(path), device="cpu", image_size=320).network
    assert network.image_size == 320
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_no_global_hydra_state_and_no_torchvision(tmp_path: Path) -> None:
    path = small_file(tmp_path / "mine.safetensors")
    script = (
        "import sys, sam2\n"
        "from hydra.core.global_hydra import GlobalHydra\n"
        "before = GlobalHydra.instance().hydra\n"
        "from sam2vss_ros.sam2.build import build_network, load_model\n"
        "from sam2vss_ros.sam2.cards import CARDS\n"
        "build_network(CARDS['sam2.1_hiera_tiny'], 64)\n"
        f"load_model({SMALL_SAM2!r}, {str(path)!r}, device='cpu')\n"
        "assert GlobalHydra.instance().hydra is before\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_precision_is_for_gpus(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(small_file(tmp_path / "mine.safetensors"))
    assert load_model(SMALL_SAM2, path, "cpu", precision="bfloat16").dtype == torch.float32
    assert "precision" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_loads_onto_the_gpu(tmp_path: Path) -> None:
    path = str(small_file(tmp_path / "mine.safetensors"))
    model = load_model(SMALL_SAM2, path, "cuda", precision="bfloat16")
    assert (model.device, model.dtype) == (torch.device("cuda:0"), torch.bfloat16)
    assert {p.device for p in model.network.parameters()} == {torch.device("cuda:0")}
    with torch.inference_mode(), torch.autocast("cuda", model.dtype):
        encoded = model.network.forward_image(torch.randn(1, 3, 256, 256, device="cuda"))
    assert encoded["vision_features"].isfinite().all()


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for bad in ("cuda:99", "tpu", "cuda:x", ""):
        with pytest.raises(ValueError, match=r"^device: .*there are auto, cpu"):
            resolve_device(bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "sam3"}, "^model: 'sam3' is not one of mobile, sam2.1_hiera_tiny"),
        ({"name": SMALL_SAM2, "precision": "int8"}, "^precision: 'int8' is not one of float32"),
        ({"name": SMALL_SAM2, "image_size": 500}, "^image_size: 500 is not a multiple of 32"),
        ({"name": TINY, "image_size": -32}, "^image_size: -32"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(**arguments)


def test_weights_not_at_hand(no_weights: Path) -> None:
    with pytest.raises(ModelUnavailableError) as caught:
        load_model(TINY)
    message = str(caught.value)
    for part in (
        "sam2.1_hiera_tiny.pt",
        str(no_weights / "SAM2VSS_CHECKPOINTS"),
        str(no_weights / "HOME" / ".cache" / "sam2vss_ros"),
        str(no_weights / "checkpoints"),
        f"sam2vss models --fetch {TINY}",
        "embedded model: mobile",
    ):
        assert part in message


def test_given_checkpoint_is_not_replaced_by_another(no_weights: Path) -> None:
    (no_weights / "checkpoints").mkdir()
    (no_weights / "checkpoints" / "sam2.1_hiera_tiny.pt").touch()
    for name in (TINY, SMALL_SAM2):
        with pytest.raises(ModelUnavailableError, match="mine.pt is not a file"):
            load_model(name, str(no_weights / "mine.pt"))


def test_usual_places_in_their_order(no_weights: Path) -> None:
    card = CARDS[TINY]
    assert find_weights(card) is None
    for folder in reversed(weight_folders()):  # from the last to be asked to the first
        folder.mkdir(parents=True)
        (folder / card.file).touch()
        assert find_weights(card) == folder / card.file


def test_known_models_say_what_is_at_hand(no_weights: Path) -> None:
    folder = no_weights / "checkpoints"
    folder.mkdir()
    (folder / "sam2.1_hiera_large.pt").touch()
    status = {s.card.name: s for s in known_models()}
    assert list(status) == list(CARDS)
    assert status["mobile"].path == EMBEDDED_FOLDER / "mobile.safetensors"
    assert status["sam2.1_hiera_large"].path == folder / "sam2.1_hiera_large.pt"
    assert status["mobile"].fetch == ""
    assert status[TINY].path is None
    assert status[TINY].fetch == f"sam2vss models --fetch {TINY}"


@pytest.mark.parametrize("less", ["AVX2", "avx512_core"])
def test_no_bfloat16_where_onednn_may_not_use_it(
    less: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert native_bfloat16(torch.device("cpu"))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", less)
    assert not native_bfloat16(torch.device("cpu"))
