"""Checkpoints: written whole or not at all, checked when read, and never more than once a row."""

import errno
import io
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfsac.data.replay import Replay
from tfsac.errors import RunError, UserError
from tfsac.run import checkpoint
from tfsac.run.checkpoint import KEPT, replay_segments, restore, save, steps

CAPACITY, WIDTH = 50, 2 * 3 + 1 + 2


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    """What is promised after a power cut, no test here can show; that fsync is called, one does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def new_replay():
    return Replay(CAPACITY, 3, 1, seed=0)


def insert(replay, count):
    """Rows that nobody could take for each other: row i of the run is full of numbers from i on."""
    i = np.arange(replay.inserted, replay.inserted + count, dtype=np.float32)
    replay.insert_rows(i[:, None] + np.linspace(0, 0.5, WIDTH, dtype=np.float32))


def save_step(folder, step, replay):
    """A small checkpoint of which every part depends on the step."""
    heads = {name: np.full([3, 1], step, np.float32) for name in ("mu/kernel", "log_std/kernel")}
    heads |= {name: np.full([1], step, np.float32) for name in ("mu/bias", "log_std/bias")}
    arrays = {f"policy/{name}": x for name, x in heads.items()} | {"agent/log_alpha": np.float32(step)}
    save(folder, step, {"counter": step, "replay": replay.get_state(), "settings": {}}, arrays, replay)


def assert_is(found, step, replay):
    """The checkpoint is of this step and gives this replay back."""
    assert found.step == found.facts["counter"] == step
    np.testing.assert_array_equal(found.arrays["policy/mu/kernel"], np.full([3, 1], step, np.float32))
    assert found.arrays["agent/log_alpha"] == step
    again = new_replay()
    again.set_state(found.facts["replay"], replay_segments(found))
    assert again.inserted == replay.inserted
    oldest = replay.inserted - len(replay)
    np.testing.assert_array_equal(again.rows(oldest, again.inserted), replay.rows(oldest, replay.inserted))


@pytest.fixture
def two(tmp_path):
    """A folder with checkpoints of steps 10 and 20, and the replays they hold."""
    replay, before = new_replay(), new_replay()
    insert(replay, 10)
    insert(before, 10)
    save_step(tmp_path, 10, replay)
    insert(replay, 10)
    save_step(tmp_path, 20, replay)
    return tmp_path, before, replay


def test_what_is_saved_comes_back(two):
    folder, _, replay = two
    found = restore(folder)
    assert_is(found, 20, replay)
    assert found.arrays["policy/mu/kernel"].dtype == np.float32
    assert found.part("agent").keys() == {"log_alpha"}
    assert found.policy.arrays().keys() == found.part("policy").keys()
    assert found.policy.sizes == (3, 1) and np.all(found.policy.mu.kernel == 20)


def test_sha256sum_itself_can_check_a_checkpoint(two):
    path = two[0] / "step-000000020"
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK\n") == 4  # two replay files, state.npz, facts.json


def test_there_is_none_where_nothing_was_saved(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        assert steps(folder) == []
        with pytest.raises(UserError, match="no checkpoint in .*: expected a run that has saved one"):
            restore(folder)


def test_a_second_checkpoint_of_one_step_leaves_the_first_as_it_is(two):
    folder, _, replay = two
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    save(folder, 20, {"counter": -1, "replay": replay.get_state()}, {"other": np.zeros(1)}, replay)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert_is(restore(folder), 20, replay)


def test_folders_that_someone_else_made_are_no_checkpoints(two):
    folder, _, replay = two
    shutil.copytree(folder / "step-000000020", folder / "step-000000099.bak")
    (folder / "step-by-step").mkdir()
    assert steps(folder) == [10, 20]
    assert_is(restore(folder), 20, replay)


# Replay: rows are written once.


def test_each_checkpoint_writes_only_the_rows_that_are_new(tmp_path):
    replay = Replay(100_000, 3, 1, seed=0)
    insert(replay, 50_000)
    save_step(tmp_path, 1, replay)
    files = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (tmp_path / "replay").iterdir()}
    assert [path.name for path in files] == ["0-50000.npy"]
    insert(replay, 10)
    save_step(tmp_path, 2, replay)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files} == files
    new = [*(tmp_path / "step-000000002").iterdir(), tmp_path / "replay" / "50000-50010.npy"]
    assert sum(path.stat().st_size for path in new) < 5_000
    assert_same_rows(restore(tmp_path), replay)


def assert_same_rows(found, replay):
    rows = np.concatenate(list(replay_segments(found)))
    np.testing.assert_array_equal(rows, replay.rows(replay.inserted - len(replay), replay.inserted))


def test_a_checkpoint_without_new_rows_writes_none(two):
    folder, _, replay = two
    save_step(folder, 30, replay)
    assert sorted(path.name for path in (folder / "replay").iterdir()) == ["0-10.npy", "10-20.npy"]
    assert_is(restore(folder), 30, replay)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2 * CAPACITY), min_size=1, max_size=8))
def test_any_sequence_of_inserts_and_checkpoints_comes_back_through_wrap_arounds(tmp_path_factory, counts):
    folder, replay = tmp_path_factory.mktemp("checkpoints"), new_replay()
    for step, count in enumerate(counts):
        insert(replay, count)
        save_step(folder, step, replay)
        assert_is(restore(folder), step, replay)
        held = sum(stop - start for start, stop in map(checkpoint._range, (folder / "replay").iterdir()))
        # The last two need what they hold, and a file goes when none of its rows is needed.
        assert held <= 2 * CAPACITY + sum(counts[max(0, step - 1) : step + 1]) + CAPACITY


def test_old_checkpoints_are_pruned_and_the_replay_files_only_they_needed(tmp_path):
    replay = new_replay()
    for step in range(10):
        insert(replay, 20)
        save_step(tmp_path, step, replay)
    assert KEPT == 2 and steps(tmp_path) == [8, 9]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["replay", "step-000000008", "step-000000009"]
    # At step 8 rows 130 to 179 were held, at step 9 rows 150 to 199.
    names = sorted(path.name for path in (tmp_path / "replay").iterdir())
    assert names == ["120-140.npy", "140-160.npy", "160-180.npy", "180-200.npy"]


# A reader beside a run that goes on.

READER = """
import sys
from pathlib import Path
from tfsac.run.checkpoint import restore

