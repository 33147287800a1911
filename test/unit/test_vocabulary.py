"""Words: from vectors to shares, joined with fixed classes, and changed while they are in use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from colour_scenes import draw_scene
from sam2vss_ros.semantics.catalog import ClassCatalog, load_catalog
from sam2vss_ros.semantics.vocabulary.ids import WordIds
from sam2vss_ros.semantics.vocabulary.network import VocabularyNetwork
from sam2vss_ros.semantics.vocabulary.vocabulary import Vocabulary
from sam2vss_ros.semantics.vocabulary.words import NOTHING, Naming
from sam2vss_ros.types import Frame
from text_models import text_model

STREET = load_catalog("camvid")
PLAIN = ("{}",)
AXES = torch.eye(4)


def vocabulary(*names: str, base: ClassCatalog = STREET, unlabelled: int = 255) -> Vocabulary:
    made = Vocabulary(text_model("tipsv2"), base, WordIds(), unlabelled)
    made.set(names, PLAIN)
    return made


def naming(scale: float = 20.0, same: torch.Tensor | None = None) -> Naming:
    """Two words, the first with a synonym, and a negative."""
    rows = torch.tensor([0, 0, 1, 2])
    return Naming(AXES, rows, scale, torch.zeros(2, 3) if same is None else same)


def test_a_name_or_its_synonym_is_enough() -> None:
    shares = naming().shares(AXES)
    assert shares.argmax(1).tolist() == [0, 0, 1, 2]
    torch.testing.assert_close(shares.sum(1), torch.ones(4))


def test_without_a_margin_nothing_is_believed() -> None:
    between = F.normalize(torch.tensor([[1.0, 0, 0.99, 0], [1.0, 0, 0.5, 0], [0, 0, 0, 0]]), dim=1)
    shares = naming().shares(between)
    assert shares[0].tolist() == [0, 0, 1] and shares[2].tolist() == [0, 0, 1]
    assert shares[1].argmax() == 0


def test_fixed_classes_of_the_same_name_keep_their_evidence() -> None:
    same = torch.tensor([[1.0, 0, 0], [0, 0, 0]])  # the first word is the first of three classes
    fixed = torch.tensor([[0.6, 0.3, 0.1]]).T
    text = torch.tensor([[0.0, 0.75, 0.25]]).T
    joined = naming(same=same).join(fixed, text, familiar=1.0)
    torch.testing.assert_close(joined[:, 0], torch.tensor([0.6, 0.3, 0.1]))
    strange = naming(same=same).join(fixed, text, familiar=0.0)
    torch.testing.assert_close(strange, text)


def test_names_in_another_order_give_the_same_answers() -> None:
    names = ["red", "green=emerald", "blue", "yellow", "orange"]
    image = draw_scene(np.random.default_rng(4), 3).image
    answers = []
    for order in (names, names[::-1], names[2:] + names[:2]):
        words = vocabulary(*order)
        look = words.model.look(image)
        assert words.words.naming is not None
        patches = look.patches()
        assert patches is not None
        shares = words.words.naming.shares(patches.flatten(1).T)
        place = [
            [c.name for c in words.words.catalog.classes].index(n.split("=")[0]) for n in names
        ]
        answers.append(shares[:, [*place, len(names)]])
    torch.testing.assert_close(answers[0], answers[1])
    torch.testing.assert_close(answers[0], answers[2])


def test_the_catalog_is_that_of_the_words() -> None:
    words = vocabulary("red", "car", "blue=azure").words
    assert [(c.id, c.name) for c in words.catalog.classes] == [(0, "red"), (1, "car"), (2, "blue")]
    street_car = next(c for c in STREET.classes if c.name == "Car")
    assert words.catalog.classes[1].color == street_car.color
    assert words.catalog.version == 1
    assert len({c.color for c in words.catalog.classes}) == 3
    assert words.classes.classes[-1].name == NOTHING and words.classes.ids[-1] == 255
    assert not words.stuff.any() and words.things.tolist() == [True, True, True, False]
    assert vocabulary("road", "red").words.stuff.tolist() == [True, False, False]


def test_new_words_are_a_new_version_and_old_ids_stay() -> None:
    vocab = vocabulary("red", "green", "blue")
    before = vocab.words
    vocab.set(["blue", "yellow", "Red"], PLAIN)
    assert [(c.id, c.name) for c in vocab.words.catalog.classes] == [
        (2, "blue"), (3, "yellow"), (0, "Red"),
    ]  # fmt: skip
    assert (before.catalog.version, vocab.words.catalog.version) == (1, 2)
    assert [c.name for c in before.catalog.classes] == ["red", "green", "blue"]
    vocab.set(["green"], PLAIN)
    assert vocab.words.catalog.ids.tolist() == [1] and vocab.words.catalog.version == 3


def test_the_same_words_again_change_nothing() -> None:
    vocab = vocabulary("red", "blue")
    before = vocab.words
    vocab.set(["red", "blue"], PLAIN)
    assert vocab.words is before
    vocab.set(["red=crimson", "blue"], PLAIN)  # other evidence, the same classes
    assert vocab.words is not before and vocab.words.catalog.version == 1


def test_what_is_refused_leaves_the_words() -> None:
    vocab = vocabulary("red", "blue")
    before = vocab.words
    for wrong, said in ((["red", "RED"], "twice"), ([], "cannot become empty")):
        with pytest.raises(ValueError, match=said):
            vocab.set(wrong, PLAIN)
    with pytest.raises(ValueError, match="templates"):
        vocab.set(["red"], ["no place"])
    assert vocab.words is before


def test_words_after_fixed_classes_take_none_of_their_ids() -> None:
    vocab = vocabulary()
    assert vocab.words.catalog == STREET and vocab.words.naming is None
    vocab.set(["red", "Car"], PLAIN)
    red, car = vocab.words.catalog.ids.tolist()
    assert red not in STREET.ids and car == 8


def test_a_word_that_the_model_does_not_know_is_told_and_never_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vocab = vocabulary("red", "zebra")
    assert "does not know 'zebra': nothing will be called so" in caplog.text
    assert vocab.words.naming is not None
    shares = vocab.words.naming.shares(torch.randn(200, 48))
    assert (shares[:, 1] == 0).all()
    both = vocabulary("zebra", "lion").words.naming
    assert both is not None and (both.shares(torch.randn(200, 48)).argmax(1) == 2).all()


def test_templates_that_the_model_does_not_know_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vocab = vocabulary("red", "blue")
    plain = vocab.words.naming
    vocab.set(["red", "blue"], ["{}", "an etching of {}"])
    assert "'an etching of {}'" in caplog.text
    assert plain is not None and vocab.words.naming is not None
    torch.testing.assert_close(vocab.words.naming.vectors, plain.vectors)
    vocab.set(["red", "blue"], ["{}", "a photo of a {}"])
    assert not torch.allclose(vocab.words.naming.vectors, plain.vectors)


def test_ids_beyond_a_byte_are_told(caplog: pytest.LogCaptureFixture) -> None:
    vocab = vocabulary(*(f"w{i}" for i in range(250)))
    assert "16 bits" not in caplog.text
    vocab.set([f"v{i}" for i in range(10)], PLAIN)
    assert vocab.words.catalog.ids.tolist() == [*range(250, 255), *range(256, 261)]
    assert "so labels have 16 bits from now on" in caplog.text
    assert vocab.words.catalog.label_dtype(255) is np.uint16


def test_patches_and_text_are_a_network_like_any_other() -> None:
    vocab = vocabulary("red", "green", "blue", "yellow", "purple", "orange")
    network = VocabularyNetwork(vocab.model, vocab.words)
    right = []
    for seed in range(10):
        scene = draw_scene(np.random.default_rng(seed), 2)
        frame = Frame(scene.image, 0)
        assert network.accepts(frame)
        log_probabilities = network.log_probabilities(frame)
        assert log_probabilities.shape == (7, 8, 8) and len(network.catalog) == 7
        torch.testing.assert_close(log_probabilities.exp().sum(0), torch.ones(8, 8))
        classes = log_probabilities.argmax(0).numpy().repeat(8, 0).repeat(8, 1)
        names = [c.name for c in network.catalog.classes]
        for mask, name in zip(scene.masks, scene.names, strict=True):
            right.append((classes[mask] == names.index(name)).mean())
        right.append((classes[~np.any(scene.masks, 0)] == 6).mean())
    assert np.mean(right) > 0.75  # edges run through patches
