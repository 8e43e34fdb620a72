# Finds the toolchains of other languages, for `just languages`: those of the folder $1, else the system's.
#
# Each function sets what it is named for and fails where there is none.

folder=$(realpath "$1")
export ZIG_GLOBAL_CACHE_DIR=$folder/zig-cache ZIG_LOCAL_CACHE_DIR=$folder/zig-cache
export GOCACHE=$folder/go-cache GOPATH=$folder/go-path
# What a module of ours needs is here: nothing is to be fetched.
export GOPROXY=off GOTOOLCHAIN=local GOFLAGS=-mod=mod

# Says what is left out, and ends the recipe well.
skipped() {
    echo "skipped: $1 is not here: $2"
    exit 0
}

zig_compiler() {
    zig=("$folder/python/bin/python-zig")
    [[ -x ${zig[0]} ]] || zig=(zig)
    # Its standard library changes with each version.
    [[ $("${zig[@]}" version 2> /dev/null) == 0.17.* ]]
}

c_compiler() {
    c=(clang --target=wasm32-wasi)
    echo 'int main(void) { return 0; }' | "${c[@]}" -x c -o "$folder/nothing.wasm" - 2> /dev/null && return
    zig_compiler && c=("${zig[@]}" cc --target=wasm32-wasi)
}

go_compiler() {
    go=$folder/python/bin/go
    [[ -x $go ]] || go=$(command -v go) || return
    local version
    version=$("$go" env GOVERSION) && [[ ${version#go1.} =~ ^([0-9]+) ]] && ((BASH_REMATCH[1] >= 24))
}

assemblyscript_compiler() {
    asc=$folder/npm/node_modules/.bin/asc
    [[ -x $asc ]] || asc=$(command -v asc)
}
