"""policy.h, compiled with warnings as errors and run: here, and on emulated ARM, which shows that it is right there
and says nothing about speed."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_policy import deployable, expected_actions, random_policy

from tfsac.deploy import device_kit
from tfsac.deploy.formats import cortex_m4
from tfsac.deploy.formats.c_header import CHeader, names
from tfsac.deploy.formats.format import NotChecked
from tfsac.errors import UserError
from tfsac.policy import Policy

KIT = Path(__file__).parent.parent / "export" / "c"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wdouble-promotion", "-Wconversion"]
EXTREMES = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 1e6, -1e6, 1e-40, -0.0, 0.0], np.float32)

# Observations as raw floats from standard input, actions to standard output; the selftest's failures as exit status.
HARNESS = """
#define TFSAC_POLICY_GOLDEN
#include "policy.h"
#include <stdio.h>
int main(void)
{
    float observation[TFSAC_OBSERVATION_DIM], action[TFSAC_ACTION_DIM];
    while (fread(observation, sizeof observation, 1, stdin) == 1) {
        tfsac_policy_act(observation, action);
        fwrite(action, sizeof action, 1, stdout);
    }
    return tfsac_policy_selftest();
}
"""

pytestmark = pytest.mark.skipif(not (shutil.which("cc") and shutil.which("make")), reason="no C compiler, or no make")
needs_cortex_m4 = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="no arm-none-eabi-gcc or qemu-system-arm: export/c/install_cross_tools.sh installs them",
)
needs_aarch64 = pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="no aarch64-linux-gnu-gcc or qemu-aarch64: export/c/install_cross_tools.sh installs them",
)


class Exported:
    """A random policy with its policy.h in a directory."""

    def __init__(self, folder, sizes, seed=0, bounds=None, name=None, **facts):
        rng = np.random.default_rng(seed)
        self.folder = Path(folder)
        self.policy = random_policy(sizes, seed)
        low = rng.uniform(-2, 0.5, sizes[-1])
        self.low, self.high = bounds or (low, low + rng.uniform(0.1, 3, sizes[-1]))
        self.name, self.facts = name, facts
        golden = rng.normal(size=[16, sizes[0]]).astype(np.float32)
        golden[0] = np.resize(EXTREMES, sizes[0])
        self.write(golden)

    def write(self, golden):
        made = deployable(self.policy, self.low, self.high, golden, name=self.name, **self.facts)
        CHeader().write(self.folder / "policy.h", made)

    def expected(self, observations, dtype=np.float64):
        return expected_actions(self.policy, observations, self.low, self.high, dtype)

    def compile(self, *flags, compiler="cc", source=HARNESS, name="harness.c"):
        (self.folder / name).write_text(source)
        program = self.folder / "harness"
        run(compiler, *WARNINGS, *flags, self.folder / name, "-o", program, "-lm")
        return program

    def act(self, program, observations):
        raw = run(program, stdin=np.asarray(observations, np.float32).tobytes())
        return np.frombuffer(raw, np.float32).reshape(len(observations), -1)

    def make(self, target, **options):
        """Builds with the kit's own Makefile, laid out as in an artefact directory."""
        if not (self.folder / "c").exists():
            shutil.copytree(KIT, self.folder / "c", ignore=shutil.ignore_patterns("build"))
        return subprocess.run(
            ["make", "-s", "-C", self.folder / "c", target], capture_output=True, text=True, timeout=120, **options
        )

    def damage(self, array, value):
        """Overwrites an array's first number."""
        text = (self.folder / "policy.h").read_text()
        text, count = re.subn(rf"(static const float tfsac_policy_{array}\[.*\n[ {{]*)[^,}}]+", rf"\g<1>{value}", text)
        assert count == 1
        (self.folder / "policy.h").write_text(text)


def run(*command, stdin=b""):
    done = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[:2000]
    return done.stdout


def pipe(text, *command):
    return subprocess.run(command, input=text, capture_output=True, text=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("small"), [3, 8, 8, 2])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("large"), [10, 256, 256, 2])


