"""Names in words on the live node: as parameters, and changed by the service."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from harness import HEIGHT, LATCHED, WIDTH, Harness, Start, header
from sam2vss_ros.msg import ClassCatalog, TrackedObjectArray
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.srv import AddPrompt, SetVocabulary
from text_models import folder_of
from word_streams import RED_BOX, box_image

pytest.importorskip("transformers")

WORDS = {"text_model": folder_of("tipsv2"), "discovery": "off", "overload": "all"}


def call(bench: Harness, kind: Any, name: str, **request: Any) -> Any:
    """Call a service of the node."""
    client = bench.ears.create_client(kind, f"/vss/{name}")
    return bench.ros.call(client, kind.Request(**request))


def show(bench: Harness, index: int) -> int:
    """Send a picture of the moving boxes; returns the time at which it was taken."""
    assert box_image(0).shape == (HEIGHT, WIDTH, 3)
    bench.send(33 * index, image_message(box_image(index), "rgb8", header(0)))
    return 33 * index


def entries(message: ClassCatalog) -> dict[str, int]:
    """Name -> id."""
    return {e.name: e.id for e in message.entries}


def test_words_are_parameters_and_change_live(start: Start) -> None:
    bench = start(vocabulary=["green", "red", "blue"], **WORDS)
    catalogs = bench.record("/vss/class_catalog", ClassCatalog, LATCHED)
    labels = bench.record("/vss/label_image", Image)
    objects = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()
    bench.ros.wait_until(lambda: catalogs, "the catalog")
    assert entries(catalogs[-1]) == {"green": 0, "red": 1, "blue": 2}
    assert catalogs[-1].version == 1 and catalogs[-1].name == "vocabulary"

    bench.wait_for_answer(labels, show(bench, 0))
    prompt = call(bench, AddPrompt, "add_prompt", box=list(RED_BOX))
    assert prompt.success, prompt.message
    (found,) = bench.wait_for_answer(objects, show(bench, 1)).objects
    assert (found.track_id, found.class_name, found.class_id) == (prompt.track_id, "red", 1)
    assert len(found.class_probabilities) == 3

    answer = call(bench, SetVocabulary, "set_vocabulary", vocabulary=["crimson", "blue=azure"])
    assert answer.success and answer.version == 2 and answer.message == "2 classes"
    bench.ros.wait_until(lambda: catalogs[-1].version == 2, "the new catalog")
    assert entries(catalogs[-1]) == {"crimson": 3, "blue": 2}
    (found,) = bench.wait_for_answer(objects, show(bench, 2)).objects
    assert (found.track_id, found.class_name, found.class_id) == (prompt.track_id, "crimson", 3)
    image = np.asarray(bench.wait_for_answer(labels, 66).data).reshape(HEIGHT, WIDTH)
    assert set(np.unique(image)) <= {2, 3, 255} and (image == 3).sum() > 400

    refused = call(bench, SetVocabulary, "set_vocabulary", vocabulary=["red", "red"])
    assert not refused.success and refused.version == 2
    assert "vocabulary: 'red' is there twice" in refused.message
    assert call(bench, Trigger, "reset").success
    bench.wait_for_answer(labels, show(bench, 3))
    answer = call(bench, SetVocabulary, "set_vocabulary", vocabulary=["red", "green"])
    bench.ros.wait_until(lambda: catalogs[-1].version == 3, "the catalog with old names")
    assert answer.version == 3 and entries(catalogs[-1]) == {"red": 1, "green": 0}
    late = bench.record("/vss/class_catalog", ClassCatalog, LATCHED)
    bench.ros.wait_until(lambda: late, "the catalog, for a late subscriber")
    assert late[0].version == 3


def test_the_parameter_changes_words_as_the_service_does(start: Start) -> None:
    bench = start(vocabulary=["red", "blue"], **WORDS)
    catalogs = bench.record("/vss/class_catalog", ClassCatalog, LATCHED)
    bench.active()
    assert bench.set(vocabulary=["blue", "green"])[0].successful
    bench.ros.wait_until(lambda: catalogs and catalogs[-1].version == 2, "the new catalog")
    assert entries(catalogs[-1]) == {"blue": 1, "green": 2}
    (result,) = bench.set(vocabulary=["blue", ""])
    assert not result.successful and "has an empty name" in result.reason
    (result,) = bench.set(templates=["a photo"])
    assert not result.successful and "templates: 'a photo' is no sentence" in result.reason
    (result,) = bench.set(text_model="elsewhere")
    assert not result.successful and "text_model: is read when the node is config" in result.reason


def test_words_hold_after_a_deactivation_and_ids_in_all_the_nodes_life(start: Start) -> None:
    bench = start(vocabulary=["red", "blue"], **WORDS)
    catalogs = bench.record("/vss/class_catalog", ClassCatalog, LATCHED)
    bench.active()
    assert call(bench, SetVocabulary, "set_vocabulary", vocabulary=["green", "blue"]).success
    assert bench.change("deactivate")
    answer = call(bench, SetVocabulary, "set_vocabulary", vocabulary=["red", "orange", "blue"])
    assert answer.success
    assert bench.change("activate")
    bench.ros.wait_until(lambda: catalogs[-1].version == 3, "the catalog that was waited for")
    assert entries(catalogs[-1]) == {"red": 0, "orange": 3, "blue": 1}


def test_all_cameras_speak_the_same_words(start: Start) -> None:
    bench = start(cameras=["front", "rear"], camera_qos=None, vocabulary=["red"], **WORDS)
    catalogs = {
        name: bench.record(f"/vss/{name}/class_catalog", ClassCatalog, LATCHED)
        for name in ("front", "rear")
    }
    bench.active()
    answer = call(bench, SetVocabulary, "set_vocabulary", vocabulary=["blue", "red"])
    assert answer.success and answer.version == 2
    for name, heard in catalogs.items():
        bench.ros.wait_until(lambda h=heard: h and h[-1].version == 2, name)  # type: ignore[misc]
        assert entries(heard[-1]) == {"blue": 1, "red": 0}


def test_words_change_while_images_are_in_hand(start: Start) -> None:
    """The worker answers each image in one set of words, whenever these change."""
    bench = start(vocabulary=["red", "blue"], **(WORDS | {"discovery": "auto"}))
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    sets = (["green", "red", "blue"], ["blue"], ["orange", "yellow", "red", "purple"])
    for i in range(12):
        last = show(bench, i)
        answer = call(bench, SetVocabulary, "set_vocabulary", vocabulary=sets[i % 3])
        assert answer.success, answer.message
    bench.wait_for_answer(labels, last)
    assert len(labels) == 12
    assert not any(key.startswith("failed") for key in bench.diagnostics())


def test_a_node_without_a_text_model_says_what_to_do(start: Start) -> None:
    bench = start(vocabulary=["cup"])
    bench.wait_for_log("cannot configure: vocabulary: names in words need the option text_model")
    assert "sam2vss models --fetch google/tipsv2-b14" in bench.log
    assert bench.set(vocabulary=[])[0].successful
    assert bench.change("configure") and bench.change("activate")
    answer = call(bench, SetVocabulary, "set_vocabulary", vocabulary=["cup"])
    assert not answer.success and answer.version == 0
    assert "need the option text_model; it is a folder of the library" in answer.message