folder, last = Path(sys.argv[1]), -1
while not (folder / "over").exists():
    step = restore(folder).step
    assert step >= last
    last = step
    print(step, flush=True)
"""


def test_a_checkpoint_that_is_read_while_the_run_goes_on_is_never_called_damaged(tmp_path):
    """The run saves and prunes as fast as it can, until two readers have read a hundred times each."""
    replay, step = new_replay(), 0
    insert(replay, 20)
    save_step(tmp_path, 0, replay)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    readers, outputs = [], [tmp_path / "a", tmp_path / "b"]
    for output in outputs:
        with open(output, "w") as file:
            command = [sys.executable, "-c", READER, str(tmp_path)]
            readers.append(subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.PIPE, text=True))
    while any(
        reader.poll() is None and output.read_text().count("\n") < 100
        for reader, output in zip(readers, outputs, strict=True)
    ):
        step += 1
        insert(replay, 20)
        save_step(tmp_path, step, replay)
    (tmp_path / "over").touch()
    for reader, output in zip(readers, outputs, strict=True):
        _, err = reader.communicate()
        assert (reader.returncode, err) == (0, "")
        assert len(set(output.read_text().split())) > 10  # it went on, indeed


# A save that does not come to its end.


class Killed(BaseException):
    """The process ends here: nothing catches it."""


class FailingDisk:
    """Lets everything that changes the disk fail at the n-th time, having done half of it."""

    def __init__(self, monkeypatch, error):
        self.left, self.error, self.failed = None, error, False
        unlink = Path.unlink
        for owner, name, half in [
            (checkpoint, "_write", lambda path, write: Path(path).write_bytes(b"half")),
            (Path, "rename", lambda path, target: None),
            (Path, "mkdir", lambda path, **kwargs: None),
            (Path, "unlink", lambda path: None),
            (shutil, "rmtree", lambda path, **kwargs: [unlink(file) for file in sorted(Path(path).glob("*"))[:1]]),
        ]:
            monkeypatch.setattr(owner, name, self._failing(getattr(owner, name), half))

    def fail_at(self, n):
        self.left, self.failed = n, False

    def _failing(self, function, half):
        def maybe(*args, **kwargs):
            if self.left != 0:
                self.left = self.left and self.left - 1
                return function(*args, **kwargs)
            self.left, self.failed = None, True
            half(*args, **kwargs)
            raise self.error

        return maybe


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [Killed(), FULL], ids=["kill", "full disk"])
def test_wherever_a_save_breaks_off_a_checkpoint_is_left_and_the_next_save_works(tmp_path, monkeypatch, error):
    disk, broken_off, completed = FailingDisk(monkeypatch, error), 0, 0
    for n in range(100):
        folder, replay, before = tmp_path / str(n), new_replay(), new_replay()
        for step in range(3):  # the fourth will have something to prune
            insert(replay, 20)
            insert(before, 20)
            save_step(folder, step, replay)
        insert(replay, 20)
        disk.fail_at(n)
        try:
            save_step(folder, 3, replay)
        except (Killed, RunError) as stopped:
            if isinstance(stopped, RunError):
                assert "cannot write the checkpoint of step 3: " in str(stopped)
                assert "No space left on device; the last complete one is of step 2" in str(stopped)
        disk.left = None
        found = restore(folder)
        assert_is(found, *((3, replay) if found.step == 3 else (2, before)))
        broken_off += disk.failed
        completed += found.step == 3
        # Whoever comes next finds a folder to go on in.
        save_step(folder, 3, replay)
        insert(replay, 20)
        save_step(folder, 4, replay)
        assert_is(restore(folder), 4, replay)
        assert steps(folder) == [3, 4] and not (folder / "partial").exists()
        if not disk.failed:
            break
    # Four files to write, two renames, two folders to make, three things to remove.
    assert broken_off >= 10 and 0 < completed < broken_off


def test_all_of_it_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    done, rename = [], Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
    )
    monkeypatch.setattr(Path, "rename", lambda path, target: (done.append(f"-> {target.name}"), rename(path, target)))
    replay = new_replay()
    insert(replay, 20)
    save_step(tmp_path, 1, replay)
    assert done == ["replay.npy", "-> 0-20.npy", "state.npz", "facts.json", "SHA256SUMS", "-> step-000000001"]


def test_without_an_earlier_one_the_line_says_so(tmp_path, monkeypatch):
    FailingDisk(monkeypatch, FULL).fail_at(3)
    with pytest.raises(RunError, match="cannot write the checkpoint of step 7: .*; there is no earlier one"):
        save_step(tmp_path, 7, new_replay())


def test_a_disk_that_is_really_full(tmp_path):
    size = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(size, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs takes root, and a kernel that lets it")
    try:
        replay = Replay(10_000, 3, 1, seed=0)
        insert(replay, 1000)  # 36 kB
        save_step(tmp_path, 1, replay)
        saved = replay.rows(0, 1000)
        insert(replay, 9000)  # 324 kB
        with pytest.raises(RunError, match="(No space left on device|disk full.*); the last complete one is of step 1"):
            save_step(tmp_path, 2, replay)
        found = restore(tmp_path)
        assert found.step == 1
        np.testing.assert_array_equal(np.concatenate(list(replay_segments(found))), saved)
        subprocess.run(["mount", "-o", "remount,size=2m", str(tmp_path)], check=True)
        save_step(tmp_path, 2, replay)
        assert restore(tmp_path).step == 2
        assert_same_rows(restore(tmp_path), replay)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# Damage.

FILES = ["step-000000020/state.npz", "step-000000020/facts.json", "step-000000020/SHA256SUMS", "replay/10-20.npy"]


def flip(position):
    def damage(path):
        content = bytearray(path.read_bytes())
        content[int(position * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return damage


DAMAGES = {
    "removed": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "a byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "first bit": flip(0),
    "a bit in the middle": flip(0.5),
    "last bit": flip(1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_named_and_the_checkpoint_before_is_offered(two, name, damage):
    folder, before, _ = two
    damage(folder / name)
    with pytest.raises(UserError, match="the checkpoint of step 20 is damaged") as caught:
        restore(folder)
    assert Path(name).name in str(caught.value)
    cure = f"remove {folder / 'step-000000020'} to go on from step 10"
    assert str(caught.value).endswith(cure)
    shutil.rmtree(folder / "step-000000020")  # as told
    assert_is(restore(folder), 10, before)


def test_every_byte_of_the_checksums_counts(two):
    """Nothing checks the list of checksums but its form and the files that it names."""
    folder = two[0]
    path = folder / "step-000000020" / "SHA256SUMS"
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="the checkpoint of step 20 is damaged"):
            restore(folder)


def test_damage_to_the_only_checkpoint_leaves_nothing_to_offer(tmp_path):
    save_step(tmp_path, 10, new_replay())
    (tmp_path / "step-000000010" / "state.npz").unlink()
    with pytest.raises(UserError, match="step 10 is damaged: .*state.npz.*; there is no earlier one"):
        restore(tmp_path)


def test_a_run_goes_on_saving_after_the_damaged_one_was_removed(two):
    folder, replay, _ = two
    shutil.rmtree(folder / "step-000000020")  # its replay file 10-20.npy is still there
    insert(replay, 10)
    save_step(folder, 20, replay)
    assert_is(restore(folder), 20, replay)


# No code in data.


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def signed(path):
    """Writes down the checksums anew, as someone would who forges a checkpoint."""
    names = [line.split("  ")[1] for line in (path / "SHA256SUMS").read_text().splitlines()]
    (path / "SHA256SUMS").write_text("".join(f"{checkpoint._sha256(path / name)}  {name}\n" for name in names))


@pytest.mark.parametrize("name", ["step-000000020/state.npz", "replay/10-20.npy"])
def test_a_pickle_is_refused_unopened(two, name):
    folder = two[0]
    bomb = folder / "sprung"
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([Bomb(bomb)], dtype=object), allow_pickle=True)
    if name.endswith(".npz"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("log_alpha.npy", content.getvalue())
    else:
        (folder / name).write_bytes(content.getvalue())
    signed(folder / "step-000000020")
    with pytest.raises(UserError, match=f"(step 20 is damaged|{Path(name).name}).*allow_pickle"):
        list(replay_segments(restore(folder)))
    assert not bomb.exists()


@pytest.mark.parametrize("name", ["state.npz", "facts.json"])
def test_a_bare_pickle_is_refused_unopened(two, name):
    folder = two[0]
    bomb = folder / "sprung"
    (folder / "step-000000020" / name).write_bytes(pickle.dumps(Bomb(bomb)))
    signed(folder / "step-000000020")
    with pytest.raises(UserError, match="step 20 is damaged"):
        restore(folder)
    assert not bomb.exists()


def test_the_bomb_would_go_off(tmp_path):
    """Else the tests above would show nothing."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()
