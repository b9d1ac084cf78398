"""What the documents say of the code is held to the code.

Lines of Python in README and docs/extending.md are run, with small networks and few steps; README's lines for the
device are run as they stand. Of every other command the flags, files and settings are checked, and that `make` knows
the target: such commands are run in the tests of each.
"""

import functools
import os
import pkgutil
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from commands import run
from runs import SMALL, flags, run_here

import tfsac
from tfsac.__main__ import COMMANDS, main
from tfsac.deploy import ladder, pipeline
from tfsac.deploy.formats.tflite import TFLite
from tfsac.run import settings

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "export/README.md", ROOT / "benchmarks/README.md"]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(PAGES)}
README = TEXTS["README.md"]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LARGEST_README, WORDS_IN_TEN_MINUTES = 8_192, 2_400
TINY = {"policy_hidden_units": (8, 8), "critic_hidden_units": (8,), "start_steps": 16, "batch_size": 8}


def rows(page, heading):
    """Cells of the first Markdown table below a heading, without its two head lines."""
    section = re.split(rf"^#+ {heading}\n", TEXTS[page], flags=re.MULTILINE)[1]
    lines = re.search(r"(^\|.*\n)+", section, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def blocks(page, language):
    return [text for kind, text in FENCED.findall(TEXTS[page]) if kind == language]


def commands(text):
    """Words of each line of the fenced blocks that has no language, those with a backslash at their end joined."""
    lines = "".join(body for kind, body in FENCED.findall(text) if not kind).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if "tfsac." in line or line.startswith("make ")]


# Equations, flags, files


@pytest.mark.parametrize("equation, functions", rows("docs/equations.md", "Equations and where they are"))
def test_every_equation_names_functions_that_exist_and_explain_themselves(equation, functions):
    names = re.findall(r"`([\w.]+)`", functions)
    assert names
    for name in names:
        assert pkgutil.resolve_name(f"tfsac.{name}").__doc__, name


def test_the_reports_equations_are_all_there():
    table = " ".join(equation for equation, _ in rows("docs/equations.md", "Equations and where they are"))
    for label in ("report (1)", "report (2)", "report (3)", "report (4)", "J_V", "J_Q", "J_pi", "Algorithm 1"):
        assert label in table


def test_every_tagged_deviation_is_listed_where_it_is():
    sources = [*ROOT.glob("tfsac/**/*.py"), *ROOT.glob("gin/**/*.gin")]
    tagged = Counter()
    for path in sources:
        name = path.name if path.suffix == ".py" else str(path.relative_to(ROOT))
        tagged[name] += path.read_text().count("Deviation:")
    listed = Counter(re.search("`(.+?)`", where)[1] for where, *_ in rows("docs/equations.md", "Deviations"))
    assert +tagged == listed


def defined_flags(command):
    return {*re.findall(r'DEFINE_\w+\(\s*"([\w-]+)"', (ROOT / f"tfsac/{command}.py").read_text()), "traceback", "help"}


def test_every_flag_of_the_trainer_is_described():
    table = " ".join(cell for row in rows("docs/training.md", "Flags") for cell in row)
    assert all(f"`--{flag}`" in table for flag in defined_flags("train") - {"help", "traceback"})


def test_every_file_of_a_run_is_described():
    from tfsac.run.directory import NAMES

    described = " ".join(cell for row in rows("docs/training.md", "The run directory") for cell in row)
    assert all(name in described for name in NAMES)


# Numbers


@pytest.mark.parametrize(
    "document, title",
    [
        ("docs/results.md", "Benchmark"),
        ("docs/results.md", "Time to solve"),
        ("docs/reproduction.md", "The report's budget"),
    ],
)
def test_a_table_is_the_studys(document, title):
    tables = (ROOT / "benchmarks/study/tables.md").read_text()
    table = tables.split(f"## {title}\n\n")[1].split("\n\n")[0]
    assert f"\n{table}\n\n" in TEXTS[document]


def test_the_readmes_results_are_the_studys():
    known = {tuple(row[:5]) for row in rows("docs/results.md", "What tfsac learns")}
    mine = rows("README.md", "Results")
    assert len(mine) == 5
    for task, *numbers, _ in mine:
        assert (f"{task}, `sac`", *numbers) in known


def test_the_readmes_results_of_the_default_are_those_of_the_trainings():
    known = {(task, steps, seeds) for task, _, steps, _, seeds, *_ in rows("docs/crossq.md", "Aimed at and reached")}
    mine = rows("README.md", "The default")
    assert len(mine) == 11
    for task, steps, _, seeds in mine:
        assert (task, steps, seeds) in known


# Sizes, links


def test_the_readme_is_short():
    assert len(README.encode()) <= LARGEST_README


