"""The commands of `sam2vss`, a module each, or a package where it has many verbs.

`add_...` declares a command. `_...` does it, and itself imports what loads torch, OpenCV or numpy,
so that `sam2vss --help` answers at once.
"""

BAD_INPUT = 2
"""Exit code where what the user gave cannot be used, or the output cannot be written."""
