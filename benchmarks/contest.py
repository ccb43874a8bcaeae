"""Fits to a stated accuracy: each solver with the loosest sufficient setting, a tolerance or a number of epochs."""

import functools
import time
import typing

import numpy as np
import pytest

TOLERANCES = tuple(float(f"1e-{i}") for i in range(1, 15))
EPOCHS = tuple(2**i for i in range(12))
EXACT = (0.0,)  # for solvers to which a tolerance means nothing
ITERATIONS = 300


class Unsuitable(Exception):
    """A member does not solve this problem, or solves a different one; the message says why."""


class Member(typing.NamedTuple):
    """A solver that takes part.

    fit : fit(problem, setting) → weights as Problem.value takes them, and the number of iterations if they ran out
    compiles : whether its first call takes seconds, which are then no part of any time
    """

    fit: typing.Callable
    setting: str = "tol"
    ladder: tuple = TOLERANCES
    compiles: bool = False

    def at(self, setting):
        return f"at {self.setting} = {setting}" if self.ladder is EPOCHS else f"at {self.setting} = {setting:.0e}"


class Contest:
    """A problem, and the setting at which each member solves it.

    Parameters
    ----------
    problem : Problem
    accuracy : float
        Of the objective, relative to its minimum.
    members : dict of str → Member
    quick : bool
        Leave out what compiles.
    patience : float
        A member whose fit takes more than this multiple of our time, and a second, without reaching the accuracy is
        left out.
    """

    def __init__(self, problem, accuracy, members, quick, patience):
        self.problem, self.accuracy, self.patience = problem, accuracy, patience
        self.fits, self.missing, said = {}, {}, []
        self._ours = None
        for who, member in members.items():
            try:
                at = self._search(who, member, quick)
            except Unsuitable as why:
                self.missing[who] = str(why)
                said.append(f"{who} is left out: {why}")
            else:
                self.fits[who] = functools.partial(member.fit, problem, at)
                said += [] if member.ladder is EXACT else [f"{who} {member.at(at)}"]
        self.note = "; ".join(said)

    def _search(self, who, member, quick):
        """The loosest sufficient setting; raises Unsuitable if there is none."""
        if member.compiles:
            if quick:
                raise Unsuitable("it compiles for seconds, and nothing is timed")
            member.fit(self.problem, member.ladder[0])
        for at in member.ladder:
            start = time.perf_counter()
            w, spent = member.fit(self.problem, at)
            seconds = time.perf_counter() - start
            gap = self.problem.value(w) / self.problem.minimum - 1
            if gap <= self.accuracy:
                if who == "ours":
                    self._ours = seconds
                return at
            above = "infinitely far above" if not np.isfinite(gap) else f"{gap:.0e} above"
            if spent:
                raise Unsuitable(f"{above} the minimum after {spent} iterations")
            if self._ours is not None and seconds > max(1.0, self.patience * self._ours):
                raise Unsuitable(f"{above} the minimum after {seconds / self._ours:.0f} times our time")
        raise Unsuitable(f"{above} the minimum {member.at(at)}")


class Contests:
    """The contests of a section: the same members on several problems.

    Parameters
    ----------
    section : str
    accuracy : float
    make : callable
        make(what, shape) → Problem
    members : dict of str → Member
    remark : str, optional
        A note for every row of the report.
    patience : float, optional
        As in Contest.
    """

    def __init__(self, section, accuracy, make, members, *, remark="", patience=10):
        self.section, self.accuracy, self.make, self.members = section, accuracy, make, members
        self.remark, self.patience = remark, patience

    def time(self, compare, who, what, shape, *, target=None, **options):
        """Time one member, or skip it if it does not solve the problem."""
        contest = _contest(self, what, compare.shape(*shape), compare.quick)
        if who in contest.missing:
            (pytest.fail if who == "ours" else pytest.skip)(f"{who}: {contest.missing[who]}")
        problem = contest.problem
        compare(
            self.section, what, who, contest.fits, problem.minimum, judge=lambda found: problem.value(found[0]),
            tolerance=self.accuracy, shape=problem.X.shape,
            note="; ".join(filter(None, (self.remark, contest.note))),
            target={peer: ratio for peer, ratio in (target or {}).items() if peer in contest.fits}, **options,
        )  # fmt: skip


@functools.lru_cache(maxsize=1)  # the members of a group are timed one after the other
def _contest(contests, what, shape, quick):
    return Contest(contests.make(what, shape), contests.accuracy, contests.members, quick, contests.patience)