@settings(max_examples=8, deadline=None)
@given(
    observation_dim=st.integers(1, 400),
    hidden=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    action_dim=st.integers(1, 17),
    seed=st.integers(0, 999),
    level=st.sampled_from(["-O0", "-O2", "-O3"]),
)
def test_answers_as_numpy_does(tmp_path_factory, observation_dim, hidden, action_dim, seed, level):
    policy = Exported(tmp_path_factory.mktemp("policy"), [observation_dim, *hidden, action_dim], seed)
    program = policy.compile("-std=c99", level)
    observations = np.random.default_rng(seed).normal(size=[50, observation_dim]).astype(np.float32)
    observations[0] = np.resize(EXTREMES, observation_dim)
    actions = policy.act(program, observations)
    error = np.abs(actions - policy.expected(observations)) / (policy.high - policy.low)
    assert error.max() <= 1e-5
    assert np.all(actions >= policy.low) and np.all(actions <= policy.high)


def test_a_policy_of_two_layers_of_256(large):
    assert (large.folder / "policy.h").stat().st_size < 2_000_000
    observations = np.random.default_rng(1).normal(0, 2, [2_000, 10]).astype(np.float32)
    actions = large.act(large.compile("-std=c99", "-O3"), observations)
    span = large.high - large.low
    for dtype in (np.float32, np.float64):
        assert (np.abs(actions - large.expected(observations, dtype)) / span).max() <= 1e-5


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_the_loops_vectorise_without_fast_math(large):
    (large.folder / "loops.c").write_text(HARNESS)
    command = ["gcc", "-std=c99", "-O3", "-fopt-info-vec-optimized", "-c", "loops.c", "-o", "loops.o"]
    told = subprocess.run(command, cwd=large.folder, capture_output=True, text=True).stderr
    lines = (large.folder / "policy.h").read_text().split("\n")
    vectorised = {lines[int(n) - 1] for n in re.findall(r"policy\.h:(\d+):\d+: optimized: loop vectorized", told)}
    for layer in ("hidden_0", "hidden_1"):
        assert any(f"{layer}[j] += x * tfsac_policy_{layer}_kernel[i][j]" in line for line in vectorised)


@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_extreme_observations_give_finite_actions_inside_the_bounds(small, level):
    observations = np.array(np.meshgrid(EXTREMES, EXTREMES, EXTREMES), np.float32).reshape(3, -1).T
    actions = small.act(small.compile("-std=c99", level), observations)
    assert np.all(np.isfinite(actions))
    assert np.all(actions >= small.low) and np.all(actions <= small.high)
    plain = np.clip(np.nan_to_num(observations, nan=0, posinf=1e6, neginf=-1e6), -1e6, 1e6)
    assert np.array_equal(actions, small.act(small.folder / "harness", plain))


def test_bounds_that_float32_lacks_are_rounded_inward(tmp_path):
    policy = Exported(tmp_path, [1, 2, 2], bounds=(np.array([-0.3, 0.1]), np.array([1.7, 0.7])))
    (hidden,), mu, log_std = policy.policy
    hidden = hidden._replace(kernel=np.array([[1, -1]], np.float32))
    policy.policy = Policy((hidden,), mu._replace(kernel=np.array([[1, 1], [-1, -1]], np.float32)), log_std)
    policy.write(np.zeros([1, 1], np.float32))
    actions = policy.act(policy.compile("-std=c99"), [[1e6], [-1e6]]).astype(np.float64)
    assert np.all(actions >= policy.low) and np.all(actions <= policy.high)
    assert np.allclose(actions, [policy.high, policy.low], rtol=1e-6)


def test_weights_arrive_bit_by_bit(tmp_path):
    policy = Exported(tmp_path, [100, 50, 1])
    kernel = np.random.default_rng(0).integers(0, 2**32, [100, 50], np.uint32).view(np.float32)
    kernel = np.where(np.abs(kernel) < 1e20, kernel, np.float32(1))  # NaN and what could overflow is refused
    kernel[0, :6] = -0.0, 0.0, 1.0, 1e-45, -1.17549435e-38, 123456792.0
    (hidden,), mu, log_std = policy.policy
    policy.policy = Policy((hidden._replace(kernel=kernel),), mu, log_std)
    policy.write(np.zeros([1, 100], np.float32))
    source = HARNESS.replace(
        "{\n    float", "{\n    fwrite(tfsac_policy_hidden_0_kernel, 4, 5000, stdout);\n    float", 1
    )
    program = policy.compile("-std=c99", source=source)
    raw = subprocess.run([program], input=b"", capture_output=True).stdout
    assert raw == kernel.tobytes()


