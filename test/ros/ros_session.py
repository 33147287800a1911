"""Real rclpy nodes that spin in the background of a test."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import rclpy
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

TIMEOUT = 90.0
"""Seconds that a test waits for what normally takes milliseconds: machines may be very busy."""
ASK_AGAIN = 2.0
"""Seconds after which a question without an answer is asked once more."""


class RosSession:
    """A context and an executor that spins the session's nodes in a thread of its own."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self._nodes: list[Any] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._spin, name="ros-session")
        self._thread.start()

    def _spin(self) -> None:
        try:
            # Not `spin`: the middleware now and then wakes nobody for what has come.
            while self.context.ok():
                self.executor.spin_once(timeout_sec=0.2)
        except ExternalShutdownException:
            return  # the orderly end
        except BaseException as error:
            if self.context.ok():
                self._error = error

    def check(self) -> None:
        """Raise what a callback has raised."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def add(self, node: Any) -> Any:
        """Spin `node` until the session ends, then destroy it. Returns it."""
        self._nodes.append(node)
        self.executor.add_node(node)
        return node

    def node(self, name: str, **options: Any) -> Node:
        """A new node of this session."""
        return self.add(Node(name, context=self.context, **options))

    def remove(self, node: Node) -> None:
        """Destroy a node before the session ends, as when its process is killed."""
        self._nodes.remove(node)
        self.executor.remove_node(node)
        node.destroy_node()

    def wait_until(
        self,
        condition: Callable[[], Any],
        what: str | Callable[[], str],
        timeout: float = TIMEOUT,
        pause: float = 0.005,
    ) -> Any:
        """Wait until `condition()` is true and return its value; fail naming `what`."""
        end = time.monotonic() + timeout
        while not (value := condition()):
            self.check()
            if time.monotonic() > end:
                what = what if isinstance(what, str) else what()
                pytest.fail(f"waited {timeout:g} s in vain for {what}")
            time.sleep(pause)
        return value

    def call(self, client: Client, request: Any, timeout: float = TIMEOUT) -> Any:
        """Call a service and return its response."""
        self.wait_until(client.service_is_ready, f"service {client.srv_name}", timeout)
        future = client.call_async(request)
        self.wait_until(future.done, f"the answer of {client.srv_name}", timeout)
        return future.result()

    def ask(self, client: Client, request: Any, timeout: float = TIMEOUT) -> Any:
        """Call a service of another process that only reads, and return its response.

        Asked again where no answer comes: a server may hear a new client's question before it has
        matched the client's reader, and then its answer is lost (rmw_fastrtps waits 100 ms for it).
        What other clients of this process, created before, ask after this is answered.
        """
        self.wait_until(client.service_is_ready, f"service {client.srv_name}", timeout)
        start, asked = time.monotonic(), list[Any]()

        def answered() -> Any:
            if time.monotonic() >= start + ASK_AGAIN * len(asked):
                asked.append(client.call_async(request))
            return next((future for future in asked if future.done()), None)

        return self.wait_until(answered, f"the answer of {client.srv_name}", timeout).result()

    def close(self) -> None:
        """End in the order that neither hangs nor aborts, and raise what a callback raised."""
        rclpy.shutdown(context=self.context)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the executor did not stop"
        self.executor.shutdown()
        while self._nodes:  # a loop's variable would keep the last one alive
            self._nodes.pop(0).destroy_node()
        # rclpy leaves a lifecycle node's own services to the garbage collector; until it comes, the
        # next session sees two nodes of one name and may never find the right service.
        gc.collect()
        self.check()
