"""The `labelstack` command: what a person types, and `labelstack stage`, which dvc.yaml types."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from labelstack.support.errors import UserError


class _Commands(TyperGroup):
    """Says of a stage's name where the stage is."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name."""
        named = {command.name or getattr(command.callback, "__name__", "") for command in stages.registered_commands}
        if cmd_name in named and cmd_name not in self.commands:
            raise UserError(f"{cmd_name} is a stage of dvc.yaml: labelstack stage {cmd_name}")
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="labelstack",
    cls=_Commands,
    help="Labelled image URLs in; a tracked, stacked and rebuildable multi-label ensemble out. "
    "`dvc repro` runs the stages in order; `labelstack stage NAME` runs one, from the folder of dvc.yaml.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stages = typer.Typer(help="Run one stage of dvc.yaml as `dvc repro` would.", no_args_is_help=True)
LOOK = "Look at results"
USE = "Use, rebuild and share ensembles"
Name = Annotated[str, typer.Argument(help="A name under models:, second_round: or stackers: in params.yaml.")]
Fold = Annotated[str | None, typer.Argument(help="A number of base_models: in params.yaml, or all; default: each.")]


@stages.command()
def settings() -> None:
    """Write params with their defaults and digests of code, on which the other stages depend."""
    from labelstack.stages import settings as stage

    stage.run()


@stages.command()
def sample() -> None:
    """Draw the generated data set."""
    from labelstack.stages import sample as stage

    stage.run()


@stages.command()
def members(kind: Annotated[str, typer.Argument(help="base_models, second_round or stackers")]) -> None:
    """List what the next level is told of base models, second-round models or stackers."""
    from labelstack.stages import members as stage

    stage.run(kind)


@stages.command()
def ingest() -> None:
    """Check the competition's files and write the manifest."""
    from labelstack.stages import ingest as stage

    stage.run()


@stages.command()
def download(split: Annotated[str, typer.Argument(help="train, validation or test")]) -> None:
    """Download one split's images into shards."""
    from labelstack.stages import download as stage

    stage.run(split)


@stages.command()
def split() -> None:
    """Assign folds, hold-outs and audit rows, once for all stages."""
    from labelstack.stages import split as stage

    stage.run()


@stages.command()
def train(model: Name, fold: Fold = None) -> None:
    """Train the networks of one base model, or one of them."""
    from labelstack.stages import train as stage

    stage.run(model, fold)


@stages.command(name="predict")
def predict_rows(model: Name, fold: Fold = None) -> None:
    """Predict with the networks of one base model, or one of them, what they did not learn from."""
    from labelstack.stages import predict as stage

    stage.run(model, fold)


@stages.command()
def score(model: Name) -> None:
    """Put together what the networks of one base model predict, choose its decision rule and score it."""
    from labelstack.stages import score as stage

    stage.run(model)


