"""The node's parameters: declared from the option tables, checked by them, refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from sam2vss_ros.config import OPTIONS, NodeConfig, PipelineConfig
from sam2vss_ros.errors import LONGEST_MESSAGE, brief, one_line
from sam2vss_ros.options import Option, Value, check, options_of, what_is_meant
from sam2vss_ros.ros.parameter_files import files_without_us

OF_RCLPY = ("use_sim_time", "qos_overrides.", "start_type_description_service")
"""Names of parameters that every node may be given begin so."""

MOST_TOLD = 10
"""Unknown names that are told one by one."""


class Parameters:
    """Declares every option as a parameter of `node` and answers for its value.

    A wrong value given at the start (a file, the command line) does not end the node: it is kept
    as a complaint that `read` raises until the parameter is corrected.
    While `apply` is set, live options are handed to it as they change (it may raise ValueError or
    TypeError to refuse) and the others cannot change.

    `node` is made with `automatically_declare_parameters_from_overrides=True`: that is how the
    values given at the start are seen before they are checked. arguments: its command line.
    """

    def __init__(self, node: Node, arguments: Sequence[str] = ()) -> None:
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
        self._report_unknown([name for name in given if name not in OPTIONS])
        self._report_files_without_us(arguments)
        node.add_on_set_parameters_callback(self._on_set)

    def _report_unknown(self, names: Sequence[str]) -> None:
        """Tell which parameters given at the start do not exist, and let go of them."""
        strangers = [name for name in names if not name.startswith(OF_RCLPY)]
        for name in strangers:
            self._node.undeclare_parameter(name)
        for name in strangers[:MOST_TOLD]:
            groups = " (they have no groups)" if "." in name else ""
            hint = what_is_meant(name, OPTIONS)
            self._node.get_logger().warning(f"no parameter {brief(name)}{groups}: {hint}")
        if len(strangers) > MOST_TOLD:
            more = len(strangers) - MOST_TOLD
            self._node.get_logger().warning(f"{more} more names are no parameters either")

    def _report_files_without_us(self, arguments: Sequence[str]) -> None:
        """Tell of parameter files of which nothing is taken."""
        own = self._node.get_fully_qualified_name()
        for path, names in files_without_us(arguments, own):
            shown = ", ".join(brief(name) for name in names[:MOST_TOLD])
            self._node.get_logger().warning(
                f"{path}: nothing is taken from it, it is for {shown}; this node is {own}: write "
                f"{own} or /** there"
            )

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
        constraints.append(f"One of: {limits.allowed}.")
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
