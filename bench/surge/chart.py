"""The surge as one picture: a column for each system, a row for each thing that users notice."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bench.surge.crowd import FREE, PAID
from bench.surge.figures import during, good, quantile, reused, share
from bench.surge.load import LEFT, PATIENCE_S, Outcome
from bench.surge.scenarios import CAPACITY, SURGE, Ran, Times

BIN_S = 2.0
# Okabe and Ito's colours, which those who see red and green alike tell apart.
ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK, BLACK = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000",
)  # fmt: skip
SHADE = "#F3EBDD"
Values = NDArray[np.float64]


class Bins:
    """Outcomes by when they were to be asked."""

    def __init__(self, ran: Ran) -> None:
        self.again = reused(ran)
        end_s = max(one.asking.at_s for one in ran.outcomes)
        count = int(end_s // BIN_S) + 1
        self.of: list[list[Outcome]] = [[] for _ in range(count)]
        for one in ran.outcomes:
            self.of[int(one.asking.at_s // BIN_S)].append(one)
        self.edges = np.arange(count + 1) * BIN_S
        self.middles = self.edges[:-1] + BIN_S / 2

    def rate(self, holds: Callable[[Outcome], bool]) -> Values:
        return np.array([sum(map(holds, ones)) / BIN_S for ones in self.of])

    def hit_rate(self) -> Values:
        """Of answers, in percent; not a number where there were none."""
        answered = self.rate(lambda one: one.good)
        hits = self.rate(lambda one: id(one) in self.again)
        return 100 * np.divide(hits, answered, out=np.full_like(hits, np.nan), where=answered > 0)

    def wait(self, share: float) -> Values:
        return np.array(
            [
                quantile(
                    (one.first_s for one in ones if one.good and one.first_s is not None), share
                )
                for ones in self.of
            ]
        )


def draw(runs: Sequence[tuple[str, Ran]], times: Times, to: Path) -> None:
    """`runs`: each with the name of its system."""
    plt.rcParams.update({"font.size": 10.5, "font.family": "DejaVu Sans", "axes.axisbelow": True})
    figure, table = plt.subplots(
        4, len(runs), figsize=(4.4 * len(runs) + 2.6, 11.5), sharex=True, sharey="row",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    figure.get_layout_engine().set(rect=(0.005, 0.005, 0.99, 0.9), hspace=0.06, wspace=0.03)
    for (name, ran), column in zip(runs, table.T, strict=True):
        bins = Bins(ran)
        for row, axes in zip(ROWS, column, strict=True):
            _surge(axes, times)
            row(axes, bins)
        column[0].set_title(f"{name}\n", fontsize=14, fontweight="bold")
        column[0].annotate(
            _headline(ran, times), (0.5, 1.05), xycoords="axes fraction", ha="center", fontsize=11
        )
        used, lacked = ran.cores
        column[-1].set_xlabel("seconds")
        column[-1].annotate(
            f"CPU: {used:.2f} of a core used, {lacked:.2f} wanted and not had", (0.5, -0.34),
            xycoords="axes fraction", ha="center", fontsize=9.5, color="#666666",
        )  # fmt: skip
    top = SURGE * CAPACITY * 1.4
    for row, (title, unit), limit in zip(table, TITLES, (top, 100, PATIENCE_S, top), strict=True):
        row[0].set_ylabel(f"$\\bf{{{title}}}$\n{unit}".replace(" ", "\\ ", title.count(" ")))
        row[0].set_ylim(0, limit)
        row[-1].legend(loc="upper left", bbox_to_anchor=(1.03, 1.0), frameon=False)
    table[0, 0].text(
        times.calm + times.surge / 2, top * 0.97, "surge", ha="center", va="top", color="#8A6D3B"
    )
    figure.suptitle(
        f"{SURGE} times what the model can do, for {times.surge:.0f} seconds", x=0.012, y=0.985,
        ha="left", fontsize=19, fontweight="bold",
    )  # fmt: skip
    figure.text(
        0.012, 0.946,
        f"A model that computes {CAPACITY:.0f} answers a second is asked {SURGE * CAPACITY:.0f} "
        f"times a second: popular prompts (Zipf) of {len(PAID)} paying and {len(FREE)} free "
        f"tenants, who leave after {PATIENCE_S:.0f} s.\nThe same requests at the same times for "
        f"each, drawn over the moment they were asked, in steps of {BIN_S:.0f} s.",
        ha="left", va="top", fontsize=11, color="#444444", linespacing=1.5,
    )  # fmt: skip
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, dpi=100)
    plt.close(figure)


def _headline(ran: Ran, times: Times) -> str:
    asked = during(ran, times)
    everybody = share(asked, lambda one: one.good)
    paid = good(asked, "paid")
    return f"in the surge {everybody:.0f} % answered, paying {paid:.0f} %"


def _surge(axes: Axes, times: Times) -> None:
    axes.axvspan(times.calm, times.calm + times.surge, color=SHADE, lw=0, zorder=0)
    axes.grid(axis="y", color="#DDDDDD", lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, times.calm + times.surge + times.after)


def _answers(axes: Axes, bins: Bins) -> None:
    computed = bins.rate(lambda one: one.good and id(one) not in bins.again)
    hits = bins.rate(lambda one: id(one) in bins.again)
    axes.stackplot(
        bins.middles, computed, hits, colors=[BLUE, SKY],
        labels=["computed by the model", "from memory, or shared"], lw=0,
    )  # fmt: skip
    asked = bins.rate(lambda _: True)
    axes.plot(bins.middles, asked, color=BLACK, lw=1.3, label="asked")
    axes.axhline(CAPACITY, color=BLACK, lw=1, ls=":", label="what the model can do")


def _hits(axes: Axes, bins: Bins) -> None:
    axes.plot(bins.middles, bins.hit_rate(), color=GREEN, lw=2.2, label="of those answered")


def _waits(axes: Axes, bins: Bins) -> None:
    axes.plot(bins.middles, bins.wait(0.5), color=BLUE, lw=2.2, label="half had it sooner")
    axes.plot(bins.middles, bins.wait(0.95), color=PINK, lw=1.6, label="19 of 20 had it sooner")


def _failures(axes: Axes, bins: Bins) -> None:
    kinds: list[tuple[str, str, Callable[[Outcome], bool]]] = [
        (
            "refused, told when to come back",
            YELLOW,
            lambda one: one.refused and bool(one.retry_after),
        ),
        ("refused, not told", ORANGE, lambda one: one.refused and not one.retry_after),
        (f"left after {PATIENCE_S:.0f} s", RED, lambda one: one.status == LEFT),
        ("broken", BLACK, lambda one: not (one.good or one.refused or one.status == LEFT)),
    ]
    axes.stackplot(
        bins.middles, *(bins.rate(holds) for _, _, holds in kinds),
        colors=[colour for _, colour, _ in kinds], labels=[name for name, _, _ in kinds], lw=0,
    )  # fmt: skip


ROWS = _answers, _hits, _waits, _failures
TITLES = (
    ("Answered", "requests a second"),
    ("From memory or shared", "% of answers"),
    ("First token after", "seconds"),
    ("Not answered", "requests a second"),
)
