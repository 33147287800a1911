"""The commands of `sam2vss`, a module each.

`add_...` declares a command, `_...` does it and imports what it needs, so that `sam2vss --help`
answers at once.
"""
