"""`sam2vss bag make` and `sam2vss bag label`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import (
    Parser,
    add_command,
    add_pipeline_options,
    build_pipeline,
    pipeline_options,
)
from sam2vss_ros.commands.labelled import add_label_options, label_rules
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.calibration import Calibration, load_calibration, pinhole
from sam2vss_ros.io.outputs import check_new_bag

if TYPE_CHECKING:
    from sam2vss_ros.io.readers import LabelledStream
    from sam2vss_ros.semantics.catalog import ClassCatalog

REPLAY = (
    "replay through the node, every image in order:\n"
    "  ros2 launch sam2vss_ros vss.launch.py image:=/camera/image_raw overload:=all\n"
    "  ros2 bag play drive --rate 0.5"
)


def add_bag(commands: Any) -> None:
    """Declare `sam2vss bag make` and `sam2vss bag label`."""
    parser = add_command(
        commands,
        "bag",
        usage="make|label ...",
        help_="make a ROS bag of images and labels, or label a recorded one",
        description=(
            "make   a bag from a video or a folder of images, with labels if there are any\n"
            "label  a recorded bag again, with the labels that the node would have published\n\n"
            "Bags are rosbag2 folders for `ros2 bag play` (Humble and later); no ROS is needed."
        ),
        examples=(
            "  sam2vss bag make --images val/images --labels val/labels --classes camvid \\\n"
            "      --rate 15 --out drive\n"
            "  sam2vss bag label drive --image-topic /camera/image_raw --out drive_labelled\n"
            "  sam2vss evaluate --bag drive --image-topic /camera/image_raw \\\n"
            "      --label-topic /camera/labels --classes camvid\n\n" + REPLAY
        ),
    )
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True, parser_class=Parser)
    _add_make(kinds)
    _add_label(kinds)


def _add_make(kinds: Any) -> None:
    make = add_command(
        kinds,
        "make",
        usage="--images DIR|VIDEO --out BAG [--labels DIR] [option ...]",
        help_="a bag from a video or a folder",
        parent="sam2vss bag",
        description=(
            "Write a bag of what a camera would have sent, and of what a perfect labeller would\n"
            "have made of it, under the stamp of its image:\n"
            "  /camera/image_raw             sensor_msgs/Image, rgb8\n"
            "  /camera/image_raw/compressed  instead, with --compressed\n"
            "  /camera/camera_info           sensor_msgs/CameraInfo\n"
            "  /camera/labels                sensor_msgs/Image, mono8 or mono16, with --labels\n"
            "  /camera/label_info            vision_msgs/LabelInfo, latched, with --classes\n"
            "  /camera/class_catalog         sam2vss_ros/ClassCatalog, latched, likewise\n\n"
            "Labels of a folder are joined to its images by their names without suffix, those of\n"
            "a video by the number at the end of their names, which is the index of the frame.\n"
            "Colours are understood with --classes."
        ),
        examples=(
            "  sam2vss bag make --images val/images --labels val/labels --classes camvid \\\n"
            "      --rate 15 --out drive\n"
            "  sam2vss bag make --images drive.mp4 --compressed jpeg --out drive\n"
            "  sam2vss bag make --images frames --camera-info camera.yaml --out drive\n\n" + REPLAY
        ),
    )
    make.add_argument(
        "--images", required=True, type=Path, metavar="DIR|VIDEO", help="what the camera saw"
    )
    make.add_argument("--labels", type=Path, metavar="DIR", help="label images: one id per pixel")
    make.add_argument(
        "--classes", metavar="NAME|YAML", help="what the ids mean: a class file, or camvid"
    )
    add_label_options(make)
    make.add_argument(
        "--rate",
        type=float,
        default=0.0,
        metavar="HZ",
        help="frames per second (default: the video's own; folders: 30)",
    )
    make.add_argument(
        "--compressed", choices=("jpeg", "png"), default="", help="compress the images"
    )
    make.add_argument(
        "--frame-id", default="camera_optical_frame", metavar="NAME", help="(default %(default)s)"
    )
    calibration = make.add_mutually_exclusive_group()
    calibration.add_argument(
        "--hfov",
        type=float,
        default=60.0,
        metavar="DEGREES",
        help="horizontal field of view of the ideal camera in camera_info (default 60)",
    )
    calibration.add_argument(
        "--camera-info",
        type=Path,
        metavar="YAML",
        help="a calibration by ROS's camera_calibration instead, for images of this size",
    )
    _add_output(make)
    make.set_defaults(command=_make)


def _add_label(kinds: Any) -> None:
    label = add_command(
        kinds,
        "label",
        usage="BAG --out BAG2 [option ...]",
        help_="a recorded bag, and the labels of its images",
        parent="sam2vss bag",
        description=(
            "Copy a bag, all topics, and add what the node would have published for every image:\n"
            "  /vss/label_image    sensor_msgs/Image, mono8 or mono16, under the image's header\n"
            "  /vss/overlay        sensor_msgs/Image, rgb8, with --overlay\n"
            "  /vss/class_catalog  sam2vss_ros/ClassCatalog, latched\n"
            "  /vss/label_info     vision_msgs/LabelInfo, latched\n\n"
            "Every image is taken, in order, as by the node with `overload: all`. Images that the\n"
            "node would skip (broken ones) are counted and stay without labels."
        ),
        examples=(
            "  sam2vss bag label drive --out drive_labelled\n"
            "  sam2vss bag label drive --image-topic /front/image_raw/compressed --overlay \\\n"
            "      --model sam2.1_hiera_tiny --device cuda --out drive_labelled\n"
            "  ros2 bag play drive_labelled"
        ),
    )
    label.add_argument("bag", type=Path, metavar="BAG", help="folder, .mcap or .db3")
    add_labelling_options(label)
    _add_output(label)
    add_pipeline_options(label)
    label.set_defaults(command=_label)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", required=True, type=Path, metavar="BAG", help="folder of the new bag"
    )
    add_storage_option(parser)


def add_labelling_options(parser: argparse.ArgumentParser) -> None:
    """Declare which images of a bag get labels, and what is added to it."""
    parser.add_argument(
        "--image-topic",
        metavar="TOPIC",
        help="raw or compressed images (default: the only topic that has any)",
    )
    parser.add_argument(
        "--namespace", default="/vss", metavar="NAME", help="of the topics added (default /vss)"
    )
    parser.add_argument("--overlay", action="store_true", help="add pictures for people, too")


def add_storage_option(parser: argparse.ArgumentParser) -> None:
    """Declare how bags are stored that are written."""
    parser.add_argument(
        "--storage",
        choices=("mcap", "sqlite3"),
        default="mcap",
        help="(default mcap; Humble needs a package for it, for sqlite3 none)",
    )


def _make(args: argparse.Namespace) -> None:
    from sam2vss_ros.io.bag_writer import make_bag
    from sam2vss_ros.semantics.catalog import load_catalog

    check_new_bag("out", args.out.expanduser())
    try:
        catalog = load_catalog(args.classes) if args.classes else None
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"classes: {error}") from error
    frames, labelled = make_bag(
        _streams(args, catalog),
        args.out,
        _calibrator(args),
        catalog,
        args.storage,
        args.compressed,
        args.frame_id,
    )
    print(f"\n{frames} frames, {labelled} of them labelled, written to {args.out}")


def _streams(args: argparse.Namespace, catalog: ClassCatalog | None) -> list[LabelledStream]:
    from sam2vss_ros.io.readers import (
        LabelledFrame,
        LabelledStream,
        labelled_folder,
        labelled_video,
        open_frames,
    )

    if args.labels is not None:
        rules = label_rules(args, catalog)
        if args.images.is_dir():
            return labelled_folder(args.images, args.labels, args.rate, rules)
        return [labelled_video(args.images, args.labels, args.rate, rules)]
    frames = open_frames(args.images, args.rate)

    def read() -> Any:
        for index, frame in enumerate(frames):
            yield LabelledFrame(frame, None, f"{index:06d}")

    return [LabelledStream(frames.path.name, frames.count, read)]


def _calibrator(args: argparse.Namespace) -> Callable[[int, int], Calibration]:
    """What knows the calibration of an image by its width and height."""
    if args.camera_info is None:
        if not 0 < args.hfov < 180:
            raise InputError(f"hfov: {args.hfov} is not between 0 and 180 degrees")
        return lambda width, height: pinhole(width, height, args.hfov)
    try:
        calibration = load_calibration(args.camera_info)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"camera-info: {error}") from error

    def check(width: int, height: int) -> Calibration:
        if (width, height) != (calibration.width, calibration.height):
            raise InputError(
                f"camera-info: {args.camera_info} is for {calibration.width}x{calibration.height} "
                f"pixels, the images have {width}x{height}"
            )
        return calibration

    return check


def _label(args: argparse.Namespace) -> None:
    from sam2vss_ros.io.bag_labels import label_bag
    from sam2vss_ros.io.bags import Bag

    check_new_bag("out", args.out.expanduser())
    bag = Bag(args.bag)
    image_topic = bag.find_image_topic(args.image_topic)
    with closing(build_pipeline(pipeline_options(args))) as pipeline:
        result = label_bag(
            pipeline, bag, image_topic, args.out, args.storage, args.namespace, args.overlay
        )
    fps = result.frames / result.seconds
    print(f"\n{result.frames} images of {image_topic} labelled, {fps:.1f} frames per second")
    for reason, count in result.skipped.items():
        print(f"{count} skipped: {reason}")
    print(f"written to {args.out}")
