"""Stage `sample`: draw the generated data set, garments or, in the form of iMet 2019, museum objects."""

from labelstack.params import load_params
from labelstack.params.dataset import IMET
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

    from labelstack.sample import draw_dataset, draw_museum

    draw = draw_museum if params.dataset.format == IMET else draw_dataset
    summary = draw(Path(paths.SAMPLE), params.sample, params.seed)
    counts = ", ".join(f"{summary[f'n_{split}']} {split}" for split in paths.SPLITS if f"n_{split}" in summary)
    done("sample", f"{counts} images, {summary['n_labels']} labels", paths.SAMPLE)
