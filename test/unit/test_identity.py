"""Do objects keep their ids? The scenes, the scores, and re-identification on both."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import open_pipeline
from sam2vss_ros.bench.identity import (
    AWAY,
    SIZE,
    IdentityScore,
    Sight,
    TrueRegions,
    look,
    matches,
    replay,
    summary,
)
from sam2vss_ros.cli import main
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import load_model
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.training.procedural.returns import returns_video
from sam2vss_ros.types import Frame
from small_sam2 import SMALL_SAM2

# -- scenes


def test_figures_leave_and_come_back() -> None:
    seen = [np.unique(ids, return_counts=True) for _, ids in returns_video(5, 140)]
    figures = {i for ids, _ in seen for i in ids.tolist()} - {0, 1}
    assert 4 <= len(figures) <= 6
    returns = 0
    for figure in figures:
        here = "".join("x" if figure in ids else "." for ids, _ in seen)
        returns += sum(len(gap) >= AWAY for gap in here.strip(".").split("x"))
    assert returns >= 3


def test_the_same_seed_gives_the_same_scene() -> None:
    for one, two in zip(returns_video(6, 3), returns_video(6, 3), strict=True):
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
    image, ids = next(returns_video(7, 1, (96, 128)))
    assert image.shape == (96, 128, 3) and image.dtype == np.uint8
    assert ids.shape == (96, 128) and ids.dtype == np.uint16


# -- scores


def scene(*columns: int) -> np.ndarray:
    """(10, 10): what is in each two columns, 0 for nothing."""
    return np.repeat(np.array([[*columns, *[0] * (5 - len(columns))]] * 10, np.uint16), 2, axis=1)


def score_of(*frames: tuple[np.ndarray, np.ndarray, int]) -> IdentityScore:
    """Truth, tracks and for how many frames."""
    score = IdentityScore()
    for truth, tracks, times in frames:
        for _ in range(times):
            score.update(truth, tracks)
    return score


def counts(score: IdentityScore) -> tuple[int, ...]:
    return (
        score.switches,
        score.returns,
        score.returns_tracked,
        score.recognised,
        score.false_revivals,
        score.drifts,
    )


NOTHING = scene()


def test_masks_match_from_half_overlap_on() -> None:
    truth = scene(1, 1, 2, 2)
    assert matches(truth, scene(7, 7, 8, 8)) == [(1, 7), (2, 8)]
    assert matches(truth, scene(7, 7, 7, 8)) == [(1, 7)]  # 2 of 3; 1 of 2 is not more than half
    assert matches(truth, NOTHING) == []


def test_a_return_with_the_same_id_is_recognised() -> None:
    score = score_of((scene(1), scene(7), 12), (NOTHING, NOTHING, AWAY), (scene(1), scene(7), 5))
    assert counts(score) == (0, 1, 1, 1, 0, 0)
    assert score.tracked() == (1, 1, 1, 1)


def test_a_return_with_a_new_id_is_a_switch() -> None:
    score = score_of((scene(1), scene(7), 12), (NOTHING, NOTHING, AWAY), (scene(1), scene(8), 5))
    assert counts(score) == (1, 1, 1, 0, 0, 0)
    assert score.tracked() == (1, 1, 1, 2)


def test_a_short_absence_is_no_return() -> None:
    score = score_of((scene(1), scene(7), 9), (NOTHING, NOTHING, AWAY - 1), (scene(1), scene(7), 1))
    assert counts(score) == (0, 0, 0, 0, 0, 0)


def test_a_return_that_nobody_follows_is_not_recognised() -> None:
    score = score_of(
        (scene(1), scene(7), 9),
        (NOTHING, NOTHING, AWAY),
        (scene(1), NOTHING, 3),
        (NOTHING, NOTHING, AWAY),
        (scene(1), scene(7), 1),
    )
    assert counts(score) == (0, 2, 1, 1, 0, 0)


def test_an_id_revived_on_another_is_a_false_revival() -> None:
    score = score_of((scene(1), scene(7), 9), (NOTHING, NOTHING, 3), (scene(0, 2), scene(0, 7), 2))
    assert counts(score) == (0, 0, 0, 0, 1, 0)


def test_a_track_that_slips_to_another_drifts() -> None:
    score = score_of((scene(1, 2), scene(7), 9), (scene(1, 2), scene(0, 7), 2))
    assert counts(score) == (0, 0, 0, 0, 0, 1)


def test_mostly_tracked_is_four_fifths_of_the_frames_in_sight() -> None:
    half = score_of(
        (scene(1, 2), scene(7, 8), 8), (scene(1, 2), scene(7), 2), (scene(0, 2), NOTHING, 1)
    )
    assert half.tracked() == (2, 1, 2, 2)
    figures = summary([half, score_of((scene(3), NOTHING, 10))])
    assert figures["regions"] == 3 and figures["mostly_tracked"] == pytest.approx(1 / 3)
    assert figures["ids_per_region"] == 1


# -- re-identification


@pytest.fixture(scope="module")
def sights() -> list[Sight]:
    """Every second frame of a scene in which figures come back."""
    video = (pair for i, pair in enumerate(returns_video(1003, 140, SIZE)) if i % 2 == 0)
    return list(look(load_model(SMALL_SAM2, device="cpu"), video))


def alone(threshold: float) -> PipelineConfig:
    return PipelineConfig(max_objects=64, revive_similarity=threshold)


def test_returns_are_recognised_more_often_than_not(sights: list[Sight]) -> None:
    result = replay(sights, alone(PipelineConfig.revive_similarity), every=4)
    assert result.returns >= 3
    assert result.recognised > result.returns / 2
    assert result.false_revivals <= result.recognised / 4


def test_the_threshold_decides(sights: list[Sight]) -> None:
    never, always = replay(sights, alone(1.0), every=4), replay(sights, alone(0.0), every=4)
    assert never.recognised == never.false_revivals == 0
    assert always.false_revivals > 0


def watched(seed: int) -> Iterator[list[int]]:
    """The ids in memory on every fifth frame of a scene, with true discovery."""
    source = TrueRegions()
    options = {"max_objects": 8, "keyframe_interval": 2, "lost_after": 1, "forget_after": 2}
    pipe = open_pipeline(PipelineConfig.from_mapping(options | {"device": "cpu"}), source=source)
    for t, (image, source.truth) in enumerate(returns_video(seed, 140, SIZE)):
        if t % 5 == 0:
            yield [o.track_id for o in pipe.process(Frame(image, t + 1)).objects]


def test_no_id_is_used_again_after_its_end() -> None:
    ended: set[int] = set()
    before: set[int] = set()
    highest = 0
    for ids in watched(1003):
        assert len(set(ids)) == len(ids) and not ended & set(ids)
        assert all(i > highest for i in set(ids) - before)
        ended |= before - set(ids)
        before, highest = set(ids), max([highest, *ids])
    assert highest >= 4 and ended, "the test needs ids that end"


def test_nothing_is_learned_from_a_mask_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    source = TrueRegions()
    config = PipelineConfig(max_objects=8, device="cpu", engine="exact", carry="off")
    pipe = open_pipeline(config, source=source)
    trust, step = [1.0], pipe.stream.tracker.step

    def doubting(features: functional.ImageFeatures, slots: list[int], *flow: Any) -> Tracked:
        tracked = step(features, slots, *flow)
        return dataclasses.replace(
            tracked, predicted_iou=torch.full_like(tracked.predicted_iou, trust[0])
        )

    def embeddings_after_a_frame(t: int) -> list[torch.Tensor]:
        image, source.truth = video[t]
        pipe.process(Frame(image, t + 1))
        tracks = pipe.stream.objects.all()
        return [t.embedding.clone() for t in tracks if t.embedding is not None]

    video = list(returns_video(1003, 3, SIZE))
    first = embeddings_after_a_frame(0)
    monkeypatch.setattr(pipe.stream.tracker, "step", doubting)
    trust[0] = 0.1
    doubted = embeddings_after_a_frame(1)
    assert len(first) >= 3
    assert all(torch.equal(a, b) for a, b in zip(first, doubted, strict=True))
    trust[0] = 1.0
    trusted = embeddings_after_a_frame(2)
    assert not any(torch.equal(a, b) for a, b in zip(first, trusted, strict=True))


# -- the command


def test_the_command_prints_and_writes_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "identity.json"
    arguments = ["--clips", "1", "--frames", "6", "--seed", "3", "--device", "cpu"]
    assert main(["bench", "identity", *arguments, "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert (report["clips"], report["frames"], report["seed"]) == (1, 6, 3)
    assert {"switches", "returns", "recognised", "false_revivals", "mostly_tracked"} <= set(
        report["pipeline"]
    ) & set(report["true_discovery"])
    assert [row["revive_similarity"] for row in report["alone"]] == [0.6, 0.7, 0.75, 0.8, 0.85, 0.9]
    assert "re-identification alone" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--clips", "0"], ["--frames", "0"], ["--seed", "-1"]])
def test_wrong_arguments_are_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "identity", *wrong]) == 2
    assert wrong[0].strip("-") in capsys.readouterr().err
