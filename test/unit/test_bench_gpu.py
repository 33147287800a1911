"""`sam2vss bench gpu`: all of it at tiny sizes on the CPU, what it keeps, and how it goes on."""

from __future__ import annotations

import gzip
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sam2vss_ros.bench import speed
from sam2vss_ros.bench.gpu import card, measure, tables, trace
from sam2vss_ros.bench.gpu.folder import ENDED, Folder
from sam2vss_ros.bench.gpu.grid import (
    FRAMES,
    MODELS,
    OBJECTS,
    SIZES,
    Configuration,
    configurations,
)
from sam2vss_ros.bench.streams import HeldModel
from sam2vss_ros.cli import main
from sam2vss_ros.sam2.build import load_model
from small_sam2 import SMALL_SAM2

ONE = ("--model", "mobile", "--image-size", 512, "--objects", 1)
"""The cheapest configuration."""


def dry_run(folder: Path, *arguments: object) -> int:
    return main(["bench", "gpu", "--dry-run", "--out", str(folder), *map(str, arguments)])


def read(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


# --- all of it


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model, as at 512 pixels with 32 objects."""
    folder = tmp_path_factory.mktemp("gpu") / "results"
    assert dry_run(folder, "--image-size", 512, "--objects", 32) == 0
    return folder


def test_every_model_is_measured_in_every_way(measured: Path) -> None:
    results = read(measured)
    found = {one["configuration"]["model"]: one for one in results["configurations"]}
    assert found.keys() == set(MODELS)
    for model, one in found.items():
        by_affinity = model == "mobile"
        assert one["configuration"] == {"model": model, "image_size": 512, "objects": 32}
        assert (one["status"], one["failures"]) == ("done", {})
        assert one["shape"]["objects"] == 3 and one["shape"]["image_size"] <= 256
        engines = {row["engine"]: row for row in one["engines"]}
        upstream = "upstream sam2.1_hiera_tiny" if model == "edgetam" else "upstream"
        assert list(engines) == ([] if by_affinity else [upstream, "exact", "fast"])
        assert list(one["pipelines"]) == (["exact"] if by_affinity else ["exact", "fast"])
        for row in engines.values():
            assert row["ratio"] == pytest.approx(row["fps"] / engines[upstream]["fps"])
            stages = {"encode", "attention", "decode", "memory write", "other"}
            assert row["stage_ms"].keys() == stages
            assert row["gflop"] > 0 and row["peak_mb"] > 0
        for row in one["pipelines"].values():
            laps = {"encode", "track", "discover", "classify", "fuse", "frame"}
            assert laps <= row["stage_ms"].keys()
            assert row["frames"] == 1 and 0 < row["in_sight"] <= 3
        traced = [row for name, row in engines.items() if name != upstream]
        for row in [*traced, *one["pipelines"].values()]:
            check_trace(measured / "traces" / row["trace"]["file"], row["trace"])
            assert row["launch_bound"] is None, "there is no GPU"


def check_trace(path: Path, said: dict[str, Any]) -> None:
    with gzip.open(path, "rt") as file:
        events = json.load(file)["traceEvents"]
    assert trace.summary(events, 1).items() <= said.items()
    operators = [e["name"] for e in events if e.get("cat") == "cpu_op"]
    for top in said["top_operators"]:
        assert operators.count(top["name"]) == top["calls"] and top["host_ms"] > 0
    assert len(said["top_operators"]) == trace.TOP


def test_the_page_has_a_row_for_each_way(
    measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (measured / "results.md").read_text()
    assert "dry run: tiny shapes on the CPU" in page and "6 configurations are measured" in page
    sections = dict(part.split("\n", 1) for part in page.split("## ")[1:])
    assert {*sections} == {"Goals", "Engines", "The whole pipeline", "Kernels"}
    rows = {name: text.count("\n| ") - 2 for name, text in sections.items()}
    sam2 = len(MODELS) - 1
    assert rows["Engines"] == 3 * sam2
    assert rows["The whole pipeline"] == 2 * sam2 + 1
    assert rows["Kernels"] == 4 * sam2 + 1
    assert sections["Goals"].strip().endswith("Not measured.")


def test_what_is_done_is_not_done_again(
    measured: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(measure.Bench, "measure", never)
    before = (measured / "results.md").read_text()
    assert dry_run(measured, "--image-size", 512, "--objects", 32) == 0
    assert (measured / "results.md").read_text() == before
    assert before in capsys.readouterr().out


def test_the_grid_is_what_was_asked_for() -> None:
    every = configurations(MODELS, SIZES, OBJECTS)
    assert len(every) == len({one.name for one in every}) == 6 * 2 * 4
    assert configurations(["mobile", "mobile"], [1024, 512], [8, 1])[0].name == "mobile_512px_1"
    assert configurations([str(SMALL_SAM2)], [512], [1])[0].name.endswith("small_sam2.yaml_512px_1")
    tiny = Configuration("edgetam", 1024, 64).tiny()
    assert (tiny.image_size, tiny.objects) == (256, 3)


def test_as_many_frames_as_the_engines_need() -> None:
    network = load_model(str(SMALL_SAM2), device="cpu", image_size=64).network
    wanted = speed.Plan.of(network, measure.PRESETS.values(), FRAMES.plan.frames)
    assert (FRAMES.beat, FRAMES.timed % FRAMES.beat) == (wanted.beat, 0)
    meta = 7  # memories of Meta's models
    assert FRAMES.warm_up >= meta * wanted.beat and FRAMES.all >= FRAMES.plan.frames


def test_held_objects_stay_and_are_remembered() -> None:
    model = HeldModel.of(load_model(str(SMALL_SAM2), device="cpu", image_size=64))
    tracker = model.new_tracker(2, measure.PRESETS["fast"])
    with torch.inference_mode():
        features = model.encode(torch.zeros(1, 3, 64, 64))
        masks = torch.zeros(2, 16, 16, dtype=torch.bool)
        masks[:, 2:6, 2:6] = True
        tracker.start(features, tracker.from_masks(features, [0, 1], masks))
        seen = tracker.step(features, [1, 0])
    assert (seen.masks > 0).sum((1, 2)).tolist() == [16, 16]
    assert seen.predicted_iou.tolist() == [1, 1] and (seen.score > 0).all()


# --- what fails


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_what_runs_out_of_memory_is_noted_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(measure, "time_pipeline", failing(torch.OutOfMemoryError("CUDA: ...")))
        assert dry_run(tmp_path / "out", *ONE) == 1
    (one,) = read(tmp_path / "out")["configurations"]
    assert one["status"] == "failed" and one["failures"] == {"pipeline exact": "out of memory"}
    page = (tmp_path / "out" / "results.md").read_text()
    assert "## Not measured" in page and "| out of memory |" in page
    assert dry_run(tmp_path / "out", *ONE) == 1, "it is left out"
    assert read(tmp_path / "out")["configurations"] == [one]
    assert dry_run(tmp_path / "out", *ONE, "--retry") == 0
    assert read(tmp_path / "out")["configurations"][0]["status"] == "done"


def test_other_failures_say_why_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "compare_speed", failing(RuntimeError("no kernel\nfor sm_20")))
    arguments = ("--model", "sam2.1_hiera_tiny", "--image-size", 512, "--objects", 1)
    assert dry_run(tmp_path, *arguments) == 1
    (one,) = read(tmp_path)["configurations"]
    assert one["failures"] == {"engines": "for sm_20"} and one["engines"] == []
    assert list(one["pipelines"]) == ["exact", "fast"]


def test_what_ended_its_process_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the system kills it for its memory."""
    asked = Configuration("mobile", 512, 1)
    with monkeypatch.context() as patch:
        patch.setattr(measure.Bench, "measure", failing(KeyboardInterrupt()))  # type: ignore[arg-type]
        assert dry_run(tmp_path, *ONE) == 130
    folder = Folder(tmp_path, read(tmp_path)["settings"])
    assert folder.found(asked) is None, "Ctrl-C is no failure of it"
    folder.begin(asked)
    assert dry_run(tmp_path, *ONE) == 1
    assert read(tmp_path)["configurations"][0]["failures"] == {"all": ENDED}


def test_a_lost_device_ends_the_run_and_the_next_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = ("--model", "mobile", "--image-size", 512, 1024, "--objects", 1)
    with monkeypatch.context() as patch:
        lost = measure.DeviceLostError("an illegal memory access was encountered")
        patch.setattr(measure.Bench, "measure", failing(lost))
        assert dry_run(tmp_path, *two) == 2
    said = capsys.readouterr().err
    assert "since mobile_512px_1: an illegal memory access" in said and "same command again" in said
    assert dry_run(tmp_path, *two) == 1
    first, second = read(tmp_path)["configurations"]
    assert first["failures"] == {"all": "an illegal memory access was encountered"}
    assert second["status"] == "done"


# --- the folder


def test_figures_of_other_settings_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(tmp_path, *ONE) == 0
    assert dry_run(tmp_path, *ONE, "--random-weights") == 2
    said = capsys.readouterr().err
    assert "was measured with random_weights False, not random_weights True" in said
    (tmp_path / "mine.txt").write_text("mine")
    assert dry_run(tmp_path, *ONE, "--random-weights", "--overwrite") == 0
    assert read(tmp_path)["settings"]["random_weights"] and (tmp_path / "mine.txt").exists()


def test_a_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text('{"theirs": 1}')
    assert dry_run(tmp_path, *ONE) == 2
    assert "not from an earlier run" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_text() == '{"theirs": 1}'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "micro"), "model: 'micro' is not one of mobile"),
        (("--image-size", 500), "image-size: 500 is not a multiple of 32, as mobile needs"),
        (("--image-size", 32, "--model", "edgetam"), "multiple of 256, as edgetam needs"),
        (("--objects", 0), "objects: 0 is not a number of objects from 1 to 256"),
        (("--upstream-objects", -1), "upstream-objects: -1 is negative"),
        (("--video", "gone.mp4"), "gone.mp4 does not exist"),
    ],
)
def test_bad_input_is_explained(
    arguments: tuple[object, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(tmp_path / "out", *arguments) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which would be measured")
def test_without_a_gpu_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "gpu", "--out", str(tmp_path)]) == 2
    assert "no GPU that torch can use; --dry-run goes" in capsys.readouterr().err
    assert main(["bench", "gpu", "--out", str(tmp_path), "--device", "cuda:3"]) == 2
    assert "'cuda:3' is not on this machine" in capsys.readouterr().err


