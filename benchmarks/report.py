"""A table and a chart of ratios from the JSON files of pytest-benchmark.

    python benchmarks/report.py --run --output table.md --chart ratios.png

Sections, rows, members, floors, yardsticks and targets are read from the `extra_info` that `compare` (conftest.py)
stores with each benchmark.
"""

import argparse
import collections
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# A ratio is that of the minima of two members in one pass, in which the members of a group run one after the other; of
# several passes, the median of these ratios. Other work on the machine only adds time to rounds, so it disturbs minima
# least. Clocks and memory are slower for periods longer than a group takes, which affects all its members alike and
# cancels in the ratio; minima over all passes would compare different periods.
PASSES = 5
SECONDS = 0.2  # for each member in each pass
# A ratio is marked as unsteady if the passes (without the highest and the lowest, if there are four) differ by more
# than this factor; in a single pass, if the median of the rounds exceeds the minimum by more.
UNSTEADY = 1.25

# Rows of the same work of which the worst and the geometric mean are stated.
MANY_SHAPES = 8
GAP = 0.5  # between the bars of two rows of the chart, in bars


class Member:
    """One benchmark, over all passes."""

    def __init__(self, info):
        self.who, self.role, self.target = info["who"], info["role"], info["target"]
        self.passes = {}  # the statistics of each, by number

    @property
    def seconds(self):
        """The median of the minima."""
        return statistics.median(stats["min"] for stats in self.passes.values())


class Row:
    """One group: who took how long for the same work."""

    def __init__(self, info):
        self.section, self.what, self.dtype, self.threads = (info[k] for k in ("section", "what", "dtype", "threads"))
        self.shape = " × ".join(f"{n:,}" for n in info["shape"]) or "–"
        self.reads, self.note = info["reads"], info["note"]
        self.members = {}

    @property
    def ours(self):
        return self.members["ours"]

    def others(self, role):
        return [member for member in self.members.values() if member.role == role]

    def ratio(self, member):
        """Its time over ours: above 1, ours is faster. Of a yardstick: our time over its."""
        return statistics.median(self._ratios(member))

    def steady(self, member):
        ratios = self._ratios(member)
        if len(ratios) == 1:
            pair = [stats for each in (self.ours, member) for stats in each.passes.values()]
            return all(stats["median"] <= UNSTEADY * stats["min"] for stats in pair)
        if len(ratios) >= 4:
            ratios = ratios[1:-1]
        return ratios[-1] <= UNSTEADY * ratios[0]

    def complete(self):
        """Whether there is a ratio for each member."""
        return "ours" in self.members and all(self._ratios(member) for member in self.members.values())

    def _ratios(self, member):
        """Those of single passes, in ascending order."""
        both = self.ours.passes.keys() & member.passes.keys()
        pairs = [(member.passes[i]["min"], self.ours.passes[i]["min"]) for i in both]
        return sorted(ours / its if member.role == "yardstick" else its / ours for its, ours in pairs)

    def reached(self, member):
        """Whether its target is: for a yardstick that is the most that ours may take."""
        ratio = self.ratio(member)
        return ratio <= member.target if member.role == "yardstick" else ratio >= member.target

    def __str__(self):
        return f"{self.section}: {self.what}, {self.shape}, {self.dtype}, {_threads(self.threads)}"


def read(paths):
    """The rows of all files, in the order of the first; and what the files say about the machine.

    Raises
    ------
    ValueError
        The files are of different machines, versions or commits, or there is nothing to compare with in a group.
    """
    rows, heads = {}, []
    for i, path in enumerate(paths):
        run = json.loads(Path(path).read_text(encoding="utf-8"))
        heads.append(head(run))
        for benchmark in run["benchmarks"]:
            info = benchmark["extra_info"]
            row = rows.setdefault(benchmark["group"], Row(info))
            row.members.setdefault(info["who"], Member(info)).passes[i] = benchmark["stats"]
    for other in heads[1:]:
        if different := [key for key in heads[0] if key != "date" and heads[0][key] != other[key]]:
            raise ValueError(f"the files are not comparable: they differ in {', '.join(different)}")
    if alone := [str(row) for row in rows.values() if not row.complete()]:
        raise ValueError(f"no pass timed 'ours' beside each of the others in {'; '.join(alone)}")
    return list(rows.values()), heads[0]


