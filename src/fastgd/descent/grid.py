"""Every pair of rates, penalties and optimizers, what of the rows is held out, and the order of what came of them."""

import itertools
import numbers

import numpy as np

from fastgd import optimizers, validation
from fastgd.descent.listed import Sweep
from fastgd.engine.result import Status
from fastgd.objective import LinearObjective


def every_pair(lr, l2, optimizer):
    """The settings of the runs: dicts of lr, l2 and optimizer."""
    lists = [_listed(value, name) for value, name in ((lr, "lr"), (l2, "l2"), (optimizer, "optimizer"))]
    for i, rate in enumerate(lists[0]):
        if isinstance(rate, str):
            validation.choice(rate, f"lr[{i}]", ("auto", "bb", "armijo", "adgd"))
        elif not callable(rate):
            lists[0][i] = validation.scalar(rate, f"lr[{i}]", minimum=0)
    lists[1] = [None if p is None else validation.scalar(p, f"l2[{i}]", minimum=0) for i, p in enumerate(lists[1])]
    for rule in lists[2]:
        optimizers.get(rule)
    pairs = itertools.product(lists[2], lists[1], lists[0])
    settings = [{"lr": lr, "l2": l2, "optimizer": optimizer} for optimizer, l2, lr in pairs]
    # An automatic rate is that of plain descent: it goes with no other rule.
    plain = [s for s in settings if not isinstance(s["lr"], str) or optimizers.get(s["optimizer"]).name == "gd"]
    return plain or settings


def _listed(value, name):
    single = value is None or isinstance(value, (str, dict)) or callable(value) or np.ndim(value) == 0
    entries = [value] if single else list(value)
    if not entries:
        raise ValueError(f"{name} must have at least one entry")
    return entries


def parted(objective, share, seed):
    """(objective of the rows to learn from, objective without penalty of those that are held out)."""
    share = validation.scalar(share, "validation", positive=True)
    if not share < 1:
        raise ValueError(f"validation must be a share of the rows, between 0 and 1; got {share}")
    if not isinstance(objective, LinearObjective):
        raise ValueError("validation holds out rows of an objective; a function has none: leave it out")
    n = objective.rows.n
    count = round(share * n)
    if not 0 < count < n:
        raise ValueError(f"validation={share} of {n} rows leaves {n - count} to learn from and {count} to hold out")
    seed = 0 if seed is None else validation.count(seed, "seed")
    if objective.rows.in_memory:
        order = np.random.default_rng(seed).permutation(n)
        chosen = np.sort(order[count:]), np.sort(order[:count])
    else:
        chosen = objective.rows.held_out(share, seed)
    parts = [objective.some(part) for part in chosen]
    if None in parts:
        raise ValueError("validation needs rows of a positive sample_weight in both parts")
    return parts[0], parts[1].replace(l2=0.0)


def ranked(results, settings, objective, held):
    """The Results with their settings and losses, from the best."""
    linear = isinstance(objective, LinearObjective)
    plain = objective.replace(l2=0.0) if linear else None
    for result, setting in zip(results, settings, strict=True):
        if setting["l2"] is None:
            setting = setting | {"l2": objective.l2} if linear else {k: v for k, v in setting.items() if k != "l2"}
        result.settings = setting
        finite = np.isfinite(result.fun) and np.all(np.isfinite(result.x))
        result.loss = (plain.value(result.x) if linear else float(result.fun)) if finite else np.inf
        if held is not None:
            result.validation_loss = held.value(result.x) if finite else np.inf
    by = "loss" if held is None else "validation_loss"
    return Sweep(sorted(results, key=lambda run: (run.status == Status.DIVERGED, np.nan_to_num(run[by], nan=np.inf))))


def runs_of(objective, lr, init_w, l2):
    """Rates (a list), starts (K, *shape) and penalties (K,), of one length."""
    rates = [
        rate if callable(rate) else validation.scalar(rate, f"lr[{i}]", minimum=0)
        for i, rate in enumerate(_sequence(lr, "lr", "learning rates"))
    ]
    penalties = [objective.l2]
    if l2 is not None:
        penalties = [
            validation.scalar(value, f"l2[{i}]", minimum=0) for i, value in enumerate(_sequence(l2, "l2", "penalties"))
        ]
    shape, dtype = objective.shape, objective.dtype
    starts = np.zeros((1, *shape), dtype)
    if init_w is not None:
        starts = validation.real_array(init_w, "init_w", dtype=dtype)
        if starts.shape == shape:
            starts = starts[None]
        if starts.shape[1:] != shape or len(starts) == 0:
            wanted = ", ".join(map(str, ("K", *shape)))
            raise ValueError(f"init_w must have shape {shape} or ({wanted}), a row for each run; got {starts.shape}")
    count = max(len(rates), len(starts), len(penalties))
    if any(length not in (1, count) for length in (len(rates), len(starts), len(penalties))):
        raise ValueError(
            f"lr has {len(rates)} entries, init_w {len(starts)} and l2 {len(penalties)}: each must have as many as "
            "there are runs, or one for all"
        )
    return (
        rates * (count // len(rates)),
        np.broadcast_to(starts, (count, *shape)),
        np.array(np.broadcast_to(penalties, (count,)), dtype=np.float64),
    )


def _sequence(value, name, what):
    """A sequence as a list, one number or callable as a list of one."""
    if callable(value) or (isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))):
        return [value]
    if isinstance(value, (str, bytes, dict, set)) or np.ndim(value) == 0:
        raise TypeError(f"{name} must be a sequence of {what}, or one of them; got {validation.describe(value)}")
    entries = list(value)
    if not entries:
        raise ValueError(f"{name} must have at least one entry")
    if any(isinstance(entry, str) for entry in entries):
        automatic = "; the automatic rate changes variables: use gradient_descent for it" if "auto" in entries else ""
        raise ValueError(f"{name} must hold {what}, not strings{automatic}")
    return entries
