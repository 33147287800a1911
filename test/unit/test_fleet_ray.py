"""Many bags on a real Ray cluster of two workers; one is killed on the way."""

from __future__ import annotations

import functools
import json
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cli_streams import run
from sam2vss_ros.commands import fleet
from sam2vss_ros.commands import label as label_command
from sam2vss_ros.errors import InputError
from sam2vss_ros.fleet.ray_settings import open_ray
from sam2vss_ros.fleet.run import Executor
from sam2vss_ros.fleet.tasks import Failed
from sam2vss_ros.io.bags import Bag
from small_tasks import SmallTask
from street_bags import IMAGES, LABELS, DyingPipeline, street_bag

PIPELINE = ("--image-topic", IMAGES, "--device", "cpu", "--threads", 1, "--max-objects", 2,
            "--min-class-score", 0)  # fmt: skip
CUT = ("--stretch", 0.4, "--warm-up", 0.3)
TIMES = "fps", "latency_ms_p50", "latency_ms_p95", "provenance"


@pytest.fixture(scope="module")
def workers() -> Iterator[Executor]:
    """A cluster on this machine with two workers, for all tests; they find what tests import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        with open_ray("", workers=2, cpus=1, gpus=0.0, retries=1) as there:
            yield there


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bags")
    for seed, count in ((1, 5), (2, 9), (3, 3)):
        street_bag(folder / f"street{seed}", seed, count)
    return folder


@pytest.fixture
def on_ray(workers: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process take the cluster that is there, but with `--workers 1`."""
    there = fleet.open_executor

    def open_executor(args: Any, options: Any) -> Any:
        return there(args, options) if args.workers == 1 else nullcontext(workers)

    monkeypatch.setattr(fleet, "open_executor", open_executor)
    monkeypatch.setattr(label_command, "open_executor", open_executor)


def messages(bag: Path) -> list[tuple[str, int, bytes]]:
    return [(c.topic, time, bytes(data)) for c, time, data in Bag(bag).messages()]


def test_labels_are_the_same_bits_though_a_worker_is_killed(
    bags: Path,
    on_ray: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    marker = tmp_path / "died"
    command = ("label", "--bags", f"{bags}/*", "--overlay", *CUT, *PIPELINE)
    assert run(*command, "--out", tmp_path / "here", "--workers", 1) == 0
    dying = functools.partial(DyingPipeline, marker=marker, at=6)
    monkeypatch.setattr(label_command, "PipelineTools", dying)
    with caplog.at_level(logging.WARNING):
        assert run(*command, "--out", tmp_path / "there") == 0
    assert int(marker.read_text()) != os.getpid()
    again = [r.message for r in caplog.records if "begun again: its worker died" in r.message]
    assert len(again) == 1  # nothing but the stretch that it was at
    for name, count in (("street1", 5), ("street2", 9), ("street3", 3)):
        here, there = (messages(tmp_path / place / name) for place in ("here", "there"))
        assert here == there
        assert sum(topic == "/vss/label_image" for topic, _, _ in there) == count
        added = ("/vss/label_image", "/vss/overlay", "/vss/class_catalog", "/vss/label_info")
        assert [m for m in there if m[0] not in added] == messages(bags / name)
    assert not list((tmp_path / "there").glob("**/.unfinished*"))


DYING_COMMAND = (
    "import functools, pathlib, sys\n"
    "from sam2vss_ros.cli import main\n"
    "from sam2vss_ros.commands import fleet\n"
    "from street_bags import DyingLabeller\n"
    "marker = pathlib.Path(sys.argv[1])\n"
    "fleet.LabellerTools = functools.partial(DyingLabeller, marker=marker, at=6)\n"
    "sys.exit(main(sys.argv[2:]))\n"
)


def test_scores_are_equal_though_a_worker_is_killed(
    bags: Path, workers: Executor, tmp_path: Path
) -> None:
    """The command is another process, which finds the cluster by its address."""
    import ray  # once its settings are made

    address = ray.get_runtime_context().gcs_address
    assert address.startswith("127.0.0.1:")  # reached from nowhere else
    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}
    command = ("evaluate", "--bags", f"{bags}/*", "--label-topic", LABELS, "--classes", "camvid",
               "--flow", *CUT, *PIPELINE)  # fmt: skip
    here = ("--work", tmp_path / "1", "--json", tmp_path / "1.json", "--report", tmp_path / "r1")
    assert run(*command, *here, "--workers", 1) == 0
    marker = tmp_path / "died"
    there = ("--work", tmp_path / "2", "--json", tmp_path / "2.json", "--report", tmp_path / "r2",
             "--ray-address", address)  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DYING_COMMAND, *map(str, (marker, *command, *there))],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert marker.exists() and done.stderr.count("begun again: its worker died") == 1
    one, two = (json.loads((tmp_path / f"{i}.json").read_text()) for i in (1, 2))
    assert {k: v for k, v in one.items() if k not in TIMES} == {
        k: v for k, v in two.items() if k not in TIMES
    }
    assert (two["streams"], two["frames"], two["frames_scored"]) == (3, 17, 14)
    assert two["labels_unmatched"] == 0 and two["stretches"] == 6 and two["failed"] == {}
    rows = [(tmp_path / r / "frames.csv").read_text().splitlines() for r in ("r1", "r2")]
    without_times = [[row.split(",")[:-2] for row in of_run] for of_run in rows]
    assert without_times[0] == without_times[1] and len(rows[0]) == 1 + 17


def test_what_always_fails_is_given_up_and_all_else_is_done(workers: Executor) -> None:
    tasks = [
        SmallTask("a", "kill"),
        SmallTask("b", "raise"),
        *(SmallTask(f"c{i}", "do") for i in range(4)),
    ]
    results = {task.key: result for task, result in workers.results(deque(tasks), lambda _: None)}
    assert results.pop("a") == Failed("tried 2 times: its worker died")
    assert results.pop("b") == Failed("tried 2 times: ZeroDivisionError: of nobody's foresight")
    assert results == {f"c{i}": f"c{i} done" for i in range(4)}


def test_what_does_not_answer_is_told_at_once() -> None:
    with (
        pytest.raises(InputError, match="ray: the cluster at 127.0.0.1:9 cannot be used"),
        open_ray("127.0.0.1:9", 1, 1, 0.0, 0),
    ):
        pass
