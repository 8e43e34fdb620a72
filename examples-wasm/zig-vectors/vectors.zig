//! The tasks of the ABI's test vectors, in Zig; examples-wasm/vectors has them in Rust.
//!
//! ```text
//! stockade run vectors.wasm add 2 40
//! stockade run vectors.wasm summarize '{"name": "depths", "values": [1, 2.5, -3]}'
//! ```

const std = @import("std");
const stockade = @import("stockade");

pub const panic = stockade.panic;

var loaded_value: i64 = 0;

/// Named measurements.
const Series = struct { name: []const u8, values: []const f64 };

/// What is to be said of some measurements.
const Summary = struct { name: []const u8, count: u64, sum: f64, largest: ?f64 };

fn echo(data: stockade.Bytes) stockade.Bytes {
    return data;
}

fn add(a: i64, b: i64) i64 {
    return a +% b;
}

fn negate(x: f64, really: bool) f64 {
    return if (really) -x else x;
}

fn greet(name: []const u8) ![]const u8 {
    return std.fmt.allocPrint(stockade.allocator, "Hello, {s}!", .{name});
}

fn summarize(series: Series) Summary {
    var sum: f64 = 0;
    var largest: ?f64 = null;
    for (series.values) |value| {
        sum += value;
        largest = @max(largest orelse value, value);
    }
    return .{ .name = series.name, .count = series.values.len, .sum = sum, .largest = largest };
}

fn fail(code: i64) !void {
    return stockade.fail(.{ .code = code }, "failed with code {d}", .{code});
}

fn panicWith(message: []const u8) void {
    @panic(message);
}

fn tell(count: i64) !i64 {
    var item: i64 = 0;
    while (item < count) : (item += 1) {
        try stockade.emit(item);
        stockade.info("item {d}", .{item});
        stockade.progress(@intCast(item + 1), @intCast(count));
    }
    return count;
}

fn nothing() void {}

fn hosted() bool {
    return stockade.taskId() > 0 and (stockade.remaining() orelse 0) > 0;
}

fn loaded() i64 {
    return loaded_value;
}

fn load() void {
    loaded_value = 41;
}

fn unload() void {
    loaded_value = 0;
}

/// Half of a number: numbers need no SDK.
export fn half(x: f64) f64 {
    return x / 2;
}

comptime {
    asm (stockade.exports(.{
            stockade.task("echo", "Gives back what it is given.", echo, .{"data"}),
            stockade.task("add", "Adds two numbers.", add, .{ "a", "b" }),
            stockade.task("negate", "The negative of a number, if that is really meant.", negate, .{ "x", "really" }),
        stockade.task("greet", "Greets somebody.", greet, .{"name"}),
            stockade.task("summarize", "Sums up a series.", summarize, .{"series"}),
            stockade.task("fail", "Fails.", fail, .{"code"}),
            stockade.task("panic", "Panics.", panicWith, .{"message"}),
            stockade.task("tell", "Emits, logs and tells its progress as often as it is told to.", tell, .{"count"}),
            stockade.task("nothing", "Does nothing.", nothing, .{}),
            stockade.task("hosted", "Whether this is a numbered task with a deadline.", hosted, .{}),
            stockade.task("loaded", "What the initializer loaded.", loaded, .{}),
            stockade.initializer("load", "Keeps a number for every task.", load, .{}),
            stockade.finalizer("unload", "Forgets it.", unload, .{}),
        }));
}
