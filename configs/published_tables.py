"""The tables of published settings in docs/training.md: `python configs/published_tables.py`."""

from collections.abc import Iterable
from pathlib import Path

from published import CLASSIFIERS, DIFFUSIONS, LOOPS
from published_records import Classifier, Diffusion, Option

DOCUMENT = Path(__file__).parents[1] / "docs" / "training.md"
BEGIN = "<!-- by configs/published_tables.py, from here -->"
END = "<!-- to here -->"


def with_tables(document: str) -> str:
    """The document with what stands between its two marks made anew."""
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables()}{END}{after}"


def tables() -> str:
    """All tables, as Markdown."""
    parts = (
        _table(
            "method, what the published loop does with a batch of B images, where",
            (f"`{loop.method}` | {loop.does} | {loop.source}" for loop in LOOPS),
        ),
        _table(
            "config, sigma, network, published batch, a step: images x noises, steps an epoch, "
            "epochs, rate, weight decay, the method's own",
            map(_classifier, CLASSIFIERS),
        ),
        _table(
            "config, images, flags, a step, steps, rate, EMA, flips, precision",
            map(_diffusion, DIFFUSIONS),
        ),
        "".join(
            f"- `{record.config}`: " + "; ".join(record.sources) + ".\n"
            for record in (*CLASSIFIERS, *DIFFUSIONS)
        ),
    )
    return "\n".join(parts)


def _table(columns: str, rows: Iterable[str]) -> str:
    names = columns.split(", ")
    lines = [" | ".join(names), " | ".join("---" for _ in names), *rows]
    return "".join(f"| {line} |\n" for line in lines)


def _classifier(record: Classifier) -> str:
    ours = "" if record.our_steps is None else f" (here {record.our_steps:,})"
    falls = " and ".join(map(str, record.falls))
    cells = (
        f"`{record.config}`",
        f"{record.sigma:.2f}",
        f"{record.arch}, {record.input_layer}",
        f"{record.batch}",
        f"{record.images} x {record.noises}",
        f"{record.steps:,}{ours}",
        f"{record.epochs}",
        f"{record.learning_rate:g}, a tenth from {falls}",
        f"{record.weight_decay:g}",
        ", ".join(map(_option, record.options)) or "none",
    )
    return " | ".join(cells)


def _option(option: Option) -> str:
    value = str(option.value).lower() if isinstance(option.value, bool) else str(option.value)
    return f"{option.name} {value}"


def _diffusion(record: Diffusion) -> str:
    cells = (
        f"`{record.config}`",
        f"{record.side} x {record.side}",
        f"`{record.flags}`",
        f"{record.batch} images",
        f"{record.steps:,}",
        f"{record.learning_rate:g}",
        f"{record.ema}",
        "yes" if record.flip else "no",
        record.precision,
    )
    return " | ".join(cells)


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
