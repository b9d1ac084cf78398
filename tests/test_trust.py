"""Modules that a file names are imported only when the user has said so."""

import pytest

from tfsac.errors import UserError
from tfsac.trust import check_trusted, load_named


def test_a_module_named_in_a_file_is_trusted_only_when_the_user_repeats_it():
    check_trusted(["Pendulum-v1", "sac", "TimeAwareObservation"], [], "runs/x")
    check_trusted(["shimmy:dm_control/reacher-easy-v0", "gymnasium.wrappers:ClipReward"], [None], "runs/x")
    check_trusted(["mine:Walk-v0", "ours.algorithms:Toy"], ["mine:Walk-v0", "ours.algorithms"], "runs/x")
    check_trusted(["mine:Walk-v0"], ["mine:Other-v0"], "runs/x")  # it is the module that is trusted
    for repeated in ([], [None, ""], ["Walk-v0"], ["Walk"], ["min"], ["mine.more"], ["ours:mine"]):
        with pytest.raises(UserError, match="runs/x would import the module 'mine': .*add --trust=mine$"):
            check_trusted(["Pendulum-v1", "mine:Walk-v0"], repeated, "runs/x")


@pytest.mark.parametrize("name", ["gymnasium_robotics:X-v0", "tfsac2:X", "shimmy_:X", "os:system", "gym:X", "numpy:x"])
def test_what_only_looks_like_ours_is_not(name):
    with pytest.raises(UserError, match=f"would import the module '{name.partition(':')[0]}'"):
        check_trusted([name], [], "runs/x")


def test_a_package_is_not_trusted_for_its_modules():
    """`ours` may be harmless and `ours.install` not."""
    with pytest.raises(UserError, match="'ours.install'"):
        check_trusted(["ours.install:X"], ["ours"], "runs/x")


def test_an_object_is_loaded_by_name(tmp_path, monkeypatch):
    (tmp_path / "fine.py").write_text("class Thing: pass\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "exits.py").write_text("raise RuntimeError('one\\ntwo')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_named("fine:Thing", "env.wrappers").__name__ == "Thing"
    for name, words in [
        ("fine:Thign", "AttributeError: module 'fine' has no attribute 'Thign'"),
        ("fnie:Thing", "ModuleNotFoundError: No module named 'fnie'"),
        ("broken:Thing", "ZeroDivisionError: division by zero"),
        ("exits:Thing", "RuntimeError: one"),
        (":Thing", "ValueError: Empty module name"),
    ]:
        with pytest.raises(UserError, match=f"^env.wrappers = '{name}': cannot be imported: {words}"):
            load_named(name, "env.wrappers")
