"""Style of the plots: colours and markers of policies, deterministic SVG. matplotlib is imported on first use."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID = "#1d2733", "#667382", "#dde3ea"
COMPUTED, REUSED = "#2563a8", "#dfe7f0"  # as on the pages
OVERHEAD, OUTSIDE = "#e69f00", "#b5bfca"
MOTION_COLOURS = {
    "still": "#0072b2",
    "very slow": "#56b4e9",
    "slow": "#009e73",
    "steady": "#e69f00",
    "fast": "#d55e00",
    "very fast": "#882255",
}
ALL_COLOUR = "#0072b2"


class PolicyStyle(NamedTuple):
    """Colour, marker and line of a policy. No two policies have the same colour and marker."""

    colour: str
    marker: str
    line: str


# The palette of Okabe and Ito, which is safe for colour blindness. Policies that share a colour differ in the marker.
POLICY_STYLES = {
    "baseline": PolicyStyle("#000000", "*", "-"),
    "adacache": PolicyStyle("#d55e00", "o", "-"),
    "adacache-forecast": PolicyStyle("#d55e00", "s", "-."),
    "forecastcache": PolicyStyle("#000000", "o", "-"),
    "pab": PolicyStyle("#0072b2", "s", "-"),
    "tgate": PolicyStyle("#009e73", "^", "-"),
    "delta-dit": PolicyStyle("#cc79a7", "v", "-"),
    "teacache": PolicyStyle("#56b4e9", "D", "-"),
    "fbcache": PolicyStyle("#e69f00", "P", "-"),
    "magcache": PolicyStyle("#0072b2", "X", "--"),
    "easycache": PolicyStyle("#009e73", "o", "--"),
    "taylorseer": PolicyStyle("#cc79a7", "s", "--"),
    "seacache": PolicyStyle("#56b4e9", "^", "--"),
    "dpcache": PolicyStyle("#e69f00", "v", "--"),
    "lemica": PolicyStyle("#d55e00", "D", "--"),
    "navicache": PolicyStyle("#009e73", "P", "-."),
    "sencache": PolicyStyle("#56b4e9", "o", "-."),
    "budcache": PolicyStyle("#d55e00", "v", "-."),
    "l2p": PolicyStyle("#009e73", "D", "-."),
    "meancache": PolicyStyle("#cc79a7", "^", "-."),
    "gcache": PolicyStyle("#e69f00", "s", "-."),
    "recache": PolicyStyle("#0072b2", "o", "-."),
    "static": PolicyStyle("#7f7f7f", "P", "-"),
    "oracle-static": PolicyStyle("#7f7f7f", "^", ":"),
    "oracle-video": PolicyStyle("#000000", "s", ":"),
    "oracle-budget": PolicyStyle("#000000", "D", ":"),
}
_OTHER = PolicyStyle("#7f7f7f", "x", "-.")


def policy_style(policy: str) -> PolicyStyle:
    """Return the style of a policy, which is the same in every plot."""
    return POLICY_STYLES.get(policy, _OTHER)


def require_matplotlib() -> None:
    """Raise ImportError, with what to do, if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ImportError("drawing needs matplotlib: pip install 'opensora-adacache[eval]'") from None


def make_figure(width: float, height: float) -> Figure:
    """Return an empty figure of the given size in inches that is not registered with pyplot.

    Raises:
        ImportError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG. The same figure always gives the same text.

    Titles and names appear as they are written: a dollar sign begins no formula.
    """
    import matplotlib
    from matplotlib.text import Text

    for label in figure.findobj(Text):
        label.set(parse_math=False, usetex=False)
    text = io.StringIO()
    # matplotlib makes some labels only when it draws
    with matplotlib.rc_context({"svg.hashsalt": "opensora-adacache", "text.parse_math": False, "text.usetex": False}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def add_legend(figure: Figure, axes_list: Iterable[Axes], title: str | None = None) -> None:
    """Add one legend for several axes outside them: on the right if it has a title, otherwise in one line above."""
    found: dict[str, Artist] = {}
    for axes in axes_list:
        found.update({label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)})
    figure.legend(
        handles=list(found.values()),
        labels=list(found),
        loc="outside right upper" if title else "outside upper center",
        ncols=1 if title else len(found),
        fontsize=8,
        frameon=False,
        title=title,
        title_fontsize=8,
    )


def make_logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain tick labels at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def style_axes(axes: Axes, x_label: str, y_label: str, title: str = "") -> None:
    """Label the axes of a plot and draw a light grid."""
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    if title:
        axes.set_title(title, fontsize=9.5, color=INK, loc="left")
    axes.tick_params(labelsize=8, colors=INK, length=3)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
