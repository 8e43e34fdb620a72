// Command manifest appends a manifest to a module, for toolchains that make no custom sections.
//
//	go run stockade/manifest tasks.jsonl tasks.wasm
//
// The file holds one JSON record a line, as docs/abi.md has them. A module that is given a manifest
// twice has the records of both, and the first of a name counts.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
)

const section = "stockade.tasks"

func main() {
	if len(os.Args) != 3 {
		fail("usage: manifest RECORDS MODULE")
	}
	records, err := os.ReadFile(os.Args[1])
	check(err)
	for number, line := range bytes.Split(records, []byte("\n")) {
		if len(bytes.TrimSpace(line)) > 0 && !json.Valid(line) {
			fail(fmt.Sprintf("%s:%d: not JSON", os.Args[1], number+1))
		}
	}
	module, err := os.ReadFile(os.Args[2])
	check(err)
	if !bytes.HasPrefix(module, []byte("\x00asm\x01\x00\x00\x00")) {
		fail(os.Args[2] + ": not a WebAssembly module")
	}
	// A section: its number, its length, and for a custom one its name before its contents.
	contents := binary.AppendUvarint(nil, uint64(len(section)))
	contents = append(append(contents, section...), records...)
	module = binary.AppendUvarint(append(module, 0), uint64(len(contents)))
	check(os.WriteFile(os.Args[2], append(module, contents...), 0o644))
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}
