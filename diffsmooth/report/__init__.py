"""Floor 3: from results to tables, figures, TensorBoard and the page."""

from typing import TYPE_CHECKING

from diffsmooth.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffsmooth.runs.reading import read_results
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
