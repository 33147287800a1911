"""The services of a camera. They answer, they never raise."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import SetBool, Trigger

from sam2vss_ros.errors import LONGEST_MESSAGE, one_line
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.messages import prompt_from
from sam2vss_ros.srv import AddPrompt, RemoveObject

INACTIVE = "the node is not active: activate it first"


class Services:
    """Creates the services of `node` for a camera.

    prefix: stands before the services of a named camera, as in `~/front/reset`. pipeline: the
    camera's, None while it takes no images. enable: told whether images are to be processed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        prefix: str,
        pipeline: Callable[[], VssPipeline | None],
        enable: Callable[[bool], None],
    ) -> None:
        self._node = node
        self._pipeline = pipeline
        self._enable = enable
        self._services = [
            node.create_service(kind, f"~/{prefix}{name}", answer)
            for kind, name, answer in (
                (SetBool, "enable", self._answer_enable),
                (Trigger, "reset", self._answer_reset),
                (AddPrompt, "add_prompt", self._answer_prompt),
                (RemoveObject, "remove_object", self._answer_removal),
            )
        ]

    def destroy(self) -> None:
        """End the services."""
        for service in self._services:
            self._node.destroy_service(service)

    def _answer_enable(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        self._enable(request.data)
        response.success = True
        response.message = "enabled" if request.data else "disabled: images are ignored"
        return response

    def _answer_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        pipeline = self._pipeline()
        if pipeline is None:
            response.success, response.message = False, INACTIVE
        else:
            pipeline.reset()
            response.success, response.message = True, "all objects are forgotten"
        return response

    def _answer_prompt(
        self, request: AddPrompt.Request, response: AddPrompt.Response
    ) -> AddPrompt.Response:
        pipeline = self._pipeline()
        if pipeline is None:
            response.message = INACTIVE
            return response
        try:
            response.track_id = pipeline.add_prompt(prompt_from(request, pipeline.catalog))
            response.success = True
            response.message = f"object {response.track_id} is found in the next image"
        except ValueError as error:
            response.message = one_line(error, LONGEST_MESSAGE)
        return response

    def _answer_removal(
        self, request: RemoveObject.Request, response: RemoveObject.Response
    ) -> RemoveObject.Response:
        pipeline = self._pipeline()
        if pipeline is None:
            response.message = INACTIVE
            return response
        response.success = pipeline.remove_object(request.track_id)
        known = "is forgotten" if response.success else "is not in memory"
        response.message = f"object {request.track_id} {known}"
        return response
