"""Attacks: their curve beside the certified one, and pictures of what they did."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diffsmooth.report.attacks import flip_remarks, run_of, try_name
from diffsmooth.report.figures import accuracy_figure, figure_bytes
from diffsmooth.report.page.pictures import Picture, picture_of
from diffsmooth.report.page.text import class_names
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
        left: name of the class that the attack was to leave.
        method: what was tried.
        prediction: name of the class that was then predicted, or "abstained".
        facts: pairs of a name and a value.
        pictures: image, perturbation, attacked image.
    """

    index: int
    left: str
    method: str
    prediction: str
    facts: list[tuple[str, str]]
    pictures: list[Picture]


class AttackPanel(NamedTuple):
    """A run of attacks: its name, its figure as a data URI ("" without labels), and pictures."""

    name: str
    figure: str
    remarks: list[str]
    cards: list[AttackCard]


def attack_panel(one: AttackRun, runs: Sequence[Run]) -> AttackPanel:
    """The panel of attacks on one of the runs.

    Raises:
        UserError: attacks on none of them, or a picture of no try.
    """
    run, figure = run_of(one, runs), ""
    if one.found.is_labelled:
        drawn = accuracy_figure({run.name: run.results}, attacks={one.name: one.found})
        figure = _uri(figure_bytes(drawn, ".svg"))
    records = {record.index: record for record in one.records}
    names = class_names(run)
    cards = []
    for picture in one.pictures:
        if picture.item not in records:
            raise UserError(f"{one.path}: the picture of try {picture.item} has no result")
        cards.append(_card(picture, records[picture.item], names))
    return AttackPanel(one.name, figure, flip_remarks(one.found, one.records), cards)


def _card(picture: AttackPicture, record: ImageRecord, names: Mapping[int, str]) -> AttackCard:
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
    return AttackCard(attack.image, shown, try_name(attack), answer, facts, pictures)


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
