"""Stage `sample`: draw the generated data set in the form of the format: garments, or museum objects."""

from labelstack.params import load_params
from labelstack.params.dataset import FASHIONAI, IMET, INSTANCES
from labelstack.stages import paths
from labelstack.stages.common import done, reachable
from labelstack.support.storage import replacing_dir


def run() -> None:
    """Write data/sample; only a note where params.yaml names another data set."""
    params = load_params()
    reachable(params)
    if params.dataset.root.rstrip("/") != paths.SAMPLE:
        with replacing_dir(paths.SAMPLE) as folder:
            (folder / "README").write_text(f"No sample drawn: dataset.root is {params.dataset.root}\n")
        done("sample", f"nothing to draw, dataset.root is {params.dataset.root}", paths.SAMPLE)
        return
    from pathlib import Path

    from labelstack.sample import draw_attributes, draw_dataset, draw_instances, draw_museum

    of_format = {IMET: draw_museum, FASHIONAI: draw_attributes, INSTANCES: draw_instances}
    summary = of_format.get(params.dataset.format, draw_dataset)(Path(paths.SAMPLE), params.sample, params.seed)
    counts = ", ".join(f"{summary[f'n_{split}']} {split}" for split in paths.SPLITS if f"n_{split}" in summary)
    done("sample", f"{counts} images, {summary['n_labels']} labels", paths.SAMPLE)
