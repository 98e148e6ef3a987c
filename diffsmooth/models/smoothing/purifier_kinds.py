"""The purifiers by their words, and what each takes; no torch: options are read at once."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from diffsmooth.models.words import Convention
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.registry import Registry, check_call, resolved

if TYPE_CHECKING:
    from diffsmooth.models.diffusion.denoiser import Denoiser
    from diffsmooth.models.smoothing.purifiers import Purifier


class PurifierKind(NamedTuple):
    """A purifier's factory, and what it takes.

    Attributes:
        factory: what makes it, or its package.module:name. It is called with the denoiser, where it
            needs one, and with `steps=` and `runs=`, where it takes them.
        denoiser: whether it needs one.
        steps: how many it makes unless the user says; None where it takes no such option.
        reverse_runs: whether it takes `runs`.
        convention: that of its denoiser, where the family has several and the user names none.
    """

    factory: "Callable[..., Purifier] | str"
    denoiser: bool = True
    steps: int | None = None
    reverse_runs: bool = False
    convention: Convention = "diffsmooth"

    def build(
        self, denoiser: "Denoiser | None", steps: int | None = None, reverse_runs: int | None = None
    ) -> "Purifier":
        """The purifier.

        Raises:
            UserError: the factory's mistake: it gives no `Purifier`; or see the purifiers.
        """
        from diffsmooth.models.smoothing.purifiers import Purifier  # torch takes seconds

        options: dict[str, Any] = {}
        if self.steps is not None:
            options["steps"] = steps or self.steps
        if self.reverse_runs:
            options["runs"] = reverse_runs or 1
        purifier = resolved(self.factory)(*([denoiser] if self.denoiser else []), **options)
        if not isinstance(purifier, Purifier):
            raise UserError(f"a purifier's factory must give a Purifier, not {type(purifier)}")
        return purifier


OURS = "diffsmooth.models.smoothing.purifiers"
PURIFIERS: "Registry[PurifierKind | Callable[..., Purifier]]" = Registry(
    "purifier",
    oneshot=PurifierKind(f"{OURS}:OneShotPurifier"),
    multistep=PurifierKind(
        f"{OURS}:MultiStepPurifier", steps=10, reverse_runs=True, convention="densepure"
    ),
    none=PurifierKind(f"{OURS}:IdentityPurifier", denoiser=False),
)


def purifier_kind(word: str) -> PurifierKind:
    """The kind of purifier that a word of `PURIFIERS`, or package.module:name, stands for.

    Another package's name may be a `PurifierKind`, or else a factory that takes a denoiser alone.

    Raises:
        UserError: nobody knows the word.
    """
    known = PURIFIERS[word]
    if isinstance(known, PurifierKind):
        return known
    check_call(word, known, "called with the denoiser, that gives the purifier", None)
    return PurifierKind(known)