@app.command(rich_help_panel=USE)
def predict(
    images: Annotated[
        list[str] | None, typer.Argument(help="Files, http(s) or s3 URLs, or a CSV with the column image.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A registered ensemble: models:/name/3, 3 or @champion (the default).")
    ] = None,
    all_probabilities: Annotated[bool, typer.Option(help="Give the probability of every label.")] = False,
    attributes: Annotated[
        str, typer.Option(help="Of one value for each attribute, those of these: names with commas between.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="A JSON object for each image instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write a CSV (or .jsonl) file instead.")] = None,
    draw: Annotated[
        Path | None, typer.Option(help="Of a version with segmenters, a folder for a picture of each photo's regions.")
    ] = None,
) -> None:
    """Label images with a registered ensemble, or the regions that it finds in photos."""
    from labelstack.commands import predict_images as command

    command.run(
        images or [],
        model,
        all_probabilities=all_probabilities,
        attributes=attributes,
        as_json=json,
        out=out,
        draw=draw,
    )


@stages.command(name="photo_folds")
def photo_folds(name: Name) -> None:
    """Deal photos into folds, so that each has segmenters that did not learn from it."""
    from labelstack.stages import photo_folds as stage

    stage.run(name)


@stages.command(name="region_rows")
def region_rows(name: Name) -> None:
    """Cut regions out of photos: rows whose labels are attributes."""
    from labelstack.stages import region_rows as stage

    stage.run(name)


@stages.command()
def segment(segmenter: Name, fold: Fold = None) -> None:
    """Train a network that gives every pixel a class."""
    from labelstack.stages import segment as stage

    stage.run(segmenter, fold)


@stages.command()
def regions(name: Name) -> None:
    """Find regions in photos by the segmenters, and score these."""
    from labelstack.stages import regions as stage

    stage.run(name)


@stages.command(name="submit_masks")
def submit_masks(name: Name) -> None:
    """Write the competition's file of masks, with attributes where they gain."""
    from labelstack.stages import submit_masks as stage

    stage.run(name)


@stages.command()
def views(model: Name) -> None:
    """Say which part of each image a second-round model sees."""
    from labelstack.stages import views as stage

    stage.run(model)


@stages.command()
def needs() -> None:
    """List what second-round models take of base models."""
    from labelstack.stages import needs as stage

    stage.run()


@stages.command()
def second(model: Name) -> None:
    """Train and predict with the networks of a second-round model, fold by fold."""
    from labelstack.stages import second as stage

    stage.run(model)


@stages.command(name="second_score")
def second_score(model: Name) -> None:
    """Put together what the networks of a second-round model predict, choose its decision rule and score it."""
    from labelstack.stages import second_score as stage

    stage.run(model)


@stages.command()
def stack(stacker: Name) -> None:
    """Fit one stacker, fold by fold, on the base models' predictions."""
    from labelstack.stages import stack as stage

    stage.run(stacker)


@stages.command()
def blend() -> None:
    """Search blend weights and thresholds on out-of-fold predictions."""
    from labelstack.stages import blend as stage

    stage.run()


@stages.command()
def evaluate() -> None:
    """Score every model, stacker and the blend on the same rows."""
    from labelstack.stages import evaluate as stage

    stage.run()


@stages.command()
def register() -> None:
    """Put the ensemble into the MLflow registry."""
    from labelstack.stages import register as stage

    stage.run()


@stages.command()
def submit() -> None:
    """Write the submission file."""
    from labelstack.stages import submit as stage

    stage.run()


@stages.command()
def report() -> None:
    """Write report/index.html."""
    from labelstack.stages import report as stage

    stage.run()


@app.command(rich_help_panel=LOOK)
def leaderboard() -> None:
    """Print the table of every model, stacker and the blend, and where to look next."""
    from labelstack.commands import leaderboard as stage

    stage.run()


@app.command(name="blend", rich_help_panel=LOOK)
def blends(
    file: Annotated[
        Path | None, typer.Option("--from", help="Also the weights of a blend.yml, written here or published.")
    ] = None,
) -> None:
    """Print what every way of finding the blend's weights scores; nothing is written."""
    from labelstack.commands import blend as command

    command.run(file)


@app.command(rich_help_panel=LOOK)
def bench(
    cube: Annotated[
        str | None,
        typer.Argument(help="An .npz with cube, labels (test_cube, test_labels, models); else the predictions here."),
    ] = None,
    params: Annotated[
        str | None, typer.Option(help="File with the second level's sections; `default`: the shipped ones.")
    ] = None,
    members: Annotated[
        str,
        typer.Option(help="Only these rows, with commas: best_single, base_models, default, stackers, models."),
    ] = "",
    reference_labels: Annotated[
        int, typer.Option(min=1, help="Labels on which scikit-learn's time per label is measured.")
    ] = 6,
    reference: Annotated[bool, typer.Option(help="Compare with scikit-learn's MultiOutputRegressor.")] = True,
    nested: Annotated[bool, typer.Option(help="Train without each pair of folds too, as folds.nested says.")] = True,
    strategy: Annotated[str | None, typer.Option(help="Decide by this instead of thresholds.strategy.")] = None,
    generate: Annotated[str | None, typer.Option(help="Make a cube up: images,models,labels.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the made-up cube.")] = 0,
    json: Annotated[str | None, typer.Option(help="Also write the result into this file.")] = None,
) -> None:
    """Compare every way of stacking on a cube of predictions."""
    from labelstack.commands import bench as command

    labels = reference_labels if reference else 0
    command.run(cube, params, members, labels, generate, seed, nested, strategy, json)


@app.command(rich_help_panel=LOOK)
def audit(
    member: Annotated[str, typer.Option(help="Whose out-of-fold probabilities are gone by.")] = "blend",
    to: Annotated[Path, typer.Option(help="Folder for doubts.csv and doubts.html.")] = Path("report"),
) -> None:
    """List labels that are likely wrong or missing, as a table that `dataset.corrections` takes, and a page."""
    from labelstack.commands import audit as command

    command.run(member, to)


@app.command(rich_help_panel=LOOK)
def graph(
    to: Annotated[Path, typer.Option(help="File to write.")] = Path("docs/graph.md"),
) -> None:
    """Write which stage depends on what: files, params, rooms of code."""
    from labelstack.commands import graph as command

    command.run(to)


@app.command(rich_help_panel=LOOK)
def check(
    recipe: Annotated[
        str | None, typer.Option(help="Check recipes/<name>.yaml instead, or `all` of them.", metavar="NAME")
    ] = None,
) -> None:
    """Check params.yaml and say what is wrong with it, for labelstack and for DVC."""
    from labelstack.commands import check as command

    command.run(recipe)


@app.command(rich_help_panel=USE)
def init(
    images: Annotated[Path, typer.Option(help="Folder of the images; of folders of images, one for each class.")],
    labels: Annotated[Path | None, typer.Option(help="CSV or parquet file with images and their labels.")] = None,
    to: Annotated[Path, typer.Option(help="Folder of dvc.yaml, where params.yaml is written.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Replace a params.yaml that was changed; it is kept.")] = False,
) -> None:
    """Write a params.yaml for images of your own, fit for this machine."""
    from labelstack.commands import init as command

    command.run(images, labels, to, force=force)


@app.command(rich_help_panel=USE)
def recipe(
    name: Annotated[str | None, typer.Argument(help="A file of recipes/ without .yaml; none: list them.")] = None,
    to: Annotated[Path, typer.Option(help="File to write it to.")] = Path("params.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that holds something else.")] = False,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Write nothing; run every stage on small data in a copy, in minutes.")
    ] = False,
    keep: Annotated[Path | None, typer.Option(help="A new folder to rehearse in, and to leave there.")] = None,
) -> None:
    """Write a recipe to params.yaml and say what it needs, or rehearse it."""
    if rehearse and name:
        from labelstack.commands import rehearse as rehearsal

        rehearsal.run(name, keep)
        return
    from labelstack.commands import recipe as command

    if rehearse or keep:
        raise UserError(
            "--keep goes with --rehearse, and --rehearse with a recipe's name: labelstack recipe lists them"
        )
    if name:
        command.run(name, to, force=force)
    else:
        command.listing()


