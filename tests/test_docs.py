import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from labelstack.cli import app
from labelstack.params import Params, load_params
from labelstack.params.backbone_names import OWN
from labelstack.params.fine_tuning import TrainPhase
from labelstack.params.models import LearningSection, ModelSection
from labelstack.params.region_rows import RegionRowsSection
from labelstack.params.regions import RegionsSection
from labelstack.params.second_round import SECOND_ROUND, SecondRoundSection, second_section_of
from labelstack.params.segmenters import SegmenterParams, SegmenterPhase
from labelstack.params.stackers import STACKERS, section_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

NAMED = {
    "region_rows",
    "seed",
    "base_models",
    "models",
    "second_round",
    "segmenters",
    "regions",
    "stackers",
}  # no section, or many


def rows_of(heading: str) -> dict[str, list[str]]:
    """The table under a heading: key → the other cells."""
    section = REFERENCE.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


def sections_in(kind: Any) -> list[type[BaseModel]]:
    return [each for each in (kind, *get_args(kind)) if isinstance(each, type) and issubclass(each, BaseModel)]


def fields_of(section: type[BaseModel]) -> dict[str, Any]:
    """Keys of a section and of the sections in it, dotted; an own augmentation is that of the file.

    What a second-round model learns by are the keys of models, and the schedule of a phase has those of the model's.
    """
    found: dict[str, Any] = {}
    known = LearningSection.model_fields if issubclass(section, SecondRoundSection) else {}
    for name, field in section.model_fields.items():
        if name in known:
            continue
        found[name] = field.get_default(call_default_factory=True)
        if name != "augment" and section not in (TrainPhase, SegmenterPhase):
            for inner in sections_in(field.annotation):
                found |= {f"{name}.{key}": default for key, default in fields_of(inner).items()}
    return found


SECTIONS = (
    {f"## {name}": sections_in(field.annotation)[0] for name, field in Params.model_fields.items() if name not in NAMED}
    | {
        "## segmenters.&lt;name&gt;": SegmenterParams,
        "## regions.&lt;name&gt;": RegionsSection,
        "## region_rows.&lt;name&gt;": RegionRowsSection,
        "## models.&lt;name&gt;": ModelSection,
    }
    | {f"### `kind: {kind}`": section_of(kind) for kind in STACKERS.own}
    | {f"### `kind: {kind}`": second_section_of(kind) for kind in SECOND_ROUND.own}
)


@pytest.mark.parametrize(("heading", "section"), SECTIONS.items())
def test_the_reference_names_every_key_and_no_other(heading, section):
    assert set(rows_of(heading)) == set(fields_of(section)) - {"kind"}


@pytest.mark.parametrize(("heading", "section"), SECTIONS.items())
def test_the_reference_states_the_defaults(heading, section):
    rows, wrong = rows_of(heading), {}
    for key, default in fields_of(section).items():
        stated = rows[key][2].strip("`") if key in rows else ""
        if isinstance(default, BaseModel) or stated in {"", "required", "both", "all four", "one phase of 10 epochs"}:
            continue
        value = list(default) if isinstance(default, tuple) else default
        if yaml.safe_load(stated) != value:
            wrong[key] = (stated, default)
    assert not wrong


def test_the_reference_names_the_global_seed():
    assert "| `seed` | whole number | 0 … 2147483647 | 2018 |" in REFERENCE


def test_the_reference_names_every_backbone_with_its_options_and_smallest_size():
    from labelstack.networks.backbones import architecture_of

    rows = [
        (set(re.findall(r"`(\w+)`", cells[1])), cells)
        for line in REFERENCE.splitlines()
        if line.startswith("| `") and len(cells := line.split("|")) == 6
    ]
    for name, own in OWN.items():
        architecture = architecture_of(name)
        (cells,) = [cells for names, cells in rows if name in names]
        assert int(cells[2]) == own.smallest, name
        assert cells[3].strip().startswith("yes" if architecture.published else "no"), name
        stated = {key: yaml.safe_load(value) for key, value in re.findall(r"`(\w+): ([^`]+)`", cells[4])}
        assert stated == {k: v for k, v in architecture.options.items() if k != "batch_norm_momentum"}, name


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))], ids=lambda p: p.name
)
def test_params_files_load_and_take_known_options(path):
    from labelstack.networks.backbones import architecture_of

    params = load_params(path)
    unknown = {
        (name, key)
        for name, model in params.models.items()
        for key in model.options
        if key not in architecture_of(model.backbone).options
    }
    assert not unknown


def test_the_default_file_states_every_tunable():
    stated = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert set(stated) == set(Params.model_fields)
    for name, section in stated.items():
        if name not in NAMED:
            (kind,) = sections_in(Params.model_fields[name].annotation)
            assert set(section) == set(kind.model_fields), name


def test_recipes_are_listed_in_the_readme():
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert f"| `{path.stem}` |" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://)([^)#]*)(?:#[^)]*)?\)", text)
    missing = [link for link in links if link and not (page.parent / link).exists()]
    assert not missing


def commands_in(text: str) -> list[str]:
    """Lines of fenced blocks and pieces of inline code."""
    fenced = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [line.strip() for block in fenced for line in block.splitlines()] + inline


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_no_unknown_command(page):
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups}
    named = set(re.findall(r"^labelstack ([a-z_-]+)", "\n".join(commands_in(page.read_text())), re.MULTILINE))
    assert named <= known
    assert named or page.name not in {"README.md", "params.md"}


def test_make_targets_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^make ([a-z-]+)", "\n".join(commands_in(README)), re.MULTILINE))
    assert {"repro", "test"} <= named
    rooms = {f"test-{folder.name}" for folder in (ROOT / "tests").iterdir() if (folder / "__init__.py").exists()}
    assert not {target for target in named - rooms if not re.search(rf"^{target}:", makefile, re.MULTILINE)}
    assert re.search("^test-%:", makefile, re.MULTILINE)
