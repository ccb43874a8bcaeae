"""Files.

whole.py       writing a file completely or not at all
checkpoint.py  the state of a run, from which another run continues
models.py      fitted models of the command line and of the estimators
"""
