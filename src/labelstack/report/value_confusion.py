"""The figure of which value is given for which, for each label group."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from labelstack.report.attribute_tables import Attribute
from labelstack.report.figures import LIGHT, NARROW, Theme, empty_figure, plain

_PALE = 0.5  # share of a row above which a cell is dark


def confusion(attribute: Attribute, *, width: float = NARROW, theme: Theme = LIGHT) -> Figure:
    """Counts by true and given value, darker where more of a true value's rows are; zeros are blank."""
    n = len(attribute.values)
    fig = empty_figure(width, 1.6 + 0.3 * n, theme)
    ax = fig.add_subplot()
    ax.set_facecolor(theme.paper)
    total = attribute.confusion.sum(axis=1, keepdims=True)
    share = np.divide(attribute.confusion, total, out=np.zeros((n, n)), where=total > 0)
    ax.imshow(share, cmap="Blues" if theme is LIGHT else "Blues_r", vmin=0, vmax=1, aspect="auto")
    for row, column in zip(*np.nonzero(attribute.confusion), strict=True):
        dark = (share[row, column] > _PALE) is (theme is LIGHT)
        ink = "#ffffff" if dark else "#1d2126"
        count = str(attribute.confusion[row, column])
        ax.text(column, row, count, ha="center", va="center", fontsize=8, color=ink)
    names = [plain(value, 18) for value in attribute.values]
    look: dict[str, Any] = {"fontsize": 8.5, "color": theme.ink, "parse_math": False}
    ax.set_yticks(range(n), names, **look)
    ax.set_xticks(range(n), names, rotation=45, ha="right", **look)
    ax.set_ylabel("true", fontsize=9, color=theme.muted)
    ax.set_xlabel("given", fontsize=9, color=theme.muted)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return fig
