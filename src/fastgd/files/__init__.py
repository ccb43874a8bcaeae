"""Everything that is written to disk.

whole.py       how any file is written: whole, or not at all
checkpoint.py  the state of a run, which another run goes on from
models.py      fitted models: of the command line, and estimators
"""