def head(run):
    """What the figures depend on, apart from the code."""
    machine, commit, ours = run["machine_info"], run["commit_info"], run["machine_info"]["fastgd"]
    cpu = machine["cpu"]
    builds = {benchmark["extra_info"]["kernels"] for benchmark in run["benchmarks"]}
    return {
        "CPU": f"{cpu.get('brand_raw', machine['processor'] or machine['machine'])}, {cpu['count']} cores",
        "system": f"{machine['system']} {machine['machine']}",
        "kernels": f"{', '.join(sorted(builds))} (of {ours['available']}), {ours['compiler']}",
        "versions": f"fastgd {ours['fastgd']}, Python {ours['python']}, NumPy {ours['numpy']} ({ours['blas']}), "
        f"SciPy {ours['scipy']}" + "".join(f", {name} {version}" for name, version in ours["peers"].items() if version),
        "commit": commit["id"][:12] + (", with changes that are not committed" if commit["dirty"] else ""),
        "date": run["datetime"][:10],
    }


# ------------------------------------------------------------------------------------------------------------ Markdown


def markdown(rows, about):
    """The whole report."""
    lines = [f"- {name}: {text}" for name, text in about.items()]
    count = max(len(member.passes) for row in rows for member in row.members.values())
    lines += [
        "",
        "A ratio is a peer's time over ours, so above 1 ours is faster. Times are those of the fastest round"
        + (
            ", in one pass"
            if count == 1
            else f" of a pass; ratios, taken within a pass, and times are medians of {count} passes"
        )
        + ". **▼** marks where a peer is faster, **~** a ratio that other work on the machine has disturbed, "
        "✓ and ✗ say whether the target in parentheses is reached. "
        "A floor (in italics) is a part of the work that cannot be avoided; its ratio is the fraction of that "
        "limit which is reached, at most about 1. A column titled ours ÷ something has our time over that of other "
        "work, and its target is the most that is allowed. GB/s are the bytes of X over our time.",
    ]
    aims = [(row, member) for row in rows for member in row.members.values() if member.target]
    if aims:
        count = sum(row.reached(member) for row, member in aims)
        lines += ["", "### Targets", "", f"{count} of {len(aims)} reached.", "", *_targets(aims)]
    for section, members in _sections(rows).items():
        lines += ["", f"### {section}", "", *_table(members), *_spread(members)]
        notes = [f"- {row.what}, {row.shape}: {row.note}" for row in members if row.note]
        lines += ["", *notes] if notes else []
    lost = [(row, peer) for row in rows for peer in row.others("peer") if _lost(row, peer)]
    lines += ["", "### Where a peer is faster", ""]
    lines += [f"- {row}: {peer.who} takes {row.ratio(peer):.2f} of our time" for row, peer in lost] or ["Nowhere here."]
    return "\n".join(lines) + "\n"


def _sections(rows):
    sections = collections.defaultdict(list)
    for row in rows:
        sections[row.section].append(row)
    return sections


def _targets(aims):
    """One row for each target: what, ours, against whom, ratio, target."""
    yield _line(["what", "shape", "dtype", "threads", "ours", "against", "its time", "ratio", "target", ""])
    yield _line(["---"] * 4 + ["---:", "---", "---:", "---:", "---:", "---"])
    for row, member in aims:
        cells = [f"{row.section}: {row.what}", row.shape, row.dtype, str(row.threads), _time(row.ours.seconds)]
        bound = f"{'≤' if member.role == 'yardstick' else '≥'} {member.target:.3g}"
        ratio = f"{row.ratio(member):.2f}" + ("" if row.steady(member) else " ~")
        cells += [member.who, _time(member.seconds), ratio, bound, "✓" if row.reached(member) else "✗"]
        yield _line(cells)


def _table(rows):
    floors, yardsticks, peers = (
        list(dict.fromkeys(member.who for row in rows for member in row.others(role)))
        for role in ("floor", "yardstick", "peer")
    )
    reads = any(row.reads for row in rows)
    titles = [
        "what",
        "shape",
        "dtype",
        "threads",
        "ours",
        *(["GB/s"] if reads else []),
        *(f"*{f}*" for f in floors),
        *(f"ours ÷ {yardstick}" for yardstick in yardsticks),
        *peers,
    ]
    yield _line(titles)
    yield _line(["---"] * 4 + ["---:"] * (len(titles) - 4))
    for row in rows:
        cells = [row.what, row.shape, row.dtype, str(row.threads), _time(row.ours.seconds)]
        if reads:
            cells.append(f"{row.reads / row.ours.seconds / 1e9:.1f}")
        yield _line(cells + [_cell(row, row.members.get(who)) for who in floors + yardsticks + peers])


