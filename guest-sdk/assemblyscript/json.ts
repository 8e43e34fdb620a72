// JSON for tasks in AssemblyScript, part of stockade.ts: values to read, and text to write.
//
// Strict: what is no JSON text, nested deeper than a stack bears, or half of a surrogate pair, is
// null. A number stays text until it is known what it should be, so no digit is lost.

/** How deep JSON may be nested. */
const DEPTH_MAX: i32 = 128;

export enum Kind {
  Null,
  Bool,
  Number,
  Text,
  List,
  Object,
}

/** A value of JSON. */
export class Json {
  /** Of a list, and of an object, in the order of `names`. */
  items: Json[] = [];
  names: string[] = [];

  constructor(
    public kind: Kind,
    /** A text; or a number, `true` or `false` as written. */
    public text: string,
  ) {}

  /** The member `name` of an object. */
  member(name: string): Json | null {
    if (this.kind != Kind.Object) return null;
    const index = this.names.indexOf(name);
    if (index < 0) return null;
    return this.items[index];
  }

  /** Whether this is an integer of 64 bits: no fraction, no exponent. */
  get isI64(): bool {
    if (this.kind != Kind.Number) return false;
    const negative = this.text.charCodeAt(0) == 0x2d;
    const limit: u64 = <u64>i64.MAX_VALUE + <u64>negative;
    let sum: u64 = 0;
    for (let i = <i32>negative; i < this.text.length; i++) {
      const code = this.text.charCodeAt(i);
      if (code < 0x30 || code > 0x39) return false;
      const digit = <u64>(code - 0x30);
      if (sum > (limit - digit) / 10) return false;
      sum = sum * 10 + digit;
    }
    return true;
  }

  /** The integer; only where `isI64`. */
  get asI64(): i64 {
    const negative = this.text.charCodeAt(0) == 0x2d;
    let sum: u64 = 0;
    for (let i = <i32>negative; i < this.text.length; i++) sum = sum * 10 + <u64>(this.text.charCodeAt(i) - 0x30);
    return <i64>(negative ? 0 - sum : sum);
  }

  get isF64(): bool {
    return this.kind == Kind.Number && isFinite(parseFloat(this.text));
  }

  get asF64(): f64 {
    return parseFloat(this.text);
  }
}

/** The value that all of `text` is; null where it is none. */
export function parseJson(text: string): Json | null {
  const parser = new Parser(text);
  const value = parser.value(DEPTH_MAX);
  if (parser.code() >= 0) return null;
  return value;
}

class Parser {
  private at: i32 = 0;

  constructor(private source: string) {}

  /** The next character that is no white space, -1 at the end. */
  code(): i32 {
    while (this.at < this.source.length) {
      const code = this.source.charCodeAt(this.at);
      if (code != 0x20 && (code < 0x09 || code > 0x0d || code == 0x0b || code == 0x0c)) return code;
      this.at++;
    }
    return -1;
  }

  private eat(code: i32): bool {
    if (this.code() != code) return false;
    this.at++;
    return true;
  }

  private word(word: string): bool {
    const is = this.source.startsWith(word, this.at);
    if (is) this.at += word.length;
    return is;
  }

  value(depth: i32): Json | null {
    const code = this.code();
    if (depth == 0 || code < 0) return null;
    if (code == 0x22) return this.text();
    if (this.word("null")) return new Json(Kind.Null, "");
    if (this.word("true")) return new Json(Kind.Bool, "true");
    if (this.word("false")) return new Json(Kind.Bool, "false");
    if (code == 0x5b) return this.members(new Json(Kind.List, ""), 0x5d, depth);
    if (code == 0x7b) return this.members(new Json(Kind.Object, ""), 0x7d, depth);
    return this.number();
  }

  private members(whole: Json, close: i32, depth: i32): Json | null {
    this.at++;
    if (this.eat(close)) return whole;
    while (true) {
      if (whole.kind == Kind.Object) {
        if (this.code() != 0x22) return null;
        const name = this.text();
        if (!name || !this.eat(0x3a)) return null;
        whole.names.push(name.text);
      }
      const item = this.value(depth - 1);
      if (!item) return null;
      whole.items.push(item);
      if (this.eat(close)) return whole;
      if (!this.eat(0x2c)) return null;
    }
  }

  private digits(): bool {
    const first = this.at;
    while (this.at < this.source.length && this.source.charCodeAt(this.at) >= 0x30 && this.source.charCodeAt(this.at) <= 0x39) this.at++;
    return this.at > first;
  }

