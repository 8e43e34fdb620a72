//! How arguments become values and results become bytes, part of stockade.zig.
//!
//! | codec | arguments | result |
//! |---|---|---|
//! | raw | the input is the only one: `Bytes` or text | such a value as it is, else its JSON |
//! | bincode | one after another | bincode |
//! | json | `{"args": […], "kwargs": {…}}` | JSON |
//!
//! Input is hostile: no length is believed beyond the bytes that are left. Deliberately absent: the
//! host, and maps and enums, whose form stockade.zig leaves to JSON values (`std.json.Value`).

const std = @import("std");
const Allocator = std.mem.Allocator;
const Value = std.json.Value;

pub const Codec = enum { raw, bincode, json };

/// Bytes that are no text: base64 in JSON.
pub const Bytes = struct {
    bytes: []const u8,

    pub fn jsonStringify(self: Bytes, json: anytype) !void {
        const encoder = std.base64.standard.Encoder;
        try json.beginWriteRaw();
        try json.writer.writeByte('"');
        try encoder.encodeWriter(json.writer, self.bytes);
        try json.writer.writeByte('"');
        json.endWriteRaw();
    }
};

/// What is wrong with arguments, and with which.
pub const Mistake = struct {
    argument: ?usize = null,
    name: []const u8 = "",
    text: []const u8 = "",
};

const Refused = error{Refused} || Allocator.Error;

/// What a value of a type is called where it is expected.
fn expected(comptime T: type) []const u8 {
    return comptime "expected " ++ typeName(T);
}

/// Reads all arguments of a call into the tuple `arguments`.
pub fn readArguments(gpa: Allocator, codec: Codec, input: []const u8, comptime names: []const []const u8, arguments: anytype, mistake: *Mistake) Refused!void {
    var values: [names.len]?Value = @splat(null);
    if (codec == .json) try sort(gpa, input, names, &values, mistake);
    var rest = input;
    inline for (names, 0..) |name, index| {
        const T = @TypeOf(arguments[index]);
        mistake.* = .{ .argument = index, .name = name, .text = expected(T) };
        arguments[index] = switch (codec) {
            .json => try if (values[index]) |value| fromJson(T, gpa, value) else missing(T, mistake),
            .bincode => try fromBincode(T, gpa, &rest),
            .raw => try fromRaw(T, names.len, input, mistake),
        };
    }
    mistake.* = .{ .text = "too many arguments" };
    const left = if (codec == .bincode) rest.len else if (codec == .raw and names.len == 0) input.len else 0;
    if (left > 0) return error.Refused;
}

fn missing(comptime T: type, mistake: *Mistake) Refused!T {
    if (@typeInfo(T) == .optional) return null;
    mistake.text = "missing";
    return error.Refused;
}

fn fromRaw(comptime T: type, comptime count: usize, input: []const u8, mistake: *Mistake) Refused!T {
    if (count == 1 and T == Bytes) return .{ .bytes = input };
    if (count == 1 and T == []const u8) return if (std.unicode.utf8ValidateSlice(input)) input else error.Refused;
    mistake.text = "raw bytes are an input only for a task with one parameter of a byte or text type";
    return error.Refused;
}

/// Puts the arguments of a JSON call where their parameters are.
fn sort(gpa: Allocator, input: []const u8, names: []const []const u8, values: []?Value, mistake: *Mistake) Refused!void {
    mistake.* = .{ .text = "the input is not {\"args\": [...], \"kwargs\": {...}}" };
    const whole = std.json.parseFromSliceLeaky(Value, gpa, input, .{}) catch |failure| {
        return if (failure == error.OutOfMemory) error.OutOfMemory else error.Refused;
    };
    if (whole != .object) return error.Refused;
    var members = whole.object.iterator();
    while (members.next()) |member| {
        const is_list = std.mem.eql(u8, member.key_ptr.*, "args");
        if (!is_list and !std.mem.eql(u8, member.key_ptr.*, "kwargs")) return error.Refused;
        if (if (is_list) member.value_ptr.* != .array else member.value_ptr.* != .object) return error.Refused;
    }
    if (whole.object.get("args")) |list| {
        if (list.array.items.len > values.len) {
            mistake.text = "too many arguments";
            return error.Refused;
        }
        for (list.array.items, 0..) |value, index| values[index] = value;
    }
    const named = whole.object.get("kwargs") orelse return;
    var given = named.object.iterator();
    while (given.next()) |member| {
        const index = for (names, 0..) |name, index| {
            if (std.mem.eql(u8, name, member.key_ptr.*)) break index;
        } else {
            mistake.text = try std.fmt.allocPrint(gpa, "unknown argument `{s}`", .{member.key_ptr.*});
            return error.Refused;
        };
        if (values[index] != null) {
            mistake.text = try std.fmt.allocPrint(gpa, "argument `{s}` is given both by position and by name", .{names[index]});
            return error.Refused;
        }
        values[index] = member.value_ptr.*;
    }
}

