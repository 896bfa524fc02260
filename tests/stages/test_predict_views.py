"""A tiny network shown several views: the stage's predictions, a registered ensemble's, and those of a probe."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit, logit

from labelstack.ensemble.ensemble import Ensemble
from labelstack.ensemble.folder import Parts, assemble_folder, read_spec
from labelstack.ensemble.recompute import Members, probe_predictions, shard_predictions
from labelstack.ensemble.record import ProbeImages
from labelstack.images.pixels.decode import to_stored_jpeg
from labelstack.images.pixels.tta import Looks, part_seen
from labelstack.images.shards.shard_files import KEY_LENGTH, Shard, write_shard
from labelstack.params import Params
from labelstack.params.models import ModelSection
from labelstack.predictions import Predictions, read_predictions
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages import paths
from labelstack.stages.fold_files import Asked, Part, write_asked
from labelstack.stages.members import Network
from labelstack.stages.version_parts import network_part, settings_of
from labelstack.stages.work.predict_network import compute
from tiny import REPOSITORY, merged

SHIPPED = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
N, SIZE, N_LABELS = 11, 16, 3
NETWORK: dict[str, Any] = {
    "backbone": "small_cnn",
    "image_size": SIZE,
    "options": {"filters": [4, 4]},
    "head": {"units": [], "dropout": 0},
}
VIEWS = {
    "close": {"crop": "top_left", "share": 0.5},
    "square": {"crop": "right", "scale": 1.25, "flip": True},
    "near": {"random_crop": [0.5, 1], "n": 2},
}
FOUR = ["identity", "hflip", "close", "square"]


def photo(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((60, 44)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


PHOTOS = [photo(number) for number in range(N)]
STORED = [to_stored_jpeg(data, 32, 90)[0] for data in PHOTOS]
IDS = np.arange(101, 101 + N)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards of all splits, an untrained network and the rows that are asked of it."""
    import keras

    from labelstack.networks.inference import save_model
    from labelstack.networks.model import build_model
    from labelstack.networks.tasks import multi_label

    folder = tmp_path_factory.mktemp("views")
    keras.utils.set_random_seed(0)
    section = ModelSection(**NETWORK)
    network = build_model(section, multi_label(section, N_LABELS))
    network.get_layer("logits").set_weights([w * 3 for w in network.get_layer("logits").get_weights()])
    with chdir(folder):
        own = Network("net", "all")
        own.folder.mkdir(parents=True)
        save_model(network, own.weights)
        for split in paths.SPLITS:
            for number, rows in enumerate((slice(0, 7), slice(7, N))):  # batches end with the shard
                sides = np.full(len(IDS[rows]), 32, np.int32)
                shard = Shard(IDS[rows], STORED[rows], ["ok"] * len(sides), sides, sides)
                keys = ["0" * KEY_LENGTH] * len(sides)
                write_shard(paths.shards(split) / f"shard-{number:05d}.parquet", shard, keys)
        write_asked("all", Asked(Part("validation", IDS[:5])))
    return folder


@pytest.fixture
def here(made: Path) -> Iterator[Path]:
    with chdir(made):
        yield made


def params(batch_size: int = 4, own: list[str] | None = None, **prediction: Any) -> Params:
    change = {
        "models": {"net": NETWORK | ({} if own is None else {"tta": own})},
        "images": {"store_size": 32},
        "prediction": {"views": VIEWS, "batch_size": batch_size, **prediction},
        "tracking": {"probe_images": 6},
    }
    return Params.model_validate(merged(SHIPPED, change))


def predicted(given: Params) -> Predictions:
    """What the stage `predict` writes of the test split."""
    found = compute(given, Network("net", "all"), "code")
    assert found.oof == 5
    assert not Path("data/work/predict/net-all").exists()
    return read_predictions(Network("net", "all").predictions / "test.npy")


