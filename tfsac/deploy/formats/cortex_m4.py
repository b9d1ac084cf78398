"""Memory that policy.h needs on a Cortex-M4F, from the cross compiler's output: nothing runs."""

import re
import shutil
import tempfile
from pathlib import Path

from tfsac.deploy.formats.c_compiler import act_source, run

FLAGS = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-std=c99", "-O2"]


def footprint(directory):
    """Memory that the policy.h in a directory needs on a Cortex-M4F, compiled with -O2 and tanhf from newlib.

    Nothing runs: this says nothing about speed.

    Args:
        directory: where policy.h lies.

    Returns:
        Dict of bytes: flash (code and constants), ram (static: the library's errno), stack (the deepest path of calls);
        None where arm-none-eabi-gcc or its newlib is absent.
    """
    compiler = shutil.which("arm-none-eabi-gcc")
    if not compiler or run(compiler, "-print-file-name=nano.specs").strip() == "nano.specs":
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "act.c"), Path(folder, "act.elf")
        source.write_text(act_source(directory))
        link = ["--specs=nano.specs", "-nostartfiles", "-Wl,--gc-sections,--entry=act", "-lm", "-o", program]
        run(compiler, *FLAGS, "-ffunction-sections", "-fdata-sections", "-I", directory, source, *link)
        text, data, bss = map(int, run("arm-none-eabi-size", program).splitlines()[1].split()[:3])
        return {
            "flash": text + data,  # data lies in flash until it is copied to RAM at the start
            "ram": data + bss,
            "stack": _deepest_stack(run("arm-none-eabi-objdump", "-d", "--no-show-raw-insn", program), "act"),
        }


def _deepest_stack(disassembly, function):
    """Bytes of stack on the deepest path from a function, from Thumb disassembly; -fstack-usage omits the library."""
    frames, calls = {}, {}
    for block in re.split(r"\n(?=\w+ <)", disassembly):
        head = re.match(r"\w+ <(.+)>:", block)
        if not head:
            continue
        name = head[1]
        frame = sum(int(n) for n in re.findall(r"\tsub(?:\.w|w)?\tsp,(?: sp,)? #(\d+)", block))
        frame += sum(int(n) for n in re.findall(r"\tstr\.w\t\w+, \[sp, #-(\d+)\]!", block))
        for registers in re.findall(r"\t(?:push|stmdb\tsp!,|vpush)(?:\.w)?\s*\{([^}]*)\}", block):
            frame += sum(_register_bytes(register) for register in registers.split(","))
        frames[name] = frame
        calls[name] = set(re.findall(r"\tb\S*\t\w+ <([^>+]+)>", block)) - {name}

    def depth(name):
        return frames.get(name, 0) + max((depth(callee) for callee in calls.get(name, ())), default=0)

    return depth(function)


def _register_bytes(register):
    """'r4' is 4 bytes, 'd8' 8, 's16-s19' 16."""
    ends = [re.match(r"\s*([a-z]+)(\d*)", end).groups() for end in register.split("-")]
    width = 8 if ends[0][0] == "d" else 4
    return width * (int(ends[-1][1]) - int(ends[0][1]) + 1 if len(ends) == 2 else 1)
