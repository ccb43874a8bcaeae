"""Descent on functions and objectives: single runs, many at once, many starts, saddle points."""
