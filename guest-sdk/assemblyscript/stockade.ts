// Stockade tasks in AssemblyScript: version 1 of the guest ABI (docs/abi.md).
//
//   import { run } from "./stockade";
//
//   export function add(): i32 {
//     return run(["a", "b"], (call) => {
//       const a = call.takeI64(), b = call.takeI64();
//       if (call.taken()) call.returnI64(a + b);
//     });
//   }
//
//   asc tasks.ts -O --exportStart _initialize --use abort=PATH/OF/THIS/stockade/abort -o tasks.wasm
//   stockade run tasks.wasm add 2 40
//
// A call gives its arguments in order and takes its result, in whatever codec the caller chose.
// `--use` gives `throw` and failed assertions to `abort` below: they become panics with their place.
// Tasks work under the names of their exports; the transform manifest.mjs adds a manifest.

import { Json, Kind, f64ToJson, fromBase64, isUtf8, parseJson, textToJson, toBase64 } from "./json";

export { Json, Kind, f64ToJson, textToJson } from "./json";

// ---- The host calls, as the ABI has them. ----

// @ts-ignore: decorator
@external("stockade", "input_len") declare function inputLen(): usize;
// @ts-ignore: decorator
@external("stockade", "input_codec") declare function inputCodec(): i32;
// @ts-ignore: decorator
@external("stockade", "input_read") declare function inputRead(into: usize, offset: usize, length: usize): void;
// @ts-ignore: decorator
@external("stockade", "output_write") declare function outputWrite(from: usize, length: usize): void;
// @ts-ignore: decorator
@external("stockade", "error_write") declare function errorWrite(from: usize, length: usize): void;
// @ts-ignore: decorator
@external("stockade", "progress") declare function hostProgress(done: i64, total: i64): void;
// @ts-ignore: decorator
@external("stockade", "emit") declare function hostEmit(from: usize, length: usize): void;
// @ts-ignore: decorator
@external("stockade", "log") declare function hostLog(level: i32, from: usize, length: usize): void;
// @ts-ignore: decorator
@external("stockade", "remaining_ns") declare function remainingNs(): i64;
// @ts-ignore: decorator
@external("stockade", "task_id") declare function hostTaskId(): i64;

const SUCCESS: i32 = 0;
const ERROR: i32 = 1;
const BAD_ARGUMENTS: i32 = 2;

const RAW: i32 = 0;
const BINCODE: i32 = 1;
const JSON: i32 = 2;

export enum LogLevel {
  Error = 1,
  Warn,
  Info,
  Debug,
  Trace,
}

/** How far the task is: `done` of `total`, which is 0 where it is not known. */
export function progress(done: i64, total: i64): void {
  hostProgress(done, total);
}

/** Adds a line to the task's log. */
export function log(level: LogLevel, message: string): void {
  const line = String.UTF8.encode(message);
  hostLog(level, changetype<usize>(line), line.byteLength);
}

export function error(message: string): void {
  log(LogLevel.Error, message);
}
export function warn(message: string): void {
  log(LogLevel.Warn, message);
}
export function info(message: string): void {
  log(LogLevel.Info, message);
}
export function debug(message: string): void {
  log(LogLevel.Debug, message);
}

/** Nanoseconds until the deadline, or i64.MAX_VALUE where there is none. */
export function remaining(): i64 {
  return remainingNs();
}

/** The task's number in its pool, from 1; 0 in an initializer or a finalizer. */
export function taskId(): i64 {
  return hostTaskId();
}

/** Writes the record of a failure; `data` is JSON text. */
function report(message: string, location: string | null, panic: bool, data: string | null): void {
  let record = '{"message":' + textToJson(message) + ',"panic":' + panic.toString();
  if (location) record += ',"location":' + textToJson(location);
  if (data) record += ',"data":' + textToJson(data);
  const text = String.UTF8.encode(record + "}");
  errorWrite(changetype<usize>(text), text.byteLength);
}

/** Where `throw` and failed assertions end: the task panics. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const place = (file ? file : "?") + ":" + line.toString() + ":" + column.toString();
  report(message ? message : "aborted", place, true, null);
  unreachable();
}

/** One call of a function: its arguments in order, and its result. */
export class Call {
  private next: i32 = 0;
  private at: i32 = 0;
  private values: (Json | null)[] = [];
  /** What the export returns. */
  status: i32 = SUCCESS;

