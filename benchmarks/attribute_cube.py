"""The second level by label group on a generated cube: its mAP against the plain mean's, cross-fitted.

    python benchmarks/attribute_cube.py [--rows 10000] [--models 16] [--seed 0] [--members default] [--json FILE]

Writes the cube (stacking/bench/attribute_generator.py says how it is made), then does what
`labelstack bench CUBE --params default` does; the notes below its table compare the blend with the plain mean of the
same members and of the models alone.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from labelstack.commands import bench
from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.params.second_level_file import default_second_level, for_label_groups
from labelstack.scoring.metric import metric_of
from labelstack.stacking.bench.attribute_generator import generate_attributes
from labelstack.stacking.crossfit import fit_blend
from labelstack.stacking.folds import assign_folds


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", default="best_single,default")
    parser.add_argument("--json")
    asked = parser.parse_args()
    data = generate_attributes(asked.rows, asked.models, seed=asked.seed)
    level = for_label_groups(default_second_level(), shipped=True)
    folds = assign_folds(data.labels, level.folds.k, level.folds.seed)
    models = {name: data.cube[:, i] for i, name in enumerate(data.models)}
    plain = BlendSection(method="equal", calibration="none")
    by = {"metric": level.metric, "thresholds": level.thresholds, "asked": data.asked}
    mean = fit_blend(models, data.labels, folds, blend_params=plain, **by).cross_fitted
    for primary in ("attribute_map", "basic_precision"):
        metric = metric_of(MetricSection(primary=primary))
        print(
            f"plain mean of the models: {metric.title} {metric.score(mean.answers, mean.given(metric)):.5f}", flush=True
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cube.npz"
        named = ("cube", "labels", "known", "maybe")
        np.savez(file, groups=np.array(data.groups), **{name: getattr(data, name) for name in named})
        bench.run(str(file), "default", asked.members, json=asked.json)


if __name__ == "__main__":
    main()
