"""The released rotary pendulum policy in C, on an emulated microcontroller, against a machine it was not trained on.

    python export/furuta/demo.py

Compiles policy.h for a Cortex-M4F, runs it under QEMU and closes the loop over its serial line with `simulator.py`: in
each control period two encoder counts go in and a voltage comes out. Beside it runs the policy of plain/, which was
trained without delay, noise and varied machines. Needs numpy and what export/c/install_cross_tools.sh installs.
"""

import argparse
import csv
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from simulator import Machine, Simulator

HERE = Path(__file__).parent
KIT = HERE.parent / "c"
POLICIES = {
    "trained with delay, noise and varied machines": HERE.parent / "policies" / "furuta",
    "trained without": HERE / "plain",
}
TOOLS = ("arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm")
FLAGS = "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard -std=c99 -O2 -ffunction-sections -fdata-sections"
LINK = "--specs=nano.specs -nostartfiles -Wl,--gc-sections"
# One instruction is one nanosecond of QEMU's clock, so one tick of the 25 MHz timer is 40 of them.
QEMU = "qemu-system-arm -M mps2-an386 -display none -monitor none -serial stdio -semihosting -icount shift=0 -kernel"
INSTRUCTIONS_A_TICK = 40

PERIOD = 0.02  # s
SECONDS = 8.0
SETTLED = 5.0  # from here on the pendulum must be held
UPRIGHT = np.deg2rad(12)


class Size(NamedTuple):
    """Bytes of the program, and of a step."""

    flash: int
    ram: int
    state: int
    stack: int


class Board:
    """The program on an emulated Cortex-M4F.

    Args:
        policy: the directory of a policy.h that remembers.
        folder: where the program is built.

    Raises:
        RuntimeError: it cannot be built, or ends before its time.
    """

    def __init__(self, policy, folder):
        folder.mkdir(parents=True, exist_ok=True)
        program = folder / "closed_loop.elf"
        include = [part for place in (KIT, policy) for part in ("-I", place)]
        link = [*LINK.split(), "-T", KIT / "cortex_m4.ld", "-lm", "-o", program]
        _run(TOOLS[0], *FLAGS.split(), *include, HERE / "closed_loop.c", *link)
        self._sizes = [int(x) for x in _run(TOOLS[1], program).splitlines()[1].split()[:3]]
        self._process = subprocess.Popen(
            [*QEMU.split(), program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )

    def reset(self):
        """Forgets the past."""
        self._send(b"r")

    def step(self, arm, pendulum, seconds=PERIOD):
        """Counts of the encoders -> status and volts."""
        self._send(b"s" + struct.pack("<hhH", arm, pendulum, round(1e6 * seconds)))
        return struct.unpack("<Bf", self._receive(5))

    def log(self):
        """The last steps: rows of seconds, counts of arm and pendulum, volts."""
        self._send(b"l")
        (rows,) = struct.unpack("<H", self._receive(2))
        return [struct.unpack("<4f", self._receive(16)) for _ in range(rows)]

    def measured(self):
        """Instructions of a step on average, and a `Size`."""
        self._send(b"i")
        steps, ticks, stack, state = struct.unpack("<4I", self._receive(16))
        text, data, bss = self._sizes
        return INSTRUCTIONS_A_TICK * ticks / max(1, steps), Size(text + data, data + bss, state, stack)

    def close(self):
        """Ends the program."""
        if self._process.poll() is None:
            self._send(b"q")
        self._process.communicate(timeout=60)

    def _send(self, content):
        try:
            self._process.stdin.write(content)
        except BrokenPipeError:
            raise self._ended() from None

    def _receive(self, size):
        content = b""
        while len(content) < size:
            part = self._process.stdout.read(size - len(content))
            if not part:
                raise self._ended()
            content += part
        return content

    def _ended(self):
        said = self._process.communicate()[1].decode(errors="replace")
        return RuntimeError(f"the emulated program ended: {' '.join(said.split()) or 'without a word'}")


def starts(count):
    """Start states near rest, hanging, [count, 4]: equal for every policy."""
    return np.random.default_rng(0).uniform(-1, 1, [count, 4]) * (0.2, 0.1, 0.1, 0.1)


def run(board, simulator, start):
    """One start in closed loop -> tilts [rad] at each control period, [T]."""
    board.reset()
    simulator.start(start)
    tilts = []
    for _ in range(round(SECONDS / PERIOD)):
        status, volts = board.step(*simulator.counts())
        if status:
            raise RuntimeError(f"status {status}: the policy found its sensors at fault")
        simulator.command(volts)
        simulator.run(PERIOD)
        tilts.append(simulator.tilt())
    return np.array(tilts)


def is_held(tilts):
    """Whether the pendulum stays near upright from SETTLED seconds on."""
    return bool(np.all(tilts[round(SETTLED / PERIOD) :] <= UPRIGHT))


def missing():
    """What is needed and not here."""
    return [tool for tool in TOOLS if not shutil.which(tool)]


def _run(*command):
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout


def _write_log(path, policy, rows):
    """As run_policy.py --log does; names as in the header's comment."""
    text = (policy / "policy.h").read_text()
    sensed, acted = (re.search(rf"^ \* {what}: (.+)$", text, re.M)[1].split(", ") for what in ("observation", "action"))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time_s", *(name.partition(" [")[0] for name in (*sensed[:2], *acted))])
        writer.writerows([f"{x:.9g}" for x in row] for row in rows)


def main():
    """The command; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=10, help="how many (default 10)")
    for part in ("mass", "length"):
        parser.add_argument(f"--{part}", type=float, default=1.0, help=f"factor of the pendulum's {part} (default 1)")
    parser.add_argument("--log", help="CSV file to write the device's log of its last steps to")
    args = parser.parse_args()
    if missing():
        print(f"not here: {', '.join(missing())}; export/c/install_cross_tools.sh installs them", file=sys.stderr)
        return 2
    machine = Machine(
        pendulum_mass=args.mass * Machine().pendulum_mass, pendulum_length=args.length * Machine().pendulum_length
    ).with_friction(1.2)
    print(
        f"{args.starts} starts hanging, {SECONDS:g} s each, control at {1 / PERIOD:g} Hz; machine: friction 20 % up, "
        f"pendulum's mass x {args.mass:g} and length x {args.length:g}, "
        f"{1e3 * machine.delay:g} ms from command to effect, dead zone {machine.dead_zone:g} V, 2048 counts a turn"
    )
    simulator = Simulator(machine)
    for number, (name, policy) in enumerate(POLICIES.items()):
        board = Board(policy, HERE / "build" / str(number))
        try:
            held = sum(is_held(run(board, simulator, start)) for start in starts(args.starts))
            instructions, size = board.measured()
            if args.log and number == 0:
                _write_log(args.log, policy, board.log())
        finally:
            board.close()
        print(f"\n{name}: upright to 12 degrees from {SETTLED:g} s to the end in {held} of {args.starts}")
        print(
            f"  program: {size.flash:,} bytes of flash, {size.ram:,} of RAM; in it the policy's state {size.state}; "
            f"stack of a step {size.stack}"
        )
        print(
            f"  {instructions:,.0f} instructions a step, counted by QEMU; at an estimated 1.5 cycles each "
            f"{1.5 * instructions / 168e3:.2f} ms at 168 MHz (an estimate: no real processor was timed)"
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