def test_fast_math_is_refused(small):
    with pytest.raises(AssertionError, match="must be compiled without -ffast-math"):
        small.compile("-std=c99", "-O2", "-ffast-math")
    with pytest.raises(AssertionError, match="must be compiled without -ffast-math"):
        small.compile("-std=c99", "-ffinite-math-only")


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
def test_cpp_takes_it_too(small):
    small.act(small.compile("-std=c++11", compiler="g++", name="harness.cpp"), [[1, 2, 3]])


TWO = """
#define REACHER_GOLDEN
#define SWING_GOLDEN
#include "reacher/policy.h"
#include "swing/policy.h"
#include "reacher/policy.h" /* again, as another header might */
#include <stdio.h>
int main(void)
{
    const float observation[REACHER_OBSERVATION_DIM > SWING_OBSERVATION_DIM ? REACHER_OBSERVATION_DIM
                                                                            : SWING_OBSERVATION_DIM] = {1.0f, -2.0f};
    float reacher[REACHER_ACTION_DIM], swing[SWING_ACTION_DIM];
    reacher_act(observation, reacher);
    swing_act(observation, swing);
    fwrite(reacher, sizeof reacher, 1, stdout);
    fwrite(swing, sizeof swing, 1, stdout);
    return reacher_selftest() + swing_selftest();
}
"""
COMPILERS = [
    ("cc", "-std=c99", "two.c"),
    pytest.param("g++", "-std=c++11", "two.cpp", marks=pytest.mark.skipif(not shutil.which("g++"), reason="no g++")),
]


@pytest.fixture
def two(tmp_path):
    """Two policies of different sizes, each with a policy.h, in folders reacher/ and swing/."""
    policies = {}
    for seed, (name, sizes) in enumerate({"reacher": [3, 8, 2], "swing": [2, 4, 4, 1]}.items()):
        (tmp_path / name).mkdir()
        policies[name] = Exported(tmp_path / name, sizes, seed, name=name)
    return policies


@pytest.mark.parametrize("compiler, standard, source", COMPILERS)
def test_two_policies_in_one_file_give_their_own_answers(tmp_path, two, compiler, standard, source):
    (tmp_path / source).write_text(TWO)
    run(compiler, *WARNINGS, standard, tmp_path / source, "-o", tmp_path / "two", "-lm")
    answers = np.frombuffer(run(tmp_path / "two"), np.float32)
    expected = [two["reacher"].expected(np.array([1, -2, 0])), two["swing"].expected(np.array([1, -2]))]
    np.testing.assert_allclose(answers, np.concatenate(expected), atol=1e-5)


@pytest.mark.parametrize("compiler, standard, source", COMPILERS)
@pytest.mark.parametrize("name", [None, "arm"])
def test_a_second_policy_under_the_same_name_is_no_silent_skip(tmp_path, name, compiler, standard, source):
    """It used to be left out, and both calls were answered by the first."""
    for seed, folder in enumerate(("first", "second")):
        (tmp_path / folder).mkdir()
        Exported(tmp_path / folder, [3, 8, 2], seed, name=name)
    both = '#include "first/policy.h"\n#include "second/policy.h"\nint main(void) { return 0; }\n'
    (tmp_path / source).write_text(both)
    with pytest.raises(AssertionError, match="another policy.h with these names is included already.*--name"):
        run(compiler, standard, tmp_path / source, "-o", tmp_path / "two", "-lm")
    twice = both.replace("second/", "first/")
    (tmp_path / source).write_text(twice)
    run(compiler, standard, tmp_path / source, "-o", tmp_path / "two", "-lm")


def test_nothing_in_a_named_header_bears_another_name(two):
    text = (two["reacher"].folder / "policy.h").read_text()
    assert not re.search("tfsac_|TFSAC_", text)


