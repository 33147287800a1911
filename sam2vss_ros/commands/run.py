"""`sam2vss run`: segment a recording."""

from __future__ import annotations

import argparse
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import (
    add_command,
    add_overwrite_option,
    add_pipeline_options,
    build_pipeline,
    pipeline_options,
    without_known_rate,
)
from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import InputError

if TYPE_CHECKING:
    from sam2vss_ros.io.results import RunSummary
    from sam2vss_ros.semantics.catalog import ClassCatalog


def add_run(commands: Any) -> None:
    """Declare `sam2vss run`."""
    parser = add_command(
        commands,
        "run",
        usage="VIDEO|FOLDER|CAMERA|ADDRESS --out DIR [option ...]",
        help_="segment a video, a folder of images, a camera or a stream",
        description=(
            "Segment a video, or a folder of images in the order of the numbers in their names,\n"
            "frame by frame as the node does, and write into DIR:\n"
            "  labels/000000.png ...  class id per pixel (8 bits; 16 where the classes need them)\n"
            "  overlay.mp4            the video with classes, outlines and track ids drawn on it\n"
            "  objects.jsonl          one line per frame: its objects with ids, classes and boxes\n"
            "With the depth of the frames also\n"
            "  objects_3d.jsonl       one line per frame: where its objects are, in metres\n"
            "  clouds/000000.ply ...  with --clouds: the depth as points with colours and classes\n"
            "\nA camera (0, /dev/video0) or an address (rtsp, rtmp, http) is live: always the\n"
            "newest frame is taken, stamped with the time of its arrival. It is opened again\n"
            "where it is interrupted, for half a minute, and Ctrl+C ends it."
        ),
        examples=(
            "  sam2vss run street.mp4 --out results\n"
            "  sam2vss run frames/ --rate 15 --out results --mode classify --max-objects 32\n"
            "  sam2vss run street.mp4 --out results --model sam2.1_hiera_tiny --device cuda\n"
            "  sam2vss run rtsp://192.168.1.20/stream --rate 5 --out results\n"
            "  sam2vss run color/ --depth depth/ --camera-info camera.yaml --out results --clouds"
        ),
    )
    parser.add_argument("input", metavar="SOURCE", help="what to segment")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="results go here")
    parser.add_argument(
        "--rate",
        type=float,
        default=0.0,
        metavar="HZ",
        help="frames per second of the input (default: the video's own; folders 30, and all are "
        "looked at); of a live one those taken at most (10)",
    )
    parser.add_argument(
        "--depth",
        type=Path,
        metavar="DIR",
        help="depth of the frames, registered to them and named like them (beside a video by their "
        "number): images of 16 bits hold millimetres, floating point ones metres",
    )
    parser.add_argument(
        "--camera-info",
        type=Path,
        metavar="FILE",
        help="the depth's camera: ROS's calibration file, or YAML or JSON with its K",
    )
    parser.add_argument(
        "--depth-scale",
        type=float,
        default=0.0,
        metavar="METRES",
        help="metres that a unit of depth stands for, where it is not as above",
    )
    parser.add_argument("--clouds", action="store_true", help="write clouds of points, too")
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="DIR",
        help="label images named like frames: each id but 0 is an object to be followed from that "
        "frame on, with the id as its track id",
    )
    add_overwrite_option(parser)
    add_pipeline_options(parser)
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> None:
    from sam2vss_ros.io.depth_folder import DepthFolder
    from sam2vss_ros.io.live_sources import LiveSource, is_live, open_live
    from sam2vss_ros.io.prompt_folder import PromptFolder
    from sam2vss_ros.io.readers import open_frames
    from sam2vss_ros.io.results import check_results, write_results

    check_results(args.out, args.overwrite)
    options = pipeline_options(args)
    if not args.rate:
        options = without_known_rate(options, Path(args.input).expanduser())
    most = getattr(args, "max_image_pixels", MOST_PIXELS)
    live = is_live(args.input)
    _check_companions(args, live)
    source = (open_live if live else open_frames)(args.input, args.rate, most)
    depth, prompts = None, None
    if args.depth is not None:
        recording = Path(args.input).expanduser()
        depth = DepthFolder.open(recording, args.depth, args.camera_info, args.depth_scale, most)
    if args.prompts is not None:
        prompts = PromptFolder.open(Path(args.input).expanduser(), args.prompts)
    until_signal = source if isinstance(source, LiveSource) else nullcontext()
    with until_signal, closing(build_pipeline(options)) as pipeline:
        summary = write_results(pipeline, source, args.out, prompts, depth, args.clouds)
        _print_run(summary, pipeline.catalog)
    if depth is not None and (without := summary.frames - depth.frames_of(summary.frames)):
        print(f"\n{without} of {summary.frames} frames have no depth: their objects have no place")
    written = ["labels/", "overlay.mp4", "objects.jsonl"]
    written += ["objects_3d.jsonl"] if depth else []
    written += ["clouds/"] if args.clouds else []
    print(f"\nwritten to {args.out}: {', '.join(written)}")


def _check_companions(args: argparse.Namespace, live: bool) -> None:
    """Raise InputError where options about depth and prompts do not go together."""
    for name in ("depth", "prompts"):
        if live and getattr(args, name) is not None:
            raise InputError(f"{name}: goes with a video or a folder, {args.input} is live")
    if args.depth is not None and args.camera_info is None:
        raise InputError("depth: give the camera that it was taken with, too: --camera-info FILE")
    for name, given in (
        ("camera-info", args.camera_info is not None),
        ("depth-scale", args.depth_scale != 0),
        ("clouds", args.clouds),
    ):
        if given and args.depth is None:
            raise InputError(f"{name}: says nothing without --depth DIR")


def _print_run(summary: RunSummary, catalog: ClassCatalog) -> None:
    print(f"\n{summary.frames} frames, {summary.fps:.1f} frames per second")
    print(f"objects: {len(summary.track_ids)} in all, at most {summary.objects_max} at a time")
    print(f"\n{'stage':<12}{'mean ms':>9}{'worst ms':>10}")
    for stage, spent in summary.timings_ms.items():
        print(f"{stage:<12}{sum(spent) / len(spent):>9.1f}{max(spent):>10.1f}")
    names = {c.id: c.name for c in catalog.classes}
    total = summary.pixels_by_id.total()
    print(f"\n{'class':<24}{'% of pixels':>12}")
    for id_, pixels in summary.pixels_by_id.most_common():
        print(f"{names.get(id_, 'unlabelled'):<24}{100 * pixels / total:>12.1f}")
