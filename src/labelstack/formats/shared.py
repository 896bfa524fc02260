"""What splits have in common: URLs, and whole images. Scores of images that were learned from flatter."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pandas as pd


def shared_counts(manifests: dict[str, pd.DataFrame]) -> dict[str, dict[str, int]]:
    """For each pair of splits: URLs that stand in both, and images with the same id and a common URL.

    Parameters
    ----------
    manifests : split -> DataFrame[image_id, url list of str]

    Returns
    -------
    dict
        ``urls`` and ``images``, each ``<split>_<split>`` -> count.
    """
    urls, images = {}, {}
    for one, other in combinations(manifests, 2):
        small, large = sorted((manifests[one], manifests[other]), key=len)
        within = set(chain.from_iterable(small["url"]))
        urls[f"{one}_{other}"] = len(within.intersection(chain.from_iterable(large["url"])))
        images[f"{one}_{other}"] = _same_images(small, large)
    return {"urls": urls, "images": images}


def _same_images(one: pd.DataFrame, other: pd.DataFrame) -> int:
    ids = one["image_id"].to_numpy(), other["image_id"].to_numpy()
    _, left, right = np.intersect1d(*ids, assume_unique=True, return_indices=True)
    pairs = zip(one["url"].to_numpy()[left], other["url"].to_numpy()[right], strict=True)
    return sum(not set(a).isdisjoint(b) for a, b in pairs)
