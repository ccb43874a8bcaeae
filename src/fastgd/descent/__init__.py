"""Descent on any function or objective: one run, many side by side, many starts, and saddles."""