# --- traces of a GPU


def span(cat: str, name: str, ts: float, dur: float, **args: object) -> dict[str, object]:
    """An event as torch's profiler writes it, in microseconds."""
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": 1, "args": args}


EVENTS: list[dict[str, object]] = [
    {"ph": "M", "name": "process_name", "args": {}},
    span("cpu_op", "aten::linear", 0, 100, **{"External id": 1}),
    span("cpu_op", "aten::addmm", 10, 80, **{"External id": 2}),
    span("cuda_runtime", "cudaLaunchKernel", 20, 5, **{"External id": 2}),
    span("kernel", "gemm", 200, 1000, stream=7, **{"External id": 2}),
    span("kernel", "gemm", 1000, 400, stream=8, **{"External id": 2}),
    span("cpu_op", "aten::copy_", 150, 50, **{"External id": 3}),
    span("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 2000, 10, bytes=3000),
    span("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 2100, 30, bytes=5000),
    span("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 2200, 4, bytes=1000),
    span("gpu_memcpy", "Memcpy DtoD (Device -> Device)", 2300, 9, bytes=7000),
    span("cuda_runtime", "cudaStreamSynchronize", 160, 2000),
    span("cuda_runtime", "cudaDeviceSynchronize", 2400, 600),
    span("kernel", "norm", 3000, 200, **{"External id": 9}),
]


def test_a_trace_of_a_gpu_is_read() -> None:
    found = trace.summary(EVENTS, frames=2)
    assert found["kernel_ms"] == pytest.approx((1200 + 200) / 2e3), "overlaps count once"
    assert found["launches"] == 1.5
    up, down = found["copies"]["up"], found["copies"]["down"]
    assert (up["count"], up["kb"], up["not_pinned"]) == (1, 4, 0.5)
    assert (down["count"], down["kb"], down["ms"], down["not_pinned"]) == (0.5, 0.5, 0.002, 0)
    assert found["waits"] == {"count": 1, "ms": 1.3}
    assert [(k["name"], k["calls"], k["ms"]) for k in found["top_kernels"]] == [
        ("gemm", 1, 0.7),
        ("norm", 0.5, 0.1),
    ]
    operators = {o["name"]: o for o in found["top_operators"]}
    assert list(operators) == ["aten::addmm", "aten::copy_", "aten::linear"]
    assert operators["aten::addmm"]["device_ms"] == pytest.approx(0.7)
    assert operators["aten::linear"]["host_ms"] == pytest.approx(0.01), "without what it called"


# --- goals


def figures(model: str, fps: float, ratio: float | None, objects: int = 32) -> dict[str, Any]:
    """What is found of a configuration at 1024 pixels, as `Bench.measure` gives it on a GPU."""
    seen = trace.summary(EVENTS, 2) | {"file": f"{model}.json.gz", "frames": 2}
    stages = {stage: {"p50": 1.0, "p95": 2.0, "mean": 1.0} for stage in (*tables.STAGES, "frame")}
    row = {"stage_ms": stages, "peak_mb": 100.0, "trace": seen, "launch_bound": 0.25}
    engine = {"engine": "exact", "fps": fps, "ratio": ratio, "frame_ms": 1e3 / fps}
    return {
        "configuration": {"model": model, "image_size": 1024, "objects": objects},
        "engines": [{**row, **engine, "gflop": 9.0, "gflops": 900.0}],
        "pipelines": {"exact": {**row, "in_sight": 31.0, "median_fps": 12.0}},
        "failures": {},
    }


def cells(page: str, section: str) -> list[list[str]]:
    lines = page.split(f"## {section}\n")[1].split("## ")[0].splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_goals_are_judged_beside_what_was_measured() -> None:
    settings = {"dry_run": False, "device": "a card"}
    found = [figures("tiny", 30.0, 4.99), figures("large", 29.9, None), figures("far", 1, 1, 8)]
    page = tables.page({"driver": "580.1"}, settings, found, 3)
    assert "- driver: 580.1" in page and "3 are to come" in page and "dry run" not in page
    assert cells(page, "Goals")[2:] == [
        ["tiny", "engine exact", "30.00", "met", "4.99", "missed"],
        ["tiny", "pipeline exact", "12.00", "missed", "-", "-"],
        ["large", "engine exact", "29.90", "missed", "-", "-"],
        ["large", "pipeline exact", "12.00", "missed", "-", "-"],
    ]
    row = dict(zip(*[cells(page, "The whole pipeline")[i] for i in (0, 2)], strict=True))
    assert (row["kernel ms"], row["launch-bound"], row["peak MB"]) == ("0.7", "25%", "100")
    assert (row["copies up"], row["waits"]) == ("1", "1")
    dry = tables.page({}, {"dry_run": True}, found, 0)
    assert {row[3] for row in cells(dry, "Goals")[2:]} == {"dry run"}
    nothing = tables.page({}, settings, [figures("far", 1, 1, 8)], 0)
    assert "Not measured." in nothing.split("## Goals")[1].split("##")[0]


# --- the card


def stand_in(folder: Path, script: str) -> None:
    """A program of that name, as a machine with a card has it."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_the_card_is_asked_for_driver_and_clocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    values = "580.95.05, P0, 1980, 1980, 2619, 2619, 412.33, 700.00, 51, 0x0000000000000000"
    stand_in(
        tmp_path, f'[ "$2" = GPU-1 ] && [ "$4" = --format=csv,noheader,nounits ] && echo "{values}"'
    )
    found = card.ask_nvidia_smi("GPU-1")
    assert found.keys() == card.READINGS.keys()
    assert (found["driver"], found["sm_mhz"], found["power_w"]) == ("580.95.05", 1980, 412.33)
    stand_in(tmp_path, "echo 'No devices were found' >&2; exit 6")
    assert card.ask_nvidia_smi("GPU-1") == {"unread": "No devices were found"}
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert "nvidia-smi" in card.ask_nvidia_smi("GPU-1")["unread"]
    assert card.readings(torch.device("cpu")) == {}
    assert card.describe(torch.device("cpu"))["device"].startswith("CPU")
