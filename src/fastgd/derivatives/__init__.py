"""Numerical gradients, Jacobians and Hessians of functions, and the check of a given gradient."""
