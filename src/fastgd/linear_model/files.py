"""Estimators in files: JSON or npz, without pickle."""


class Saved:
    pass
