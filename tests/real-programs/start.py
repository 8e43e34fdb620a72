"""What a start with a cached module costs: `python3 start.py STOCKADE MODULE [--rounds N] [-- ARGS ...]`.

Needs the package `wasmtime` (`pip install wasmtime==48.0.0`). Runs the program of WASI in MODULE with
ARGS, in turns, by `STOCKADE run --cache` where the cache has it, and by wasmtime from a precompiled
file, and prints the median of the processor time of each, children included. wasmtime runs in a Python
here, so a run of the same that loads nothing is measured beside it and taken off. With `--function`
ARGS are a function of the module and its arguments, and what stands beside it is the same without a cache.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

MEMORY = "1GiB"


def child(role, precompiled, args):
    import wasmtime

    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["module", *args]
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    store.set_wasi(wasi)
    if role == "idle":
        return 0
    module = wasmtime.Module.deserialize_file(engine, precompiled)
    try:
        linker.instantiate(store, module).exports(store)["_start"](store)
    except wasmtime.ExitTrap as trap:
        return trap.code
    return 0


def processor_ms(command, env):
    """The processor time of one run, and its exit code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used * 1000, ended.returncode


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2], sys.argv[3], sys.argv[4:])
    parser = argparse.ArgumentParser()
    parser.add_argument("stockade")
    parser.add_argument("module", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--function", action="store_true", help="ARGS begin with a function's name")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, args = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        cache = pathlib.Path(folder) / "cache"
        env = {**os.environ, "XDG_STATE_HOME": folder}
        run = [options.stockade, "run", "--memory", MEMORY]
        call = [str(options.module), *([] if options.function else ["--"]), *args]
        runs = {"stockade, from its cache": [*run, "--cache", str(cache), *call]}
        if options.function:
            runs["stockade, without a cache"] = [*run, *call]
        else:
            import wasmtime

            precompiled = pathlib.Path(folder) / "module.cwasm"
            module = wasmtime.Module.from_file(wasmtime.Engine(), str(options.module))
            precompiled.write_bytes(module.serialize())
            this = [sys.executable, __file__, "--child"]
            runs["wasmtime, in Python"] = [*this, "run", str(precompiled), *args]
            runs["that Python alone"] = [*this, "idle", str(precompiled), *args]
        # The first of each is not counted: it compiles.
        codes = {name: processor_ms(command, env)[1] for name, command in runs.items()}
        times = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, command in runs.items():
                used, code = processor_ms(command, env)
                assert code == codes[name], f"{name} ended with {code}, and before with {codes[name]}"
                times[name].append(used)
    medians = {name: statistics.median(used) for name, used in times.items()}
    for name, median in medians.items():
        print(f"{name:28} {median:7.1f} ms of processor time, exit code {codes[name]}")
    first, second, *idle = medians.values()
    reference = second - sum(idle)
    print(f"{'ratio':28} {first / reference:7.2f}, of {first:.1f} to {reference:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
