package stockade

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"unicode/utf8"
)

// width is how many bytes a number takes; int and uint take eight.
func width(kind reflect.Kind) int {
	switch kind {
	case reflect.Int8, reflect.Uint8, reflect.Bool:
		return 1
	case reflect.Int16, reflect.Uint16:
		return 2
	case reflect.Int32, reflect.Uint32, reflect.Float32:
		return 4
	}
	return 8
}

func split(rest []byte, length int) (taken, left []byte, err error) {
	if len(rest) < length {
		return nil, rest, fmt.Errorf("the input ends")
	}
	return rest[:length], rest[length:], nil
}

// number takes a number of so many bytes as 64 bits without a sign.
func number(rest []byte, bytes int) (uint64, []byte, error) {
	taken, rest, err := split(rest, bytes)
	var whole [8]byte
	copy(whole[:], taken)
	return binary.LittleEndian.Uint64(whole[:]), rest, err
}

// count takes a length; none is believed beyond the bytes that are left.
func count(rest []byte) (int, []byte, error) {
	length, rest, err := number(rest, 8)
	if err == nil && length > uint64(len(rest)) {
		err = fmt.Errorf("a length of %d, and %d bytes are left", length, len(rest))
	}
	return int(length), rest, err
}

// fromBincode reads a value from the start of `rest`; gives what is left.
func fromBincode(rest []byte, into reflect.Value) (left []byte, err error) {
	var bits uint64
	var length int
	switch kind := into.Kind(); kind {
	case reflect.Bool:
		if bits, rest, err = number(rest, 1); err == nil && bits > 1 {
			err = fmt.Errorf("%d is no bool", bits)
		}
		into.SetBool(bits == 1)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		bytes := width(kind)
		bits, rest, err = number(rest, bytes)
		unused := 64 - 8*bytes
		into.SetInt(int64(bits<<unused) >> unused)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		bits, rest, err = number(rest, width(kind))
		into.SetUint(bits)
	case reflect.Float32:
		bits, rest, err = number(rest, 4)
		into.SetFloat(float64(math.Float32frombits(uint32(bits))))
	case reflect.Float64:
		bits, rest, err = number(rest, 8)
		into.SetFloat(math.Float64frombits(bits))
	case reflect.String:
		var text []byte
		if length, rest, err = count(rest); err == nil {
			text, rest, err = split(rest, length)
		}
		if !utf8.Valid(text) {
			err = fmt.Errorf("invalid UTF-8")
		}
		into.SetString(string(text))
	case reflect.Slice:
		if length, rest, err = count(rest); err == nil && into.Type().Elem().Kind() == reflect.Uint8 {
			var bytes []byte
			bytes, rest, err = split(rest, length)
			into.SetBytes(bytes)
			return rest, err
		}
		if err == nil {
			into.Set(reflect.MakeSlice(into.Type(), length, length))
		}
		for index := 0; err == nil && index < length; index++ {
			rest, err = fromBincode(rest, into.Index(index))
		}
	case reflect.Array:
		for index := 0; err == nil && index < into.Len(); index++ {
			rest, err = fromBincode(rest, into.Index(index))
		}
	case reflect.Struct:
		for index := 0; err == nil && index < into.NumField(); index++ {
			rest, err = fromBincode(rest, into.Field(index))
		}
	case reflect.Map:
		if length, rest, err = count(rest); err == nil {
			into.Set(reflect.MakeMap(into.Type()))
		}
		for ; err == nil && length > 0; length-- {
			key, value := reflect.New(into.Type().Key()).Elem(), reflect.New(into.Type().Elem()).Elem()
			if rest, err = fromBincode(rest, key); err == nil {
				rest, err = fromBincode(rest, value)
			}
			if err == nil {
				into.SetMapIndex(key, value)
			}
		}
	case reflect.Pointer: // an option
		if bits, rest, err = number(rest, 1); err == nil && bits > 1 {
			err = fmt.Errorf("%d is neither there nor missing", bits)
		}
		if err == nil && bits == 1 {
			into.Set(reflect.New(into.Type().Elem()))
			rest, err = fromBincode(rest, into.Elem())
		}
	default:
		err = fmt.Errorf("a %v has no form in bincode: pass JSON", into.Type())
	}
	return rest, err
}

// toBincode appends a value.
func toBincode(to []byte, value reflect.Value) (written []byte, err error) {
	var whole [8]byte
	switch kind := value.Kind(); kind {
	case reflect.Bool:
		if value.Bool() {
			return append(to, 1), nil
		}
		return append(to, 0), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		binary.LittleEndian.PutUint64(whole[:], uint64(value.Int()))
		return append(to, whole[:width(kind)]...), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		binary.LittleEndian.PutUint64(whole[:], value.Uint())
		return append(to, whole[:width(kind)]...), nil
	case reflect.Float32:
		return binary.LittleEndian.AppendUint32(to, math.Float32bits(float32(value.Float()))), nil
	case reflect.Float64:
		return binary.LittleEndian.AppendUint64(to, math.Float64bits(value.Float())), nil
	case reflect.String:
		return append(binary.LittleEndian.AppendUint64(to, uint64(value.Len())), value.String()...), nil
	case reflect.Slice, reflect.Array:
		if kind == reflect.Slice {
			to = binary.LittleEndian.AppendUint64(to, uint64(value.Len()))
			if value.Type().Elem().Kind() == reflect.Uint8 {
				return append(to, value.Bytes()...), nil
			}
		}
		for index := 0; err == nil && index < value.Len(); index++ {
			to, err = toBincode(to, value.Index(index))
		}
	case reflect.Struct:
		for index := 0; err == nil && index < value.NumField(); index++ {
			to, err = toBincode(to, value.Field(index))
		}
	case reflect.Map:
		to = binary.LittleEndian.AppendUint64(to, uint64(value.Len()))
		for entries := value.MapRange(); err == nil && entries.Next(); {
			if to, err = toBincode(to, entries.Key()); err == nil {
				to, err = toBincode(to, entries.Value())
			}
		}
	case reflect.Pointer:
		if value.IsNil() {
			return append(to, 0), nil
		}
		return toBincode(append(to, 1), value.Elem())
	default:
		err = fmt.Errorf("a %v has no form in bincode", value.Kind())
	}
	return to, err
}
