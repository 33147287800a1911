"""`sam2vss bench`: real runs at small sizes, and the scales it measures with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipelines import open_pipeline
from sam2vss_ros.bench import material, measure, memory, parity, speed
from sam2vss_ros.bench.pipeline import object_ms
from sam2vss_ros.bench.streams import EngineStream, UpstreamStream
from sam2vss_ros.cli import main
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model, load_model, untrained_model
from sam2vss_ros.sam2.memory import MemoryBank
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.training.procedural import street_video
from sam2vss_ros.types import Prompt
from small_sam2 import SMALL_SAM2

FRAMES = 20
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drive of 20 frames."""
    path = tmp_path_factory.mktemp("bench") / "street.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20.0, (160, 128))
    for image, _, _ in street_video(1, FRAMES, (128, 160)):
        writer.write(image[:, :, ::-1].copy())
    writer.release()
    return path


@pytest.fixture(scope="module")
def small() -> Sam2Model:
    return load_model(SMALL_SAM2, device="cpu", image_size=64)


def bench(*arguments: object) -> int:
    return main(["bench", *map(str, arguments)])


def read(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def pictures(video: Path, count: int) -> list[np.ndarray]:
    return list(material.first_frames(open_frames(video), count))


def tile_prompts(count: int, size: int) -> list[Prompt]:
    return [Prompt(mask=mask) for mask in material.tiles(count, size)]


# --- parity


def test_parity_with_objects_added(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """12 frames: longer than its memories and pointers."""
    file = tmp_path / "parity.json"
    assert not bench(
        *(
            "parity",
            "--video",
            video,
            "--model",
            SMALL_SAM2,
            "--image-size",
            128,
            "--device",
            "cpu",
        ),
        *("--objects", 3, "--frames", 12, "--add-at", 5, "--json", file),
    )
    found = read(file)
    assert found["mean_iou"] >= 0.999
    assert found["min_iou"] >= 0.99
    assert found["max_logit_diff"] < 1e-3
    assert (found["frames"], found["objects"], found["add_at"]) == (12, 3, 5)
    assert found["seen"] > 0.5
    assert "largest logit difference" in capsys.readouterr().out


def test_parity_of_an_untrained_official_model(video: Path, tmp_path: Path) -> None:
    file = tmp_path / "parity.json"
    bench(
        *("parity", "--video", video, "--model", "sam2.1_hiera_tiny", "--random-weights"),
        *("--image-size", 64, "--device", "cpu", "--objects", 2, "--frames", 9, "--json", file),
    )
    assert read(file)["mean_iou"] >= 0.999
    assert read(file)["max_logit_diff"] < 1e-3


def test_without_a_model_a_small_one_of_meta_is_measured(
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With random weights where its own are not on this machine, as the title says."""
    for name in ("HOME", "HF_HOME", "SAM2VSS_CHECKPOINTS"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "parity.json"
    arguments = ("--objects", 1, "--frames", 2, "--image-size", 64, "--device", "cpu")
    assert not bench("parity", "--video", video, *arguments, "--json", file)
    assert (read(file)["model"], read(file)["random_weights"]) == ("sam2.1_hiera_tiny", True)
    said = capsys.readouterr().out
    assert "sam2.1_hiera_tiny at 64 px" in said and "random weights" in said


def test_parity_sees_a_difference(
    small: Sam2Model, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker that remembers too little does not pass for exact."""
    monkeypatch.setattr(MemoryBank, "write", lambda *_: None)
    found = parity.compare(small, pictures(video, 8), {0: tile_prompts(2, 64)})
    assert found.max_logit_diff > 1e-2


def test_parity_that_does_not_hold_ends_with_code_1(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "LEAST_IOU", 1.1)
    arguments = ("--objects", 1, "--frames", 2, "--image-size", 64, "--device", "cpu")
    assert bench("parity", "--video", video, *arguments) == 1


def test_upstream_runs_its_own_modules(small: Sam2Model) -> None:
    """What we made faster in the network must not make the yardstick faster."""
    upstream = UpstreamStream(small.network)
    assert not [m for m in upstream.predictor.modules() if "sam2vss_ros" in type(m).__module__]
    trunk = upstream.predictor.image_encoder.trunk
    assert trunk._get_pos_embed.__func__ is type(trunk)._get_pos_embed


# --- speed


def test_speed_of_every_option(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    assert not bench(
        *("speed", "--device", "cpu", "--model", SMALL_SAM2, "--objects", 2, "--image-size", 160),
        *("--video", video, "--frames", 18, "--threads", 1, "--json", file),
    )
    report = read(file)
    rows = {row["engine"]: row for row in report["rows"]}
    assert list(rows) == ["upstream", "exact", "local", "rest", "fast"]
    assert report["machine"]["threads"] == 1
    for row in rows.values():
        assert row["fps"] == pytest.approx(1e3 / row["frame_ms"])
        assert row["ratio"] == pytest.approx(row["fps"] / rows["upstream"]["fps"])
        assert row["peak_mb"] == pytest.approx(row["held_mb"] + row["working_mb"])
        assert 0 < row["held_mb"] < row["peak_mb"]
        assert 0 < row["share"] < 1.5
        assert (row["objects"], row["timed_frames"], row["image_size"]) == (2, 3, 160)
        spent = row["stage_ms"]
        assert spent.keys() == {"encode", "attention", "decode", "memory write", "other"}
        assert all(ms["p50"] <= ms["p95"] for ms in spent.values())
    assert rows["exact"]["mean_iou_to_exact"] == 1
    assert rows["upstream"]["mean_iou_to_exact"] > 0.98  # it rounds its memories
    assert all(0 < row["mean_iou_to_exact"] <= 1 for row in rows.values())
    exact = rows["exact"]["gflop"]
    assert exact < rows["upstream"]["gflop"]
    for resting in ("rest", "fast"):
        assert rows[resting]["gflop"] <= exact, "less where somebody rests"
    printed = capsys.readouterr().out
    assert "|     rest |" in printed and "attention ms" in printed


def test_speed_of_an_untrained_model_compares_no_masks(
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "engines", lambda: {"exact": PRESETS["exact"]})
    file = tmp_path / "speed.json"
    assert not bench(
        *(
            "speed",
            "--device",
            "cpu",
            "--model",
            SMALL_SAM2,
            "--random-weights",
            "--image-size",
            64,
        ),
        *("--objects", 1, 2, "--video", video, "--frames", 7, "--json", file),
    )
    rows = read(file)["rows"]
    assert [row["objects"] for row in rows] == [1, 1, 2, 2]
    assert {row["mean_iou_to_exact"] for row in rows} == {None}
    assert "random weights: only the speed means something" in capsys.readouterr().out


def test_held_objects_stay_where_they_were_prompted(video: Path) -> None:
    model = untrained_model(SMALL_SAM2, "cpu", image_size=512)
    stream = EngineStream(model, 4, PRESETS["fast"], hold=True)
    prompts = tile_prompts(4, 512)
    expected = torch.stack([torch.from_numpy(p.mask[1::4, 1::4]) for p in prompts])  # type: ignore
    for t, picture in enumerate(pictures(video, 4)):
        image = functional.image_tensor(picture, 512, CPU)
        stream.advance(image, () if t else prompts)
        assert torch.equal(stream.masks > 0, expected)
    (recall,) = stream.tracker.bank.recall([0, 1, 2, 3])
    assert recall.windows is not None and recall.windows.side < 32


def test_rounds_of_frames() -> None:
    plan = speed.Plan.of(load_model(SMALL_SAM2, device="cpu").network, speed.engines().values(), 31)
    assert (plan.warm_up, plan.beat, plan.timed, plan.frames) == (12, 3, 15, 30)


# --- memory and pipeline


def test_memory_watches_engine_process_and_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty frames are too few for the process to settle; the verdict must follow the figures."""
    file = tmp_path / "memory.json"
    code = bench(
        *("memory", "--frames", 20, "--image-size", 64, "--device", "cpu", "--json", file),
        *("--max-objects", 4, "--keyframe-interval", 4, "--discovery", "regions"),
    )
    report = read(file)
    assert report["engine_bytes_growth"] == 0
    assert code == (1 if report["process_growth"] > 0.02 else 0) == bool(report["problems"])
    samples = report["samples"]
    assert [s["frame"] for s in samples] == list(range(1, 21))
    assert samples[-1]["objects"] == 4 and samples[-1]["ids"] >= 4
    assert samples[-1]["process_bytes"] > 100e6
    assert "engine: 0 bytes between most and least" in capsys.readouterr().out


def sample(frame: int, engine_bytes: int, process_bytes: int) -> memory.Sample:
    return memory.Sample(frame, engine_bytes, process_bytes, 1, 1)


def test_memory_that_grows_is_a_problem() -> None:
    steady = [sample(t, 10, 1000 if t > 1 else 500) for t in range(1, 101)]
    assert memory.Endurance(steady, [], 1.0).problems == []
    leaking = [*steady[:-1], sample(100, 10, 1021)]
    assert "2.1%" in memory.Endurance(leaking, [], 1.0).problems[0]
    growing = [*steady[:-1], sample(100, 11, 1000)]
    assert "the engine differ by 1" in memory.Endurance(growing, [], 1.0).problems[0]


def test_ids_that_come_back_are_found() -> None:
    ids = memory.Ids()
    for here in ([1, 2], [1, 3], [3, 1], [3, 2], [4, 4]):
        ids.see(here)
    assert (ids.given, ids.highest, ids.misused) == (5, 4, [2, 4])


def test_pipeline_by_stage(video: Path, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.json"
    assert not bench(
        *("pipeline", "--video", video, "--frames", 6, "--warm-up", 2, "--device", "cpu"),
        *("--max-objects", 2, "--discovery", "regions", "--json", file),
    )
    report = read(file)
    assert report["frames"] == 4 and report["objects"] == 2
    spent = report["stage_ms"]
    assert {"encode", "track", "discover", "classify", "fuse", "frame"} <= spent.keys()
    assert spent["encode"]["p50"] < spent["frame"]["p50"]
    assert report["ahead_fps"] > 0


def test_the_cost_of_an_object(video: Path, tmp_path: Path) -> None:
    """Beside a pipeline with fewer objects, which takes the same frames."""
    file = tmp_path / "objects.json"
    options = ("--frames", 6, "--warm-up", 2, "--device", "cpu", "--discovery", "regions")
    assert not bench("pipeline", "--video", video, *options, "--beside", 1, "--json", file)
    found = read(file)["beside"]
    assert found["in_sight"] > found["beside_in_sight"] > 0
    more = found["in_sight"] - found["beside_in_sight"]
    spent = found["frame_ms"] - found["beside_frame_ms"]
    assert found["object_ms"] * more == pytest.approx(spent, abs=1e-6)


def test_without_an_object_more_in_sight_there_is_no_cost(video: Path) -> None:
    one, other = (
        open_pipeline(PipelineConfig(max_objects=1, discovery="regions", device="cpu"))
        for _ in range(2)
    )
    with pytest.raises(ValueError, match="no more objects are in sight"):
        object_ms(one, other, list(open_frames(video))[:4], 2)


@pytest.mark.parametrize("most", [-1, 0, 2, 3])
def test_the_cost_of_an_object_is_beside_fewer(
    most: int, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--max-objects", 2, "--beside", most, "--device", "cpu")
    assert bench("pipeline", "--video", video, *options) == 2
    assert f"beside: {most} is not from 1 to below max_objects, 2" in capsys.readouterr().err


# --- material and scales


def test_objects_are_discovered_and_tiles_make_up_the_rest(
    video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = material.Discovery(SMALL_SAM2, device="cpu")
    with caplog.at_level("INFO", "sam2vss_ros"):
        prompts, found = discovery.prompts(pictures(video, 1)[0], 40, 128)
    assert len(prompts) == 40 and 2 <= found < 40
    assert f"discovery finds {found} objects; {40 - found} are tiles of the image" in caplog.text
    masks = [p.mask for p in prompts if p.mask is not None]
    assert all(mask.shape == (128, 128) and mask.any() for mask in masks)
    with VssPipelineOf(model=SMALL_SAM2, max_objects=40) as pipeline:
        assert found <= len(pipeline.process(next(iter(open_frames(video)))).objects)


class VssPipelineOf:
    """A pipeline on the CPU for the length of a `with`."""

    def __init__(self, **options: object) -> None:
        self._pipeline = open_pipeline(PipelineConfig.from_mapping({"device": "cpu", **options}))

    def __enter__(self) -> VssPipeline:
        return self._pipeline

    def __exit__(self, *_: object) -> None:
        self._pipeline.close()


@pytest.mark.parametrize("count", [0, 1, 5, 64])
def test_tiles_lie_side_by_side(count: int) -> None:
    masks = material.tiles(count, 256)
    assert len(masks) == count and all(mask.any() for mask in masks)
    assert not count or np.sum(masks, 0).max() == 1


def test_cost_counts_arithmetic_and_tensors() -> None:
    a = torch.zeros(500, 500)

    def work() -> torch.Tensor:
        b = a @ a
        c = b.view(-1)[: 500 * 250].clone()
        del b
        return c + 1

    cost = measure.cost_of(work, CPU)
    assert cost.flops == 2 * 500**3
    assert cost.working_bytes == 1_500_000

    q = torch.zeros(1, 2, 64, 32)
    attention = torch.nn.functional.scaled_dot_product_attention
    with torch.inference_mode():
        flops = measure.cost_of(lambda: attention(q, q, q), CPU).flops
    assert flops == 2 * 2 * 2 * 64 * 64 * 32


# --- bad input

PARITY = ("parity", "--device", "cpu")
SPEED = ("speed", "--device", "cpu")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*PARITY, "--video", "gone.mp4"), "gone.mp4 does not exist"),
        ((*SPEED, "--video", "gone.mp4"), "gone.mp4 does not exist"),
        (("pipeline", "--video", "gone.mp4"), "gone.mp4 does not exist"),
        ((*PARITY, "--video", "VIDEO", "--frames", 10, "--add-at", 10), "add-at: frame 10 is not"),
        ((*PARITY, "--video", "VIDEO", "--frames", 10, "--add-at", -1), "one of 0 to 9"),
        ((*PARITY, "--video", "VIDEO", "--objects", 1, "--add-at", 2), "takes 2 objects or more"),
        (
            (*PARITY, "--video", "VIDEO", "--frames", 9, "--objects", 0),
            "objects: 0 is not a number",
        ),
        ((*SPEED, "--video", "VIDEO", "--objects", 4, 0), "objects: 0 is not a number"),
        ((*PARITY, "--video", "VIDEO", "--frames", 1), "frames: 1 are too few"),
        ((*PARITY, "--video", "VIDEO", "--frames", 21), "has 20, not 21; give --frames 20"),
        ((*SPEED, "--video", "VIDEO", "--frames", 11), "give at least 27"),
        (
            (*PARITY, "--video", "VIDEO", "--frames", 9, "--model", "micro"),
            "model: 'micro' is not one of mobile, sam2.1_hiera_tiny",
        ),
        (
            (*PARITY, "--video", "VIDEO", "--frames", 9, "--image-size", 100),
            "100 is not a multiple of 32",
        ),
        ((*SPEED, "--video", "VIDEO", "--threads", -1), "threads: -1"),
        ((*PARITY, "--video", "VIDEO", "--json", "no/where.json"), "json: the folder of"),
        (("memory", "--frames", 19), "frames: 19 are too few"),
        (("pipeline", "--video", "VIDEO", "--frames", 3), "the first 10 are not timed"),
        (
            (*SPEED, "--video", "VIDEO", "--model", "sam2.1_hiera_tiny", "--checkpoint", "gone.pt"),
            "--random-weights does without",
        ),
    ],
)
def test_bad_input_is_explained(
    arguments: tuple[object, ...], said: str, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*(video if a == "VIDEO" else a for a in arguments)) == 2
    assert said in capsys.readouterr().err


def test_frames_that_a_video_promises_and_lacks(video: Path) -> None:
    source = dataclasses.replace(open_frames(video), count=30)
    with pytest.raises(InputError, match="has 20, not 25"):
        list(material.first_frames(source, 25))


@pytest.mark.parametrize(
    "kind",
    ["parity", "speed", "memory", "pipeline", "identity", "tracking", "abstention", "gpu"],
)
def test_every_benchmark_teaches(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        bench(kind, "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and f"sam2vss bench {kind}" in text


def test_depth_is_timed_beside_the_segmentation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "depth.json"
    arguments = ["--frames", "2", "--device", "cpu", "--image-size", "256", "--json", str(figures)]
    assert main(["bench", "depth", *arguments]) == 0
    stages = json.loads(figures.read_text())["stage_ms"]
    told = ["segmentation", "depth in metres", "10 objects", "cloud label", "cloud xyzcpe"]
    assert list(stages) == told
    assert all(0 < ms["p50"] <= ms["p95"] for ms in stages.values())
    printed = capsys.readouterr().out
    assert all(what in printed for what in told)
