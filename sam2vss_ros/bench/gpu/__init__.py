"""`sam2vss bench gpu`: all that is to be known of a GPU, in one folder that a run goes on with.

`grid` says what is measured, `measure` does it, `trace` reads what torch's profiler has seen,
`card` asks the card, `folder` keeps what is done, `tables` shows it.
"""
