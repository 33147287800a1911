"""`sam2vss metrics`: score label images that somebody else made."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import add_command, add_json_option, check_json, write_json
from sam2vss_ros.commands.labelled import add_label_options, label_rules, print_notes
from sam2vss_ros.errors import InputError

if TYPE_CHECKING:
    from sam2vss_ros.evaluation.label_folders import FolderScores
    from sam2vss_ros.semantics.catalog import ClassCatalog

SHOWN = {
    "mIoU": "miou",
    "frequency-weighted IoU": "fwiou",
    "pixel accuracy": "pixel_accuracy",
    "mean accuracy": "mean_accuracy",
    "mBIoU": "mbiou",
    "mBIoU, void pixels out": "mbiou_void_out",
    "trimap mIoU": "trimap_miou",
    "mVC8": "mvc8",
    "mVC16": "mvc16",
    "strict VC8": "strict_vc8",
    "strict VC16": "strict_vc16",
    "flicker (less is better)": "flicker",
    "flow consistency": "flow_consistency",
    "STQ": "stq",
    "association quality": "aq",
    "segmentation quality": "sq",
}


def add_metrics(commands: Any) -> None:
    """Declare `sam2vss metrics`."""
    parser = add_command(
        commands,
        "metrics",
        usage="--labels DIR --predictions DIR --classes NAME [--images DIR] [--json FILE]",
        help_="score label images that somebody else made",
        description=(
            "Print the figures of label images against ground truth. They hold an id per pixel\n"
            "(grey, palette, or the same in every channel) or the colours of the class file.\n"
            "Files are joined by their names without suffix, and are frames in the order of the\n"
            "numbers in them; sub-folders are read where a folder holds no images itself. Names\n"
            "of one sub-folder that agree up to the first `_` are one stream, names without one\n"
            "are together another. Label images without a prediction are counted\n"
            "(frames_unmatched); predictions without labels count for the flow only. The JSON\n"
            "states the rule of every figure."
        ),
        examples=(
            "  sam2vss metrics --labels val/labels --predictions mine --classes camvid\n"
            "  sam2vss metrics --labels val/labels --predictions mine --classes camvid \\\n"
            "      --images val/images --json mine.json"
        ),
    )
    parser.add_argument(
        "--labels", required=True, type=Path, metavar="DIR", help="ground truth: one id per pixel"
    )
    parser.add_argument(
        "--predictions", required=True, type=Path, metavar="DIR", help="label images to score"
    )
    parser.add_argument(
        "--classes",
        required=True,
        metavar="NAME|YAML",
        help="what the ids mean: a class file, or the name of one (camvid)",
    )
    parser.add_argument(
        "--predicted-classes",
        metavar="NAME|YAML",
        help="what the ids of the predictions mean, where it is something else; joined by name",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="the camera's images, for flow consistency"
    )
    parser.add_argument(
        "--ids",
        type=Path,
        metavar="DIR",
        help="true object id per pixel, 0 for none, for STQ; needs --predicted-ids",
    )
    parser.add_argument(
        "--predicted-ids", type=Path, metavar="DIR", help="predicted object id per pixel"
    )
    add_label_options(parser)
    parser.add_argument(
        "--prediction-suffix", default="", metavar="END", help="likewise of the predictions"
    )
    add_json_option(parser)
    parser.set_defaults(command=_metrics)


def _metrics(args: argparse.Namespace) -> None:
    from sam2vss_ros.evaluation.label_folders import LabelFolders, score_folders

    truth = _catalog("classes", args.classes)
    predicted = None
    if args.predicted_classes is not None:
        predicted = _catalog("predicted-classes", args.predicted_classes)
    check_json(args.json, args.overwrite)
    folders = LabelFolders(args.labels, args.predictions, args.images, args.ids, args.predicted_ids)
    rules = label_rules(args)
    scores = score_folders(folders, truth, predicted, rules, args.prediction_suffix)
    try:
        _print(scores)
    finally:  # also where nobody reads what is printed
        write_json(args.json, scores.as_json())


def _catalog(option: str, name: str) -> ClassCatalog:
    from sam2vss_ros.semantics.catalog import load_catalog

    try:
        return load_catalog(name)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"{option}: {error}") from error


def _print(scores: FolderScores) -> None:
    report, matrix = scores.as_json(), scores.scoreboard.matrix
    pixels = matrix.truth_pixels
    print(f"\n{'class':<24}{'IoU %':>8}{'found %':>9}{'BIoU %':>8}{'% of pixels':>13}")
    for name, share in zip(matrix.names, pixels / pixels.sum(), strict=True):
        iou, found, boundary = (
            _percent(report[f"per_class_{what}"][name]) for what in ("iou", "accuracy", "biou")
        )
        print(f"{name:<24}{iou:>8}{found:>9}{boundary:>8}{_percent(share):>13}")
    print()
    for title, key in SHOWN.items():
        if report.get(key) is not None:
            print(f"{title:<26}{_percent(report[key], 2):>7} %")
    print(
        f"\n{scores.frames_scored} of {scores.frames} frames scored, {scores.streams} streams; "
        f"{scores.frames_unmatched} labelled frames have no prediction"
    )
    unlabelled = matrix.counts[:, -1].sum() / pixels.sum()
    if unlabelled:
        print(f"{_percent(unlabelled, 2)} % of the scored pixels are predicted as no class")
    for id_, count in sorted(matrix.foreign_pixels.items()):
        print(f"not scored: {count} pixels with id {id_}, which is no class of {matrix.truth.name}")
    print_notes(scores.label_notes)


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"
