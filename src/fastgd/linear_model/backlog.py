"""Ends of epochs that nothing waits for: their losses are taken together, in one pass over X for all of them."""

import numpy as np

# So many are taken together, or fewer where weights are long: all that wait are so many numbers, or this share of X.
TOGETHER, NUMBERS, SHARE = 16, 1 << 16, 1 / 4


class Backlog:
    """Ends of epochs that a `Watch` has not been shown yet.

    Parameters
    ----------
    space : Space
        The variables as they are.
    watch : Watch
    highest : float
        A loss above this is a divergence.
    """

    def __init__(self, space, watch, highest):
        self.space, self.watch, self.highest = space, watch, highest
        p = space.problem
        numbers = max(NUMBERS, SHARE * p.objective.rows.values)
        self._most = max(1, min(TOGETHER, int(numbers // p.d))) if p.k == 1 else 1
        self._ends = []

    def add(self, W, b, rate):
        """Put an epoch's end with the others; True if the fit is found to end with one of them."""
        self._ends.append((W, b, rate, self.watch.seconds))
        lost = not (np.all(np.isfinite(W)) and np.all(np.isfinite(b)))
        return (lost or len(self._ends) >= self._most) and self.settle()

    def settle(self):
        """Show the watch all that have come together; True if the fit ends with one of them."""
        with np.errstate(all="ignore"):
            found = self._evaluated()
            for value, gradient in found:
                W, b, rate, seconds = self._ends[0]
                V = self.space.from_weights(W, b)
                total = value + self.space.l1_penalty(V)
                norm = self.space.user_norm(self.space.subgradient(V, gradient))
                if self.watch.epoch(W, b, np.nan if total > self.highest else total, norm, rate, seconds):
                    self._ends.clear()
                    return True
                del self._ends[0]
        return False

    def _evaluated(self):
        """`Space.evaluate` at each."""
        space = self.space
        variables = [space.from_weights(W, b) for W, b, *_ in self._ends]
        if len(variables) < 2:
            return [space.evaluate(V) for V in variables]
        W, b = (np.concatenate(parts, axis=-1) for parts in zip(*(end[:2] for end in self._ends), strict=True))
        values, grad_W, grad_b = space.problem.sums_of_each(W, b)
        return [
            space.from_sums(V, float(values[j]), grad_W[:, j : j + 1].copy(), grad_b[j : j + 1])
            for j, V in enumerate(variables)
        ]
