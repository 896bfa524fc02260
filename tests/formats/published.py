"""Files in exactly the form of the published ones of iMaterialist (Fashion) 2018, at any size.

``train.json`` and ``validation.json`` hold ``imageId`` as text and ``labelId`` as a list of texts, unsorted and
sometimes repeated; ``test.json`` holds ``imageId`` as a number, and its first images are those of validation: same id,
same URL. The JSON is indented, a URL is a plain text without an extension. Also: label map and sample submission.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

SIZES = {"train": 1_014_544, "validation": 9_897, "test": 39_706}
PAGE_SIZES = {"train": 1_014_544, "validation": 10_586, "test": 42_590}  # as the competition's page gives them
N_LABELS = 228
NOT_IN_VALIDATION = (46, 161, 162)
TASKS = {5: "category", 2: "colour", 7: "gender", 3: "material", 4: "neckline", 6: "pattern", 1: "sleeve", 8: "style"}
SPELLINGS = {"camel": ("imageId", "labelId"), "snake": ("image_id", "label_id")}
_PIECE = 50_000
_HOSTS = ("contestimg.example-shop.com", "img.example.net", "cdn.fashion.example.org")
_BESIDE = '  "info": {\n    "year": 2018,\n    "version": "1.0"\n  },\n  "license": {},\n'


def write_published(
    root: Path, sizes: dict[str, int] | None = None, spelling: str = "camel", seed: int = 0
) -> dict[str, int]:
    """Write train.json, validation.json and test.json, piece by piece; same sizes and seed, same content.

    Parameters
    ----------
    sizes : images of each split; those of the published files by default
    spelling : ``camel`` (imageId, labelId, as published) or ``snake`` (image_id, label_id)

    Returns
    -------
    dict
        The sizes.
    """
    sizes = SIZES | (sizes or {})
    root.mkdir(parents=True, exist_ok=True)
    image, label = SPELLINGS[spelling]
    for place, split in enumerate(sizes):
        n = sizes[split]
        with (root / f"{split}.json").open("w", encoding="ascii", newline="\n") as file:
            file.write("{\n" + (_BESIDE if split == "train" else "") + '  "images": [\n')
            file.writelines(_joined(_images(_urls(split, sizes, seed), image, quoted=split != "test")))
            if split != "test":
                file.write('\n  ],\n  "annotations": [\n')
                without = NOT_IN_VALIDATION if split == "validation" else ()
                random = np.random.default_rng([seed, place])
                file.writelines(_joined(_annotations(random, n, image, label, without)))
            file.write("\n  ]\n}\n")
    return sizes


def label_map(*, bom: bool = False) -> bytes:
    """The label map: 228 labels in 8 tasks, CRLF, no line end after the last, and names with commas in quotes."""
    tasks = list(TASKS.items())
    lines = ["labelId,taskId,labelName,taskName"]
    for label in range(1, N_LABELS + 1):
        task, task_name = tasks[label % len(tasks)]
        name = f'"Tops, Tees {label}"' if label % 60 == 7 else f"Name {label}"
        lines.append(f"{label},{task},{name},{task_name}")
    return (b"\xef\xbb\xbf" if bom else b"") + "\r\n".join(lines).encode("ascii")


def sample_submission(test_ids: list[int], header: str = "image_id,label_id") -> str:
    """A sample submission: the header, and the same labels for every image."""
    return f"{header}\n" + "".join(f"{image},95 66\n" for image in test_ids)


def _urls(split: str, sizes: dict[str, int], seed: int) -> Iterator[list[str]]:
    """URLs of a split, piece by piece; the test split begins with those of validation."""
    remaining = sizes[split]
    if split == "test":
        for piece in _urls("validation", sizes, seed):
            taken = piece[:remaining]
            remaining -= len(taken)
            yield taken
    random = np.random.default_rng([seed, 10 + list(sizes).index(split)])
    while remaining > 0:
        size = min(_PIECE, remaining)
        tokens = random.bytes(12 * size).hex()
        hosts = random.integers(len(_HOSTS), size=size).tolist()
        yield [f"https://{_HOSTS[hosts[i]]}/api/webimage/{tokens[24 * i : 24 * i + 24]}-large" for i in range(size)]
        remaining -= size


def _joined(pieces: Iterator[list[str]]) -> Iterator[str]:
    first = True
    for piece in pieces:
        if piece:
            yield ("" if first else ",\n") + ",\n".join(piece)
            first = False


def _images(pieces: Iterator[list[str]], image: str, *, quoted: bool) -> Iterator[list[str]]:
    quote, number = '"' if quoted else "", 1
    for urls in pieces:
        yield [
            f'    {{\n      "url": "{url}",\n      "{image}": {quote}{i}{quote}\n    }}'
            for i, url in enumerate(urls, start=number)
        ]
        number += len(urls)


def _annotations(
    random: np.random.Generator, n: int, image: str, label: str, without: tuple[int, ...]
) -> Iterator[list[str]]:
    """One to nineteen labels an image, about six in the mean; one image in fifty says a label twice."""
    names = np.setdiff1d(np.arange(1, N_LABELS + 1), without)
    weight = 1 / (np.arange(len(names)) + 6) ** 1.2
    edges = np.cumsum(weight / weight.sum())
    texts = [f'        "{name}"' for name in random.permutation(names)]
    for start in range(0, n, _PIECE):
        stop = min(n, start + _PIECE)
        ends = np.cumsum(1 + random.binomial(18, 0.32, stop - start)).tolist()
        drawn = np.minimum(np.searchsorted(edges, random.random(ends[-1])), len(names) - 1).tolist()
        piece = []
        for i, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True), start=start + 1):
            rows = drawn[first:last] if i % 50 == 0 else dict.fromkeys(drawn[first:last])
            listed = ",\n".join([texts[k] for k in rows])
            piece.append(f'    {{\n      "{label}": [\n{listed}\n      ],\n      "{image}": "{i}"\n    }}')
        yield piece
