"""Operations that `augment.one_of` chooses from: names, usual strengths and their bounds."""

from __future__ import annotations

from typing import NamedTuple


class Strengths(NamedTuple):
    """What an operation's strength, drawn from a range, may be."""

    usual: tuple[float, float]
    least: float
    most: float


OPERATIONS: dict[str, Strengths] = {
    "gaussian_noise": Strengths((5, 15), 0, 255),  # standard deviation, of 255, the same for all channels
    "colour_noise": Strengths((5, 15), 0, 255),  # each channel its own
    "gaussian_blur": Strengths((0.5, 1.5), 0, 50),  # pixels, standard deviation
    "motion_blur": Strengths((3, 7), 3, 99),  # pixels, length
    "median_blur": Strengths((3, 5), 3, 99),  # pixels, side
    "box_blur": Strengths((2, 3), 2, 99),  # pixels, side
    "optical": Strengths((-0.3, 0.3), -1, 1),  # radial distortion, k1 = k2; below 0 a barrel
    "elastic": Strengths((5, 20), 0, 500),  # pixels, how far waves move
    "perspective": Strengths((0.02, 0.08), 0, 0.3),  # share of the sides, how far corners move
    "clahe": Strengths((1, 4), 0.1, 40),  # clip limit
    "sharpen": Strengths((0.2, 0.5), 0, 1),  # share of the sharpened image
    "emboss": Strengths((0.2, 0.5), 0, 1),  # share of the embossed image
    "brightness": Strengths((0.8, 1.2), 0, 10),  # factor
    "contrast": Strengths((0.8, 1.2), 0, 10),  # factor around mid-grey
    "gamma": Strengths((0.8, 1.2), 0.1, 10),  # exponent
    "hue_and_saturation": Strengths((-8, 8), -255, 255),  # of 255
}
