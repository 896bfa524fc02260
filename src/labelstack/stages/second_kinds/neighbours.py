"""The kind `neighbours`: a base model's features, and the labels of the rows nearest by them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from labelstack.params.label_propagation import NeighboursSection
from labelstack.params.task import SINGLE
from labelstack.stages import paths
from labelstack.stages.members import Network
from labelstack.stages.rows import Rows
from labelstack.stages.second_kinds.kind import SecondKind
from labelstack.support.errors import UserError

if TYPE_CHECKING:
    from labelstack.stages.trained import Trained

_BATCH = 256
_TOLD = 1024  # rows whose loss is told


class Looked(SecondKind):
    """Each network is that of its own fold and looks among the rows that it learnt from: none is of the fold."""

    def made(self, own: Network, rows: Rows) -> Trained:
        """Compute the features of the rows and write the network that looks labels up among them.

        Raises
        ------
        UserError
            When rows know one label group each.
        """
        from labelstack.images.loader import evaluation_batches
        from labelstack.networks.determinism import make_deterministic
        from labelstack.networks.inference import compile_predict, load_model, save_model, weights_digest
        from labelstack.networks.nearest_neighbours import features_model, unit_rows, with_neighbours
        from labelstack.stages.trained import Trained
        from labelstack.support.storage import replacing

        if rows.known is not None:
            raise UserError(
                f"second_round.{own.model}: rows of {rows.split} know one label group each, so neighbours say nothing "
                "of the others: leave it out"
            )
        section, start = cast(NeighboursSection, self.section), time.monotonic()
        make_deterministic(self.params.seed)
        first = load_model(Network(section.after[0], own.fold).weights)
        seen = self.params.network(own.model, own.fold)
        forward = compile_predict(features_model(first))
        size, view = seen.image_size, seen.region_view
        batches = evaluation_batches(paths.shards("train"), rows.image_id, size, _BATCH, seen.resize, view=view)
        ids, parts = zip(*((i, forward(images)) for i, images in batches), strict=True)
        order = np.argsort(np.concatenate(ids), kind="stable")
        features = np.concatenate(parts)[order[np.searchsorted(np.concatenate(ids)[order], rows.image_id)]]
        exclusive = self.params.dataset.task == SINGLE
        network = with_neighbours(first, features, rows.Y, section.k, section.sharpness, exclusive=exclusive)
        loss = left_out_loss(unit_rows(features), rows.Y, section.k, section.sharpness)
        save_model(network, own.weights)
        import pandas as pd

        history = pd.DataFrame([{"epoch": 1, "loss": loss, "seconds": time.monotonic() - start}])
        with replacing(own.history) as temporary:
            history.to_csv(temporary, index=False)
        return Trained(history, 1, weights_digest(network))


def left_out_loss(kept: NDArray[np.float16], Y: NDArray[np.bool_], k: int, sharpness: float) -> float:
    """Cross-entropy of up to 1,024 of the kept rows, each answered by its neighbours without itself.

    Parameters
    ----------
    kept : features [n, width] of length 1
    Y : bool [n, n_labels]
    """
    asked = np.linspace(0, len(kept) - 1, min(_TOLD, len(kept))).round().astype(np.int64)
    wide = kept.astype(np.float32)
    cosine = wide[asked] @ wide.T
    cosine[np.arange(len(asked)), asked] = -np.inf
    near = np.argsort(-cosine, axis=1, kind="stable")[:, : min(k, len(kept) - 1)]
    weight = np.exp(sharpness * (np.take_along_axis(cosine, near, axis=1) - 1).astype(np.float64))
    share = np.einsum("nk,nkl->nl", weight, Y[near]) / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return float(-np.where(Y[asked], np.log(share), np.log1p(-share)).mean())
