"""The report as one HTML file that needs nothing else: no network, no other file."""

import base64
import hashlib
from collections.abc import Sequence

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from diffsmooth import __version__
from diffsmooth.report.attacks import run_of
from diffsmooth.report.cautions import caution_lines
from diffsmooth.report.columns import Column
from diffsmooth.report.page.attacks import attack_panel
from diffsmooth.report.page.confusion import confusion
from diffsmooth.report.page.curve import accuracy_curve
from diffsmooth.report.page.distributions import distributions
from diffsmooth.report.page.manifests import manifest_tables
from diffsmooth.report.page.overview import page_table, run_facts
from diffsmooth.report.page.pictures import gallery
from diffsmooth.report.page.text import breakable
from diffsmooth.report.page.true_class import true_class_figure
from diffsmooth.report.tables import DEFAULT
from diffsmooth.report.writers import Section
from diffsmooth.runs.attacked import AttackRun
from diffsmooth.runs.reading import Run

__all__ = ["html_page"]


def html_page(
    runs: Sequence[Run],
    radii: np.ndarray,
    sections: Sequence[Section] = (),
    columns: Sequence[Column] = DEFAULT,
    attacks: Sequence[AttackRun] = (),
    decimals: int = 3,
    paired: bool = False,
) -> str:
    """The page that `diffsmooth report --html` writes.

    Args:
        runs: at least one, with at least one image each.
        radii: float64 (R,), R >= 1, of the table, ascending; l2, in [0, 1] pixel units.
        sections: more tables, shown below that one.
        columns: those of that table, after the radii's.
        attacks: on these runs; their tables are among the sections.
        decimals: of that table's numbers, and of the curve's.
        paired: whether the sections compare the runs image by image.

    Returns:
        A whole HTML document in ASCII or UTF-8 text. Its size does not grow with the number of
        images, but with that of the galleries' pictures.

    Raises:
        UserError: a gallery with an image that is not among the run's results, or attacks on none
            of the runs.
    """
    attacked = [(one, run_of(one, runs)) for one in attacks]
    templates = Environment(
        loader=PackageLoader(__name__, "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["breakable"] = breakable
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False}  # JSON knows no NaN
    script = templates.get_template("script.js").render()
    # The browser runs this script and no other, whatever the files' names and values hold.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates.get_template("page.html").render(
        names=[run.name for run in runs],
        runs=[run_facts(run) for run in runs],
        curve=accuracy_curve(runs, radii, attacked, decimals),
        table=page_table(runs, radii, columns, decimals),
        cautions=caution_lines(runs, radii, attacked, paired),
        sections=sections,
        true_class=true_class_figure(runs, decimals),
        distributions=distributions(runs),
        confusions=[confusion(run) for run in runs],
        galleries=[gallery(run) for run in runs],
        attacks=[attack_panel(one, run) for one, run in attacked],
        manifests=manifest_tables(runs),
        style=Markup(templates.get_template("style.css").render()),
        script=Markup(script),
        script_digest=digest,
        version=__version__,
    )