/// A value of type `T`. Strict: no text is a number, and no fraction an integer.
fn fromJson(comptime T: type, gpa: Allocator, value: Value) Refused!T {
    if (T == Value) return value;
    if (T == Bytes) {
        if (value != .string) return error.Refused;
        const decoder = std.base64.standard.Decoder;
        const bytes = try gpa.alloc(u8, decoder.calcSizeForSlice(value.string) catch return error.Refused);
        decoder.decode(bytes, value.string) catch return error.Refused;
        return .{ .bytes = bytes };
    }
    if (T == []const u8) return if (value == .string) value.string else error.Refused;
    switch (@typeInfo(T)) {
        .bool => return if (value == .bool) value.bool else error.Refused,
        .int => return switch (value) {
            .integer => |number| std.math.cast(T, number) orelse error.Refused,
            .number_string => |digits| std.fmt.parseInt(T, digits, 10) catch error.Refused,
            else => error.Refused,
        },
        .float => return switch (value) {
            .integer => |number| @floatFromInt(number),
            .float => |number| @floatCast(number),
            .number_string => |digits| finite(T, std.fmt.parseFloat(T, digits) catch return error.Refused),
            else => error.Refused,
        },
        .optional => |optional| return if (value == .null) null else try fromJson(optional.child, gpa, value),
        .pointer => |pointer| {
            if (value != .array) return error.Refused;
            const items = try gpa.alloc(pointer.child, value.array.items.len);
            for (items, value.array.items) |*item, element| item.* = try fromJson(pointer.child, gpa, element);
            return items;
        },
        .array => |array| {
            if (value != .array or value.array.items.len != array.len) return error.Refused;
            var items: T = undefined;
            for (&items, value.array.items) |*item, element| item.* = try fromJson(array.child, gpa, element);
            return items;
        },
        .@"struct" => |info| {
            if (value != .object) return error.Refused;
            var read: T = undefined;
            inline for (info.field_names, info.field_types) |name, Field| {
                const member = value.object.get(name);
                @field(read, name) = if (member) |found| try fromJson(Field, gpa, found) else if (@typeInfo(Field) == .optional) null else return error.Refused;
            }
            return read;
        },
        else => @compileError("no argument can be a " ++ @typeName(T)),
    }
}

fn finite(comptime T: type, number: T) Refused!T {
    return if (std.math.isFinite(number)) number else error.Refused;
}

fn take(rest: *[]const u8, length: usize) Refused![]const u8 {
    if (length > rest.len) return error.Refused;
    defer rest.* = rest.*[length..];
    return rest.*[0..length];
}

/// A length that the rest could hold.
fn takeLength(rest: *[]const u8) Refused!usize {
    const length = std.mem.readInt(u64, (try take(rest, 8))[0..8], .little);
    return if (length > rest.len) error.Refused else @intCast(length);
}

fn Wide(comptime T: type) type {
    return if (T == usize) u64 else if (T == isize) i64 else T;
}