@app.command(rich_help_panel=LOOK)
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on; other machines see it only if you change this.")] = (
        "127.0.0.1"
    ),
) -> None:
    """Open the MLflow UI over the store that params.yaml names."""
    from labelstack.commands import ui as command

    command.run(host, port)


@app.command(rich_help_panel=LOOK)
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="MLflow runs, registry versions (3, @champion), git revisions or DVC experiments."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write the comparison as a page.")] = None,
    row: Annotated[str, typer.Option(help="What is compared: blend, a stacker or a base model.")] = "blend",
    labels: Annotated[int, typer.Option(min=0, help="So many winners and losers among the labels.")] = 5,
    all_rows: Annotated[bool, typer.Option("--all-rows", help="Every model and stacker in the leaderboard.")] = False,
) -> None:
    """Compare runs, versions, revisions and experiments: scores with intervals, params, labels."""
    from labelstack.commands.compare import compare as command

    command.run(names or [], html=html, row=row, labels=labels, all_rows=all_rows)


@app.command(rich_help_panel=USE)
def rebuild(
    version: Annotated[str, typer.Argument(help="models:/labelstack/3, 3 or @champion.")],
    to: Annotated[Path, typer.Option(help="A new folder.")],
    verify: Annotated[bool, typer.Option("--verify", help="Predict the stored images again and compare.")] = False,
    submit: Annotated[bool, typer.Option("--submit", help="Write the submission again and compare its SHA-256.")] = (
        False
    ),
    images: Annotated[
        Path | None, typer.Option(help="Folder of test shards: predict all of them anew for the submission.")
    ] = None,
) -> None:
    """Rebuild a registered ensemble in a new folder, from nothing but the registry."""
    from labelstack.commands import rebuild as command

    command.run(version, to, verify=verify, submit=submit, images=images)


