"""Learning curves: the logs of runs as a picture. matplotlib is optional."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from rescore.formats.files import atomic_writer
from rescore.train.log import read_log

__all__ = ["plot_curves"]


def plot_curves(logs: Mapping[str, Path], output: Path) -> bool:
    """Draw validation loss over tokens of all runs: names -> their log.csv.

    A single run shows its training loss too, as a thin line. Returns False, and draws nothing,
    without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, path in logs.items():
        log = read_log(path)
        millions = [tokens / 1e6 for tokens in log["tokens"]]
        (line,) = axes.plot(
            millions, log["valid_nats_per_token"], marker=".", label=f"{name}, validation"
        )
        if len(logs) == 1:
            axes.plot(
                millions,
                log["train_nats_per_token"],
                color=line.get_color(),
                linewidth=0.8,
                alpha=0.6,
                label=f"{name}, training",
            )
    axes.set_xlabel("tokens trained on, millions")
    axes.set_ylabel("nats a token (a bound for diffusion)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture = BytesIO()
    FigureCanvasAgg(figure).print_figure(picture, format="png", dpi=110)
    with atomic_writer(output) as file:
        file.write(picture.getvalue())
    return True
