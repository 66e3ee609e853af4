"""Bursts: what the Python programs among those that take turns in scripts/bench share.

serve(make_step, options) makes the step, warms up, and answers each line on stdin with a line:

    ready         {}
    go SECONDS    {"images_per_s": X, "steps": N}, of the step repeated for that long
    memory        {"peak_mb": P, "base_mb": B}: the most held (VmHWM, in MiB), and the same before
                  the step was made, which is what the framework itself takes
    quit          nothing, and ends

make_step() returns a function of one step and either None or a function that waits for the steps
asked for. Surprising: rates are steps over time, not a median of steps, because some runtimes have
several steps under way at once.
"""

import argparse
import json
import re
import sys
import time

WARM_UP = 3


def peak_mb():
    with open("/proc/self/status") as status:
        return round(int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) / 1024, 1)


def burst(step, wait, batch, seconds):
    """Steps for at least `seconds`, one at the least."""
    steps, start = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - start < seconds:
        step()
        steps += 1
    if wait:
        wait()
    took = time.perf_counter() - start
    return {"images_per_s": round(steps * batch / took, 2), "steps": steps}


def serve(make_step, options):
    base = peak_mb()
    step, wait = make_step()
    for _ in range(WARM_UP):
        burst(step, wait, options.batch, 0)
    answers = {
        "ready": lambda: {},
        "go": lambda seconds: burst(step, wait, options.batch, float(seconds)),
        "memory": lambda: {"peak_mb": peak_mb(), "base_mb": base},
    }
    for line in sys.stdin:
        command, *words = line.split()
        if command == "quit":
            break
        print(json.dumps(answers[command](*words)), flush=True)


def positive(kind):
    def parse(text):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"expected more than 0, got {text}")
        return value
    return parse


def parser(about, modes):
    """Options that each of the programs has."""
    p = argparse.ArgumentParser(description=about)
    p.add_argument("--mode", default=modes[0], choices=modes)
    p.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    p.add_argument("--threads", type=positive(int), default=2)
    return p
