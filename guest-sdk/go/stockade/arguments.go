package stockade

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"unicode/utf8"
)

// How an input is written.
const (
	codecRaw     = 0
	codecBincode = 1
	codecJSON    = 2
)

// Nothing is the result of a task without one: null in JSON.
type Nothing struct{}

// refusal says that the input is not the task's arguments.
type refusal struct{ message string }

func (r *refusal) Error() string { return r.message }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// arguments takes a task's arguments out of its input, one after another. The first mistake counts.
type arguments struct {
	names  []string
	codec  int32
	rest   []byte            // raw and bincode: what is left
	values []json.RawMessage // JSON: one a parameter, nil where it is missing
	next   int
	err    error
}

func newArguments(names []string, codec int32, input []byte) (*arguments, error) {
	given := &arguments{names: names, codec: codec, rest: input}
	switch codec {
	case codecRaw, codecBincode:
		return given, nil
	case codecJSON:
		given.rest = nil
		return given, given.sort(input)
	}
	return nil, refuse("the input has a codec that this guest's SDK does not know")
}

// depthMax is how deep JSON may be nested: encoding/json allows more than a guest's stack does.
const depthMax = 128

func tooDeep(input []byte) bool {
	depth, inText := 0, false
	for index := 0; index < len(input) && depth <= depthMax; index++ {
		switch symbol := input[index]; {
		case symbol == '"':
			inText = !inText
		case inText && symbol == '\\':
			index++
		case !inText && (symbol == '[' || symbol == '{'):
			depth++
		case !inText && (symbol == ']' || symbol == '}'):
			depth--
		}
	}
	return depth > depthMax
}

// sort puts the arguments of a JSON call where their parameters are.
func (given *arguments) sort(input []byte) error {
	if tooDeep(input) {
		return refuse("the input is nested deeper than %d", depthMax)
	}
	var call struct {
		Args   []json.RawMessage          `json:"args"`
		Kwargs map[string]json.RawMessage `json:"kwargs"`
	}
	decoder := json.NewDecoder(bytes.NewReader(input))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&call)
	if err == nil {
		if _, more := decoder.Token(); more != io.EOF {
			err = fmt.Errorf("something follows it")
		}
	}
	if err != nil {
		return refuse("the input is not `{\"args\": […], \"kwargs\": {…}}`: %v", err)
	}
	if len(call.Args) > len(given.names) {
		return refuse("too many arguments: expected %d, got %d", len(given.names), len(call.Args))
	}
	given.values = make([]json.RawMessage, len(given.names))
	copy(given.values, call.Args)
	for name, value := range call.Kwargs {
		index := slices.Index(given.names, name)
		switch {
		case index < 0:
			return refuse("unknown argument `%s`: expected %q", name, given.names)
		case index < len(call.Args):
			return refuse("argument `%s` is given both by position and by name", name)
		}
		given.values[index] = value
	}
	return nil
}

// take reads the next argument into what `into` points to.
func (given *arguments) take(into any) *arguments {
	if given.err != nil {
		return given
	}
	index := given.next
	given.next++
	var err error
	switch value := reflect.ValueOf(into).Elem(); given.codec {
	case codecJSON:
		err = fromJSON(given.values[index], value)
	case codecBincode:
		given.rest, err = fromBincode(given.rest, value)
	default:
		return given.takeRaw(into)
	}
	if err != nil {
		given.err = refuse("argument %d `%s`: %v", given.next, given.names[index], err)
	}
	return given
}

func (given *arguments) takeRaw(into any) *arguments {
	only := len(given.names) == 1
	switch into := into.(type) {
	case *[]byte:
		if only {
			*into, given.rest = given.rest, nil
			return given
		}
	case *string:
		if only {
			if !utf8.Valid(given.rest) {
				given.err = refuse("argument 1 `%s`: invalid UTF-8", given.names[0])
			}
			*into, given.rest = string(given.rest), nil
			return given
		}
	}
	given.err = refuse("raw bytes are an input only for a task with one parameter of a byte or text type; this one takes %q: pass JSON or bincode", given.names)
	return given
}

// finish checks that nothing is left.
func (given *arguments) finish() error {
	if given.err == nil && len(given.rest) > 0 {
		given.err = refuse("too many arguments: %d bytes are left", len(given.rest))
	}
	return given.err
}

func fromJSON(text json.RawMessage, into reflect.Value) error {
	optional := into.Kind() == reflect.Pointer || into.Kind() == reflect.Interface
	switch {
	case text == nil && optional:
		return nil
	case text == nil:
		return fmt.Errorf("missing")
	case string(text) == "null" && !optional:
		// encoding/json would leave a zero there.
		return fmt.Errorf("null is no %v", into.Type())
	}
	return json.Unmarshal(text, into.Addr().Interface())
}

// encode gives the bytes of a result or an item.
func encode(codec int32, value any) ([]byte, error) {
	if codec == codecRaw {
		switch value := value.(type) {
		case []byte:
			return value, nil
		case string:
			return []byte(value), nil
		}
	}
	if codec == codecBincode {
		return toBincode(nil, reflect.ValueOf(value))
	}
	if _, nothing := value.(Nothing); nothing {
		return []byte("null"), nil
	}
	return json.Marshal(value)
}
