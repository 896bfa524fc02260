"""Keys as the competition's page spells them and as its files do; wrong and mixed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.files import GOOD, problems_of, respelled, with_change, write
from labelstack.formats import imaterialist2018
from labelstack.formats.spelling import Spelling
from labelstack.support.errors import InputProblems

CAMEL = {"image_id": "imageId", "label_id": "labelId"}


def test_both_spellings_give_the_same_data_set(tmp_path: Path) -> None:
    page = imaterialist2018.read(write(tmp_path / "page", GOOD))
    published = imaterialist2018.read(write(tmp_path / "published", respelled(GOOD, CAMEL)))
    for split, manifest in page.manifests.items():
        pd.testing.assert_frame_equal(manifest, published.manifests[split])
    pd.testing.assert_frame_equal(page.labels, published.labels)
    assert page.counts == published.counts


def test_each_file_may_have_its_own_spelling(tmp_path: Path) -> None:
    content = GOOD | {"train": respelled(GOOD["train"], CAMEL)}
    assert (
        imaterialist2018.read(write(tmp_path, content)).counts
        == imaterialist2018.read(write(tmp_path / "page", GOOD)).counts
    )


def test_two_spellings_in_one_file_are_one_problem(tmp_path: Path) -> None:
    def mix(content: dict[str, Any]) -> None:
        train = content["train"]
        train["images"][1] = respelled(train["images"][1], CAMEL)
        train["annotations"] = respelled(train["annotations"], {"label_id": "labelId"})

    assert problems_of(write(tmp_path, with_change(mix))) == [
        "train.json: expected one spelling of the keys, found two: image_id in 3 records (first images[0]); "
        "and imageId in 1 record (first images[1]), labelId in 2 records (first annotations[0])"
    ]


def test_both_spellings_in_one_record_are_two(tmp_path: Path) -> None:
    content = with_change(lambda c: c["test"]["images"][1].update(imageId="04"))
    (problem,) = problems_of(write(tmp_path, content))
    assert problem.endswith("image_id in 2 records (first images[0]); and imageId in 1 record (first images[1])")


def test_a_key_that_means_nothing_here_may_be_there(tmp_path: Path) -> None:
    def beside(content: dict[str, Any]) -> None:
        content["test"]["images"][0]["labelId"] = [1]
        content["train"]["annotations"][0]["url"] = "x"
        content["train"] |= {"info": {"year": 2018}, "license": {}}

    imaterialist2018.read(write(tmp_path, with_change(beside)))


@pytest.mark.parametrize("spelling", [{}, CAMEL])
@pytest.mark.parametrize("label", [7, "7", "007"])
def test_a_label_that_is_no_list_is_one(tmp_path: Path, spelling: dict[str, str], label: Any) -> None:
    content = with_change(lambda c: c["train"]["annotations"][1].update(label_id=label))
    dataset = imaterialist2018.read(write(tmp_path, respelled(content, spelling)))
    assert dataset.manifests["train"]["label_id"].tolist() == [[7], [3, 7]]


@pytest.mark.parametrize("label", ["x", "", "3 7", -3, 229, "229", 2**31])
def test_a_label_that_is_no_list_is_checked(tmp_path: Path, label: Any) -> None:
    content = with_change(lambda c: c["train"]["annotations"][1].update(label_id=label))
    assert problems_of(write(tmp_path, content), (1, 228)) == [
        "train.json: annotations[1] (image_id 2): label_id: expected a label id of 1…228 (dataset.label_ids), "
        f"found {json.dumps(label)}"
    ]


WRONG = ["image_ID", "imgId", "ImageId", "id", "image-id", "imageid", "image id"]


@pytest.mark.parametrize("wrong", WRONG)
def test_one_wrong_key_in_every_record_is_one_problem(tmp_path: Path, wrong: str) -> None:
    images = [{"url": f"http://a/{i}", "image_id": i} for i in range(500)]
    annotations = [{"image_id": i, "label_id": [3]} for i in range(500)]
    train = respelled({"images": images, "annotations": annotations}, {"image_id": wrong})
    (problem,) = problems_of(write(tmp_path, GOOD | {"train": train}))
    assert problem.startswith("train.json: image_id: expected an integer of 0…")
    assert problem.endswith(
        f"the nearest is {json.dumps(wrong)} (1,000 times, first in images[0], images[1], images[2], …)"
    )


@pytest.mark.parametrize(
    ("key", "wrong", "message"),
    [
        ("label_id", "labels", "label_id: expected a list of label ids, found no such key"),
        ("label_id", "label_Id", "label_id: expected a list of label ids, found no such key"),
        ("url", "URL", "url: expected a non-empty string or a list of such, found no such key"),
        ("url", "urls", "url: expected a non-empty string or a list of such, found no such key"),
    ],
)
def test_other_wrong_keys_are_one_problem_too(tmp_path: Path, key: str, wrong: str, message: str) -> None:
    content = GOOD | {"train": respelled(GOOD["train"], {key: wrong})}
    (problem,) = problems_of(write(tmp_path, content))
    assert problem.startswith(f"train.json: {message}, the nearest is {json.dumps(wrong)} (2 times, first in ")


def test_a_key_missing_beside_published_ones_is_called_as_they_are(tmp_path: Path) -> None:
    train = respelled(GOOD["train"], {"image_id": "imageId", "label_id": "lable"})
    (problem,) = problems_of(write(tmp_path, GOOD | {"train": train}))
    assert problem.startswith("train.json: labelId: expected a list of label ids, found no such key, the nearest is ")


def test_an_image_id_that_most_records_lack_is_one_problem(tmp_path: Path) -> None:
    """Annotations whose image can't be told are no further problem."""
    images = [{"url": f"http://a/{i}", "image_id" if i < 5 else "image_ID": i} for i in range(100)]
    annotations = [{"image_id": i, "label_id": [3]} for i in range(100)]
    content = GOOD | {"train": {"images": images, "annotations": annotations}}
    (problem,) = problems_of(write(tmp_path, content))
    assert problem.endswith('the nearest is "image_ID" (95 times, first in images[5], images[6], images[7], …)')


