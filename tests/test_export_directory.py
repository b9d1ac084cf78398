"""What an export replaces: only what an export has written."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from tfsac.deploy.directory import replaced_whole
from tfsac.errors import RunError, UserError


def write(out, **files):
    """An export of these files; __ in a name stands for a slash."""
    with replaced_whole(out) as folder:
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def out(tmp_path):
    write(tmp_path / "out", report="1", c__run="1")
    return tmp_path / "out"


def test_an_earlier_export_is_replaced_whole(out):
    write(out, report="2")
    assert contents(out).keys() == {"report", "export.sha256"} and (out / "report").read_text() == "2"
    assert names(out.parent) == ["out"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "policy.h"),
        ValueError("/some/where.tmp; No space left on device"),  # TensorFlow's is no OSError
    ],
)
def test_a_full_disk_is_named_with_its_place_and_changes_nothing(out, error):
    before = contents(out)
    match = f"cannot write to --out={out}: .* make room"
    with pytest.raises(RunError, match=match) as caught, replaced_whole(out) as folder:
        (folder / "report").write_text("2")
        raise error
    assert str(error) in str(caught.value)  # the disk of a temporary file may be another one
    assert contents(out) == before and names(out.parent) == ["out"]


def test_any_other_error_is_what_it_was(out):
    with pytest.raises(PermissionError), replaced_whole(out):
        raise PermissionError(errno.EACCES, "no")


def test_its_manifest_is_what_sha256sum_reads(out):
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "export.sha256"], cwd=out, check=True)


@pytest.mark.parametrize("name", ["notes.txt", "report.json", "c/mine.c", "deep/down/thesis.tex"])
def test_a_file_of_the_users_in_an_export_is_named_and_kept(out, name):
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("precious")
    before = contents(out)
    with pytest.raises(UserError, match=f"holds {name}, which no export has written"):
        write(out, report="2")
    assert contents(out) == before and names(out.parent) == ["out"]


def test_a_file_that_the_user_has_changed_is_named_and_kept(out):
    (out / "report").write_text("1, and my remarks")
    with pytest.raises(UserError, match="holds report, which no export has written like this"):
        write(out, report="2")
    assert (out / "report").read_text() == "1, and my remarks"


@pytest.mark.parametrize("target", ["file", "folder"])
def test_a_symlink_in_an_export_is_kept(out, tmp_path, target):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    (out / "link").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match="holds link, which"):
        write(out, report="2")


def test_a_directory_of_someone_elses_is_left_alone(tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("precious")
    (thesis / "report.json").write_text("{}")
    before = contents(thesis)
    with pytest.raises(UserError, match=r"holds (thesis.tex|report.json), which no export has written"):
        write(thesis, report="2")
    assert contents(thesis) == before


def test_someone_elses_list_of_sums_makes_no_export(out):
    """A checkpoint has one as well, under another name."""
    (out / "export.sha256").rename(out / "SHA256SUMS")
    with pytest.raises(UserError, match="which no export has written"):
        write(out, report="2")


def test_what_the_kits_own_commands_leave_is_no_obstacle(out):
    for name in ("c/build/run_header", "c/build/cortex_m4.elf", "__pycache__/run_policy.cpython-311.pyc"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("made anew")
    write(out, report="2")


def test_an_empty_directory_is_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", report="1")
    assert (tmp_path / "empty" / "report").read_text() == "1"


def test_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UserError, match="is a file, expected a new directory"):
        write(tmp_path / "out", report="1")
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize("out", [".", ".."])
def test_where_the_user_stands_is_refused(tmp_path, monkeypatch, out):
    """Replaced, it would be gone under their feet, even if it is empty or an export."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="is where you are"):
        write(out, report="1")


@pytest.mark.parametrize("out", [".", "checkpoints", ".."])
def test_a_run_its_parts_and_its_parent_are_refused(tmp_path, out):
    run = tmp_path / "runs" / "reacher"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.gin").write_text("")
    (run / "checkpoints" / "state.npz").write_text("")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="which no export has written"):
        write(run / out, report="1")
    assert contents(tmp_path) == before


def test_a_symlink_stays_and_its_target_is_replaced(tmp_path, out):
    (tmp_path / "latest").symlink_to(out)
    write(tmp_path / "latest", report="2")
    assert (tmp_path / "latest").is_symlink() and (out / "report").read_text() == "2"


def test_a_failure_leaves_the_earlier_export(out):
    before = contents(out)
    with pytest.raises(ZeroDivisionError), replaced_whole(out) as folder:
        (folder / "report").write_text("2")
        raise ZeroDivisionError
    assert contents(out) == before and names(out.parent) == ["out"]


def test_a_kill_leaves_the_earlier_export_and_the_next_one_clears_up(out):
    script = """
import os, signal, sys
from pathlib import Path
from tfsac.deploy.directory import replaced_whole
with replaced_whole(Path(sys.argv[1])) as folder:
    (folder / "saved_model").mkdir()
    (folder / "saved_model" / "half").write_text("2")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    before = contents(out)
    assert subprocess.run([sys.executable, "-c", script, out]).returncode == -signal.SIGKILL
    assert contents(out) == before and len(names(out.parent)) == 2
    write(out, report="3")
    assert contents(out).keys() == {"report", "export.sha256"} and names(out.parent) == ["out"]


def test_a_kill_between_the_two_renames_loses_nothing(out):
    before = contents(out)
    os.rename(out, out.with_name(f".{out.name}.tfsac-export-earlier"))
    with pytest.raises(ZeroDivisionError), replaced_whole(out):
        raise ZeroDivisionError
    assert contents(out) == before and names(out.parent) == ["out"]


def test_two_exports_at_once_do_not_mix(out):
    with replaced_whole(out) as folder:
        (folder / "report").write_text("2")
        with pytest.raises(UserError, match="another export is writing"):
            write(out, report="3")
    assert (out / "report").read_text() == "2"


def test_what_the_user_puts_there_meanwhile_is_kept(out):
    with pytest.raises(UserError, match="holds notes.txt"), replaced_whole(out) as folder:
        (folder / "report").write_text("2")
        (out / "notes.txt").write_text("precious")
    assert (out / "notes.txt").read_text() == "precious" and (out / "report").read_text() == "1"


def test_where_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to --out="):
        write(tmp_path / "file" / "out", report="1")