def test_the_kit_beside_a_named_header_calls_it_by_its_name(two):
    policy = two["reacher"]
    device_kit.copy_to(policy.folder, "reacher")
    assert policy.make("check").stdout.startswith("passed: 16 golden vectors, 0 failures")
    assert policy.make("build/run_header").returncode == 0
    done = pipe("1 -2 0\n", policy.folder / "c" / "build" / "run_header")
    np.testing.assert_allclose(np.array(done.stdout.split(), float), policy.expected(np.array([1, -2, 0])), atol=1e-5)
    assert "reacher_act" in (policy.folder / "README.md").read_text()
    if shutil.which("arm-none-eabi-gcc"):
        assert policy.make("cortex_m4").returncode == 0
        assert cortex_m4.footprint(policy.folder)["flash"] > 0


@pytest.mark.parametrize("name", ["Reacher", "2reacher", "my-arm", "", "tfsac", "tfsac_policy", "a b", "é"])
def test_a_name_that_c_cannot_take_is_refused(name):
    with pytest.raises(UserError, match=f"--name={name}: expected a word of lower-case letters"):
        names(name)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=9))
def test_no_fact_can_end_the_comment(tmp_path_factory, names):
    nasty = ["*/ int broken", "/* again", "*/*/*", "a\nb */ c\n", "trigraph ??/", "back\\", "\u202e", "\0\x1b[1m", "µ"]
    words = [*nasty, *names]
    facts = {"observation": {"names": words, "units": words}, "environment": {"id": "*/ int broken"}}
    policy = Exported(tmp_path_factory.mktemp("facts"), [1, 1, 1], **facts)
    policy.compile("-std=c99", "-fsyntax-only")
    header = (policy.folder / "policy.h").read_bytes()
    assert header.index(b"*/") == header.index(b" */\n#ifndef") + 1


def test_facts_are_told(tmp_path):
    action = {"names": ["torque"], "units": ["N m"]}
    Exported(tmp_path, [1, 2, 1], action=action, environment={"id": "mine:Swing-v0"})
    header = (tmp_path / "policy.h").read_text()
    assert " * layers: 1 -> 2 -> 1\n * parameters: 7 float32; 4 multiply-adds an action\n" in header
    assert " * environment: mine:Swing-v0\n" in header and " * action: torque [N m]\n" in header


def test_run_header_speaks_the_runners_protocol(small):
    assert small.make("build/run_header").returncode == 0
    program = small.folder / "c" / "build" / "run_header"
    done = pipe("1 2 3\n\t0.5  -0.25 1e-3 \r\n0x1p2 0 0", program)
    assert done.returncode == 0 and not done.stderr
    actions = np.array([line.split() for line in done.stdout.splitlines()], np.float32)
    expected = small.expected(np.array([[1, 2, 3], [0.5, -0.25, 1e-3], [4, 0, 0]], np.float32))
    assert np.allclose(actions, expected, rtol=0, atol=1e-5)

    assert pipe("\ufeff1 2 3\n", program).stdout == done.stdout.splitlines(keepends=True)[0]

    done = pipe("1 2\n1 2 nan\n\n1 2 3\n1 2 -inf\n1 1e39 3\n1 2 x\n1 2 3 4\n1 2 3,\n1 2 " + 999 * "3", program)
    assert done.returncode == 1
    assert done.stdout == pipe("1 2 3\n", program).stdout
    assert re.findall(r"^line (\d+): ", done.stderr, re.M) == ["1", "2", "3", "5", "6", "7", "8", "9", "10"]
    assert "line 1: expected 3 numbers, received 2\n" in done.stderr
    assert "line 2: number 3 is none, or not finite\n" in done.stderr
    assert pipe("", program).returncode == 0
    assert pipe("", program, "--wrong").returncode == 2


@pytest.mark.parametrize(
    "array, value",
    [("mu_bias", "0.5f"), ("hidden_0_kernel", "-2.0f"), ("mu_kernel", "NAN"), ("action_middle", "9.0f")],
)
def test_the_selftest_catches_a_damaged_number(tmp_path, array, value):
    policy = Exported(tmp_path, [3, 8, 8, 2])
    assert policy.make("check").stdout == "passed: 16 golden vectors, 0 failures, allowed error 1e-05 of the span\n"
    policy.damage(array, value)
    done = policy.make("check")
    assert done.returncode != 0 and "FAILED: 16 golden vectors, " in done.stdout


