"""Ctrl-C and SIGTERM in this process: answered at once, acted on where nothing gets lost, and given back in the end."""

import os
import signal
import threading

import envs_for_tests  # noqa: F401  registers the environments
import pytest
from commands import Command
from envs_for_tests import reached
from runs import assert_same_state, bindings, flags, run_here, tables

from tfsac.errors import RunError, UserError
from tfsac.run import checkpoint
from tfsac.run.interrupts import Interrupts

SIGNALS = signal.SIGINT, signal.SIGTERM


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture
def own_handlers():
    """As a program of the user's own may have set them; -> the signals that came to them."""
    before, came = handlers(), []
    for number in SIGNALS:
        signal.signal(number, lambda number, _: came.append(number))
    yield came
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_noted_and_answered_the_second_goes_to_who_was_there_before(own_handlers, capfd, number):
    with Interrupts() as interrupts:
        assert not interrupts and interrupts.received == []
        os.kill(os.getpid(), number)
        assert interrupts and interrupts.received == [number] and own_handlers == []
        assert capfd.readouterr().out == "\nsaving; interrupt again to end at once\n"
        os.kill(os.getpid(), number)
        assert interrupts.received == [number] and own_handlers == [number]
    os.kill(os.getpid(), number)
    assert own_handlers == [number, number]


def test_a_command_ends_at_the_second(own_handlers):
    with Interrupts(second=signal.SIG_DFL):
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


@pytest.mark.parametrize("error", [None, RunError("broken"), KeyboardInterrupt()], ids=repr)
def test_handlers_are_given_back_however_it_ends(own_handlers, error):
    before = handlers()
    try:
        with Interrupts(second=signal.SIG_DFL):
            os.kill(os.getpid(), signal.SIGTERM)
            if error:
                raise error
    except (RunError, KeyboardInterrupt):
        pass
    assert handlers() == before


def test_handlers_are_given_back_after_a_run(tmp_path, own_handlers):
    before = handlers()
    run_here(tmp_path / "run", bindings(total_steps=16, env_id="Walk-v0"))
    assert handlers() == before
    with pytest.raises(RunError):
        run_here(tmp_path / "other", bindings(total_steps=100, start_steps=50, env_id="Raises-v0"))
    assert handlers() == before
    with pytest.raises(UserError):
        run_here(tmp_path / "run", bindings(env_id="CartPole-v1"))
    assert handlers() == before and own_handlers == []


def test_a_run_in_a_thread_is_the_same_run(tmp_path):
    """Where Python takes no signals."""
    params, faults, before = bindings(total_steps=24, env_id="Walk-v0"), [], handlers()

    def train():
        try:
            run_here(tmp_path / "thread", params)
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not faults and handlers() == before
    run_here(tmp_path / "main", params)
    assert_same_state(tmp_path / "thread", tmp_path / "main")
    assert tables(tmp_path / "thread") == tables(tmp_path / "main")


def test_an_interrupt_while_the_first_call_compiles_is_answered_at_once_and_saved_after_that_block(tmp_path):
    """Tracing takes seconds; here, as long as the test likes."""
    (tmp_path / "slow_to_compile.py").write_text(
        "import os, time\n"
        "from own_algorithm import Toy\n"
        "class Slow(Toy):\n"
        "    def gradient_step(self, batch, noise):\n"
        "        open('gate.reached', 'w').close()\n"
        "        while not os.path.exists('gate'): time.sleep(0.005)\n"
        "        return super().gradient_step(batch, noise)\n"
    )
    params = [*bindings("own_algorithm:Toy", total_steps=10**9), "train.algorithm = 'slow_to_compile:Slow'"]
    path = os.pathsep.join([str(tmp_path), os.path.dirname(__file__)])
    command = Command("tfsac.train", "--logdir=run", *flags(params), cwd=tmp_path, PYTHONPATH=path)
    command.wait_until(reached(tmp_path / "gate").exists)
    command.signal(signal.SIGINT)
    command.wait_until(lambda: "saving; interrupt again to end at once" in command.output())
    (tmp_path / "gate").touch()
    done = command.wait()
    assert (done.status, done.err) == (130, "") and "interrupted at step 16; go on with: " in done.out
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [0, 16]
