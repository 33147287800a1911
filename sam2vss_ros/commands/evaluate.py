"""`sam2vss evaluate`: score the pipeline."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import (
    add_command,
    add_json_option,
    add_pipeline_options,
    check_json,
    pipeline_options,
    without_known_rate,
    write_json,
)
from sam2vss_ros.commands.fleet import (
    add_fleet_options,
    check_no_fleet,
    evaluate_bags,
    failures_told,
)
from sam2vss_ros.commands.labelled import add_label_options, label_rules, print_notes
from sam2vss_ros.commands.labellers import open_labeller, pipeline_part, weights_of
from sam2vss_ros.commands.limits import figures_of, limits_of, missed_limits
from sam2vss_ros.commands.variants import PAPER_REFINE, Options, modes, parse_variants
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError

if TYPE_CHECKING:
    from sam2vss_ros.evaluation.evaluate import Evaluation
    from sam2vss_ros.evaluation.report import Report
    from sam2vss_ros.io.readers import LabelledStream
    from sam2vss_ros.semantics.catalog import ClassCatalog

Result = dict[str, Any]


def add_evaluate(commands: Any) -> None:
    """Declare `sam2vss evaluate`."""
    parser = add_command(
        commands,
        "evaluate",
        usage="--images DIR --labels DIR --classes NAME [--report DIR] [option ...]",
        help_="score the pipeline on labelled image streams",
        description=(
            "Run the pipeline over labelled frames, every one in order, as the node does with\n"
            "`overload: all`, and score its label images. The frames are\n"
            "  --images DIR   a folder of images in the order of the numbers in their names, or\n"
            "                 of sub-folders with images; names of one folder that agree up to\n"
            "                 the first `_` (or have none) are one stream, and nothing is\n"
            "                 remembered from one stream to the next. Labels have the name of\n"
            "                 their image but for its end, such as _gtFine_labelTrainIds.\n"
            "  --video VIDEO  a video. Names of labels end with the number of their frame, from\n"
            "                 0, such as 000012.png.\n"
            "  --bag BAG      a rosbag2 (mcap or sqlite3) or a ROS 1 bag. Labels have exactly the\n"
            "                 stamp of their image, or lie in a folder, named by stamp or number.\n"
            "  --bags BAGS    many bags, on many workers: see the group of options for them.\n"
            "Label images hold an id per pixel (grey, palette, or the same in every channel) or\n"
            "the colours of the class file; what is compressed with loss is refused.\n"
            "Frames without labels are seen, not scored; one that fails is counted and skipped.\n"
            "Void pixels are not scored; the mean is over the classes that occur in the labels,\n"
            "from one confusion matrix over all frames (the rule of VSPW). The report states the\n"
            "rule of every figure."
        ),
        examples=(
            "  sam2vss evaluate --images val/images --labels val/labels --classes camvid\n"
            "  sam2vss evaluate --images val/images --labels val/labels --classes camvid \\\n"
            "      --compare network,paper-refine,refine,classify,fused --report report\n"
            "  sam2vss evaluate --video drive.mp4 --labels labels --classes camvid \\\n"
            '      --compare mode=fused "mode=fused max_objects=16" semantics=mine.safetensors\n'
            "  sam2vss evaluate --bag drive --image-topic /camera/image --label-topic /labels \\\n"
            "      --classes camvid --fail-under miou=0.55 --fail-under per_class_iou.Car=0.6\n"
            "  sam2vss evaluate --bags 'bags/*' --label-topic /labels --classes camvid \\\n"
            "      --stretch 60 --workers 8 --report report"
        ),
    )
    source = parser.add_argument_group("frames and labels")
    frames = source.add_mutually_exclusive_group(required=True)
    frames.add_argument(
        "--images", "--video", type=Path, metavar="DIR|VIDEO", help="a folder of images, or a video"
    )
    frames.add_argument("--bag", type=Path, metavar="BAG", help="a recording of ROS")
    frames.add_argument(
        "--bags", nargs="+", metavar="BAG", help="many recordings, also by patterns: 'bags/*'"
    )
    source.add_argument("--image-topic", metavar="T", help="bag: its only topic with images")
    labels = source.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", type=Path, metavar="DIR", help="label images: an id per pixel")
    labels.add_argument("--label-topic", metavar="T", help="bag: the topic with label images")
    source.add_argument(
        "--classes",
        required=True,
        metavar="NAME|YAML",
        dest="truth",
        help="what the ids of the labels mean: a class file, or the name of one (camvid)",
    )
    source.add_argument(
        "--rate",
        type=float,
        metavar="HZ",
        help="frames per second (default: the video's own; images 30, and all are looked at)",
    )
    add_label_options(source)
    parser.add_argument(
        "--mode",
        default=argparse.SUPPRESS,
        metavar="|".join(modes()),
        help=f"as the pipeline's option, and {PAPER_REFINE}: the paper's offline refiner",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        action="extend",
        metavar="VARIANT",
        help="evaluate several variants side by side: modes or models divided by commas, or "
        'options of the pipeline as in "mode=fused max_objects=16"; what is given beside counts '
        "for all",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME|JSON",
        help="what the figures are compared with: a variant (default: the first), or the --json of "
        "an earlier evaluation",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write index.html for people, report.json and frames.csv here",
    )
    add_json_option(parser)
    parser.add_argument(
        "--fail-under",
        action="append",
        default=[],
        metavar="KEY=NUMBER",
        help="exit with 1 where a figure of the JSON (miou, per_class_iou.Car) is less; may be "
        "given again; with --compare it counts for every variant",
    )
    parser.add_argument(
        "--flow",
        action="store_true",
        help="score consistency along optical flow, too (25 ms per frame of 480x360)",
    )
    add_fleet_options(parser).add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="what is done is kept here, and not done again by a later run (default sam2vss_work)",
    )
    add_pipeline_options(parser, without=["classes", "mode"])
    parser.set_defaults(command=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    from sam2vss_ros.evaluation.evaluate import Evaluation
    from sam2vss_ros.evaluation.provenance import provenance
    from sam2vss_ros.semantics.catalog import load_catalog

    try:
        truth = load_catalog(args.truth)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"classes: {error}") from error
    check_json(args.json, args.overwrite)
    _check_report(args.report, args.overwrite)
    empty = Evaluation(truth).as_json()
    limits = limits_of(args.fail_under, figures_of(empty))
    variants = _variants(args)
    earlier = _earlier(args.baseline, variants, empty)
    with _open_report(args.report, truth) as report:
        results, label_notes, about_bags = _results(args, variants, truth, report)
        shown = [earlier, *results] if earlier else results
        baseline = args.baseline or results[0]["name"]
        about = {
            "source": _source(args),
            "baseline": baseline,
            "label_notes": label_notes,
            **about_bags,
            "provenance": provenance(["sam2vss", *sys.argv[1:]]),
        }
        document = {"variants": results, **about} if args.compare else {**results[0], **about}
        try:
            _print_results(shown, truth)
            print_notes(about["label_notes"])
        finally:  # also where nobody reads what is printed
            write_json(args.json, document)
            if report:
                report.write(document, shown, baseline)
    missed = missed_limits(results, limits)
    if missed:
        print(f"sam2vss: fail-under: {'; '.join(missed)}", file=sys.stderr)
    if failed := about_bags.get("failed"):
        raise InputError(failures_told(failed))
    return 1 if missed else 0


def _variants(args: argparse.Namespace) -> dict[str, Options]:
    """Checked options of the pipeline, by the name of the variant."""
    common = pipeline_options(args)
    if args.images is not None and args.rate is None:
        common = without_known_rate(common, args.images)
    if args.compare:
        variants = parse_variants(args.compare, common)
    else:
        variants = {str(common.get("mode", PipelineConfig.mode)): common}
    for name, options in variants.items():
        try:
            mode = options.get("mode", PAPER_REFINE)
            if mode not in modes():
                raise ValueError(f"mode: {mode!r} is not one of {', '.join(modes())}")
            PipelineConfig.from_mapping(pipeline_part(options))
            if options.get("network") == "topic":
                raise ValueError(
                    "network: topic is for the live node; `sam2vss metrics` scores label images"
                )
        except (ValueError, TypeError) as error:
            raise InputError(f"compare: {name}: {error}" if args.compare else str(error)) from error
    return variants


def _earlier(baseline: str | None, variants: Mapping[str, Options], empty: Result) -> Result | None:
    """The evaluation that `--baseline` names as a file; `empty` shows what it must hold."""
    if baseline is None or baseline in variants:
        return None
    path = Path(baseline)
    if not path.is_file():
        raise InputError(
            f"baseline: {baseline} is neither a variant ({', '.join(variants)}) nor a file"
        )
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"baseline: {path} is no JSON: {error}") from error
    missing = (empty.keys() | {"config", "weights"}) - set(result)
    if missing:
        raise InputError(
            f"baseline: {path} is not the --json of one evaluation: {min(missing)} is missing"
        )
    if list(result["per_class_iou"]) != list(empty["per_class_iou"]):
        raise InputError(
            f"baseline: {path} is of other classes: {', '.join(result['per_class_iou'])}"
        )
    return {**result, "name": baseline}


def _streams(args: argparse.Namespace, truth: ClassCatalog) -> list[LabelledStream]:
    from sam2vss_ros.io.labelled_bags import open_bag
    from sam2vss_ros.io.readers import labelled_folder, labelled_video

    if args.rate is not None and not args.rate > 0:
        raise InputError(f"rate: {args.rate} is not a positive number of frames per second")
    rules = label_rules(args, truth)
    if args.bag:
        if args.rate is not None:
            raise InputError("rate: the images of a bag have stamps of their own")
        return [open_bag(args.bag, args.image_topic, args.label_topic, args.labels, rules)]
    if args.image_topic or args.label_topic:
        raise InputError("topics are of a bag: give --bag, or --labels and no topics")
    if args.images.is_file():
        return [labelled_video(args.images, args.labels, args.rate or 0.0, rules)]
    return labelled_folder(args.images, args.labels, args.rate or 0.0, rules)


def _check_report(folder: Path | None, overwrite: bool) -> None:
    if folder is not None:
        from sam2vss_ros.evaluation.report import check_report

        check_report(folder, overwrite)


def _open_report(folder: Path | None, truth: ClassCatalog) -> AbstractContextManager[Report | None]:
    if folder is None:
        return nullcontext()
    from sam2vss_ros.evaluation.report import Report  # needs libraries that are optional

    return Report(folder, truth)


def _source(args: argparse.Namespace) -> str:
    frames = args.images or args.bag or " ".join(args.bags)
    topic = f" {args.image_topic}" if args.image_topic else ""
    return f"{frames}{topic}, labels of {args.label_topic or args.labels}, classes {args.truth}"


def _results(
    args: argparse.Namespace,
    variants: Mapping[str, Options],
    truth: ClassCatalog,
    report: Report | None,
) -> tuple[list[Result], list[str], Result]:
    """The JSON of every variant, what makes labels doubtful, and what is said of many bags."""
    if args.bags:
        rules = label_rules(args, truth)
        done = evaluate_bags(args, variants, truth, rules, report)
        results = [
            _result(name, variants[name], config, evaluation)
            for name, (evaluation, config) in done.evaluations.items()
        ]
        return results, done.notes, done.about
    check_no_fleet(args)
    streams = _streams(args, truth)
    results = [
        _run(name, options, streams, truth, report, args.flow) for name, options in variants.items()
    ]
    return results, list(dict.fromkeys(note for s in streams for note in s.notes())), {}


def _run(
    name: str,
    options: Options,
    streams: Sequence[LabelledStream],
    truth: ClassCatalog,
    report: Report | None,
    flow: bool,
) -> Result:
    """Evaluate one variant; its JSON."""
    from sam2vss_ros.evaluation.evaluate import evaluate

    with open_labeller(options) as (labeller, config):
        watch = report.watch(name, labeller.catalog) if report else lambda _: None
        evaluation = evaluate(labeller, streams, truth, watch, flow, name)
    return _result(name, options, config, evaluation)


def _result(name: str, options: Options, config: PipelineConfig, evaluation: Evaluation) -> Result:
    """The JSON of a variant."""
    from sam2vss_ros.evaluation.provenance import fingerprints

    mode = str(options.get("mode", config.mode))
    return {
        "name": name,
        "model": config.model,
        "mode": mode,
        **evaluation.as_json(),
        "config": {**dataclasses.asdict(config), "mode": mode},
        "weights": fingerprints(weights_of(config)),
    }


def _print_results(results: Sequence[Result], truth: ClassCatalog) -> None:
    """The figures and the classes of all variants, as Markdown."""
    from sam2vss_ros.bench.report import markdown
    from sam2vss_ros.evaluation.figures import COUNTS, FIGURES, IOU

    names = [result["name"] for result in results]
    figures = [f for f in FIGURES if any(r[f.key] is not None for r in results)]
    rows = [(f.title, *(f.text(r[f.key]) for r in results)) for f in figures]
    rows += [(name, *(str(r[key]) for r in results)) for key, name in COUNTS.items()]
    print("\n" + markdown(("", *names), rows))
    pixels = [sum(row) for row in results[0]["confusion_matrix"]]
    classes = [
        (
            c.name,
            f"{100 * count / max(1, sum(pixels)):.1f}",
            *(IOU.text(r["per_class_iou"][c.name]) for r in results),
        )
        for c, count in zip(truth.classes, pixels, strict=True)
    ]
    print("\n" + markdown(("class", "% of pixels", *(f"{n} IoU %" for n in names)), classes))
    for id_, count in results[-1]["foreign_pixels"].items():
        print(f"not scored: {count} pixels with id {id_}, which is no class of {truth.name}")
    sys.stdout.flush()  # known before anything is written
