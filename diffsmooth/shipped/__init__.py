"""What the demo, the self-test and the benchmark read, wherever we are installed: `pkg:NAME`.

files.txt lists the files by their places in a clone, where they are used as they lie; setup.py
copies them beside it in a wheel.
"""

from pathlib import Path

from diffsmooth.shown_text import quoted
from diffsmooth.stats.errors import UserError

PREFIX = "pkg:"
HERE = Path(__file__).parent
CLONE = HERE.parents[1]
CONFIG = ".yaml"


def located(name: str) -> str:
    """A file's name as it is, but of pkg:NAME the path of the shipped file; configs need no ending.

    Raises:
        UserError: no such file is shipped.
    """
    if not name.startswith(PREFIX):
        return name
    places = (HERE / "files.txt").read_text().split()
    shipped = {PREFIX + Path(place).name.removesuffix(CONFIG): place for place in places}
    place = shipped.get(name.removesuffix(CONFIG))
    if place is None:
        names = ", ".join(one for one in shipped if not one.endswith(".json"))
        raise UserError(f"{quoted(name)}: not among what is shipped, which is {names}")
    beside = HERE / Path(place).name
    return str(beside if beside.is_file() else CLONE / place)