@pytest.mark.parametrize("page", [page for page in TEXTS if page.startswith("docs/")])
def test_a_page_is_read_in_ten_minutes(page):
    prose = re.sub(r"^\|.*$|^!\[.*$", "", FENCED.sub("", TEXTS[page]), flags=re.MULTILINE)
    assert len(prose.split()) <= WORDS_IN_TEN_MINUTES


def anchors(text):
    """What a heading is linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    text = FENCED.sub("", TEXTS[page])
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


def test_nothing_is_shown_that_is_not_in_git():
    shown = set(re.findall(r'src="([^"]+)"', README)) | {"export/policies/pendulum/demo.html"}
    listed = subprocess.run(["git", "ls-files", *shown], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if (ROOT / ".git").exists():
        assert set(listed) == shown
    assert all((ROOT / path).stat().st_size < 1_000_000 for path in shown)


# Commands


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A folder with the files that docs/extending.md asks to save, which Python finds."""
    folder = tmp_path_factory.mktemp("examples")
    saved = re.findall(
        r"[Ss]ave (?:this|it) as\s+`(\w+\.py)`:\n\n```python\n(.*?)```", TEXTS["docs/extending.md"], re.S
    )
    for name, text in saved:
        (folder / name).write_text(text)
    assert {name for name, _ in saved} == {"my_robot.py", "my_algorithm.py", "my_format.py"}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.mark.parametrize("page", [page for page, text in TEXTS.items() if commands(text)])
