"""Derivatives of any function: gradients, Jacobians, Hessians, and whether a given gradient is right."""
