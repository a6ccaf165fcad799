"""The catalogue page (issue "Catalogues": ``docs/catalogue.md`` is generated from the data)."""

import os

import pytest

from ridgepoint.machines.catalog import device_names, system_names
from ridgepoint.models.catalog import model_names
from ridgepoint.models.networks.catalog import network_names
from tools.catalogue import PAGE, main, page


@pytest.fixture
def built_in_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGEPOINT_CATALOG", os.devnull)


@pytest.mark.usefixtures("built_in_only")
def test_the_page_is_up_to_date() -> None:
    # If this fails, entries were added since: `make catalogue` writes the page anew.
    assert PAGE.read_text("utf-8") == page(), "run `make catalogue`"


@pytest.mark.usefixtures("built_in_only")
def test_everything_is_on_the_page() -> None:
    text = page()
    for name in (*device_names(), *system_names(), *model_names(), *network_names()):
        assert f"| `{name}` |" in text, name


@pytest.mark.usefixtures("built_in_only")
def test_the_check_says_whether_it_is_up_to_date(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path_factory.mktemp("docs") / "catalogue.md"
    monkeypatch.setattr("tools.catalogue.PAGE", other)
    assert main(["--check"]) == 1
    assert "make catalogue" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0
