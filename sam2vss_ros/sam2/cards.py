"""The models that this package knows: the embedded nano and Meta's SAM 2.1."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model before it is loaded.

    `image_size` is the side of its square input in pixels, `discovery` the source of new objects
    that suits it (regions or grid), `parameters` their count. `understands_points` says whether
    points and boxes find masks; where not, the dense region they lie on is taken. `cpu_threads`
    is how many threads serve it best on a CPU, 0 for all; `max_objects` and `engine` (a preset of
    `options.ENGINES`) are the options of that name unless the user says. `config` (a YAML of the
    `sam2` package), `file` and `hub_id` are empty for the embedded model.
    """

    name: str
    image_size: int
    discovery: str
    understands_points: bool
    cpu_threads: int
    max_objects: int
    engine: str
    parameters: int
    source: str
    licence: str
    config: str = ""
    file: str = ""
    hub_id: str = ""


def _meta_card(size: str, config: str, parameters: int) -> ModelCard:
    return ModelCard(
        name=f"sam2.1_hiera_{size}",
        image_size=1024,
        discovery="grid",
        understands_points=True,
        cpu_threads=0,
        max_objects=32,
        engine="exact",
        parameters=parameters,
        source="Meta AI, SAM 2.1 (September 2024)",
        licence="Apache-2.0",
        config=f"configs/sam2.1/sam2.1_hiera_{config}.yaml",
        file=f"sam2.1_hiera_{size}.pt",
        hub_id=f"facebook/sam2.1-hiera-{size.replace('_', '-')}",
    )


CARDS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            name="nano",
            image_size=256,
            discovery="regions",
            understands_points=False,
            cpu_threads=1,
            max_objects=6,
            engine="fast",
            parameters=1_231_922,
            source="this package, see sam2vss_ros/weights",
            licence="see the model card in sam2vss_ros/weights",
        ),
        _meta_card("tiny", "t", 38_962_498),
        _meta_card("small", "s", 46_060_354),
        _meta_card("base_plus", "b+", 80_850_178),
        _meta_card("large", "l", 224_446_642),
    )
}


def model_card(name: str) -> ModelCard:
    """The card of a known model. Raises ValueError naming the known ones."""
    if name not in CARDS:
        raise ValueError(f"model: {name!r} is not one of {', '.join(CARDS)}")
    return CARDS[name]
