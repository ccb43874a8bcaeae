"""What makes a run: the plan, the monitor that looks on, and the loops."""
