"""The site is built from docs/ without a warning and without a network."""

import logging
import re
import sys

import pytest
from mkdocs.commands import build
from mkdocs.config import load_config
from mkdocs.exceptions import PluginError

from gan_jax import config as configs
from gan_jax.modes import MODES, parsing
from tests.helpers.shell import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; `strict` makes a warning an error."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.setattr(sys, "path", [*sys.path])
        level = logging.getLogger("mkdocs").level
        build.build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder)))
        logging.getLogger("mkdocs").setLevel(level)
    return folder


@pytest.fixture(scope="module")
def hooks():
    """The module docs/hooks.py, which mkdocs loads by its path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        import hooks
    return hooks


def test_every_page_is_built_and_nothing_is_fetched(site):
    pages = {p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")}
    assert all((site / page).with_suffix(".html").exists() for page in pages)
    loads = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="?(?:https?:)?//[^>]+>')
    for page in site.rglob("*.html"):
        found = [tag for tag in loads.findall(page.read_text()) if "canonical" not in tag]
        assert found == [], page.name
    assert "url(http" not in "".join(p.read_text() for p in site.rglob("*.css"))


def test_the_flags_of_all_modes_are_on_their_page(site):
    page = (site / "reference" / "flags.html").read_text()
    for mode in MODES:
        assert re.search(rf"<h2[^>]*><code>(<[^>]+>)?--mode(</span>)?={mode}</code>", page)
        for flag in parsing.load(mode).FLAGS:
            assert re.search(rf"<code[^>]*>--(\[no\])?{flag}</code>", page), flag


def test_every_key_is_on_its_page_with_a_text(site):
    page = (site / "reference" / "config_keys.html").read_text()
    for system in configs.SYSTEMS:
        config = configs.defaults(system)
        shared = [f"config.{s}.{key}" for s in ("data", "run", "quality") for key in config[s]]
        shared += [f"config.optim.NET.{key}" for key in config.optim[next(iter(config.optim))]]
        own = [f"config.loss.{key}" for key in config.get("loss", ())]
        for key in {*shared, *own} - {"config.optim.NET.schedule"}:
            assert f">{key}</code>" in page, key
    assert "<td></td>\n</tr>" not in page


def test_the_python_api_is_on_its_page(site):
    page = (site / "reference" / "api.html").read_text()
    for name in ("interactive.experiment", "run.model.Model.sample", "evaluating.evaluate"):
        assert f'id="gan_jax.{name}"' in page


def test_no_line_of_code_breaks_within_a_flag_or_a_variant(hooks):
    html = "<p>a:b</p><td><code>gan_folder:laptop --seed=1 gs://a/b configs/x.py:tiny</code></td>"
    shown = hooks.on_page_content(html, None, None, None)
    assert shown == (
        '<p>a:b</p><td><code><span class="whole">gan_folder:laptop</span> '
        '<span class="whole">--seed</span>=1 gs://a/b configs/x.py:tiny</code></td>'
    )


def test_links_out_of_docs(hooks):
    """They lead to the repository if it has an address; without one their text remains."""
    text = "See [`gan.py`](../gan_jax/systems/gan.py), [data](data.md) and ![a](quickstart.png)."
    assert hooks.linked(text, "gan.md", "") == text.replace(
        "[`gan.py`](../gan_jax/systems/gan.py)", "`gan.py`"
    )
    assert "](https://host/gan_jax/blob/main/gan_jax/systems/gan.py)" in hooks.linked(
        text, "gan.md", "https://host/gan_jax"
    )
    with pytest.raises(PluginError, match="leads to no file"):
        hooks.linked("[x](../gan_jax/nothing.py)", "gan.md", "")


def test_comments_of_the_code_become_texts(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        import config_keys
    file = tmp_path / "code.py"
    file.write_text(
        "SECTION = dict(\n"
        "    a=1,  # one\n"
        "    # two lines\n"
        "    # above\n"
        "    b=2,\n"
        f"    c=dict(d=3),  # {'a section, whose comment has no room left in its line':.<80}\n"
        "    # continues below\n"
        "    e=4,  # four\n"
        ")\n"
    )
    found = {names[-1]: said for names, said in config_keys.comments(file)}
    assert found["a"] == "one"
    assert found["b"] == "two lines above"
    assert found["c"].endswith(". continues below")
    assert found["e"] == "four"
    assert config_keys.about("gan", "loss.order").startswith("| discriminator_first")
    assert config_keys.cell("a | b\nc") == "a \\| b c"
    with pytest.raises(KeyError, match=r"config\.loss\.nothing of gan: give it a comment"):
        config_keys.about("gan", "loss.nothing")


def test_the_address_of_the_repository_stands_in_one_place(hooks):
    """In pyproject.toml, once there is one; until then no page asks its reader to clone it."""
    address, pages = hooks.repository(), [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if address and address in page.read_text()] == []
    assert "git clone" not in pages[0].read_text()