def _spread(rows):
    """Worst and geometric mean over the shapes of the same work, where there are many."""
    groups = collections.defaultdict(list)
    for row in rows:
        for member in row.others("peer") + row.others("floor"):
            groups[row.what, row.dtype, row.threads, member.who].append(row.ratio(member))
    many = {key: ratios for key, ratios in groups.items() if len(ratios) >= MANY_SHAPES}
    if many:
        yield ""
    for (what, dtype, _, who), ratios in many.items():
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        yield f"- {what}, {dtype}, {who}: worst {min(ratios):.2f}, geometric mean {mean:.2f} of {len(ratios)} shapes"


def _line(cells):
    return f"| {' | '.join(cells)} |"


def _cell(row, member):
    """`2.61× ✓ (2.4), 1.32 ms`."""
    if member is None:
        return "–"
    ratio = f"{row.ratio(member):.2f}" + ("" if member.role == "floor" else "×")
    if member.role == "peer" and _lost(row, member):
        ratio = f"**▼ {ratio}**"
    if not row.steady(member):
        ratio += " ~"
    if member.target:
        most = "≤ " if member.role == "yardstick" else ""
        ratio += f" {'✓' if row.reached(member) else '✗'} ({most}{member.target:.3g})"
    return f"{ratio}, {_time(member.seconds)}"


def _lost(row, peer):
    """Whether a peer is faster, in the digits that are shown."""
    return round(row.ratio(peer), 2) < 1


def _time(seconds):
    units = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    unit, scale = next((pair for pair in units.items() if seconds >= pair[1]), ("ns", 1e-9))
    return f"{seconds / scale:.3g} {unit}"


def _threads(count):
    return f"{count} thread{'s' * (count > 1)}"


# --------------------------------------------------------------------------------------------------------------- chart


def chart(rows, about, path):
    """Bars of every peer's ratio, a panel for each section, without the reference kernels, floors and yardsticks."""
    from fastgd.errors import import_extra

    import_extra("matplotlib", "plot", "drawing the chart").use("Agg")
    from matplotlib import pyplot, ticker

    drawn = {row: [peer for peer in row.others("peer") if peer.who != "reference"] for row in rows}
    sections = _sections(row for row in rows if drawn[row])
    if not sections:
        sys.exit("no peer was timed: there is nothing to draw")
    heights = [sum(len(drawn[row]) + GAP for row in members) + 3.5 for members in sections.values()]
    figure, panels = pyplot.subplots(
        len(sections), figsize=(9, 0.16 * sum(heights) + 1), height_ratios=heights, sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    everyone = list(dict.fromkeys(peer.who for peers in drawn.values() for peer in peers))
    colours = {who: f"C{i}" for i, who in enumerate(everyone)}
    for panel, (section, members) in zip(panels[:, 0], sections.items(), strict=True):
        y, ticks = 0.0, []
        for row in members:
            ticks.append(y + (len(drawn[row]) - 1) / 2)
            for peer in drawn[row]:
                _bar(panel, y, row.ratio(peer), peer.target, colours[peer.who])
                y += 1
            y += GAP
        used = [who for who in everyone if any(peer.who == who for row in members for peer in drawn[row])]
        swatches = [pyplot.Rectangle((0, 0), 1, 1, color=colours[who]) for who in used]
        panel.legend(
            swatches, used, fontsize=7, ncols=len(used), frameon=False, loc="lower left", bbox_to_anchor=(0, 1),
            borderpad=0.1, borderaxespad=0.1, columnspacing=1,
        )  # fmt: skip
        panel.set_title(section, loc="left", fontsize=9, weight="bold", pad=16)
        panel.set_yticks(ticks, [_label(row, members) for row in members], fontsize=7)
        panel.set_ylim(y - GAP - 0.4, -0.6)
        panel.tick_params("y", length=0)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
    ratios = [value for row, peers in drawn.items() for peer in peers for value in (row.ratio(peer), peer.target or 1)]
    last = panels[-1, 0]
    last.set_xscale("log")
    last.set_xlim(min([*ratios, 1]) / 1.6, max([*ratios, 1]) * 1.6)  # room for the numbers
    last.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    last.xaxis.set_major_formatter(ticker.FuncFormatter(lambda ratio, _: f"{ratio:g}×"))
    last.xaxis.set_minor_locator(ticker.NullLocator())
    last.tick_params("x", labelsize=8)
    last.set_xlabel("time of the peer / time of fastgd: right of 1 fastgd is faster (black stroke: target)", fontsize=8)
    machine = f"{about['CPU']}, {about['kernels'].partition(' ')[0]} kernels, {about['date']}"
    figure.suptitle(machine, fontsize=8, x=0.01, ha="left")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _bar(panel, y, ratio, target, colour):
    """From 1 to the ratio: its length is how much faster ours is, and it is hatched where ours is slower."""
    lost = ratio < 1
    panel.barh(
        y, ratio - 1, left=1, height=0.8, color=colour, hatch="////" if lost else None, edgecolor="white", linewidth=0
    )
    if target:
        panel.plot([target, target], [y - 0.45, y + 0.45], color="black", linewidth=1.5)
    at = target if target and ratio < target < 1.4 * ratio else ratio  # where the number and the stroke would meet
    panel.annotate(
        f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.0f}×", (at, y), (-3 if lost and at == ratio else 3, 0),
        textcoords="offset points", va="center_baseline", ha="right" if lost and at == ratio else "left", fontsize=7,
        weight="bold" if lost else "normal",
    )  # fmt: skip