@app.command(rich_help_panel=USE)
def kernel(
    out: Annotated[Path, typer.Option(help="The script to write.")],
    model: Annotated[
        str | None,
        typer.Argument(help="models:/labelstack/3, 3, @champion (the default), or a folder of an ensemble's files."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder for the files to upload; default: beside the script.")
    ] = None,
    smaller: Annotated[
        bool, typer.Option("--smaller", help="Also fit what the script falls back on where its --hours are short.")
    ] = False,
) -> None:
    """Write an ensemble as one Python file that predicts without network, labelstack or MLflow, as on Kaggle."""
    from labelstack.commands import kernel as command

    command.run(model, out, weights, smaller=smaller)


@app.command(name="register", rich_help_panel=USE)
def register_alone(
    member: Annotated[
        str | None, typer.Option(help="A name under models: or second_round: in params.yaml, such as a student.")
    ] = None,
) -> None:
    """Register one model alone, to be served without the ensemble; its scores, size and speed beside the ensemble's."""
    if member is None:
        raise UserError("register is a stage of dvc.yaml: labelstack stage register; --member NAME: one model alone")
    from labelstack.stages import register as stage

    stage.run_alone(member)


@app.command(rich_help_panel=USE)
def promote(
    version: Annotated[str | None, typer.Argument(help="The version that becomes champion; none: list them.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")] = "",
    back: Annotated[bool, typer.Option("--back", help="Return to the champion before.")] = False,
) -> None:
    """Make a version the champion by hand, or show versions and who was champion when."""
    from labelstack.commands import promote as command

    command.run(version, reason=reason, back=back)


@app.command(rich_help_panel=USE)
def remote(
    url: Annotated[str, typer.Argument(help="s3://bucket/prefix")],
    endpoint_url: Annotated[str | None, typer.Option(help="Of an S3 server that is not AWS.")] = None,
    region: Annotated[str | None, typer.Option(help="The bucket's region.")] = None,
    profile: Annotated[str | None, typer.Option(help="A profile of the AWS configuration files.")] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the bucket if it is not there.")] = False,
    name: Annotated[str, typer.Option(help="Name of the DVC remote.")] = "storage",
    save_credentials: Annotated[
        bool, typer.Option("--save-credentials", help="Keep the credentials in .dvc/config.local, which git ignores.")
    ] = False,
) -> None:
    """Check an S3 bucket and make it the default DVC remote."""
    from labelstack.commands import remote as command

    command.run(
        url,
        endpoint_url=endpoint_url,
        region=region,
        profile=profile,
        create=create,
        name=name,
        save_credentials=save_credentials,
    )


@app.command(rich_help_panel=USE)
def recover() -> None:
    """Put right what a killed `dvc` left half-written: dvc.lock and .dvc/tmp/rwlock. `make repro` does so first."""
    from labelstack.commands import recover as command

    command.run()


@app.command(rich_help_panel=USE)
def sync() -> None:
    """Upload what was kept while the tracking server was away; record the commit of the results."""
    from labelstack.commands import sync as command

    command.run()


@app.command(rich_help_panel=USE)
def server(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on; other machines see it only if you change this.")] = (
        "127.0.0.1"
    ),
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A further host name that users type, such as a reverse proxy's; repeatable."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")] = 2,
) -> None:
    """Run a team's MLflow server on the database of LABELSTACK_DATABASE, artifacts in LABELSTACK_ARTIFACTS."""
    from labelstack.commands import server as command

    command.run(host, port, workers, allow or [])


