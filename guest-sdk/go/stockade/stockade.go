//go:build wasip1

// Package stockade makes tasks of Go functions: version 1 of the guest ABI (docs/abi.md).
//
//	//go:wasmexport add
//	func exportAdd() int32 { return stockade.Run2("a", "b", add) }
//
//	func add(a, b int64) (int64, error) { return a + b, nil }
//
//	func main() {}
//
// Built as a reactor, so that main never runs:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o tasks.wasm
//	stockade run tasks.wasm add 2 40
//
// Arguments and results are what their types say, in every codec; JSON is as encoding/json has it.
// Go puts no custom section into a module: without a manifest tasks work under the names of their
// exports, and stockade/manifest appends one to a module that is built.
package stockade

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"
	"unsafe"
)

// The host calls, as the ABI has them.

//go:wasmimport stockade input_len
func inputLen() uint32

//go:wasmimport stockade input_codec
func inputCodec() int32

//go:wasmimport stockade input_read
func inputRead(into unsafe.Pointer, offset, length uint32)

//go:wasmimport stockade output_write
func outputWrite(from unsafe.Pointer, length uint32)

//go:wasmimport stockade error_write
func errorWrite(from unsafe.Pointer, length uint32)

//go:wasmimport stockade progress
func progress(done, total int64)

//go:wasmimport stockade emit
func emit(from unsafe.Pointer, length uint32)

//go:wasmimport stockade log
func log(level int32, from unsafe.Pointer, length uint32)

//go:wasmimport stockade remaining_ns
func remainingNs() int64

//go:wasmimport stockade task_id
func taskID() int64

// trap ends the instance; in trap_wasm.s.
func trap()

// What a task returns to the host.
const (
	success      = 0
	failed       = 1
	badArguments = 2
)

// LogLevel is how much a line of the log matters.
type LogLevel int32

const (
	LevelError LogLevel = 1 + iota
	LevelWarn
	LevelInfo
	LevelDebug
	LevelTrace
)

// Progress tells the caller how far the task is; a total of 0 means that it is not known.
func Progress(done, total uint64) {
	progress(int64(min(done, math.MaxInt64)), int64(min(total, math.MaxInt64)))
}

// Emit hands the caller one item of a streamed result, in the codec of the call.
func Emit(item any) error {
	encoded, err := encode(inputCodec(), item)
	if err != nil {
		return fmt.Errorf("the item cannot be emitted: %w", err)
	}
	emit(unsafe.Pointer(unsafe.SliceData(encoded)), uint32(len(encoded)))
	return nil
}

// Log adds a line to the task's log.
func Log(level LogLevel, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	log(int32(level), unsafe.Pointer(unsafe.StringData(line)), uint32(len(line)))
}

// Error adds a line to the task's log at that level, as do its siblings.
func Error(format string, args ...any) { Log(LevelError, format, args...) }
func Warn(format string, args ...any)  { Log(LevelWarn, format, args...) }
func Info(format string, args ...any)  { Log(LevelInfo, format, args...) }
func Debug(format string, args ...any) { Log(LevelDebug, format, args...) }
func Trace(format string, args ...any) { Log(LevelTrace, format, args...) }

// Remaining is how long the task may still run; false where it has no deadline.
func Remaining() (time.Duration, bool) {
	nanoseconds := remainingNs()
	return time.Duration(nanoseconds), nanoseconds != math.MaxInt64
}

// TaskID is the task's number in its pool, from 1; 0 in an initializer or a finalizer.
func TaskID() uint64 { return uint64(taskID()) }

type failure struct {
	message string
	data    any
}

func (f *failure) Error() string { return f.message }

// Fail makes an error with a form, for callers that match on it: data is written as JSON.
func Fail(data any, format string, args ...any) error {
	return &failure{fmt.Sprintf(format, args...), data}
}

// record is what a failed task writes; pointers are left out where they are nil.
type record struct {
	Message  string  `json:"message"`
	Location *string `json:"location,omitempty"`
	Panic    bool    `json:"panic"`
	Data     *string `json:"data,omitempty"`
}

func (r record) write() {
	text, err := encode(codecJSON, r)
	if err != nil {
		text = []byte(r.Message)
	}
	errorWrite(unsafe.Pointer(unsafe.SliceData(text)), uint32(len(text)))
}

// run makes one call of a function with these parameters; body decodes them and calls it.
func run(names []string, body func(*arguments) (any, error)) (status int32) {
	defer func() {
		if panicked := recover(); panicked != nil {
			record{Message: fmt.Sprint(panicked), Location: location(), Panic: true}.write()
			trap()
		}
	}()
	input := make([]byte, inputLen())
	inputRead(unsafe.Pointer(unsafe.SliceData(input)), 0, uint32(len(input)))
	codec := inputCodec()
	given, err := newArguments(names, codec, input)
	if err == nil {
		var value any
		if value, err = body(given); err == nil {
			return finish(codec, value)
		}
	}
	if refused := (*refusal)(nil); errors.As(err, &refused) {
		record{Message: refused.message}.write()
		return badArguments
	}
	told := record{Message: err.Error()}
	if withData := (*failure)(nil); errors.As(err, &withData) && withData.data != nil {
		if data, err := encode(codecJSON, withData.data); err == nil {
			text := string(data)
			told.Data = &text
		}
	}
	told.write()
	return failed
}

func finish(codec int32, value any) int32 {
	result, err := encode(codec, value)
	if err != nil {
		record{Message: "the result cannot be encoded: " + err.Error()}.write()
		return failed
	}
	outputWrite(unsafe.Pointer(unsafe.SliceData(result)), uint32(len(result)))
	return success
}

// location is where the panic began that is being recovered from.
func location() *string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for {
		frame, more := frames.Next()
		if !strings.HasPrefix(frame.Function, "runtime.") {
			place := fmt.Sprintf("%s:%d", frame.File, frame.Line)
			return &place
		}
		if !more {
			return nil
		}
	}
}

// Run0 runs a task without parameters. Each of these returns what its export has to return, reads
// the arguments by position or by these names, and writes what the function returned.
func Run0[R any](function func() (R, error)) int32 {
	return run(nil, func(given *arguments) (any, error) {
		if err := given.finish(); err != nil {
			return nil, err
		}
		return function()
	})
}

// Run1 runs a task of one parameter; one that is a []byte or a string can be the raw input.
func Run1[A, R any](first string, function func(A) (R, error)) int32 {
	return run([]string{first}, func(given *arguments) (any, error) {
		var a A
		if err := given.take(&a).finish(); err != nil {
			return nil, err
		}
		return function(a)
	})
}

// Run2 runs a task of two parameters.
func Run2[A, B, R any](first, second string, function func(A, B) (R, error)) int32 {
	return run([]string{first, second}, func(given *arguments) (any, error) {
		var a A
		var b B
		if err := given.take(&a).take(&b).finish(); err != nil {
			return nil, err
		}
		return function(a, b)
	})
}

// Run3 runs a task of three parameters.
func Run3[A, B, C, R any](first, second, third string, function func(A, B, C) (R, error)) int32 {
	return run([]string{first, second, third}, func(given *arguments) (any, error) {
		var a A
		var b B
		var c C
		if err := given.take(&a).take(&b).take(&c).finish(); err != nil {
			return nil, err
		}
		return function(a, b, c)
	})
}
