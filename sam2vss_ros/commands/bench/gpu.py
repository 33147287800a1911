"""`sam2vss bench gpu`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import add_command, add_overwrite_option
from sam2vss_ros.commands.bench.report import NOT_MET
from sam2vss_ros.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from sam2vss_ros.bench.gpu.folder import Folder
    from sam2vss_ros.bench.gpu.grid import Configuration
    from sam2vss_ros.bench.gpu.measure import Material

SEED = 1
SIZE, DRY_SIZE = (720, 1280), (96, 128)
"""Height and width of the street that is drawn where no video is given."""


def add_gpu(kinds: Any) -> None:
    """Declare `sam2vss bench gpu`."""
    parser = add_command(
        kinds,
        "gpu",
        usage="--out FOLDER [--dry-run] [option ...]",
        help_="all that is to be known of a GPU: every model, size and number of objects",
        parent="sam2vss bench",
        description=(
            "Measure every model at every image size with every number of objects on a GPU:\n"
            "  engines    exact and fast beside upstream's predictor in the same run\n"
            "  pipeline   the whole of it, by stage\n"
            "  traces     of torch's profiler, with the operators and kernels that take most, the\n"
            "             share of a frame in which no kernel runs, copies between host and GPU\n"
            "  memory     the most that is taken on the GPU, and the card's driver and clocks\n\n"
            "FOLDER gets results.md, results.json, traces/ and configurations/. What is done is\n"
            "not done again: the same command goes on where a run ended. What fails, such as for\n"
            "lack of memory, is noted, and left out until --retry. Without weights of a model on\n"
            "this machine it is measured with random ones, and objects stay where they began.\n\n"
            "--dry-run goes through all of it with tiny shapes on the CPU, by default with 1 and\n"
            "32 objects; its figures mean nothing."
        ),
        examples=(
            "  sam2vss bench gpu --out gpu\n"
            "  sam2vss bench gpu --out gpu --model sam2.1_hiera_tiny edgetam --objects 32\n"
            "  sam2vss bench gpu --out dry --dry-run"
        ),
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where results go, and go on"
    )
    parser.add_argument(
        "--video",
        metavar="VIDEO|FOLDER",
        help="the frames to follow objects in (default: a street that is drawn, 1280x720)",
    )
    parser.add_argument("--model", nargs="+", help="models (default: all that are known by name)")
    parser.add_argument(
        "--image-size", nargs="+", type=int, metavar="PX", help="(default 512 1024)"
    )
    parser.add_argument("--objects", nargs="+", type=int, metavar="N", help="(default 1 8 32 64)")
    parser.add_argument(
        "--precision",
        default="bfloat16",
        choices=("float32", "bfloat16", "float16"),
        help="arithmetic (default bfloat16)",
    )
    parser.add_argument("--device", default="auto", help="auto, cuda or cuda:N (default auto)")
    parser.add_argument(
        "--upstream-objects",
        type=int,
        default=64,
        metavar="N",
        help="upstream, which takes objects one by one, runs beside for so many at the most, 0: "
        "never (default 64)",
    )
    parser.add_argument(
        "--random-weights", action="store_true", help="also where a model's own are at hand"
    )
    parser.add_argument(
        "--retry", action="store_true", help="measure again what failed in an earlier run"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny shapes of everything, on the CPU"
    )
    add_overwrite_option(parser)
    parser.set_defaults(command=_gpu)


def _gpu(args: argparse.Namespace) -> int:
    from sam2vss_ros.bench.gpu.card import describe
    from sam2vss_ros.bench.gpu.folder import TABLES, Folder
    from sam2vss_ros.bench.gpu.grid import DRY_OBJECTS, MODELS, OBJECTS, SIZES, configurations

    if args.upstream_objects < 0:
        raise InputError(f"upstream-objects: {args.upstream_objects} is negative; 0: never")
    objects = args.objects or (DRY_OBJECTS if args.dry_run else OBJECTS)
    every = configurations(args.model or MODELS, args.image_size or SIZES, objects)
    device = _device(args)
    machine = describe(device)
    folder = Folder(args.out, _settings(args, machine["device"]))
    material = _material(args, device, max(one.objects for one in every))
    folder.open(args.overwrite)
    _measure_all(every, folder, material, machine, args.retry)
    found = [one for c in every if (one := folder.found(c))]
    print((folder.path / TABLES).read_text(encoding="utf-8"))
    return NOT_MET if any(one["failures"] for one in found) else 0


def _device(args: argparse.Namespace) -> torch.device:
    """The GPU; in a dry run the CPU. Raises InputError."""
    import torch

    from sam2vss_ros.sam2.build import resolve_device

    if args.dry_run:
        return torch.device("cpu")
    try:
        device = resolve_device(args.device)
    except ValueError as error:
        raise InputError(error) from error
    if device.type != "cuda":
        raise InputError(
            "device: there is no GPU that torch can use; --dry-run goes through all of it on the "
            "CPU, and `sam2vss bench speed --device cpu` measures that"
        )
    return device


def _settings(args: argparse.Namespace, device: str) -> dict[str, Any]:
    """What must be the same for all figures of a folder."""
    return {
        "dry_run": args.dry_run,
        "device": device,
        "precision": "float32" if args.dry_run else args.precision,
        "video": "a drawn street" if args.video is None else args.video,
        "random_weights": args.random_weights,
        "upstream_objects": args.upstream_objects,
    }


def _material(args: argparse.Namespace, device: torch.device, objects: int) -> Material:
    from sam2vss_ros.bench.gpu.grid import DRY_FRAMES, FRAMES, MOST_DRY_OBJECTS
    from sam2vss_ros.bench.gpu.measure import Material

    frames = DRY_FRAMES if args.dry_run else FRAMES
    return Material(
        device,
        "float32" if args.dry_run else args.precision,
        _images(args, frames.all),
        frames,
        min(objects, MOST_DRY_OBJECTS) if args.dry_run else objects,
        args.upstream_objects,
        args.random_weights,
        args.dry_run,
    )


def _images(args: argparse.Namespace, count: int) -> list[npt.NDArray[np.uint8]]:
    """The first frames of the video, or of a drawn street."""
    from sam2vss_ros.bench.material import first_frames
    from sam2vss_ros.io.readers import open_frames
    from sam2vss_ros.training.procedural import street_video

    if args.video is not None:
        return list(first_frames(open_frames(args.video), count))
    size = DRY_SIZE if args.dry_run else SIZE
    return [image for image, _, _ in islice(street_video(SEED, count, size), count)]


def _measure_all(
    every: Sequence[Configuration],
    folder: Folder,
    material: Material,
    machine: dict[str, Any],
    retry: bool,
) -> None:
    """Measure what is not known yet; after each configuration the results are written anew."""
    from tqdm import tqdm

    from sam2vss_ros.bench.gpu.folder import BEGUN
    from sam2vss_ros.bench.gpu.measure import Bench, DeviceLostError
    from sam2vss_ros.bench.gpu.tables import page

    def write() -> None:
        found = [one for one in folder.all() if one["status"] != BEGUN]
        to_come = sum(folder.found(c) is None for c in every)
        folder.write(found, machine, page(machine, folder.settings, found, to_come))

    known = {c: one for c in every if (one := folder.found(c))}
    todo = [c for c in every if c not in known or (retry and known[c]["failures"])]
    bench = Bench(material, folder.traces)
    write()
    with tqdm(total=len(every), initial=len(every) - len(todo), unit="configuration") as bar:
        for configuration in todo:
            folder.begin(configuration)
            try:
                found = bench.measure(
                    configuration,
                    lambda part, name=configuration.name: bar.set_description(f"{name}: {part}"),  # type: ignore[misc]
                )
            except DeviceLostError as error:
                folder.fail(configuration, str(error))
                write()
                raise InputError(
                    f"device: it does nothing more since {configuration.name}: {error}; give the "
                    "same command again, which goes on with what is left"
                ) from error
            except BaseException:
                folder.forget(configuration)
                raise
            folder.note(configuration, found)
            write()
            bar.update()
