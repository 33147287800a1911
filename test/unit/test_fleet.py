"""Many bags by one worker in this process, and stretches of bags; without Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cli_streams import WITHOUT_LIBRARIES, run
from sam2vss_ros.errors import InputError
from sam2vss_ros.fleet.stretches import Stretch, cut, find_bags
from sam2vss_ros.io.bag_writer import header, image_message, label_message, new_bag
from sam2vss_ros.io.bags import Bag, Section
from sam2vss_ros.io.labelled_bags import open_bag
from street_bags import IMAGES, LABELS, STAMP, STEP, street_bag

PIPELINE = ("--image-topic", IMAGES, "--device", "cpu", "--threads", 1, "--max-objects", 2,
            "--min-class-score", 0)  # fmt: skip
SCORED = ("--label-topic", LABELS, "--classes", "camvid")
ALONE = ("--workers", 1)


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bags")
    for seed, count in ((1, 4), (2, 11)):
        street_bag(folder / f"street{seed}", seed, count)
    (folder / "notes.txt").write_text("no bag")
    return folder


def label_images(bag: Path) -> list[bytes]:
    return [bytes(data) for _, _, data in Bag(bag).messages("/vss/label_image")]


def stretches(bag: Path, seconds: float, warm_up: float) -> list[Stretch]:
    return cut(Bag(bag), IMAGES, seconds, warm_up)


def test_patterns_name_bags(bags: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = [bags / "street1", bags / "street2"]
    assert find_bags([f"{bags}/*"]) == both
    assert "notes.txt" in caplog.text
    assert find_bags([str(bags / "street2"), f"{bags}/street?"]) == both
    with pytest.raises(InputError, match="none/\\* names no bag"):
        find_bags([f"{bags}/none/*"])


def test_bags_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        street_bag(tmp_path / folder / "drive", 1, 1)
    with pytest.raises(InputError, match="have one name"):
        find_bags([f"{tmp_path}/*/drive"])


def test_a_bag_is_cut_by_the_time_of_recording(bags: Path) -> None:
    """Every image is in one stretch; images before a stretch warm up for it."""
    found = [s.section for s in stretches(bags / "street2", 0.5, 0.2)]
    assert found == [
        Section(0, 0, 0, 5),
        Section(STAMP + 3 * STEP, 3, 2, 5),
        Section(STAMP + 8 * STEP, 8, 2, 1),
    ]
    (whole,) = stretches(bags / "street2", 0, 0)
    assert (whole.section, whole.frames, whole.title) == (None, 11, "street2")
    (long,) = stretches(bags / "street2", 3600, 5)
    assert long.section == Section(0, 0, 0, 11)
    with_all_before = stretches(bags / "street2", 0.5, 60)[2].section
    assert with_all_before == Section(0, 0, 10, 1)


def test_pauses_and_images_recorded_together_are_not_cut_in_two(tmp_path: Path) -> None:
    whole = street_bag(tmp_path / "whole", 1, 6)
    times = [0, 5, 5, 5, 6, 400]  # tenths of a second
    with new_bag(tmp_path / "bag", "mcap") as bag:
        for time, (connection, _, data) in zip(times, Bag(whole).messages(IMAGES), strict=True):
            bag.add(connection)
            bag.copy(connection, STAMP + time * STEP, data)
    found = [s.section for s in stretches(tmp_path / "bag", 0.3, 0.2)]
    assert [(s.first + s.warm_up, s.count) for s in found if s] == [(0, 1), (1, 3), (4, 1), (5, 1)]
    assert [s.warm_up for s in found if s] == [0, 0, 3, 0]


def test_sections_of_a_labelled_bag_are_the_bag(bags: Path) -> None:
    whole = list(open_bag(bags / "street2", IMAGES, LABELS).read())
    joined = []
    for stretch in stretches(bags / "street2", 0.4, 0.3):
        stream = open_bag(bags / "street2", IMAGES, LABELS, section=stretch.section)
        items = list(stream.read())
        assert all(item.labels is None for item in items[: stream.warm_up])  # type: ignore[union-attr]
        assert items[0].name == f"{stream.first:06d}"
        joined += items[stream.warm_up :]
    assert [i.name for i in joined] == [i.name for i in whole]
    for one, other in zip(joined, whole, strict=True):
        assert one.frame and other.frame
        np.testing.assert_array_equal(one.frame.image, other.frame.image)
        assert one.frame.stamp_ns == other.frame.stamp_ns
        np.testing.assert_array_equal(one.labels, other.labels)  # type: ignore[union-attr, arg-type]


def test_many_bags_are_labelled_and_scored_as_each_of_them(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("label", "--bags", f"{bags}/*", "--out", tmp_path / "many", *PIPELINE, *ALONE) == 0
    many = ("--bags", bags / "street2", "--json", tmp_path / "many.json", "--work", tmp_path / "w")
    assert run("evaluate", *many, *SCORED, *PIPELINE, *ALONE) == 0
    for name in ("street1", "street2"):
        one = tmp_path / "one" / name
        assert run("bag", "label", bags / name, "--out", one, *PIPELINE) == 0
        assert label_images(one) == label_images(tmp_path / "many" / name)
        assert [c.topic for c in Bag(one).connections] == [
            c.topic for c in Bag(tmp_path / "many" / name).connections
        ]
    one_bag = ("--bag", bags / "street2", "--json", tmp_path / "one.json")
    assert run("evaluate", *one_bag, *SCORED, *PIPELINE) == 0
    ours, theirs = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("many", "one"))
    for key in theirs.keys() - {"source", "provenance", "label_notes", "config"}:
        if not key.startswith(("fps", "latency")):
            assert ours[key] == theirs[key], key
    assert ours["frames_scored"] == 10 and ours["bags"] == [str(bags / "street2")]


def test_what_is_done_is_not_done_again(
    bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run loads no networks, the third only does what has come since."""
    recorded = tmp_path / "bags"
    street_bag(recorded / "street1", 1, 4)
    label = ("label", "--bags", f"{recorded}/*", "--out", tmp_path / "out", *PIPELINE, *ALONE)
    score = ("evaluate", "--bags", f"{recorded}/*", "--work", tmp_path / "work",
             "--json", tmp_path / "j.json", *SCORED, *PIPELINE, *ALONE)  # fmt: skip
    assert run(*label) == run(*score) == 0
    first, labels = json.loads((tmp_path / "j.json").read_text()), tmp_path / "out" / "street1"
    made = label_images(labels)
    with monkeypatch.context() as patch:
        patch.setattr("sam2vss_ros.commands.labellers.build_pipeline", None)
        assert run(*label) == run(*score) == 0
    assert json.loads((tmp_path / "j.json").read_text())["miou"] == first["miou"]
    assert label_images(labels) == made
    street_bag(recorded / "street2", 2, 6)
    capsys.readouterr()
    assert run(*label) == run(*score) == 0
    bar = capsys.readouterr().err
    assert "6/6" in bar and "10/10" in bar and "label: 100%" in bar
    assert json.loads((tmp_path / "j.json").read_text())["frames"] == 10
    assert run(*label, "--max-objects", 3) == 2  # other labels are not written over these
    assert "exists already, and was not made" in capsys.readouterr().err
    assert label_images(labels) == made


