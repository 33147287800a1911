"""The demo: cameras, the live node and recorders, processes that talk over real DDS.

`run` is one run of them all, with the `arguments` of the command line. `player` is a camera,
`recorder` writes down what the node answers to it; what both report goes to the camera's `stream`,
`report` turns it into figures, and `pictures` makes what there is to look at. `cameras` has names
and places, `clips` reads what is played, `process` starts processes and hears from them.
"""
