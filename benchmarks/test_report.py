"""The report says what was measured: ratios, who is faster, what is reached, and which ratios were disturbed."""

import json

import pytest
import report
from workload import assert_same


def benchmark(who, seconds, role="peer", target=None, reads=0, median=None):
    info = {"section": "Adding", "what": "all", "who": who, "role": role, "shape": [2000, 10], "dtype": "float64"}
    info |= {"threads": 1, "kernels": "baseline", "target": target, "reads": reads, "note": "as asked"}
    stats = {"min": seconds, "median": median or seconds}
    return {"group": "adding", "extra_info": info, "stats": stats}


def ours(seconds, **info):
    return benchmark("ours", seconds, "ours", **info)


@pytest.fixture
def file(tmp_path):
    """Writes benchmarks as pytest-benchmark does, and returns the path."""

    def write(*benchmarks, commit="a" * 40):
        versions = dict.fromkeys(("fastgd", "python", "numpy", "scipy", "blas", "compiler", "available"), "1.0")
        versions["peers"] = {"scikit-learn": "2.0", "torch": None}
        machine = {"cpu": {"brand_raw": "A CPU", "count": 2}, "processor": "", "system": "Linux", "machine": "x86_64"}
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        run = {"machine_info": machine | {"fastgd": versions}, "commit_info": {"id": commit, "dirty": True}}
        path.write_text(json.dumps(run | {"datetime": "2030-01-02T03:04:05", "benchmarks": benchmarks}))
        return path

    return write


def cells(text, row="all"):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    return split(line)


def split(line):
    return line.strip("| ").split(" | ")


def test_a_table_of_ratios(file, capsys):
    peers = benchmark("slow", 5e-4, target=2.0), benchmark("quick", 1e-4, target=0.6), benchmark("even", 2e-4)
    floor = benchmark("reading", 1.8e-4, "floor", target=0.95)
    report.main([str(file(ours(2e-4, reads=400_000), *peers, floor))])
    text = capsys.readouterr().out
    assert cells(text) == [
        "all", "2,000 × 10", "float64", "1", "200 µs", "2.0", "0.90 ✗ (0.95), 180 µs", "2.50× ✓ (2), 500 µs",
        "**▼ 0.50×** ✗ (0.6), 100 µs", "1.00×, 200 µs",
    ]  # fmt: skip
    assert "A CPU, 2 cores" in text
    assert f"{'a' * 12}, with changes that are not committed" in text
    assert "quick takes 0.50 of our time" in text
    assert "1 of 3 reached" in text
    targets = [cells for cells in map(split, text.splitlines()) if cells[0] == "Adding: all"]
    assert [cells[-5:] for cells in targets] == [
        ["slow", "500 µs", "2.50", "≥ 2", "✓"], ["quick", "100 µs", "0.50", "≥ 0.6", "✗"],
        ["reading", "180 µs", "0.90", "≥ 0.95", "✗"],
    ]  # fmt: skip
    assert "- all, 2,000 × 10: as asked" in text
    assert "scikit-learn 2.0" in text and "torch" not in text


@pytest.mark.parametrize(("seconds", "verdict"), [(1.24, "✓"), (1.26, "✗")])
def test_a_yardstick_is_a_limit_from_above(file, capsys, seconds, verdict):
    report.main([str(file(ours(seconds), benchmark("identity", 1.0, "yardstick", target=1.25)))])
    text = capsys.readouterr().out
    assert "| ours ÷ identity |" in text
    assert cells(text)[5] == f"{seconds:.2f}× {verdict} (≤ 1.25), 1 s"
    assert f"| identity | 1 s | {seconds:.2f} | ≤ 1.25 | {verdict} |" in text
    assert "Nowhere here." in text  # other work does not win


def test_a_ratio_is_taken_within_a_pass(file, capsys):
    """The machine runs at half its speed in some passes; the ratio is that of the others all the same."""
    seconds = [(1.0, 3.0), (2.0, 6.2), (1.0, 3.1), (2.0, 6.2)]
    report.main([str(file(ours(a), benchmark("NumPy", b))) for a, b in seconds])
    text = capsys.readouterr().out
    assert cells(text)[4:] == ["1.5 s", "3.10×, 4.65 s"]
    assert "medians of 4 passes" in text


@pytest.mark.parametrize(
    ("peer", "steady"), [((2.0, 2.4), True), ((2.0, 2.6), False), ((1.0, 2.0, 2.4, 9.0), True), ((1, 2, 2.6, 9), False)]
)
def test_a_ratio_that_differs_between_passes_is_marked(file, capsys, peer, steady):
    report.main([str(file(ours(1.0), benchmark("NumPy", seconds))) for seconds in peer])
    assert ("× ~" not in cells(capsys.readouterr().out)[5]) is steady


def test_one_pass_is_marked_where_most_rounds_are_slower(file, capsys):
    quiet, disturbed = benchmark("NumPy", 2e-8, median=2.4e-8), benchmark("SciPy", 2.0, median=2.6)
    report.main([str(file(ours(1.0, median=1.2), quiet, disturbed))])
    assert cells(capsys.readouterr().out)[4:] == ["1 s", "**▼ 0.00×**, 20 ns", "2.00× ~, 2 s"]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ([([ours(1.0)], "a"), ([ours(1.0)], "b")], "differ in commit"),
        ([([benchmark("NumPy", 1.0)], "a")], "no pass timed 'ours'"),
        ([([ours(1.0)], "a"), ([benchmark("NumPy", 1.0)], "a")], "no pass timed 'ours'"),
    ],
)
def test_what_cannot_be_compared_is_refused(file, capsys, files, complaint):
    with pytest.raises(SystemExit) as end:
        report.main([str(file(*benchmarks, commit=commit)) for benchmarks, commit in files])
    assert end.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_chart_is_drawn(file, tmp_path):
    path = tmp_path / "ratios.png"
    peers = benchmark("NumPy", 4.0, target=3.0), benchmark("another", 0.5), benchmark("reference", 1.0)
    report.main([str(file(ours(1.0), *peers)), "--output", str(tmp_path / "table.md"), "--chart", str(path)])
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("result", "same"), [((1.0, [2.0, 3.0]), True), ((1.0, [2.0, 3.1]), False), ((1.0,), False)])
def test_another_answer_is_another_work(result, same):
    if same:
        assert_same(result, (1.0, [2.0, 3.0]), 1e-3)
    else:
        with pytest.raises(AssertionError):
            assert_same(result, (1.0, [2.0, 3.0]), 1e-3)
