"""Attacks: what they did, in words and pictures; their curve stands beside the certified one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from diffsmooth.report.attacks import flip_remarks, try_name
from diffsmooth.report.names import class_names, file_names
from diffsmooth.report.page.pictures import Picture, picture_of
from diffsmooth.runs.attacked import AttackPicture, AttackRun
from diffsmooth.runs.reading import Run
from diffsmooth.stats import ABSTAIN, ImageRecord
from diffsmooth.stats.errors import UserError
from diffsmooth.stats.printed import digits_down, rounded_down, rounded_up


@dataclass(frozen=True)
class AttackCard:
    """One attacked image.

    Attributes:
        index: the image's number in its dataset.
        file: its name below the dataset's folder, "" where there is none.
        left: name of the class that the attack was to leave.
        method: what was tried.
        prediction: name of the class that was then predicted, or "abstained".
        facts: pairs of a name and a value.
        pictures: image, perturbation, attacked image.
    """

    index: int
    file: str
    left: str
    method: str
    prediction: str
    facts: list[tuple[str, str]]
    pictures: list[Picture]


class AttackPanel(NamedTuple):
    """A run of attacks: its name, what it found, and pictures."""

    name: str
    remarks: list[str]
    cards: list[AttackCard]


def attack_panel(one: AttackRun, run: Run) -> AttackPanel:
    """The panel of attacks on a run.

    Raises:
        UserError: a picture of no try.
    """
    records = {record.index: record for record in one.records}
    names, files = class_names(run), file_names(one.records)
    cards = []
    for picture in one.pictures:
        if picture.item not in records:
            raise UserError(f"{one.path}: the picture of try {picture.item} has no result")
        file = files.get(picture.item, "")
        cards.append(_card(picture, records[picture.item], names, file))
    return AttackPanel(one.name, flip_remarks(one.found, one.records), cards)


def _card(
    picture: AttackPicture, record: ImageRecord, names: Mapping[int, str], file: str
) -> AttackCard:
    attack, prediction = record.attack, record.certificate.prediction
    assert attack is not None
    left = record.label if attack.certified == ABSTAIN else attack.certified
    facts = [
        ("norm", rounded_up(attack.norm, 4)),
        ("radius", rounded_down(attack.radius, 4)),
        ("enlarged", f"{digits_down(picture.scale, 3)} x"),
        ("votes", str(record.certificate.votes)),
    ]
    pictures = [
        picture_of("original", picture.original),
        picture_of("perturbation", picture.perturbation),
        picture_of("attacked", picture.attacked),
    ]
    answer = "abstained" if prediction == ABSTAIN else names.get(prediction, str(prediction))
    shown = "" if left is None else names.get(left, str(left))
    return AttackCard(attack.image, file, shown, try_name(attack), answer, facts, pictures)
