"""Floor 2: from results to tables, figures and TensorBoard."""

from typing import TYPE_CHECKING

from diffsmooth.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffsmooth.report.read import read_results
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, {"diffsmooth.report.read": "read_results"})
