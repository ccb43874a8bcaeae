"""Writes torch_optim.json: what torch.optim makes of given gradients, and its schedules, in float64 on a CPU.

    python tests/data/make_torch_optim.py        (needs torch; the tests need only the file)

Steps follow gradients that were drawn beforehand, so each rule is tested as a map of gradients to weights, with a rate
that changes from step to step.
"""

import json
import pathlib

import numpy as np
import torch

STEPS, SIZE = 25, 6

# Name of the rule here and its constants, by torch's class and keywords.
RULES = {
    "gd": ({}, torch.optim.SGD, {}),
    "momentum": ({"momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": ({"momentum": 0.8}, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    "adagrad": ({}, torch.optim.Adagrad, {}),
    "adadelta": ({}, torch.optim.Adadelta, {}),
    "rmsprop": ({}, torch.optim.RMSprop, {}),
    "adam": ({}, torch.optim.Adam, {}),
    "adam, other constants": (
        {"beta1": 0.7, "beta2": 0.95, "eps": 1e-3},
        torch.optim.Adam,
        {"betas": (0.7, 0.95), "eps": 1e-3},
    ),
    "adamax": ({}, torch.optim.Adamax, {}),
    "amsgrad": ({}, torch.optim.Adam, {"amsgrad": True}),
    "adamw": ({"weight_decay": 0.1}, torch.optim.AdamW, {"weight_decay": 0.1}),
    # Without decay, and with t0 one step back, torch's average is that of the points after `start`.
    "asgd": ({"start": 4}, torch.optim.ASGD, {"lambd": 0.0, "alpha": 0.0, "t0": 3}),
}


def scheduled(make, steps=40):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    schedule = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def plateau(losses, **options):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, eps=0, **options)
    rates = []
    for loss in losses:
        schedule.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def main():
    torch.set_default_dtype(torch.float64)
    rng = np.random.default_rng(20)
    start = rng.normal(size=SIZE)
    # Scales from 1e-6 to 1e6, an entry whose gradient is zero for a while, and one that stays the same.
    gradients = rng.normal(size=(STEPS, SIZE)) * 10.0 ** np.array([0, -6, 6, -2, 0, 0])
    gradients[:8, 4] = 0
    gradients[:, 5] = 0.3
    rates = 0.1 / np.sqrt(1 + np.arange(STEPS))
    found = {}
    for name, (constants, make, options) in RULES.items():
        w = torch.nn.Parameter(torch.tensor(start))
        optimizer = make([w], lr=1.0, **options)
        points, means = [], []
        for gradient, rate in zip(gradients, rates, strict=True):
            optimizer.param_groups[0]["lr"] = float(rate)
            if "eta" in optimizer.state[w]:  # averaged descent keeps its rate there, after the first step
                optimizer.state[w]["eta"] = torch.tensor(float(rate))
            w.grad = torch.tensor(gradient)
            optimizer.step()
            points.append(w.detach().numpy().copy().tolist())
            if name == "asgd":
                means.append(optimizer.state[w]["ax"].numpy().copy().tolist())
        found[name] = {"constants": constants, "torch": f"{make.__name__}({options})", "points": points}
        if means:
            found[name]["means"] = means
    s = torch.optim.lr_scheduler
    schedules = {
        "step_decay(0.5, 7, 0.3)": scheduled(lambda o: s.StepLR(o, 7, 0.3)),
        "exponential_decay(0.5, 0.9)": scheduled(lambda o: s.ExponentialLR(o, 0.9)),
        "polynomial_decay(0.5, 30, power=2.0)": scheduled(lambda o: s.PolynomialLR(o, 30, 2.0)),
        "cosine_decay(0.5, 39, 0.01)": scheduled(lambda o: s.CosineAnnealingLR(o, 39, 0.01)),
        "one_cycle(0.5, 40)": scheduled(lambda o: s.OneCycleLR(o, 0.5, 40, cycle_momentum=False)),
        "one_cycle(0.5, 40, 0.55, 4.0, 10.0)": scheduled(
            lambda o: s.OneCycleLR(
                o, 0.5, 40, pct_start=0.55, div_factor=4.0, final_div_factor=10.0, cycle_momentum=False
            )
        ),
    }
    losses = [5.0, 4, 3, 3, 3, 3, 3, 2.99995, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]
    plateaus = [
        {"options": options, "rates": plateau(losses, **options)}
        for options in (
            {"patience": 3},
            {"patience": 0, "factor": 0.5},
            {"patience": 2, "factor": 0.3, "cooldown": 3, "min_lr": 0.02},
            {"patience": 1, "threshold": 0.3},
        )
    ]
    out = {
        "torch": torch.__version__, "start": start.tolist(), "gradients": gradients.tolist(), "rates": rates.tolist(),
        "rules": found, "schedules": schedules, "losses": losses, "plateaus": plateaus,
    }  # fmt: skip
    path = pathlib.Path(__file__).with_name("torch_optim.json")
    path.write_text(json.dumps(out, indent=None, separators=(",", ": ")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