def test_commands_have_the_flags_files_and_settings_they_name(page, examples, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in commands(TEXTS[page]):
        name = next((word.partition(".")[2] for word in words if re.fullmatch(r"tfsac\.\w+", word)), None)
        if name is None:
            assert words[0] == "make" or words[0].endswith("pip"), words
            continue
        assert name in COMMANDS, words
        options = [word.removeprefix("--").partition("=") for word in words if word.startswith("--")]
        assert {flag for flag, *_ in options} <= defined_flags(name), words
        files = [value for flag, _, value in options if flag == "gin_file" and value != "FILE"]
        params = [value for flag, _, value in options if flag == "gin_param"]
        if "--resume" not in words and (files or params):
            assert settings.read(files, params), words


def test_inline_commands_have_the_flags_that_they_name():
    found = [
        (name, flag)
        for text in TEXTS.values()
        for name, rest in re.findall(r"`(?:\S+/)?python -m tfsac\.(\w+)([^`\n]*)`", text)
        for flag in re.findall(r"(?<!\S)--([\w-]+)", rest)
    ]
    assert len(found) > 5
    for name, flag in found:
        assert name in COMMANDS and flag in defined_flags(name), (name, flag)


def test_make_knows_every_target_that_a_page_names():
    targets = {words[1] for text in TEXTS.values() for words in commands(text) if words[0] == "make" and len(words) > 1}
    assert {"reacher", "test"} <= targets
    done = subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "-m tfsac.train --gin_file=gin/reacher.gin --logdir=runs/reacher" in done.stdout
    assert "-m pytest" in done.stdout


def test_make_empties_no_environment_that_is_only_linked(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").touch()
    (tmp_path / "here").mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / "here")
    (tmp_path / "here" / ".venv").symlink_to(tmp_path / "other")
    done = subprocess.run(["make", "test"], cwd=tmp_path / "here", capture_output=True, text=True)
    assert done.returncode != 0 and ".venv is a link; expected a directory" in done.stderr
    assert (tmp_path / "other" / "precious").exists()


def test_the_readmes_ten_seconds_are_what_they_say():
    first, *_ = blocks("README.md", "")
    lines = [line for line in first.splitlines() if not line.startswith("pip ")]
    assert len(lines) == 2
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = [
        subprocess.run(line, shell=True, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True)
        for line in lines
    ]
    assert [x.returncode for x in done] == [0, 0], done
    torque = float(done[0].stdout)
    assert -2 <= torque <= 2 and "passed" in done[1].stdout
    needed = (ROOT / re.search(r"pip install -r (\S+)", first)[1]).read_text().split()
    assert {re.split("[=<>]", line)[0] for line in needed} == {"ai-edge-litert", "numpy"}


def test_one_command_stands_for_all(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tfsac", "unknown"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "tfsac"), run_name="__main__")
    said = capsys.readouterr().err
    assert ended.value.code == 2 and all(f"  {name} " in said for name in COMMANDS)
    assert all((ROOT / f"tfsac/{name}.py").is_file() for name in COMMANDS)


def test_ctrl_c_in_the_first_second_of_a_command_is_no_traceback(monkeypatch, capsys):
    def imports(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["tfsac", "train"])
    monkeypatch.setattr(runpy, "run_module", imports)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130 and capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    "error, status, said",
    [
        ("KeyboardInterrupt", -signal.SIGINT, r"interrupted\n"),
        ("RuntimeError('broken')", 1, r"Traceback(.|\n)*broken\n"),
    ],
)
def test_so_it_is_of_python_m_and_any_other_error_of_an_import_keeps_its_traceback(error, status, said, tmp_path):
    (tmp_path / "absl.py").write_text(f"raise {error}")  # found before the library, and imported early
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "tfsac.evaluate"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == status and re.fullmatch(said, done.stderr)


def test_a_program_of_the_users_keeps_its_traceback(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/__init__.py").write_text("import tfsac")  # imported before -m has found theirs.train
    (tmp_path / "theirs/train.py").write_text("raise KeyboardInterrupt")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "theirs.train"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT and done.stderr.startswith("Traceback")


# Python


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """An empty folder, small agents and an export of one file, measured in few calls."""
    monkeypatch.chdir(tmp_path)
    for name in ("SAC", "CrossQ"):
        monkeypatch.setattr(tfsac, name, functools.partial(getattr(tfsac, name), **TINY), raising=False)
    monkeypatch.setattr(tfsac, "export_policy", functools.partial(tfsac.export_policy, episodes=2), raising=False)
    monkeypatch.setattr(pipeline, "FORMATS", (TFLite("float32"),))
    for name, calls in (("WARM_UP", 1), ("TIMED", 10)):
        monkeypatch.setattr(ladder, name, calls)
    return tmp_path


def test_the_readmes_python_runs(quick):
    program, device = blocks("README.md", "python")
    assert [len(re.findall(r"^\S", text, re.MULTILINE)) for text in (program, device)] == [8, 3]
    few = program.replace("5_000", "64").replace("1_000", "32")
    assert few != program
    observation = np.float32([1, 0, 0.5])
    made = {"observation": observation}
    exec(compile(few, "README.md", "exec"), made)
    assert [row["step"] for row in made["history"].evaluations] == [32, 64]
    np.testing.assert_allclose(made["policy"](observation), made["action"], rtol=0, atol=1e-6)
    assert made["agent"].step == 64

    command = [sys.executable, "-c", f"observation = [1, 0, 0.5]\n{device}\nprint(float(action[0]))"]
    done = subprocess.run(command, cwd=quick / "artifacts" / "python", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(float(made["action"][0]), abs=4e-5)  # 1e-5 of the span


def test_the_example_of_an_environment_is_trained_and_evaluated(examples):
    small = {name: value for name, value in SMALL.items() if name != "env_id"} | {"total_steps": 64}
    train, evaluate, _ = commands(TEXTS["docs/extending.md"])[:3]
    settings = flags([f"train.{name} = {value}" for name, value in small.items()])
    done = run(train[2], *train[3:], *settings, cwd=examples)
    assert (done.status, done.err) == (0, ""), done
    assert "environment    my_robot:Cart-v0: 2 observations, 1 actions" in done.out
    done = run(evaluate[2], *evaluate[3:], "--episodes=2", cwd=examples)
    assert (done.status, done.err) == (0, ""), done


def test_the_example_of_an_environment_is_one_in_python(examples, quick):
    program = next(
        text for text in blocks("docs/extending.md", "python") if text.startswith("import gymnasium\nimport tfsac")
    )
    made = {}
    exec(compile(program, "docs/extending.md", "exec"), made)
    made["agent"].fit(32, progress=False)
    assert made["agent"].predict([0.5, 0.0]).shape == (1,)


def test_the_example_of_an_algorithm_learns_from_the_mean_of_both_q(examples, tmp_path):
    params = [f"train.{name} = {value!r}" for name, value in SMALL.items()] + ["train.total_steps = 64"]
    params += ["train.algorithm = 'my_algorithm:MeanSAC'", "MeanSAC.discount = 0.98"]
    params += [f"MeanSAC.{name}_hidden_units = (8,)" for name in ("policy", "critic")]
    assert run_here(tmp_path / "run", params) == 64
    agent = tfsac.load(tmp_path / "run", trust=["my_algorithm"])._loop.agent
    assert type(agent).__name__ == "MeanSAC" and agent.discount == 0.98


def test_the_example_of_a_format_passes_its_checks(examples, quick, capsys):
    agent = tfsac.SAC("Pendulum-v1")
    agent.fit(300, progress=False)
    program = next(text for text in blocks("docs/extending.md", "python") if "pipeline.FORMATS +=" in text)
    exec(compile(program, "docs/extending.md", "exec"), {"agent": agent})
    assert capsys.readouterr().out.endswith("passed\n")
    assert (quick / "artifacts/json/policy.json").is_file()