  private number(): Json | null {
    const first = this.at;
    this.word("-");
    const whole = this.at;
    if (!this.digits() || (this.source.charCodeAt(whole) == 0x30 && this.at > whole + 1)) return null;
    if (this.word(".") && !this.digits()) return null;
    if (this.word("e") || this.word("E")) {
      if (!this.word("+")) this.word("-");
      if (!this.digits()) return null;
    }
    return new Json(Kind.Number, this.source.substring(first, this.at));
  }

  private hex(): i32 {
    let unit = 0;
    for (let i = 0; i < 4; i++) {
      const code = this.at < this.source.length ? this.source.charCodeAt(this.at++) : 0;
      const letter = code | 0x20;
      if (code >= 0x30 && code <= 0x39) unit = (unit << 4) | (code - 0x30);
      else if (letter >= 0x61 && letter <= 0x66) unit = (unit << 4) | (letter - 0x57);
      else return -1;
    }
    return unit;
  }

  private text(): Json | null {
    let result = "";
    let from = ++this.at;
    while (this.at < this.source.length) {
      const code = this.source.charCodeAt(this.at++);
      if (code < 0x20) return null;
      if (code == 0x22) return new Json(Kind.Text, result + this.source.substring(from, this.at - 1));
      if (code != 0x5c) continue;
      result += this.source.substring(from, this.at - 1);
      const letter = this.at < this.source.length ? this.source.charAt(this.at++) : "";
      if (letter == "u") {
        const unit = this.hex();
        if (unit < 0 || (unit & 0xfc00) == 0xdc00) return null;
        result += String.fromCharCode(unit);
        if ((unit & 0xfc00) == 0xd800) {
          if (!this.word("\\u")) return null;
          const low = this.hex();
          if ((low & 0xfc00) != 0xdc00) return null;
          result += String.fromCharCode(low);
        }
      } else {
        const which = letter.length ? '"\\/bfnrt'.indexOf(letter) : -1;
        if (which < 0) return null;
        result += '"\\/\b\f\n\r\t'.charAt(which);
      }
      from = this.at;
    }
    return null;
  }
}

/** A text of JSON, with its quotes. */
export function textToJson(text: string): string {
  let result = '"';
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x20 && code != 0x22 && code != 0x5c) continue;
    result += text.substring(from, i);
    result += code < 0x20 ? "\\u" + code.toString(16).padStart(4, "0") : "\\" + text.charAt(i);
    from = i + 1;
  }
  return result + text.substring(from) + '"';
}

/** A number of JSON; null for what JSON cannot write. */
export function f64ToJson(number: f64): string {
  return isFinite(number) ? number.toString() : "null";
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

export function toBase64(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const group = (<u32>bytes[i] << 16) | (left > 1 ? <u32>bytes[i + 1] << 8 : 0) | (left > 2 ? <u32>bytes[i + 2] : 0);
    parts.push(DIGITS.charAt(group >> 18) + DIGITS.charAt((group >> 12) & 63));
    parts.push(left > 1 ? DIGITS.charAt((group >> 6) & 63) : "=");
    parts.push(left > 2 ? DIGITS.charAt(group & 63) : "=");
  }
  return parts.join("");
}

/** The bytes of a text in base64, padded; null where it is none. */
export function fromBase64(text: string): Uint8Array | null {
  if (text.length % 4) return null;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  for (let i = 0, at = 0; i < text.length; i += 4) {
    let group: u32 = 0;
    for (let j = i; j < i + 4; j++) {
      const digit = DIGITS.indexOf(text.charAt(j));
      if (digit < 0 && j < text.length - padding) return null;
      group = (group << 6) | <u32>max(digit, 0);
    }
    for (let shift = 16; shift >= 0; shift -= 8) {
      if (at < bytes.length) bytes[at++] = <u8>(group >> shift);
      else if ((group >> shift) & 0xff) return null;
    }
  }
  return bytes;
}

/** Whether these bytes are UTF-8, as RFC 3629 has it. */
export function isUtf8(bytes: Uint8Array): bool {
  let i = 0;
  while (i < bytes.length) {
    const first = bytes[i++];
    if (first < 0x80) continue;
    const more = first < 0xc2 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0;
    if (more == 0 || i + more > bytes.length) return false;
    const next = bytes[i];
    if ((first == 0xe0 && next < 0xa0) || (first == 0xed && next > 0x9f) || (first == 0xf0 && next < 0x90) || (first == 0xf4 && next > 0x8f)) return false;
    for (let j = 0; j < more; j++) if ((bytes[i++] & 0xc0) != 0x80) return false;
  }
  return true;
}
