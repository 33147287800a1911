"""The demo: a camera, the live node and a recorder, three processes that talk over real DDS.

`__main__` runs them; `player` is the camera, `recorder` writes down what the node answers, and
`report` turns what both say into figures. `clips` reads what the camera shows, `process` starts
processes and hears from them.
"""
