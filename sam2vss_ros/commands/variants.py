"""What `sam2vss evaluate --compare` puts side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError, brief
from sam2vss_ros.options import options_of, read_as, what_is_meant

PAPER_REFINE = "paper-refine"
"""The mode that is no option of the pipeline: the paper's refiner, offline."""

Options = dict[str, object]


def modes() -> tuple[str, ...]:
    """The modes that can be evaluated."""
    return PAPER_REFINE, *options_of(PipelineConfig)["mode"][1].choices


def parse_variants(texts: Sequence[str], common: Options) -> dict[str, Options]:
    """Options of the pipeline by the name of a variant, each on top of the common ones.

    A text is either the pairs of one variant, as in "mode=fused max_objects=16", or modes and
    models divided by commas, as in "network,refine". Raises InputError naming what is wrong.
    """
    variants: dict[str, Options] = {}
    for text in texts:
        if "=" in text:
            found = {text: _pairs(text)}
        else:
            found = {word: _word(word) for word in text.split(",")}
        for name, options in found.items():
            if name in variants:
                raise InputError(f"compare: {name} is there twice")
            variants[name] = common | options
    return variants


def _word(word: str) -> Options:
    """A mode or a model by its name alone."""
    models = options_of(PipelineConfig)["model"][1]
    if word in modes():
        return {"mode": word}
    if word in models.choices or word.endswith(tuple(models.files)):
        return {"model": word}
    raise InputError(
        f"compare: {word!r} is no mode ({', '.join(modes())}) and no model ({models.allowed}); "
        'anything else is said as in "mode=fused semantics=FILE"'
    )


def _pairs(text: str) -> Options:
    known = options_of(PipelineConfig)
    options: Options = {}
    for pair in shlex.split(text):
        name, equals, value = pair.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise InputError(f"compare: {brief(pair)!r} is not OPTION=VALUE")
        if name not in known:
            raise InputError(f"compare: no option {brief(name)}: {what_is_meant(name, known)}")
        kind = read_as(known[name][0])
        try:
            options[name] = kind(value)
        except ValueError as error:
            raise InputError(f"compare: {name}: {value!r} is no {kind.__name__}") from error
    return options
