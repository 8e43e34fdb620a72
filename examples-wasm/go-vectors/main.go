// The tasks of the ABI's test vectors, in Go; examples-wasm/vectors has them in Rust.
//
//	stockade run vectors.wasm add 2 40
//	stockade run vectors.wasm summarize '{"name": "depths", "values": [1, 2.5, -3]}'
package main

import "stockade"

var loadedValue int64

// Series is named measurements.
type Series struct {
	Name   string    `json:"name"`
	Values []float64 `json:"values"`
}

// Summary is what is to be said of some measurements.
type Summary struct {
	Name    string   `json:"name"`
	Count   uint64   `json:"count"`
	Sum     float64  `json:"sum"`
	Largest *float64 `json:"largest"`
}

// Code is a failure's form.
type Code struct {
	Code int64 `json:"code"`
}

//go:wasmexport echo
func exportEcho() int32 {
	return stockade.Run1("data", func(data []byte) ([]byte, error) { return data, nil })
}

//go:wasmexport add
func exportAdd() int32 {
	return stockade.Run2("a", "b", func(a, b int64) (int64, error) { return a + b, nil })
}

//go:wasmexport negate
func exportNegate() int32 {
	return stockade.Run2("x", "really", func(x float64, really bool) (float64, error) {
		if really {
			x = -x
		}
		return x, nil
	})
}

//go:wasmexport greet
func exportGreet() int32 {
	return stockade.Run1("name", func(name string) (string, error) { return "Hello, " + name + "!", nil })
}

//go:wasmexport summarize
func exportSummarize() int32 { return stockade.Run1("series", summarize) }

func summarize(series Series) (Summary, error) {
	summary := Summary{Name: series.Name, Count: uint64(len(series.Values))}
	for _, value := range series.Values {
		summary.Sum += value
		if summary.Largest == nil || value > *summary.Largest {
			summary.Largest = &value
		}
	}
	return summary, nil
}

//go:wasmexport fail
func exportFail() int32 {
	return stockade.Run1("code", func(code int64) (stockade.Nothing, error) {
		return stockade.Nothing{}, stockade.Fail(Code{code}, "failed with code %d", code)
	})
}

//go:wasmexport panic
func exportPanic() int32 {
	return stockade.Run1("message", func(message string) (stockade.Nothing, error) { panic(message) })
}

//go:wasmexport tell
func exportTell() int32 { return stockade.Run1("count", tell) }

func tell(count int64) (int64, error) {
	for item := range count {
		if err := stockade.Emit(item); err != nil {
			return 0, err
		}
		stockade.Info("item %d", item)
		stockade.Progress(uint64(item)+1, uint64(count))
	}
	return count, nil
}

//go:wasmexport nothing
func exportNothing() int32 {
	return stockade.Run0(func() (stockade.Nothing, error) { return stockade.Nothing{}, nil })
}

//go:wasmexport hosted
func exportHosted() int32 {
	return stockade.Run0(func() (bool, error) {
		remaining, bounded := stockade.Remaining()
		return stockade.TaskID() > 0 && bounded && remaining > 0, nil
	})
}

//go:wasmexport loaded
func exportLoaded() int32 {
	return stockade.Run0(func() (int64, error) { return loadedValue, nil })
}

//go:wasmexport load
func exportLoad() int32 {
	return stockade.Run0(func() (stockade.Nothing, error) {
		loadedValue = 41
		return stockade.Nothing{}, nil
	})
}

//go:wasmexport unload
func exportUnload() int32 {
	return stockade.Run0(func() (stockade.Nothing, error) {
		loadedValue = 0
		return stockade.Nothing{}, nil
	})
}

// Half of a number: numbers need no SDK.
//
//go:wasmexport half
func half(x float64) float64 { return x / 2 }

func main() {}