@pytest.mark.parametrize("spelling", [{}, CAMEL])
def test_answers_are_read_in_both_spellings(tmp_path: Path, spelling: dict[str, str]) -> None:
    path = tmp_path / "answers.json"
    answers = {"annotations": [{"image_id": 9, "label_id": ["7", 3]}, {"image_id": "4", "label_id": 7}]}
    path.write_text(json.dumps(respelled(answers, spelling)))
    found = imaterialist2018.answers(path, pd.DataFrame({"label_id": [3, 7]}))
    assert found.to_dict("list") == {"image_id": [9, 4], "label_id": [[3, 7], [7]]}


def test_answers_with_two_spellings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text('{"annotations": [{"image_id": 9, "label_id": [7]}, {"imageId": 4, "labelId": [7]}]}')
    with pytest.raises(InputProblems, match="expected one spelling of the keys, found two"):
        imaterialist2018.answers(path, pd.DataFrame({"label_id": [7]}))


keys = st.lists(st.sampled_from(["image_id", "imageId", "label_id", "labelId", "url", "x"]), unique=True)


@settings(max_examples=100, deadline=None)
@given(st.lists(keys, max_size=8), st.lists(keys, max_size=8))
def test_a_mixture_is_seen_exactly_when_both_spellings_are_there(
    images: list[list[str]], annotations: list[list[str]]
) -> None:
    spelling = Spelling()
    for section, records in (("images", images), ("annotations", annotations)):
        for number, record in enumerate(records):
            spelling.of(section, dict.fromkeys(record), number)
    used = {key for record in images for key in record if key in ("image_id", "imageId")}
    used |= {key for record in annotations for key in record if key not in ("url", "x")}
    mixture = spelling.mixture()
    assert (mixture is not None) == bool({"image_id", "label_id"} & used and {"imageId", "labelId"} & used)
    for key in used if mixture else ():
        count = sum(key in record for record in annotations)
        count += sum(key in record for record in images) if key in ("image_id", "imageId") else 0
        assert f"{key} in {count} record" in str(mixture)