def _label(row, members):
    """What tells the row from the others of its panel."""
    names = [row.what, row.shape, row.dtype, _threads(row.threads)]
    columns = zip(*[(other.what, other.shape, other.dtype, other.threads) for other in members], strict=True)
    varies = [len(set(column)) > 1 for column in columns]
    return "  ".join(name for name, varied in zip(names, varies, strict=True) if varied) or row.shape


# ----------------------------------------------------------------------------------------------------------------- run


def run(path, only, seconds):
    """Run the benchmarks one after the other and write their JSON to `path`."""
    # The options of pyproject.toml are for tests: many processes, and nothing timed.
    command = [sys.executable, "-m", "pytest", HERE, "-o", "addopts=", "--benchmark-only", "-q"]
    # Rounds of at least 100 µs, beside which reading the clock takes no time.
    command += ["--benchmark-min-time=0.0001", f"--benchmark-max-time={seconds}", "--benchmark-disable-gc"]
    command += ["--benchmark-quiet", f"--benchmark-json={path}", *(["-k", only] if only else [])]
    status = subprocess.run(command, cwd=HERE.parent).returncode
    if status:
        sys.exit(f"the benchmarks did not pass (exit status {status} of pytest)")


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description="Tables of ratios from the JSON of pytest-benchmark.")
    parser.add_argument("json", nargs="*", type=Path, help="files of --benchmark-json, each a pass over the benchmarks")
    parser.add_argument("--run", action="store_true", help="run the benchmarks first")
    parser.add_argument("--passes", type=int, default=PASSES, help="how often to run them (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="for each member in each pass (default: %(default)s)"
    )
    parser.add_argument("-k", dest="only", metavar="EXPRESSION", help="run only these, as in pytest -k")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the JSON of the runs there")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the Markdown there and not to the screen")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw the ratios")
    options = parser.parse_args(arguments)
    if not options.run and not options.json:
        parser.error("give the JSON of a run, or --run")
    if options.passes < 1:
        parser.error("--passes must be at least 1")
    with tempfile.TemporaryDirectory() as temporary:
        paths = list(options.json)
        if options.run:
            folder = (options.keep or Path(temporary)).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(options.passes):
                paths.append(folder / f"benchmarks-{i + 1}.json")
                run(paths[-1], options.only, options.seconds)
        try:
            rows, about = read(paths)
        except (OSError, ValueError) as error:
            parser.error(str(error))
    text = markdown(rows, about)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    if options.chart:
        chart(rows, about, options.chart)


if __name__ == "__main__":
    main()
