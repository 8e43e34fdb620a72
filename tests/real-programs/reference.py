"""Records what the programs of `programs.jsonl` do under wasmtime: `python3 reference.py [NAME ...]`.

Needs the package `wasmtime` (`pip install wasmtime==48.0.0`), and the modules, which `just
real-programs` fetches and adapts. Runs each program, or those named, as `just real-programs` does, and writes
its exit code, its stdout and the digests of the files that the table names into the table. A trap
is recorded as 67, the exit code of `stockade run` for it, and what the table has with 65, which is
refused, is passed over. What changes in the table is for a person
to judge.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

import wasmtime

HERE = pathlib.Path(__file__).parent
REPOSITORY = HERE.parent.parent
FETCHED = REPOSITORY / "target" / "real-programs"
TRAPPED = 67
REFUSED = 65
TEXT_MAX = 400


def compiled(engine, module):
    """The module, from a file beside the fetched ones if it was compiled before."""
    digest = hashlib.sha256(module.read_bytes()).hexdigest()
    kept = FETCHED / "reference" / f"{importlib.metadata.version('wasmtime')}-{digest}.cwasm"
    if kept.exists():
        return wasmtime.Module.deserialize_file(engine, str(kept))
    made = wasmtime.Module.from_file(engine, str(module))
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(made.serialize())
    return made


def recorded(contents, last=None):
    if last is not None:
        return {"last": last, "sha256": hashlib.sha256(contents[-last:]).hexdigest()}
    try:
        text = contents.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and len(text) <= TEXT_MAX:
        return text
    return {"sha256": hashlib.sha256(contents).hexdigest()}


def run(engine, program, package, work, output):
    """The exit code."""
    adapted = FETCHED / "adapted" / f"{program['name']}.wasm"
    module = compiled(engine, adapted if "adapter" in program else package / program["module"])
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = [pathlib.Path(program["module"]).name, *program.get("args", [])]
    wasi.env = sorted(program.get("env", {}).items())
    stdin = program.get("stdin", os.devnull)
    wasi.stdin_file = str(work / stdin[5:] if stdin.startswith("work:") else HERE / "inputs" / stdin)
    wasi.stdout_file = str(output)
    wasi.inherit_stderr()
    for copy, original in program.get("copies", {}).items():
        (work / copy).parent.mkdir(exist_ok=True)
        shutil.copy(package / original, work / copy)
    wasi.preopen_dir(str(HERE / "inputs"), "/in")
    wasi.preopen_dir(str(work), "/made")
    for guest, host in program.get("grants", {}).items():
        roots = {"package": package, "work": work}
        root, _, below = host.rpartition(":")
        wasi.preopen_dir(str(roots.get(root, REPOSITORY) / below), guest)
    if program.get("tmp"):
        (work / "tmp").mkdir(exist_ok=True)
        wasi.preopen_dir(str(work / "tmp"), "/tmp")
    store.set_wasi(wasi)

    def unknown(*_):
        raise RuntimeError("unknown import")

    for wanted in module.imports:
        if wanted.module != "wasi_snapshot_preview1" and program.get("unknown_imports") == "trap":
            linker.define_func(wanted.module, wanted.name, wanted.type, unknown)
    try:
        exports = linker.instantiate(store, module).exports(store)
        if "_initialize" in exports:
            exports["_initialize"](store)
        entry = program.get("entry") or ("" if "" in exports else "_start")
        return exports[entry](store) or 0
    except wasmtime.ExitTrap as end:
        return end.code
    except wasmtime.Trap as trap:
        print(trap, file=sys.stderr)
        return TRAPPED


def main():
    packages = {}
    for line in (HERE / "packages.jsonl").read_text().splitlines():
        name = json.loads(line)["name"]
        packages[name] = FETCHED / re.sub("[^A-Za-z0-9]+", "-", name).strip("-")
    table = HERE / "programs.jsonl"
    programs = [json.loads(line) for line in table.read_text().splitlines()]
    wanted = set(sys.argv[1:])
    engine = wasmtime.Engine()
    chains = {}
    for program in programs:
        if wanted and not wanted & {program["name"], program.get("chain")}:
            continue
        if program.get("exit") == REFUSED:
            continue
        chain = program.get("chain", program["name"])
        work = chains.setdefault(chain, pathlib.Path(tempfile.mkdtemp(prefix="stockade-reference-")))
        print(program["name"], end=" ... ", flush=True)
        output = work / "stdout"
        program["exit"] = run(engine, program, packages[program["package"]], work, output)
        program["stdout"] = recorded(output.read_bytes())
        for name, before in program.get("files", {}).items():
            last = before.get("last") if isinstance(before, dict) else None
            program["files"][name] = recorded((work / name).read_bytes(), last)
        print(program["exit"], flush=True)
        table.write_text("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in programs))
    for work in chains.values():
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
