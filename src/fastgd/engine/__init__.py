"""The engine: the plan of a run, its monitor, and the solvers."""