def by_hand(given: Params, stored: bytes, image_id: int) -> NDArray[np.float32]:
    """Probabilities of each view alone, float32 [views, n_labels]: Pillow's crops, one pass each."""
    from labelstack.images.pixels.decode import to_square
    from labelstack.networks.inference import compile_predict, load_model

    forward = compile_predict(load_model(Network("net", "all").weights))
    image = Image.open(io.BytesIO(stored)).convert("RGB")
    rows = []
    for view in given.views_of("net", "all").values():
        left, top, width, height = part_seen(view, image.width, image.height, image_id)
        square = to_square(np.array(image.crop((left, top, left + width, top + height))), SIZE)
        rows.append(forward((square[:, ::-1] if view.flip else square)[None])[0])
    return np.stack(rows)


@pytest.mark.usefixtures("here")
def test_a_prediction_is_the_mean_over_four_views() -> None:
    given = params(tta=FOUR)
    found = predicted(given)
    assert found.image_id.tolist() == IDS.tolist()
    alone = np.stack([by_hand(given, stored, int(i)) for stored, i in zip(STORED, IDS, strict=True)])
    assert np.ptp(alone, axis=1).max() > 0.01  # views that differ
    np.testing.assert_allclose(found.probability, alone.mean(axis=1), atol=2e-3)  # decoders differ in last bits


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_views_are_alike_in_any_batch(batch_size: int) -> None:
    tta = [*FOUR, "near"]
    first = predicted(params(tta=tta)).probability
    np.testing.assert_allclose(predicted(params(batch_size, tta=tta)).probability, first, atol=1e-6)


@pytest.mark.usefixtures("here")
def test_a_models_own_list_goes_before_the_others() -> None:
    first = predicted(params(tta=["close"])).probability
    np.testing.assert_array_equal(predicted(params(tta=["hflip"], own=["close"])).probability, first)
    assert np.abs(predicted(params(tta=["hflip"])).probability - first).max() > 0.001


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tta", [["identity", "hflip"], FOUR])
def test_the_mean_of_logits_becomes_a_probability(tta: list[str]) -> None:
    alone = [predicted(params(tta=[name])).probability.astype(np.float64) for name in tta]
    found = predicted(params(tta=tta, combine="logit")).probability
    np.testing.assert_allclose(found, expit(np.mean([logit(row) for row in alone], axis=0)), atol=1e-5)
    assert np.abs(found - np.mean(alone, axis=0)).max() > 1e-5


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tta", [["identity"], ["identity", "hflip"], ["hflip", "hflip", "identity"]])
def test_lists_of_whole_views_give_the_bits_that_they_ever_gave(tta: list[str]) -> None:
    """A pass of every batch for each, float32 means, as before there were others."""
    from labelstack.images.pixels.decode import decode
    from labelstack.networks.inference import compile_predict, load_model

    forward = compile_predict(load_model(Network("net", "all").weights))
    rows = []
    for batch in (slice(0, 4), slice(4, 7), slice(7, 11)):
        images = np.stack([decode(stored, SIZE) for stored in STORED[batch]])
        passes = [forward(images if name == "identity" else np.ascontiguousarray(images[:, :, ::-1])) for name in tta]
        rows.append(np.mean(passes, axis=0, dtype=np.float32))
    assert predicted(params(tta=tta)).probability.tobytes() == np.concatenate(rows).tobytes()


def ensemble_of(folder: Path, given: Params) -> Path:
    """The folder of an ensemble of this network alone, as `register` makes it."""
    files = folder / "files"
    files.mkdir(parents=True)
    (files / "blend.json").write_text(json.dumps({"weights": {"net": 1.0}}))
    decision = Decision("global", thresholds=np.full(N_LABELS, 0.5, np.float32)).to_dict()
    thresholds = {str(label): 0.5 for label in range(N_LABELS)}
    rule = {"strategy": "global", "thresholds": thresholds, "decision": decision}
    (files / "thresholds.json").write_text(json.dumps(rule))
    labels = [(label, f"label {label}") for label in range(N_LABELS)]
    made_of = {"net": [network_part(given, Network("net", "all"))]}
    made = Parts(made_of, {}, files / "blend.json", files / "thresholds.json", labels, settings_of(given))
    assemble_folder(folder / "ensemble", made)
    return folder / "ensemble"


