//! Stockade tasks in Zig: version 1 of the guest ABI (docs/abi.md), for Zig 0.17.
//!
//! ```zig
//! const stockade = @import("stockade");
//! pub const panic = stockade.panic;
//!
//! fn add(a: i64, b: i64) i64 {
//!     return a +% b;
//! }
//!
//! comptime {
//!     asm (stockade.exports(.{
//!         stockade.task("add", "Adds two numbers.", add, .{ "a", "b" }),
//!     }));
//! }
//! ```
//!
//! `exports` exports every function, and gives the manifest as assembly, which only the root file
//! can place. Arguments and results are what their types say, in every codec: integers, floats,
//! `bool`, `[]const u8` (text), `Bytes`, optionals, slices, arrays and structs.
//!
//! Memory is a call's own: `allocator` is emptied before the next.

const std = @import("std");
const codecs = @import("codecs.zig");

pub const Bytes = codecs.Bytes;

/// What a task returns to the host.
const Status = enum(i32) { success = 0, failed = 1, bad_arguments = 2 };

pub const LogLevel = enum(i32) { err = 1, warn = 2, info = 3, debug = 4, trace = 5 };

/// The host calls, as the ABI has them.
const host = struct {
    extern "stockade" fn input_len() usize;
    extern "stockade" fn input_codec() i32;
    extern "stockade" fn input_read(into: [*]u8, offset: usize, length: usize) void;
    extern "stockade" fn output_write(from: [*]const u8, length: usize) void;
    extern "stockade" fn error_write(from: [*]const u8, length: usize) void;
    extern "stockade" fn progress(done: i64, total: i64) void;
    extern "stockade" fn emit(from: [*]const u8, length: usize) void;
    extern "stockade" fn log(level: i32, from: [*]const u8, length: usize) void;
    extern "stockade" fn remaining_ns() i64;
    extern "stockade" fn task_id() i64;
};

var arena = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);

/// For what a call needs while it runs.
pub const allocator = arena.allocator();

// ---- What a task can ask of the host. ----

/// How far the task is: `done` of `total`, which is 0 where it is not known.
pub fn progress(done: u64, total: u64) void {
    const most = std.math.maxInt(i64);
    host.progress(@min(done, most), @min(total, most));
}

/// Hands the caller one item of a streamed result, in the codec of the call.
pub fn emit(item: anytype) !void {
    const bytes = placed(try codecs.encode(allocator, codec().?, item));
    host.emit(bytes.ptr, bytes.len);
}

/// Adds a line to the task's log.
pub fn log(level: LogLevel, comptime format: []const u8, args: anytype) void {
    const line = placed(std.fmt.allocPrint(allocator, format, args) catch return);
    host.log(@backingInt(level), line.ptr, line.len);
}

pub fn err(comptime format: []const u8, args: anytype) void {
    log(.err, format, args);
}

pub fn warn(comptime format: []const u8, args: anytype) void {
    log(.warn, format, args);
}

pub fn info(comptime format: []const u8, args: anytype) void {
    log(.info, format, args);
}

pub fn debug(comptime format: []const u8, args: anytype) void {
    log(.debug, format, args);
}

pub fn trace(comptime format: []const u8, args: anytype) void {
    log(.trace, format, args);
}

/// Nanoseconds until the deadline, or null where there is none.
pub fn remaining() ?u64 {
    const nanoseconds = host.remaining_ns();
    return if (nanoseconds == std.math.maxInt(i64)) null else @intCast(@max(nanoseconds, 0));
}

/// The task's number in its pool, from 1; 0 in an initializer or a finalizer.
pub fn taskId() u64 {
    return @intCast(@max(host.task_id(), 0));
}

// ---- Failing. ----

/// What a task returns that has told its failure.
pub const Failed = error{Told};

/// Tells a failure: `return stockade.fail(.{ .code = 7 }, "failed with code {d}", .{7});`. `data` is
/// the error's form, for callers that match on it, or null.
pub fn fail(data: anytype, comptime format: []const u8, args: anytype) Failed {
    const form = if (@TypeOf(data) == @TypeOf(null)) null else codecs.encode(allocator, .json, data) catch null;
    report(std.fmt.allocPrint(allocator, format, args) catch "out of memory", form, false);
    return error.Told;
}

/// Ends the task as a panic, with a trap: `pub const panic = stockade.panic;` in the root file.
pub const panic = std.debug.FullPanic(panicked);

fn panicked(message: []const u8, _: ?usize) noreturn {
    report(message, null, true);
    @trap();
}

/// Writes the record of a failure.
fn report(message: []const u8, data: ?[]const u8, is_panic: bool) void {
    const record = .{ .message = message, .data = data, .panic = is_panic };
    const options: std.json.Stringify.Options = .{ .emit_null_optional_fields = false };
    const text = std.json.Stringify.valueAlloc(allocator, record, options) catch message;
    host.error_write(text.ptr, text.len);
}