@app.command(rich_help_panel=USE)
def serve(
    model: Annotated[
        str | None, typer.Argument(help="A registered ensemble: models:/name/3, 3 or @champion (the default).")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 5001,
    host: Annotated[str, typer.Option(help="Address to listen on; other machines see it only if you change this.")] = (
        "127.0.0.1"
    ),
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer, each with all models.")] = 1,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Images that one request may hold.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Bytes that one request may have.")] = None,
    timeout: Annotated[int | None, typer.Option(min=1, help="Seconds after which a request is given up.")] = None,
) -> None:
    """Serve a registered ensemble over HTTP, after its files were compared with the registered ones."""
    from labelstack.commands import serve as command

    command.run(model, host, port, workers, command.Bounds(max_rows, max_bytes, timeout))


def _telling(name: str, stage: Callable[..., None]) -> Callable[..., None]:
    """The stage, of whose end or failure people are told as params.yaml says."""

    @wraps(stage)
    def told(**arguments: Any) -> None:
        from labelstack.stages.notices import telling

        with telling(name, [str(value) for value in arguments.values() if value is not None]):
            stage(**arguments)

    return told


for _stage in stages.registered_commands:
    if _stage.callback:
        _stage.callback = _telling(_stage.name or _stage.callback.__name__, _stage.callback)
app.add_typer(stages, name="stage", rich_help_panel="The pipeline")
images = typer.Typer(
    help="How the download went, another try for some images, and a look at one.", no_args_is_help=True
)
app.add_typer(images, name="images", rich_help_panel=LOOK)
Split = Annotated[str | None, typer.Argument(help="train, validation or test; all when left out.")]


@images.command(name="status")
def images_status(split: Split = None) -> None:
    """Count the images of each split by how their download ended."""
    from labelstack.commands import images as command

    command.status(split)


@images.command(name="retry")
def images_retry(
    split: Split = None,
    status: Annotated[str, typer.Option(help="Statuses to fetch again: timeout,http_404,http_5xx")] = "",
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask web servers for newer versions of stored images.")] = (
        False
    ),
) -> None:
    """Fetch images with some statuses again, and rewrite only their shards."""
    from labelstack.commands import images as command

    command.retry(split, status, refresh)


@images.command(name="show")
def images_show(
    image: Annotated[str, typer.Argument(help="The image's id, or what a table calls it.")],
    split: Annotated[str | None, typer.Option(help="train, validation or test, where ids occur in several.")] = None,
    to: Annotated[Path | None, typer.Option(help="File to write the image to.")] = None,
) -> None:
    """Write one stored image to a file, tell what is known of it, and open it where there is a display."""
    from labelstack.commands import images as command

    command.show(image, split, to)


def main() -> None:
    """Run the command line; a user's mistake ends with its message and exit code 2, without a traceback."""
    for stream in (sys.stdout, sys.stderr):  # names of files need not be text: they are shown with escapes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # tables that are gone give their memory back
    gc.set_threshold(50_000, 20, 100)  # what libraries and networks are made of stays: look less often
    try:
        app()
    except UserError as error:
        from labelstack.stages.image_names import with_names

        typer.secho(
            f"labelstack: {with_names(str(error))}", fg=typer.colors.RED if sys.stderr.isatty() else None, err=True
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
