"""The options of `tune`: what is chosen, on which images, and by how many votes."""

from jsonargparse import ActionYesNo, ArgumentParser

from diffsmooth.cli.network_options import add_voting_options
from diffsmooth.pipeline.tune_specification import NUMBERS, PLANNED_N, STEPS_FROM_TRAINED


def add_tune_options(parser: ArgumentParser) -> None:
    """Adds all options of the command."""
    add = parser.add_argument
    add("dataset", type=str, help="fashion_mnist, cifar10, imagenet, or a folder with train/ or "
        "train.npz in it: the images are training images, whatever else there is")  # fmt: skip
    add("classifier", type=str, help="checkpoint of the base classifier")
    add("sigma", type=float, help="noise level, standard deviation in [0, 1] pixel units")
    add("outfile", type=str, help="YAML file to write, for certify.py --config; the sweep's "
        ".sweep.csv and .sweep.png lie beside it")  # fmt: skip
    add("--radius", type=float | None, default=None,
        help="l2 radius at which the planned run's certified accuracy decides, in [0, 1] pixel "
        "units; default: SIGMA, where the class needs a little over 84 % of the votes")  # fmt: skip
    add("--planned_N", "--planned_n", dest="planned_n", type=int, default=PLANNED_N,
        help="votes an image of the run to come; with its --alpha, they say which share of the "
        "votes certifies the radius")  # fmt: skip
    add("--plan", type=str, default="fixed",
        help="of the run to come: fixed, or group_sequential (up to planned_N votes)")  # fmt: skip
    add("--radii", type=float, nargs="+", default=None,
        help="of a group_sequential run to come, as for certify; RADIUS must be one of them. By "
        "default certify's, and RADIUS")  # fmt: skip
    add("--sigma_local", "--local_noise_sd", dest="sigma_local", type=float, nargs="+",
        default=None, help="levels of local noise to try, standard deviations in [0, 1] pixel "
        "units; by default sigma' (the noise that the classifier was trained at) plus "
        f"{', '.join(f'{step:g}' for step in STEPS_FROM_TRAINED)}, at least 0; and 0 with "
        "--purifier none")  # fmt: skip
    add("--m", type=int, nargs="+", default=list(NUMBERS), help="numbers of local copies to try")
    add("--images", type=int, default=200,
        help="training images, evenly chosen from those that the classifier's training left out, "
        "or else held out for validation, as its checkpoint says")  # fmt: skip
    add("--validation_images", type=int | None, default=None,
        help="where it does not say: so many were held out (data.validation_images; default: "
        "2000), and are chosen from")  # fmt: skip
    add("--validation_seed", type=int | None, default=None,
        help="where it does not say: data.seed of its training (default: 0)")  # fmt: skip
    add("--trained_images", action=ActionYesNo, default=False,
        help="choose from all training images, though they trained the classifier: all settings "
        "then look better than they are")  # fmt: skip
    add("--n0", "--N0", dest="n0", type=int, default=20,
        help="votes of the first stage, by which certify selects a class; here all N0 + N votes "
        "count alike")  # fmt: skip
    add_voting_options(parser, batch=60, n=100)
    add("--accelerator", type=str, default="auto", help="auto, cpu or gpu")
    add("--overwrite", action=ActionYesNo, default=False, help="replace the three files")