def test_the_selftest_catches_a_compiler_without_nan(tmp_path):
    policy = Exported(tmp_path, [3, 8, 8, 2])
    policy.write(np.zeros([4, 3], np.float32))
    header = tmp_path / "policy.h"
    header.write_text(header.read_text().replace("x = x == x ? x : 0.0f;", ""))
    done = policy.make("check")
    assert done.returncode != 0 and "FAILED: 4 golden vectors, 1 failures" in done.stdout


@needs_aarch64
def test_aarch64_under_emulation_answers_alike(large):
    done = large.make("check_aarch64")
    assert done.returncode == 0 and done.stdout.startswith("passed: 16 golden vectors"), done.stderr
    large.make("build/run_header")
    lines = "\n".join(" ".join(map(repr, row)) for row in np.random.default_rng(2).normal(size=[20, 10]).tolist())
    build = large.folder / "c" / "build"
    here, there = pipe(lines, build / "run_header"), pipe(lines, "qemu-aarch64", build / "run_header_aarch64")
    assert np.allclose(
        *(np.array([line.split() for line in done.stdout.splitlines()], float) for done in (here, there)), atol=1e-6
    )


@needs_cortex_m4
@pytest.mark.parametrize("sizes", [[10, 256, 256, 2], [376, 64, 64, 17]])
def test_cortex_m4_under_emulation_passes_the_golden_vectors(tmp_path, sizes):
    policy = Exported(tmp_path, sizes)
    done = policy.make("check_cortex_m4")
    assert done.returncode == 0, done.stderr
    said = re.search(r"passed: 16 golden vectors, 0 failures, stack (\d+) bytes", done.stdout + done.stderr)
    footprint = cortex_m4.footprint(tmp_path)
    assert footprint["stack"] - 64 <= int(said[1]) <= footprint["stack"]
    policy.damage("mu_bias", "0.5f")
    done = policy.make("check_cortex_m4")
    assert done.returncode != 0 and "FAILED: 16 golden vectors, " in done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="no arm-none-eabi-gcc")
def test_footprint_on_cortex_m4(large):
    footprint = cortex_m4.footprint(large.folder)
    assert 0 < footprint["flash"] - 4 * (10 * 256 + 256 + 256 * 256 + 256 + 256 * 2 + 2) < 6_000
    assert footprint["ram"] < 256
    # The compiler's own word on the forward pass; the library's tanhf comes on top.
    source = '#include "policy.h"\nvoid act(const float *x, float *y) { tfsac_policy_act(x, y); }\n'
    (large.folder / "act.c").write_text(source)
    flags = [*cortex_m4.FLAGS, "-fstack-usage", "-c", "act.c", "-o", "act.o"]
    subprocess.run(["arm-none-eabi-gcc", *flags], cwd=large.folder, check=True)
    own = sum(int(line.split("\t")[1]) for line in (large.folder / "act.su").read_text().splitlines())
    assert own < footprint["stack"] < own + 128


def test_without_compilers_nothing_is_compiled(small, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert cortex_m4.footprint(small.folder) is None
    with pytest.raises(NotChecked, match="no C compiler here"):
        CHeader().load(small.folder / "policy.h")


def test_compiled_policies_are_functions(small, large, tmp_path):
    """Several at once, each with its own answers, after the files that they came from are gone."""
    wrong = Exported(tmp_path, [3, 8, 8, 2], seed=1)
    wrong.damage("mu_bias", "0.5f")
    acts = [CHeader().load(policy.folder / "policy.h") for policy in (small, large, wrong)]
    assert [act.selftest() > 0 for act in acts] == [False, False, True]
    for policy, act, size in zip((small, large), acts, (3, 10), strict=False):
        observations = np.random.default_rng(3).normal(size=[20, size])
        actions = np.array([act(x) for x in observations])
        assert actions.dtype == np.float32
        assert np.allclose(actions, policy.expected(observations), rtol=0, atol=1e-5)