  constructor(
    private names: string[],
    private codec: i32,
    private input: Uint8Array,
  ) {
    if (codec == JSON) this.sort();
    else if (codec != RAW && codec != BINCODE) this.refuse("the input has a codec that this guest's SDK does not know");
  }

  /** Refuses the arguments; the first reason counts. */
  refuse(message: string): void {
    if (this.status == SUCCESS) report(message, null, false, null);
    this.status = BAD_ARGUMENTS;
  }

  /** Fails the task; `data` is the error as JSON, for callers that match on it. */
  fail(message: string, data: string | null = null): void {
    report(message, null, false, data);
    this.status = ERROR;
  }

  /** Puts the arguments of a JSON call where their parameters are. */
  private sort(): void {
    let whole: Json | null = null;
    if (isUtf8(this.input)) whole = parseJson(String.UTF8.decode(this.input.buffer));
    for (let i = 0; i < this.names.length; i++) this.values.push(null);
    if (!whole || whole.kind != Kind.Object) return this.refuse('the input is not {"args": [...], "kwargs": {...}}');
    for (let i = 0; i < whole.names.length; i++) {
      const name = whole.names[i], given = whole.items[i];
      if (name == "args" && given.kind == Kind.List) {
        if (given.items.length > this.names.length) return this.refuse("too many arguments: expected " + this.names.length.toString());
        for (let j = 0; j < given.items.length; j++) this.put(j, given.items[j]);
      } else if (name == "kwargs" && given.kind == Kind.Object) {
        for (let j = 0; j < given.names.length; j++) {
          const index = this.names.indexOf(given.names[j]);
          if (index < 0) return this.refuse("unknown argument `" + given.names[j] + "`");
          this.put(index, given.items[j]);
        }
      } else return this.refuse("the input has a member beside args and kwargs");
    }
  }

  private put(index: i32, value: Json): void {
    if (this.values[index]) this.refuse("argument `" + this.names[index] + "` is given twice");
    this.values[index] = value;
  }

  private expected(what: string): void {
    this.refuse("argument " + this.next.toString() + " `" + this.names[this.next - 1] + "`: " + what);
  }

  /** The next argument in JSON; null where it is not JSON or not there. */
  private begin(): Json | null {
    const index = this.next++;
    if (this.status != SUCCESS) return null;
    if (this.codec == RAW) this.expected("raw bytes are an input only for a task with one parameter of a byte or text type");
    if (this.codec != JSON) return null;
    const value = this.values[index];
    if (!value) this.expected("missing");
    return value;
  }

  /** Where the next argument's bytes are in bincode; -1 where the input ends before them. */
  private skip(length: u64): i32 {
    if (this.status != SUCCESS || this.codec != BINCODE) return -1;
    if (length > <u64>(this.input.length - this.at)) {
      this.expected("the input ends");
      return -1;
    }
    const at = this.at;
    this.at += <i32>length;
    return at;
  }

  /** Takes the next argument. Where it is not of the type the call is refused, and zero is given. */
  takeI64(): i64 {
    const value = this.begin();
    if (value) {
      if (value.isI64) return value.asI64;
      this.expected("expected an i64");
    }
    const at = this.skip(8);
    return at < 0 ? 0 : load<i64>(this.input.dataStart + at);
  }

  takeF64(): f64 {
    const value = this.begin();
    if (value) {
      if (value.isF64) return value.asF64;
      this.expected("expected an f64");
    }
    const at = this.skip(8);
    return at < 0 ? 0 : load<f64>(this.input.dataStart + at);
  }

  takeBool(): bool {
    const value = this.begin();
    if (value) {
      if (value.kind == Kind.Bool) return value.text == "true";
      this.expected("expected a bool");
    }
    const at = this.skip(1);
    if (at >= 0 && this.input[at] > 1) this.expected("expected a bool");
    return at >= 0 && this.input[at] == 1;
  }

  /** The bytes of the raw input or of the next in bincode; null where there are none. */
  private run(): Uint8Array | null {
    if (this.codec == RAW && this.names.length == 1 && this.next == 0) {
      this.next++;
      this.at = this.input.length;
      return this.input;
    }
    if (this.codec != BINCODE) return null;
    this.next++;
    const prefix = this.skip(8);
    if (prefix < 0) return null;
    const length = load<u64>(this.input.dataStart + prefix);
    const at = this.skip(length);
    return at < 0 ? null : this.input.slice(at, at + <i32>length);
  }