def test_a_command_that_was_stopped_goes_on(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process is killed in its second stretch; the next one begins with that."""
    label = ["label", "--bags", bags / "street2", "--stretch", 0.5, "--warm-up", 0.2,
             "--out", tmp_path / "out", *PIPELINE, *ALONE]  # fmt: skip
    dying = (
        "import functools, sys\n"
        "from sam2vss_ros.cli import main\n"
        "from sam2vss_ros.commands import label\n"
        "from street_bags import DyingPipeline\n"
        "label.PipelineTools = functools.partial(DyingPipeline, marker=None, at=9)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    support = Path(__file__).resolve().parents[1] / "support"
    killed = subprocess.run(
        [sys.executable, "-c", dying, *map(str, label)],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(support), *sys.path])},
        timeout=120,
    )
    assert killed.returncode == -9, killed.stderr.decode()
    assert not (tmp_path / "out" / "street2").exists()
    assert run(*label) == 0
    assert "label:  45%" in capsys.readouterr().err  # 5 of 11 images were done
    whole = [*label[:-2], "--workers", 1]
    whole[whole.index("--out") + 1] = tmp_path / "whole"
    assert run(*whole) == 0
    assert label_images(tmp_path / "out" / "street2") == label_images(tmp_path / "whole/street2")


def test_a_bag_that_is_of_no_use_is_told_and_the_others_are_done(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with new_bag(tmp_path / "broken", "mcap") as bag:
        for i in range(2):
            head = header(STAMP + i * STEP, "front")
            image = image_message(np.zeros((48, 64, 3), np.uint8), "rgb8", head)
            image.data = image.data[:100]
            bag.write(IMAGES, image, STAMP + i * STEP)
            bag.write(LABELS, label_message(np.zeros((48, 64), np.uint8), head), STAMP + i * STEP)
    both = ("--bags", tmp_path / "broken", bags / "street1", *PIPELINE, *ALONE)
    assert run("label", *both, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "1 of 2 bags labelled, 4 images" in said.out
    assert "1 stretches failed: broken: " in said.err and "no image can be used" in said.err
    figures = tmp_path / "figures.json"
    score = ("--work", tmp_path / "work", "--json", figures, *SCORED)
    assert run("evaluate", *both, *score) == 2
    assert "1 stretches failed: fused: broken: " in capsys.readouterr().err
    result = json.loads(figures.read_text())
    assert list(result["failed"]) == ["fused: broken"] and result["frames_scored"] == 3
    only = ("--bags", tmp_path / "broken", *PIPELINE, *ALONE)
    assert run("evaluate", *only, "--work", tmp_path / "work", *SCORED) == 2
    assert "1 stretches failed: fused: broken: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--stretch", 0), "stretch: 0.0 is not a positive number of seconds"),
        (("--warm-up", 2), "warm-up: a bag that is one stretch needs none"),
        (("--workers", 0), "workers: 0 is not 1 or more"),
        (("--workers", 1, "--retries", -1), "retries: -1 is not 0 or more"),
        (("--gpus-per-worker", "nan"), "gpus-per-worker: nan is not 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(
    options: tuple[object, ...],
    told: str,
    bags: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ("label", "--bags", bags / "street1", "--out", tmp_path / "out", *PIPELINE)
    assert run(*command, *options) == 2
    assert told in capsys.readouterr().err


def test_options_of_many_bags_need_them(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ("evaluate", "--bag", bags / "street1", *SCORED, *PIPELINE)
    assert run(*one, "--stretch", 3) == 2
    assert "stretch: is for many bags; give --bags" in capsys.readouterr().err
    labels = ("--labels", tmp_path, "--classes", "camvid")
    assert run("evaluate", "--bags", bags / "street1", *labels, *PIPELINE, *ALONE) == 2
    assert "give --label-topic" in capsys.readouterr().err


def test_without_ray_one_worker_does(bags: Path, tmp_path: Path) -> None:
    def without_ray(*more: object) -> subprocess.CompletedProcess[str]:
        command = ("label", "--bags", bags / "street1", "--out", tmp_path / "out", *PIPELINE, *more)
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_LIBRARIES, "ray", *map(str, command)],
            capture_output=True,
            text=True,
            timeout=120,
        )

    many = without_ray()
    assert many.returncode == 2
    assert 'pip install "sam2vss_ros[fleet]"; or do without: --workers 1' in many.stderr
    assert without_ray(*ALONE).returncode == 0
