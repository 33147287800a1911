"""The node's parameters: declared from the option tables, checked by them, refused by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from sam2vss_ros.config import (
    OPTIONS,
    NodeConfig,
    Option,
    PipelineConfig,
    Value,
    check,
    options_of,
)
from sam2vss_ros.errors import LONGEST_MESSAGE, one_line


class Parameters:
    """Declares every option as a parameter of `node` and answers for its value.

    A wrong value given at the start (a file, the command line) does not end the node: it is kept
    as a complaint that `read` raises until the parameter is corrected.
    While `apply` is set, live options are handed to it as they change (it may raise ValueError or
    TypeError to refuse) and the others cannot change.

    `node` is made with `automatically_declare_parameters_from_overrides=True`: that is how the
    values given at the start are seen before they are checked.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._complaints: dict[str, str] = {}
        self.apply: Callable[[Mapping[str, Value]], None] | None = None
        given = {name: p.value for name, p in node.get_parameters_by_prefix("").items()}
        for name, (default, limits) in OPTIONS.items():
            value = default
            if name in given:
                node.undeclare_parameter(name)
                try:
                    value = check(name, given[name], default, limits)
                except (TypeError, ValueError) as error:
                    self._complaints[name] = str(error)
            shown = list(value) if isinstance(value, tuple) else value
            node.declare_parameter(
                name, shown, descriptor(default, limits, fixed=name == "autostart"), True
            )
        for name in given:
            similar = difflib.get_close_matches(name, OPTIONS, 1, 0.75)
            if name not in OPTIONS and similar:
                node.get_logger().warning(f"no parameter {name}: do you mean {similar[0]}?")
        node.add_on_set_parameters_callback(self._on_set)

    def value(self, name: str) -> Value:
        """The value of one option, of the option's own type."""
        default, limits = OPTIONS[name]
        return check(name, self._node.get_parameter(name).value, default, limits)

    def read(self) -> tuple[PipelineConfig, NodeConfig]:
        """All options as they stand. Raises ValueError naming every parameter that is wrong."""
        if self._complaints:
            raise ValueError("; ".join(self._complaints.values()))
        pipeline, node = (
            {name: self.value(name) for name in options_of(config)}
            for config in (PipelineConfig, NodeConfig)
        )
        return PipelineConfig.from_mapping(pipeline), NodeConfig.from_mapping(node)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            changes = self._checked({p.name: p.value for p in parameters if p.name in OPTIONS})
            if changes and self.apply is not None:
                self.apply(changes)
        except (TypeError, ValueError) as error:
            return SetParametersResult(successful=False, reason=one_line(error, LONGEST_MESSAGE))
        for name in changes:
            self._complaints.pop(name, None)
        return SetParametersResult(successful=True)

    def _checked(self, values: Mapping[str, object]) -> dict[str, Value]:
        changes = {name: check(name, value, *OPTIONS[name]) for name, value in values.items()}
        for name, value in changes.items():
            if self.apply and not OPTIONS[name][1].live and value != self.value(name):
                raise ValueError(
                    f"{name}: is read when the node is configured; deactivate it and clean it up "
                    "before changing it"
                )
        return changes


def descriptor(default: Value, limits: Option, fixed: bool) -> ParameterDescriptor:
    """What `ros2 param describe` says of an option. A `fixed` one cannot change after the start."""
    constraints = []
    if limits.choices:
        constraints.append(f"One of: {', '.join(limits.choices)}.")
    if not fixed:
        constraints.append("Takes effect at once." if limits.live else "Read by configure.")
    message = ParameterDescriptor(
        description=limits.description,
        additional_constraints=" ".join(constraints),
        read_only=fixed,
        # Types are checked by `check`, which takes 1 for 1.0 and names the parameter it refuses.
        dynamic_typing=True,
    )
    if limits.low is not None and limits.high is not None:
        if type(default) is int:
            message.integer_range = [
                IntegerRange(from_value=int(limits.low), to_value=int(limits.high), step=0)
            ]
        else:
            message.floating_point_range = [
                FloatingPointRange(from_value=float(limits.low), to_value=float(limits.high))
            ]
    return message
