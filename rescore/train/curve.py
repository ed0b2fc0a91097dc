"""Learning curves: the log of one or several runs as a picture. matplotlib is optional: without it there is only the log."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from rescore.errors import TrainError

__all__ = ["plot_curves", "read_log"]


def read_log(path: Path) -> dict[str, list[float]]:
    """Column -> values of a `log.csv`. Raises TrainError naming the file where it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in rows[0]}
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise TrainError(
            f"{path}: not the log of a run ({error}); give the log.csv of a run directory"
        ) from error


def plot_curves(logs: Mapping[str, Path], output: Path) -> bool:
    """Draw validation loss over tokens of all runs (solid; of one run also the training loss, thin) and return True, or False without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional, and slow
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
    temporary = output.with_name(output.name + ".tmp")
    FigureCanvasAgg(figure).print_figure(temporary, format="png", dpi=110)
    temporary.replace(output)
    return True