  takeText(): string {
    const bytes = this.run();
    if (bytes) {
      if (isUtf8(bytes)) return String.UTF8.decode(bytes.buffer);
      this.expected("invalid UTF-8");
    }
    if (this.codec == BINCODE) return "";
    const value = this.begin();
    if (!value) return "";
    if (value.kind != Kind.Text) this.expected("expected a text");
    return value.text;
  }

  takeBytes(): Uint8Array {
    const bytes = this.run();
    if (bytes) return bytes;
    if (this.codec == BINCODE) return new Uint8Array(0);
    const value = this.begin();
    if (!value) return new Uint8Array(0);
    if (value.kind == Kind.Text) {
      const decoded = fromBase64(value.text);
      if (decoded) return decoded;
    }
    this.expected("expected a text in base64");
    return new Uint8Array(0);
  }

  /** Any argument as JSON, which only callers that use JSON can give; `null` where it is refused. */
  takeJson(): Json {
    const value = this.begin();
    if (value) return value;
    if (this.codec == BINCODE) this.expected("this guest reads it from JSON only");
    return new Json(Kind.Null, "");
  }

  /** Whether all arguments were there, of their types, and nothing is left. Ask before you work. */
  taken(): bool {
    if (this.codec != JSON && this.at < this.input.length) this.refuse("too many arguments");
    return this.status == SUCCESS;
  }

  private i64Bytes(value: i64): ArrayBuffer {
    if (this.codec != BINCODE) return String.UTF8.encode(value.toString());
    const bytes = new ArrayBuffer(8);
    store<i64>(changetype<usize>(bytes), value);
    return bytes;
  }

  private f64Bytes(value: f64): ArrayBuffer {
    return this.codec == BINCODE ? this.i64Bytes(reinterpret<i64>(value)) : String.UTF8.encode(f64ToJson(value));
  }

  private textBytes(value: string): ArrayBuffer {
    if (this.codec == JSON) return String.UTF8.encode(textToJson(value));
    return this.prefixed(Uint8Array.wrap(String.UTF8.encode(value)));
  }

  private bytesBytes(value: Uint8Array): ArrayBuffer {
    if (this.codec == JSON) return String.UTF8.encode('"' + toBase64(value) + '"');
    return this.prefixed(value);
  }

  /** The bytes with their length before them in bincode, and as they are when raw. */
  private prefixed(value: Uint8Array): ArrayBuffer {
    const prefix = this.codec == BINCODE ? 8 : 0;
    const bytes = new ArrayBuffer(prefix + value.length);
    if (prefix) store<u64>(changetype<usize>(bytes), <u64>value.length);
    memory.copy(changetype<usize>(bytes) + prefix, value.dataStart, value.length);
    return bytes;
  }

  private output(bytes: ArrayBuffer): void {
    outputWrite(changetype<usize>(bytes), bytes.byteLength);
  }

  returnI64(value: i64): void {
    this.output(this.i64Bytes(value));
  }
  returnF64(value: f64): void {
    this.output(this.f64Bytes(value));
  }
  returnText(value: string): void {
    this.output(this.textBytes(value));
  }
  returnBytes(value: Uint8Array): void {
    this.output(this.bytesBytes(value));
  }
  returnBool(value: bool): void {
    if (this.codec == BINCODE) this.output(Uint8Array.wrap(new ArrayBuffer(1)).fill(<u8>value).buffer);
    else this.output(String.UTF8.encode(value.toString()));
  }
  returnNothing(): void {
    if (this.codec != BINCODE) this.output(String.UTF8.encode("null"));
  }
  /** JSON that was built; a caller that uses bincode gets an error. */
  returnJson(json: string): void {
    if (this.codec == BINCODE) this.fail("the result cannot be encoded: this guest writes it as JSON only");
    else this.output(String.UTF8.encode(json));
  }

  /** Hands the caller one item of a streamed result. */
  emitI64(value: i64): void {
    const bytes = this.i64Bytes(value);
    hostEmit(changetype<usize>(bytes), bytes.byteLength);
  }
  emitText(value: string): void {
    const bytes = this.textBytes(value);
    hostEmit(changetype<usize>(bytes), bytes.byteLength);
  }
}

/** Runs one call of a function whose parameters have these names; gives what its export returns. */
export function run(names: string[], body: (call: Call) => void): i32 {
  const input = new Uint8Array(<i32>inputLen());
  inputRead(input.dataStart, 0, input.length);
  const call = new Call(names, inputCodec(), input);
  body(call);
  return call.status;
}