CASES = {
    "whole": {"tta": ["identity", "hflip"]},
    "four": {"tta": FOUR},
    "ten": {"tta": ["ten_crops"]},
    "own": {"tta": ["hflip"], "own": ["close", "identity"]},
    "logits": {"tta": FOUR, "combine": "logit"},
    "few in a batch": {"tta": ["ten_crops"], "batch_size": 3},
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("case", CASES)
def test_new_images_get_the_views_of_the_pipeline(case: str, tmp_path: Path) -> None:
    """Bytes of the photos, not of the shards, as `labelstack predict` and a server hand them over."""
    given = params(**CASES[case])
    expected = predicted(given).probability
    served = Ensemble.load(ensemble_of(tmp_path, given)).predict(PHOTOS, all_probabilities=True, progress=False)
    assert served["error"].tolist() == [None] * N
    np.testing.assert_allclose(np.stack(served["probabilities"].tolist()), expected, atol=1e-6)


@pytest.mark.usefixtures("here")
def test_new_images_draw_random_parts_from_their_bytes(tmp_path: Path) -> None:
    ensemble = Ensemble.load(ensemble_of(tmp_path, params(tta=["near"])))

    def probabilities(images: list[bytes]) -> list[list[float]]:
        return list(ensemble.predict(images, all_probabilities=True, progress=False)["probabilities"])

    together, turned = probabilities(PHOTOS), probabilities(PHOTOS[::-1])[::-1]
    np.testing.assert_allclose(together, turned, atol=1e-6)
    assert np.abs(np.array(together) - predicted(params(tta=["identity"])).probability).max() > 0.001


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tta", [["identity", "hflip"], [*FOUR, "near"]])
def test_a_rebuilt_version_gives_every_bit_again(tta: list[str], tmp_path: Path) -> None:
    """From probe images, which are whole prediction batches, and from all shards."""
    given = params(tta=tta)
    expected, folder = predicted(given), ensemble_of(tmp_path, given)
    spec = read_spec(folder)
    members = Members.of(folder, spec)
    again = shard_predictions(members, spec, paths.shards("test"), "net")
    assert again.image_id.tolist() == IDS.tolist()
    assert again.probability.tobytes() == expected.probability.tobytes()
    probe = ProbeImages(IDS[:7], STORED[:7], np.array([0] * 4 + [1] * 3))
    assert probe_predictions(members, spec, probe, "net").tobytes() == expected.probability[:7].tobytes()


@pytest.mark.usefixtures("here")
def test_what_is_kept_names_views_only_where_they_are_not_the_usual(tmp_path: Path) -> None:
    """Ensembles without new views are found as the versions that they were."""
    plain = ensemble_of(tmp_path / "plain", params(tta=["identity", "hflip"]))
    own = ensemble_of(tmp_path / "own", params(tta=["close"], own=["hflip", "square"]))
    described = [json.loads((folder / "ensemble.json").read_text()) for folder in (plain, own)]
    assert described[0]["models"] == {"net": {"image_size": SIZE, "resize": "stretch"}}
    assert described[0]["settings"]["tta"] == ["identity", "hflip"]
    assert described[1]["models"]["net"]["tta"] == ["hflip", {"crop": "right", "scale": 1.25, "flip": True}]
    assert described[1]["settings"]["tta"] == [{"crop": "top_left", "share": 0.5}]
    del described[0]["settings"]["combine"]  # as a version of before
    (plain / "ensemble.json").unlink()
    (plain / "ensemble.json").write_text(json.dumps(described[0]))
    spec = read_spec(plain)
    assert spec.settings.combine == "probability"
    assert Looks(spec.tta(spec.views["net"]["all"]), SIZE).transforms[1].__name__ == "hflip"
