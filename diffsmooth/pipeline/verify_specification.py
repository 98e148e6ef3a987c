"""What `diffsmooth verify` is to check, and by what."""

from dataclasses import dataclass

from diffsmooth.pipeline.option_records import OptionRecord, required


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(OptionRecord):
    """Which runs."""

    runs: list[str] = required("tables or journals of finished runs; or other people's tables, "
        "with the columns idx, label, predict, radius, correct and time")  # fmt: skip
