"""The contents of a checkpoint: the state of the monitor, and that of the solver's loop as a tree of plain values."""

from fastgd import validation
from fastgd.engine.point import Point

# Attributes of a monitor, and of its variables.
JUDGEMENT = ("first_fun", "first_norm", "rose", "last_rate", "condition", "lost", "stale", "best_score")
SPENT = ("nfev", "njev", "passes", "batched")


def state_of(monitor):
    """The state of a Monitor."""
    m, over, rule = monitor, monitor.overshoots, monitor.update.state
    return {
        **{name: getattr(m, name) for name in JUDGEMENT},
        "overshoots": [over.steps, over.growth, over.met],
        "update": {"moments": rule.moments, "step": rule.step},
        "spent": {name: getattr(m.variables, name) for name in SPENT},
        "schedule": m.rate.state if m.observe else None,
        "recorder": m.recorder.state,
        "stopping": m.stopping.state,
        "seconds": m.seconds,
        "guard": None if m.guard is None else m.guard.state,
        "gap": None if m.gap is None else m.gap.state,
        "best": plain(m.best),
        "seen": plain(m.last_seen),
    }


def restore(monitor, saved):
    """Set the state of a Monitor; the state of the solver's loop becomes its `resumed`."""
    m, state = monitor, saved["run"]
    for name in JUDGEMENT:
        setattr(m, name, state[name])
    m.overshoots.steps, m.overshoots.growth, m.overshoots.met = state["overshoots"]
    m.update.state.moments, m.update.state.step = state["update"]["moments"], state["update"]["step"]
    for name in SPENT:
        setattr(m.variables, name, state["spent"][name])
    if m.observe:
        m.rate.state = state["schedule"]
    m.recorder.state, m.stopping.state, m.seconds_before = state["recorder"], state["stopping"], state["seconds"]
    if m.guard is not None:
        m.guard.state = state["guard"]
    if m.gap is not None:
        m.gap.state = state["gap"]
    m.best, m.last_seen = pointed(state["best"]), pointed(state["seen"])
    m.resumed = pointed(saved["loop"])
    if not isinstance(m.resumed, dict):
        raise TypeError(f"'loop' must be a dict; got {validation.describe(m.resumed)}")


def plain(value):
    """A tree in which Points are dicts."""
    if isinstance(value, Point):
        return value.state
    if isinstance(value, dict):
        return {name: plain(branch) for name, branch in value.items()}
    return [plain(branch) for branch in value] if isinstance(value, (list, tuple)) else value


def pointed(value):
    """The inverse of `plain`. Dicts are changed in place: those of a file name the entry that is missing."""
    if isinstance(value, dict):
        if "gradient" in value:
            return Point.of(value)
        for name in value:
            value[name] = pointed(value[name])
        return value
    return [pointed(branch) for branch in value] if isinstance(value, list) else value