// ---- Calls. ----

fn codec() ?codecs.Codec {
    return switch (host.input_codec()) {
        0 => .raw,
        1 => .bincode,
        2 => .json,
        else => null,
    };
}

/// The same bytes: Zig's empty slices may point anywhere, and the host looks at every pointer.
fn placed(bytes: []const u8) []const u8 {
    return if (bytes.len > 0) bytes else "";
}

fn refuse(comptime format: []const u8, args: anytype) Status {
    report(std.fmt.allocPrint(allocator, format, args) catch "out of memory", null, false);
    return .bad_arguments;
}

/// Runs one call of `function`, whose parameters have these names.
fn run(comptime function: anytype, comptime names: []const []const u8) Status {
    _ = arena.reset(.retain_capacity);
    const written = codec() orelse return refuse("the input has a codec that this guest's SDK does not know", .{});
    const input = allocator.alloc(u8, host.input_len()) catch @panic("out of memory");
    if (input.len > 0) host.input_read(input.ptr, 0, input.len);

    var arguments: std.meta.ArgsTuple(@TypeOf(function)) = undefined;
    var mistake: codecs.Mistake = .{};
    codecs.readArguments(allocator, written, input, names, &arguments, &mistake) catch |failure| {
        if (failure == error.OutOfMemory) @panic("out of memory");
        return if (mistake.argument) |index|
            refuse("argument {d} `{s}`: {s}", .{ index + 1, mistake.name, mistake.text })
        else
            refuse("{s}", .{mistake.text});
    };
    const returned = @call(.auto, function, arguments);
    const value = switch (@typeInfo(@TypeOf(returned))) {
        .error_union => returned catch |failure| {
            if (failure != error.Told) report(@errorName(failure), null, false);
            return .failed;
        },
        else => returned,
    };
    const result = placed(codecs.encode(allocator, written, value) catch |failure| {
        report(std.fmt.allocPrint(allocator, "the result cannot be encoded: {t}", .{failure}) catch "", null, false);
        return .failed;
    });
    host.output_write(result.ptr, result.len);
    return .success;
}

// ---- Declaring tasks. ----

/// A function to export.
fn Exported(comptime kind: []const u8, comptime name: []const u8, comptime doc: []const u8, comptime function: anytype, comptime parameters: anytype) type {
    const names: [parameters.len][]const u8 = parameters;
    const signature = @typeInfo(@TypeOf(function)).@"fn";
    if (signature.param_types.len != names.len) @compileError("`" ++ name ++ "` needs a name for each parameter");
    return struct {
        const exported_as = "stockade.task." ++ name;

        fn call() callconv(.c) i32 {
            return @backingInt(run(function, &names));
        }

        /// Its line of the manifest.
        fn line() []const u8 {
            comptime {
                var text: []const u8 = "{\"abi\":1,\"kind\":\"" ++ kind ++ "\",\"name\":\"" ++ name ++
                    "\",\"export\":\"" ++ exported_as ++ "\",\"doc\":\"" ++ codecs.escaped(doc) ++ "\",\"params\":[";
                for (names, signature.param_types, 0..) |parameter, Type, index| {
                    text = text ++ (if (index > 0) "," else "") ++ "{\"name\":\"" ++ parameter ++
                        "\",\"type\":\"" ++ codecs.typeName(Type.?) ++ "\"}";
                }
                return text ++ "],\"result\":\"" ++ codecs.typeName(signature.return_type.?) ++ "\"}\n";
            }
        }
    };
}

/// A task: its name, what callers read of it, the function, and the names of its parameters.
pub fn task(comptime name: []const u8, comptime doc: []const u8, comptime function: anytype, comptime parameters: anytype) type {
    return Exported("task", name, doc, function, parameters);
}

/// What runs before the tasks, as the host's `Instances` have it. At most one.
pub fn initializer(comptime name: []const u8, comptime doc: []const u8, comptime function: anytype, comptime parameters: anytype) type {
    return Exported("initializer", name, doc, function, parameters);
}

/// What runs when a worker closes. At most one.
pub fn finalizer(comptime name: []const u8, comptime doc: []const u8, comptime function: anytype, comptime parameters: anytype) type {
    return Exported("finalizer", name, doc, function, parameters);
}

/// Exports `functions`, and gives the assembly of their manifest, for a `comptime` block of the root
/// file: `asm (stockade.exports(.{ … }));`.
pub fn exports(comptime functions: anytype) []const u8 {
    comptime {
        @setEvalBranchQuota(100_000);
        var text: []const u8 = ".section .custom_section.stockade.tasks,\"\",@\n";
        for (functions) |function| {
            @export(&function.call, .{ .name = function.exported_as });
            text = text ++ ".ascii \"" ++ codecs.escaped(function.line()) ++ "\"\n";
        }
        return text ++ ".text\n";
    }
}
