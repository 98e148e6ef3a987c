"""`diffsmooth visualize`: a grid of images as they are, under noise, and purified."""

from pathlib import Path

from diffsmooth.cli.errors import user_errors
from diffsmooth.cli.options import read_options
from diffsmooth.pipeline.command_specification import VisualizeOptions
from diffsmooth.shown_text import shown

DESCRIPTION = """Draws a grid: one row an image with its index and class, then for each noise level
the noisy image, and the purified one with its PSNR. The noise is that of no certificate."""
EXAMPLES = ("fashion_mnist_sample GRID.png --images 0 1 2 --sigma 0.25 0.5",)


def main(args: list[str] | None = None, prog: str = "diffsmooth visualize") -> None:
    """Runs the command on `args`, by default the process's."""
    # A vote may be a majority over reverse runs, a picture is of one.
    options = read_options(VisualizeOptions, args, prog, DESCRIPTION, examples=EXAMPLES, runs=None)
    # What follows imports torch, which takes seconds.
    from diffsmooth.pipeline.visualize import purified_rows
    from diffsmooth.report.figures import save_figure
    from diffsmooth.report.image_grid import image_grid

    with user_errors(prog):
        figure = image_grid(purified_rows(options), options.sigma)
        save_figure(figure, Path(options.outfile))
    print(f"figure {shown(options.outfile)}")
