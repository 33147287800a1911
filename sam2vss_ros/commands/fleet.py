"""What `sam2vss evaluate --bags` and `sam2vss label` share: many bags, on many workers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.labellers import LabellerTools, pipeline_part, weights_of
from sam2vss_ros.commands.variants import Options
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError, ModelUnavailableError, few

if TYPE_CHECKING:
    from sam2vss_ros.evaluation.evaluate import Evaluation
    from sam2vss_ros.evaluation.report import Report
    from sam2vss_ros.fleet.run import Executor
    from sam2vss_ros.fleet.stretches import Stretch
    from sam2vss_ros.io.label_files import LabelRules
    from sam2vss_ros.semantics.catalog import ClassCatalog

THREADS = 2
"""CPUs of a worker where `--threads` does not say: the same everywhere, since sums of floats depend
on it."""

WORK = Path("sam2vss_work")
FLEET_OPTIONS = "workers", "ray_address", "gpus_per_worker", "retries", "stretch", "warm_up", "work"


def add_fleet_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Declare the options of many bags; the group, for more of them."""
    group = parser.add_argument_group(
        "many bags",
        "Workers of Ray (the extra `fleet`) take one stretch of a bag after the other and keep\n"
        "their networks. A worker or a machine that dies costs its stretch, which another begins\n"
        "again. Results are those of `--workers 1`, which does the same in this process, without\n"
        "Ray: equal on equal processors.",
    )
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="(default: as many as fit, each with --threads CPUs, here 2 by default)",
    )
    group.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="a cluster of Ray, or auto for that of this machine (default: this machine alone). "
        "Its machines need the same paths and the same sam2vss_ros",
    )
    group.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="X",
        help="such as 0.25 for four workers on a GPU (default: 1 where there are any and --device "
        "is not cpu)",
    )
    group.add_argument(
        "--retries",
        type=int,
        metavar="N",
        help="how often a stretch is begun again whose worker died (default 3)",
    )
    group.add_argument(
        "--stretch",
        type=float,
        metavar="SECONDS",
        help="cut bags into stretches of this length of recording (default: a bag is one stretch). "
        "An object has another id in the next stretch, and is remembered from no further back "
        "than --warm-up: labels differ a little from those of uncut bags, not from machine to "
        "machine",
    )
    group.add_argument(
        "--warm-up",
        type=float,
        metavar="SECONDS",
        help="what is seen before a stretch, and not labelled or scored (default 5)",
    )
    return group


def check_no_fleet(args: argparse.Namespace) -> None:
    """Raise InputError for an option of many bags where there are none."""
    for name in FLEET_OPTIONS:
        if getattr(args, name) is not None:
            raise InputError(f"{name.replace('_', '-')}: is for many bags; give --bags")


def open_executor(
    args: argparse.Namespace, options: Mapping[str, object]
) -> AbstractContextManager[Executor]:
    """Whoever does the tasks. Raises InputError for what cannot be, or needs Ray where it is not
    installed."""
    if args.workers is not None and args.workers < 1:
        raise InputError(f"workers: {args.workers} is not 1 or more")
    if args.gpus_per_worker is not None and not args.gpus_per_worker >= 0:
        raise InputError(f"gpus-per-worker: {args.gpus_per_worker} is not 0 or more")
    retries = 3 if args.retries is None else args.retries
    if retries < 0:
        raise InputError(f"retries: {retries} is not 0 or more")
    if args.workers == 1 and not args.ray_address:
        from sam2vss_ros.fleet.run import Here

        return nullcontext(Here())
    from sam2vss_ros.fleet.ray_settings import open_ray

    gpus = 0.0 if options.get("device") == "cpu" else args.gpus_per_worker
    threads = int(str(options["threads"]))
    try:
        return open_ray(args.ray_address or "", args.workers or 0, threads, gpus, retries)
    except InputError as error:
        raise InputError(f"{error}; or do without: --workers 1") from error


def find_stretches(args: argparse.Namespace, besides: str | None = None) -> list[list[Stretch]]:
    """The stretches of every bag of `--bags`; the images are those of a topic `besides` another.

    Raises InputError for bags, topics and lengths that will not do.
    """
    from sam2vss_ros.fleet.stretches import cut, find_bags
    from sam2vss_ros.io.bags import Bag

    length, warm_up = args.stretch, args.warm_up
    if length is not None and not 0 < length < 1e9:
        raise InputError(f"stretch: {length} is not a positive number of seconds")
    if warm_up is not None and length is None:
        raise InputError("warm-up: a bag that is one stretch needs none; give --stretch")
    if warm_up is not None and not 0 <= warm_up < 1e9:
        raise InputError(f"warm-up: {warm_up} is not a number of seconds")
    warm_up = 5.0 if warm_up is None else warm_up
    stretches = []
    for path in find_bags(args.bags):
        bag = Bag(path)
        topic = bag.find_image_topic(args.image_topic, besides)
        stretches.append(cut(bag, topic, length or 0.0, warm_up))
    return stretches


