"""What goes between host and GPU: on a GPU that is pretended, which counts how often is waited.

What these tests allow is what a frame needs; none of it says how fast a real GPU is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pretended_gpu import DEVICE, OnDevice, PretendedGpu

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.training.procedural import street_video
from sam2vss_ros.transfer import download, upload, upload_index
from sam2vss_ros.types import Frame, Prompt, SemanticFrame
from small_sam2 import SMALL_SAM2

FRAMES = 7
SIZE = (96, 128)
CPU = torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    for module in ("sam2.build", "affinity.model"):
        monkeypatch.setattr(f"sam2vss_ros.{module}.resolve_device", lambda name: DEVICE)
    with PretendedGpu() as pretended:
        yield pretended


def test_uploads_do_not_wait_and_many_downloads_wait_once(gpu: PretendedGpu) -> None:
    numbers = torch.arange(6.0)
    there = upload(numbers, DEVICE)
    assert isinstance(there, OnDevice) and not gpu.waits
    index = upload_index([4, 0], DEVICE)
    picked, none, doubled = download(there[index], there[:0], there * 2)
    assert sum(gpu.waits.values()) == 1
    assert (picked.tolist(), none.tolist(), doubled.tolist()) == ([4, 0], [], [0, 2, 4, 6, 8, 10])
    assert download(there[:0])[0].device == CPU


def test_on_a_cpu_nothing_is_copied() -> None:
    numbers = torch.arange(6.0)
    assert upload(numbers, CPU) is numbers
    (same,) = download(numbers)
    assert same.data_ptr() == numbers.data_ptr()
    assert upload_index([], CPU).dtype == torch.int64


@pytest.mark.parametrize("inference", [False, True])
def test_what_waits_on_a_gpu_is_counted(inference: bool, gpu: PretendedGpu) -> None:
    """The yardstick itself: each of these waits, once; inference takes other operators."""
    with torch.inference_mode(inference):
        assert_counted(gpu)


def assert_counted(gpu: PretendedGpu) -> None:
    there = torch.zeros(3, 4, device=DEVICE)
    for wait in (
        lambda: float(there.sum()),
        lambda: there.sum().item(),
        lambda: bool((there > 0).any()),
        lambda: torch.where(there > 0),
        lambda: there.unique(dim=0),
        lambda: torch.equal(there, there),
        lambda: there.tolist(),
        lambda: there.cpu(),
        lambda: there.nonzero(),
        lambda: there[there > 0],
        lambda: there[[0, 2]],
        lambda: there[torch.tensor([0, 2])],
        lambda: torch.tensor([1.0], device=DEVICE),
        lambda: there.new_tensor([1.0]),
        lambda: torch.ones(4).to(DEVICE),
    ):
        gpu.clear()
        wait()
        assert sum(gpu.waits.values()) == 1
    gpu.clear()
    assert (there[:, 1:] + 1 > 0).shape == (3, 3) and not gpu.waits
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(4)
    with pytest.raises(TypeError, match="Tensor.cpu"):
        there.numpy()


def follow(model: str, gpu: PretendedGpu | None, **options: object) -> list[SemanticFrame]:
    """Three objects that a user shows, followed through a drive, without a search for others."""
    config = PipelineConfig.from_mapping(
        {
            "model": model,
            "device": "cpu",
            "image_size": 128,
            "max_objects": 3,
            "discovery": "off",
            **options,
        }
    )
    pipeline = VssPipeline(Perception.load(config), config)
    pipeline.reserve_ids(3)
    for number in range(3):
        mask = np.zeros(SIZE, bool)
        mask[30:70, 10 + 40 * number : 40 + 40 * number] = True
        pipeline.add_prompt(Prompt(mask=mask), number + 1)
    answers = []
    for t, (image, _, _) in enumerate(street_video(1, FRAMES, SIZE)):
        if gpu is not None:
            gpu.clear()
        answers.append(pipeline.process(Frame(image, t * 50_000_000)))
    return answers


def by_file(waits: Counter[str]) -> Counter[str]:
    files: Counter[str] = Counter()
    for place, count in waits.items():
        files[place.split(":")[0]] += count
    return files


@pytest.mark.parametrize(("engine", "most"), [("exact", 6), ("fast", 8)])
def test_sam2_waits_for_its_answers_alone(engine: str, most: int, gpu: PretendedGpu) -> None:
    """How familiar the image is, what was tracked, who is remembered, the classes (twice), and the
    images; with `fast` also who may rest, and whether that was right. However many objects."""
    answers = follow(str(SMALL_SAM2), gpu, engine=engine)
    assert sum(gpu.waits.values()) <= most, gpu.waits
    assert not [place for place in gpu.waits if "upload" in place]
    assert answers[-1].instance_image.any()


def test_windows_ask_where_objects_are_besides(gpu: PretendedGpu) -> None:
    """From 512 pixels on `fast` cuts windows; the boxes are asked for after a step and a write."""
    follow(str(SMALL_SAM2), gpu, engine="fast", image_size=512)
    waits = by_file(gpu.waits)
    assert waits["sam2/tracker.py"] <= 2
    assert sum(waits.values()) <= 10, gpu.waits


@pytest.mark.parametrize("model", [str(SMALL_SAM2), "mobile"])
def test_a_gpu_answers_as_the_cpu_does(model: str, request: pytest.FixtureRequest) -> None:
    """Every tensor is where it should be, the memory bank included."""
    on_cpu = follow(model, None)
    on_gpu = follow(model, request.getfixturevalue("gpu"))
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_array_equal(ours.label_image, theirs.label_image)
        np.testing.assert_array_equal(ours.instance_image, theirs.instance_image)
        assert [o.track_id for o in ours.objects] == [o.track_id for o in theirs.objects]
    assert on_gpu[-1].instance_image.any()
