"""HTML of results for notebooks: tables, and curves as SVG that need no library. All text is escaped."""

import html

import numpy as np

from fastgd.errors import import_extra


def table(columns, rows):
    """An HTML table of cells, which are shown by `str`."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def paragraph(*sentences):
    return "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences if sentence)


def curve(values, name, places=None, dots=False):
    """An SVG of numbers against their places, on a logarithmic axis where positive ones span two decades.

    Parameters
    ----------
    values : array_like, (n,)
        What is not finite is left out.
    name : str
        What the numbers are, for the label.
    places : array_like, (n,), optional
        0, 1, … without it.
    dots : bool
        Draw a dot for each number in the place of a line.

    Returns
    -------
    str
        Empty where there are fewer than two finite numbers.
    """
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    places = np.arange(len(values)) if places is None else np.asarray(places)
    shown = np.isfinite(values) & (np.abs(values) < 1e200)
    logarithmic = shown.any() and values[shown].max() > 100 * values[shown].min() >= 0
    if logarithmic:
        shown &= values > 0
    places, values = places[shown], values[shown]
    if len(values) < 2:
        return ""
    if len(values) > 400:  # about a point for each pixel
        kept = np.unique(np.linspace(0, len(values) - 1, 400).round().astype(int))
        places, values = places[kept], values[kept]
    low, high = values.min(), values.max()
    heights = np.log(values) if logarithmic else values
    down = 1 - (heights - heights.min()) / (np.ptp(heights) or 1.0)
    points = (
        np.column_stack([6 + 348 * (places - places[0]) / max(np.ptp(places), 1), 20 + 80 * down]).round(1).tolist()
    )
    if dots:
        drawn = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in points)
    else:
        drawn = '<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="{}"/>'.format(
            " ".join(f"{x},{y}" for x, y in points)
        )
    scale = ", logarithmic axis" if logarithmic else ""
    label = html.escape(f"{name}: from {high:.4g} (top) to {low:.4g} (bottom){scale}")
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="360" height="122" viewBox="0 0 360 122" role="img" '
        f'aria-label="{label}" fill="currentColor" font-size="11" font-family="sans-serif">'
        f'<text x="6" y="12">{label}</text>{drawn}'
        '<line x1="6" y1="106" x2="354" y2="106" stroke="currentColor" stroke-width="0.5"/>'
        f'<text x="6" y="119">{places[0]}</text><text x="354" y="119" text-anchor="end">{places[-1]}</text></svg>'
    )


def frame(columns, index=None):
    """A pandas DataFrame of columns, {name: values}."""
    return import_extra("pandas", "frame", "to_frame()").DataFrame(columns, index=index)