def with_threads(options: Options) -> Options:
    """Options whose number of threads does not depend on the machine."""
    return {**options, "threads": options.get("threads") or THREADS}


def facts(options: Options) -> dict[str, object]:
    """What results depend on besides the bags: options, weights and code.

    Raises InputError for options that will not do.
    """
    from sam2vss_ros import __version__
    from sam2vss_ros.evaluation.provenance import fingerprints, git_commit

    if options.get("network") == "topic":
        raise InputError("network: topic is for the live node, where labels come with the images")
    try:
        config = PipelineConfig.from_mapping(pipeline_part(options))
        files = fingerprints(weights_of(config))
    except (ValueError, TypeError, FileNotFoundError, ModelUnavailableError) as error:
        raise InputError(str(error)) from error
    weights = [(about["path"], about["sha256"]) for about in files]
    named = {name: _file_state(value) for name, value in options.items()}
    return {
        "options": sorted(named.items()),
        "weights": weights,
        "code": (__version__, git_commit(Path(__file__))),
    }


def _file_state(value: object) -> object:
    """A value, and size and time of the file that it names, such as a class file."""
    path = Path(value) if isinstance(value, str) and value else None
    if path is None or not path.is_file():
        return value
    return value, path.stat().st_size, path.stat().st_mtime_ns


def failures_told(failures: Mapping[str, str]) -> str:
    """In a line why stretches failed, by their titles."""
    told = few(f"{title}: {reason}" for title, reason in failures.items())
    return f"{len(failures)} stretches failed: {told}"


@dataclass(frozen=True)
class BagsEvaluated:
    """Evaluations and their configs by variant, doubts about labels, and what the JSON says."""

    evaluations: dict[str, tuple[Evaluation, PipelineConfig]]
    notes: list[str]
    about: dict[str, Any]


def evaluate_bags(
    args: argparse.Namespace,
    variants: Mapping[str, Options],
    truth: ClassCatalog,
    rules: LabelRules,
    report: Report | None,
) -> BagsEvaluated:
    """Evaluate variants on all stretches of `--bags`."""
    from sam2vss_ros.fleet.run import Results, key_of, run_tasks
    from sam2vss_ros.fleet.scoring import ScoreStretch, merge
    from sam2vss_ros.io.bags import TO_RGB, Bag

    if args.rate is not None:
        raise InputError("rate: the images of a bag have stamps of their own")
    if args.label_topic is None:
        raise InputError("labels: those of many bags lie in a topic: give --label-topic")
    bags = find_stretches(args, besides=args.label_topic)
    for bag in bags:
        Bag(bag[0].bag).check_topic(args.label_topic, list(TO_RGB))
    tasks: dict[str, list[ScoreStretch]] = {}
    for name, options in variants.items():
        options = with_threads(options)
        about = {**facts(options), "labels": args.label_topic, "truth": truth, "rules": rules}
        tools = LabellerTools(tuple(sorted(options.items())))
        tasks[name] = [
            ScoreStretch(
                stretch,
                tools,
                key_of({**about, "name": name, "flow": args.flow, "stretch": stretch}),
                name,
                args.label_topic,
                truth,
                rules,
                args.flow,
            )
            for bag in bags
            for stretch in bag
        ]
    results = Results(args.work or WORK)
    every = [task for of_variant in tasks.values() for task in of_variant]
    with open_executor(args, with_threads(_first(variants))) as executor:
        failed = run_tasks(every, executor, results, "evaluate")
    evaluations, notes = {}, dict[str, None]()
    for name, of_variant in tasks.items():
        if not any(task in results for task in of_variant):
            raise InputError(failures_told(failed))
        parts = (results.load(task) for task in of_variant if task in results)
        take = report.merger(name) if report else lambda _: None
        evaluation, config, found = merge(truth, parts, take)
        evaluations[name] = evaluation, config
        notes |= dict.fromkeys(found)
    about_bags = {
        "bags": [str(bag[0].bag) for bag in bags],
        "stretches": sum(map(len, bags)),
        "stretch_seconds": args.stretch,
        "warm_up_seconds": None if args.stretch is None else args.warm_up or 5.0,
        "failed": failed,
    }
    return BagsEvaluated(evaluations, list(notes), about_bags)


def _first(variants: Mapping[str, Options]) -> Options:
    return next(iter(variants.values()))
