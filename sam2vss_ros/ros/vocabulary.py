"""The service that changes class names in words while the node runs."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

from sam2vss_ros.errors import LONGEST_MESSAGE, one_line
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.srv import SetVocabulary


class VocabularyService:
    """Creates `~/set_vocabulary` of `node`, for all its cameras.

    Words are parameters: the service sets these, and so they hold also when the node is deactivated
    and activated again. catalog: what is published at present.
    """

    def __init__(self, node: LifecycleNode, catalog: Callable[[], ClassCatalog]) -> None:
        self._node = node
        self._catalog = catalog
        self._service = node.create_service(SetVocabulary, "~/set_vocabulary", self._answer)

    def destroy(self) -> None:
        """End the service."""
        self._node.destroy_service(self._service)

    def _answer(
        self, request: SetVocabulary.Request, response: SetVocabulary.Response
    ) -> SetVocabulary.Response:
        """It answers, it never raises."""
        values = {"vocabulary": list(request.vocabulary)}
        if request.templates:
            values["templates"] = list(request.templates)
        wanted = [
            Parameter(name, Parameter.Type.STRING_ARRAY, value) for name, value in values.items()
        ]
        result = self._node.set_parameters_atomically(wanted)
        catalog = self._catalog()
        response.success, response.version = result.successful, catalog.version
        said = f"{len(catalog)} classes" if result.successful else result.reason
        response.message = one_line(said, LONGEST_MESSAGE)
        return response
