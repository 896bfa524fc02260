"""Stage `sample`: draw the generated garment data set."""

from labelstack.params import load_params
from labelstack.pipeline.common import done, reachable
from labelstack.storage import replacing_dir

ROOT = "data/sample"


def run() -> None:
    """Write data/sample; only a note where params.yaml names another data set."""
    params = load_params()
    reachable(params)
    if params.dataset.root.rstrip("/") != ROOT:
        with replacing_dir(ROOT) as folder:
            (folder / "README").write_text(f"No sample drawn: dataset.root is {params.dataset.root}\n")
        done("sample", f"nothing to draw, dataset.root is {params.dataset.root}", ROOT)
        return
    from pathlib import Path

    from labelstack.sample import draw_dataset

    summary = draw_dataset(Path(ROOT), params.sample, params.seed)
    counts = ", ".join(f"{summary[f'n_{split}']} {split}" for split in ("train", "validation", "test"))
    done("sample", f"{counts} images, {summary['n_labels']} labels", ROOT)
