// The tasks of the ABI's test vectors, in AssemblyScript; examples-wasm/vectors has them in Rust.
//
//   stockade run vectors.wasm add 2 40
//   stockade run vectors.wasm summarize '{"name": "depths", "values": [1, 2.5, -3]}'

import { Kind, f64ToJson, info, progress, remaining, run, taskId, textToJson } from "../../guest-sdk/assemblyscript/stockade";

let loadedValue: i64 = 0;

export function echo(): i32 {
  return run(["data"], (call) => {
    const data = call.takeBytes();
    if (call.taken()) call.returnBytes(data);
  });
}

export function add(): i32 {
  return run(["a", "b"], (call) => {
    const a = call.takeI64(), b = call.takeI64();
    if (call.taken()) call.returnI64(a + b);
  });
}

export function negate(): i32 {
  return run(["x", "really"], (call) => {
    const x = call.takeF64(), really = call.takeBool();
    if (call.taken()) call.returnF64(really ? -x : x);
  });
}

export function greet(): i32 {
  return run(["name"], (call) => {
    const name = call.takeText();
    if (call.taken()) call.returnText("Hello, " + name + "!");
  });
}

export function summarize(): i32 {
  return run(["series"], (call) => {
    const series = call.takeJson();
    if (!call.taken()) return;
    const name = series.member("name"), values = series.member("values");
    if (!name || name.kind != Kind.Text) return call.refuse("series: expected a text `name`");
    if (!values || values.kind != Kind.List) return call.refuse("series: expected a list `values`");
    let sum: f64 = 0, largest: f64 = -Infinity;
    for (let i = 0; i < values.items.length; i++) {
      if (!values.items[i].isF64) return call.refuse("series: expected numbers as `values`");
      sum += values.items[i].asF64;
      largest = max(largest, values.items[i].asF64);
    }
    const count = values.items.length.toString();
    call.returnJson(`{"name":${textToJson(name.text)},"count":${count},"sum":${f64ToJson(sum)},"largest":${f64ToJson(largest)}}`);
  });
}

export function fail(): i32 {
  return run(["code"], (call) => {
    const code = call.takeI64();
    if (call.taken()) call.fail("failed with code " + code.toString(), '{"code":' + code.toString() + "}");
  });
}

export function panic(): i32 {
  return run(["message"], (call) => {
    const message = call.takeText();
    if (call.taken()) throw new Error(message);
  });
}

export function tell(): i32 {
  return run(["count"], (call) => {
    const count = call.takeI64();
    if (!call.taken()) return;
    for (let item: i64 = 0; item < count; item++) {
      call.emitI64(item);
      info("item " + item.toString());
      progress(item + 1, count);
    }
    call.returnI64(count);
  });
}

export function nothing(): i32 {
  return run([], (call) => {
    if (call.taken()) call.returnNothing();
  });
}

export function hosted(): i32 {
  return run([], (call) => {
    if (call.taken()) call.returnBool(taskId() > 0 && remaining() > 0 && remaining() < i64.MAX_VALUE);
  });
}

export function loaded(): i32 {
  return run([], (call) => {
    if (call.taken()) call.returnI64(loadedValue);
  });
}

export function load(): i32 {
  return run([], (call) => {
    loadedValue = 41;
    if (call.taken()) call.returnNothing();
  });
}

export function unload(): i32 {
  return run([], (call) => {
    loadedValue = 0;
    if (call.taken()) call.returnNothing();
  });
}

/** Half of a number: numbers need no SDK. */
export function half(x: f64): f64 {
  return x / 2;
}
