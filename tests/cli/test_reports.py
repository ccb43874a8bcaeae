"""Reports, comparisons and checks of gradients, from the command line; reports also in a browser."""

import json
import re
import shutil
import types

import numpy as np
import pytest

for _package in ("click", "pyarrow", "rich", "tqdm"):
    pytest.importorskip(_package, reason="the extra cli is not installed")

from fastgd.cli import line  # noqa: E402

pytestmark = pytest.mark.one_build
NAMES = "<script>alert(1)</script>", 'kind & "co"'


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run the command beside data.csv and model.py → status, out, err."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, kind = rng.normal(size=60), rng.choice(["<b>x", "y&z"], 60)
    y = 2 * x + (kind == "y&z") + 0.1 * rng.normal(size=60)
    rows = [
        f"{a},{k},{b},{'yes' if b > 0 else 'no'},{'pqr'[i % 3]}"
        for i, (a, k, b) in enumerate(zip(x, kind, y, strict=True))
    ]
    quoted = ",".join('"' + name.replace('"', '""') + '"' for name in NAMES)
    (tmp_path / "data.csv").write_text("\n".join([f"{quoted},y,won,several", *rows]))
    (tmp_path / "model.py").write_text(
        "def f(x):\n    return float((x**4).sum())\ndef right(x):\n    return 4 * x**3\n"
        "def wrong(x):\n    return x**3\n"
        "def both(x):\n    return f(x), right(x)\ndef broken(x):\n    raise RuntimeError('no\\nvalue')\n"
    )

    def command(*arguments):
        with pytest.raises(SystemExit) as exit_:
            line.cli.main([str(a) for a in arguments], prog_name="fastgd")
        captured = capsys.readouterr()
        return types.SimpleNamespace(status=exit_.value.code, out=captured.out, err=captured.err)

    return command


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("selenium", reason="selenium is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        pytest.skip("there is no Chromium with its driver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = paths[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(paths[1]))
    yield driver
    driver.quit()


def report(run, target):
    pytest.importorskip("jinja2", reason="the extra report is not installed")
    others = ",".join({"y", "won", "several"} - {target})
    result = run("fit", "data.csv", "--target", target, "--exclude", others, "--test-size", 0.3, "--report", "r.html")
    assert result.status == 0 and "report    r.html" in result.out


def test_a_report_is_escaped_and_whole(run, tmp_path):
    report(run, "y")
    text = (tmp_path / "r.html").read_text()
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("<svg") == 2 and not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "95 % interval" in text and "mean squared error, held out" in text


def test_a_unit_that_is_no_linear_model_has_no_standard_errors(run, tmp_path):
    pytest.importorskip("jinja2", reason="the extra report is not installed")
    result = run("fit", "data.csv", "--target", "y", "--exclude", "won,several", "--activation", "softplus",
                 "--max-steps", 5, "--report", "r.html")  # fmt: skip
    text = (tmp_path / "r.html").read_text()
    assert result.status in (0, 1) and "95 % interval" not in text
    assert "Standard errors are for the squared error" in text


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("target", ["y", "won", "several"])
def test_a_report_in_a_browser(run, tmp_path, browser, target):
    report(run, target)
    address = (tmp_path / "r.html").as_uri()
    for width in (400, 1400):
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(address)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert NAMES[0] in browser.execute_script("return document.body.innerText")
        font = browser.execute_script("return parseFloat(getComputedStyle(document.querySelector('td')).fontSize)")
        assert font >= 12
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} == {address}


@pytest.mark.parametrize(
    ("option", "values", "count"),
    [("--losses", "squared_error,huber", 2), ("--optimizers", "gd,momentum", 2), ("--rates", "0.5,1e9", 2)],
)
def test_compare(run, tmp_path, option, values, count):
    common = "data.csv", "--target", "y", "--exclude", "won,several", "--test-size", 0.3, "--plot", "runs.png"
    result = run("compare", *common, option, values)
    assert result.status == 0
    _, *lines = result.out.splitlines()
    assert [line.split()[0] for line in lines] == [{"1e9": "1000000000.0"}.get(v, v) for v in values.split(",")]
    assert "held out" in lines[0] and ("diverged" in lines[1]) == (option == "--rates")
    assert (tmp_path / "runs.png").stat().st_size > 1000


@pytest.mark.parametrize("arguments", [(), ("--losses", "huber", "--rates", "1")])
def test_compare_takes_one_list(run, arguments):
    result = run("compare", "data.csv", "--target", "y", *arguments)
    assert result.status == 2 and "one of --losses, --optimizers and --rates" in result.err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("model.py:f", "--gradient", "right"), 0, "ok=True"), (("model:both",), 0, "ok=True"),
        (("model.py:f", "--gradient", "wrong"), 1, "ok=False"), (("model.py:f",), 2, "has no gradient of f"),
        (("model.py:none",), 2, "has no function 'none'"), (("model.py",), 2, "must be MODULE:FUNCTION"),
        (("absent.py:f",), 2, "no such file"), (("absent_module:f",), 2, "cannot be imported"),
        (("model.py:broken",), 2, "RuntimeError: no value"),
    ],
)  # fmt: skip
def test_check(run, arguments, status, words):
    result = run("check", *arguments, "--at", "1,-2.5,3")
    assert result.status == status and words in result.out + result.err
    assert result.err.count("\n") == (status > 0)
    assert run("check", "model.py:both", "--at", "1,x").status == 2