fn fromBincode(comptime T: type, gpa: Allocator, rest: *[]const u8) Refused!T {
    if (T == Bytes) return .{ .bytes = try take(rest, try takeLength(rest)) };
    if (T == []const u8) {
        const text = try take(rest, try takeLength(rest));
        return if (std.unicode.utf8ValidateSlice(text)) text else error.Refused;
    }
    if (T == Value) return error.Refused; // JSON has no form here
    switch (@typeInfo(T)) {
        .bool => return switch ((try take(rest, 1))[0]) {
            0 => false,
            1 => true,
            else => error.Refused,
        },
        .int => {
            const width = @sizeOf(Wide(T));
            return std.math.cast(T, std.mem.readInt(Wide(T), (try take(rest, width))[0..width], .little)) orelse error.Refused;
        },
        .float => |float| {
            const Bits = @Int(.unsigned, float.bits);
            return @bitCast(try fromBincode(Bits, gpa, rest));
        },
        .optional => |optional| return if (try fromBincode(bool, gpa, rest)) try fromBincode(optional.child, gpa, rest) else null,
        .pointer => |pointer| {
            const items = try gpa.alloc(pointer.child, try takeLength(rest));
            for (items) |*item| item.* = try fromBincode(pointer.child, gpa, rest);
            return items;
        },
        .array => |array| {
            var items: T = undefined;
            for (&items) |*item| item.* = try fromBincode(array.child, gpa, rest);
            return items;
        },
        .@"struct" => |info| {
            var read: T = undefined;
            inline for (info.field_names, info.field_types) |name, Field| @field(read, name) = try fromBincode(Field, gpa, rest);
            return read;
        },
        else => @compileError("no argument can be a " ++ @typeName(T)),
    }
}

/// The bytes of a result or an item.
pub fn encode(gpa: Allocator, codec: Codec, value: anytype) ![]const u8 {
    const T = @TypeOf(value);
    if (codec == .raw and T == Bytes) return value.bytes;
    if (codec == .raw and T == []const u8) return value;
    if (codec == .bincode) {
        var into: std.Io.Writer.Allocating = .init(gpa);
        try toBincode(&into.writer, value);
        return into.written();
    }
    if (T == void) return "null";
    return std.json.Stringify.valueAlloc(gpa, value, .{});
}

fn toBincode(into: *std.Io.Writer, value: anytype) !void {
    const T = @TypeOf(value);
    if (T == Bytes) return toBincode(into, value.bytes);
    if (T == Value) return error.NoBincode;
    switch (@typeInfo(T)) {
        .void => {},
        .bool => try into.writeByte(@intFromBool(value)),
        .int => try into.writeInt(Wide(T), value, .little),
        .float => |float| try into.writeInt(@Int(.unsigned, float.bits), @bitCast(value), .little),
        .optional => {
            try into.writeByte(@intFromBool(value != null));
            if (value) |held| try toBincode(into, held);
        },
        .pointer => {
            try into.writeInt(u64, value.len, .little);
            if (T == []const u8) try into.writeAll(value) else for (value) |item| try toBincode(into, item);
        },
        .array => for (value) |item| try toBincode(into, item),
        .@"struct" => |info| inline for (info.field_names) |name| try toBincode(into, @field(value, name)),
        else => @compileError("no result can be a " ++ @typeName(T)),
    }
}

/// A type's name in the manifest: as Rust writes it, because the host reads those.
pub fn typeName(comptime T: type) []const u8 {
    if (T == []const u8) return "String";
    if (T == Value) return "Value";
    return switch (@typeInfo(T)) {
        .void => "",
        .error_union => |fallible| typeName(fallible.payload),
        .float => |float| std.fmt.comptimePrint("f{d}", .{float.bits}),
        .optional => |optional| "Option<" ++ typeName(optional.child) ++ ">",
        .pointer => |pointer| "Vec<" ++ typeName(pointer.child) ++ ">",
        .array => |array| std.fmt.comptimePrint("[{s}; {d}]", .{ typeName(array.child), array.len }),
        .@"struct" => last(@typeName(T)),
        else => @typeName(T),
    };
}

fn last(comptime path: []const u8) []const u8 {
    return if (std.mem.lastIndexOfScalar(u8, path, '.')) |dot| path[dot + 1 ..] else path;
}

/// `text` with the escapes that JSON texts and assembly share.
pub fn escaped(comptime text: []const u8) []const u8 {
    comptime {
        @setEvalBranchQuota(100_000);
        var result: []const u8 = "";
        for (text) |byte| {
            result = result ++ switch (byte) {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                else => &[_]u8{byte},
            };
        }
        return result;
    }
}
