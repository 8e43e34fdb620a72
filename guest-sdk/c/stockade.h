/*
 * Stockade tasks in C: headers only, version 1 of the guest ABI (docs/abi.md).
 *
 *     #include "stockade.h"
 *
 *     STOCKADE_TASK(add, "Adds two numbers.", "i64", (a, "i64"), (b, "i64")) {
 *         int64_t a = stockade_take_i64(call), b = stockade_take_i64(call);
 *         if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
 *         return stockade_return_i64(call, a + b);
 *     }
 *
 *     clang --target=wasm32-wasi -mexec-model=reactor -O2 -o tasks.wasm tasks.c
 *     stockade run tasks.wasm add 2 40
 *
 * STOCKADE_TASK declares the export, its line of the manifest and the function, whose `call` gives
 * its arguments in order and takes its result, in whatever codec the caller chose. Types in the
 * manifest are written as in Rust: i64, f64, bool, String, Bytes, Vec<f64>.
 *
 * Memory that is taken or built here is freed when the task returns.
 */
#ifndef STOCKADE_H
#define STOCKADE_H

#include <stdarg.h>

#include "stockade_json.h"

/* The most parameters of a task. */
#define STOCKADE_PARAMETERS_MAX 6

/* What a task returns. */
enum { STOCKADE_SUCCESS = 0, STOCKADE_ERROR = 1, STOCKADE_BAD_ARGUMENTS = 2 };
/* How input and result are written. */
enum { STOCKADE_RAW = 0, STOCKADE_BINCODE = 1, STOCKADE_JSON = 2 };
enum { STOCKADE_LOG_ERROR = 1, STOCKADE_LOG_WARN, STOCKADE_LOG_INFO, STOCKADE_LOG_DEBUG, STOCKADE_LOG_TRACE };

/* ---- The host calls, as the ABI has them. ---- */

#define STOCKADE__IMPORT(name) __attribute__((import_module("stockade"), import_name(#name)))
STOCKADE__IMPORT(input_len) size_t stockade_input_len(void);
STOCKADE__IMPORT(input_codec) int32_t stockade_input_codec(void);
STOCKADE__IMPORT(input_read) void stockade_input_read(void *into, size_t offset, size_t length);
STOCKADE__IMPORT(output_write) void stockade_output_write(const void *from, size_t length);
STOCKADE__IMPORT(error_write) void stockade_error_write(const void *from, size_t length);
/* How far the task is; a total of 0 is unknown. */
STOCKADE__IMPORT(progress) void stockade_progress(int64_t done, int64_t total);
STOCKADE__IMPORT(emit) void stockade_emit(const void *from, size_t length);
STOCKADE__IMPORT(log) void stockade_log(int32_t level, const void *from, size_t length);
/* Nanoseconds until the deadline, INT64_MAX where there is none. */
STOCKADE__IMPORT(remaining_ns) int64_t stockade_remaining_ns(void);
/* The task's number in its pool, from 1; 0 in an initializer or a finalizer. */
STOCKADE__IMPORT(task_id) int64_t stockade_task_id(void);

/* ---- Telling the host. ---- */

/* Appends a line to the task's log; takes what printf takes, and 1 KiB of it. */
__attribute__((format(printf, 2, 3))) static inline void stockade_logf(int32_t level, const char *format,
                                                                       ...) {
    char line[1024];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    if (length > 0)
        stockade_log(level, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
}
#define stockade_error(...) stockade_logf(STOCKADE_LOG_ERROR, __VA_ARGS__)
#define stockade_warn(...) stockade_logf(STOCKADE_LOG_WARN, __VA_ARGS__)
#define stockade_info(...) stockade_logf(STOCKADE_LOG_INFO, __VA_ARGS__)
#define stockade_debug(...) stockade_logf(STOCKADE_LOG_DEBUG, __VA_ARGS__)
#define stockade_trace(...) stockade_logf(STOCKADE_LOG_TRACE, __VA_ARGS__)

/* Writes the record of a failure; `data` is JSON text, or NULL. */
static inline void stockade__report(const char *message, const char *data, bool panic) {
    stockade_buffer record = {0};
    stockade_put(&record, "{\"message\":");
    stockade_put_text(&record, stockade_text_of(message));
    stockade_put(&record, panic ? ",\"panic\":true" : ",\"panic\":false");
    if (data) {
        stockade_put(&record, ",\"data\":");
        stockade_put_text(&record, stockade_text_of(data));
    }
    stockade_put(&record, "}");
    stockade_error_write(record.bytes, record.length);
}

/* Ends the task as a panic, with a trap. */
_Noreturn static inline void stockade_panic(const char *message) {
    stockade__report(message, NULL, true);
    __builtin_trap();
}

/* Fails the task: `return stockade_fail("no such user", NULL);`. `data` is the error as JSON, for
   callers that match on it, or NULL. */
static inline int stockade_fail(const char *message, const char *data) {
    stockade__report(message, data, false);
    return STOCKADE_ERROR;
}

/* ---- Arguments. ---- */

/* One call: what is left of its input. */
typedef struct {
    int codec, count, next;
    const char *const *names;
    stockade_text input;
    stockade_json values[STOCKADE_PARAMETERS_MAX];
    bool wrong;
} stockade_call;

/* Refuses the arguments; the first reason counts. A task that sees it returns STOCKADE_BAD_ARGUMENTS. */
__attribute__((format(printf, 2, 3))) static inline int stockade_refuse(stockade_call *call,
                                                                        const char *format, ...) {
    if (!call->wrong) {
        char message[512];
        va_list values;
        va_start(values, format);
        vsnprintf(message, sizeof message, format, values);
        va_end(values);
        stockade__report(message, NULL, false);
    }
    call->wrong = true;
    return STOCKADE_BAD_ARGUMENTS;
}

static inline void stockade__sort(stockade_call *call) {
    stockade_json whole, name, value, member;
    if (!stockade_json_parse(call->input, &whole) || *whole.at != '{') {
        stockade_refuse(call, "the input is not {\"args\": [...], \"kwargs\": {...}}");
        return;
    }
    const char *at = NULL;
    while (stockade_json_next(whole, &at, &name, &value)) {
        const char *inner = NULL;
        int index = 0;
        if (stockade__is(name, "args") && *value.at == '[') {
            for (; stockade_json_next(value, &inner, NULL, &member); index++) {
                if (index >= call->count) {
                    stockade_refuse(call, "too many arguments: expected %d", call->count);
                    return;
                }
                if (call->values[index].at)
                    stockade_refuse(call, "argument `%s` is given twice", call->names[index]);
                call->values[index] = member;
            }
        } else if (stockade__is(name, "kwargs") && *value.at == '{') {
            while (stockade_json_next(value, &inner, &name, &member)) {
                for (index = 0; index < call->count && !stockade__is(name, call->names[index]);) index++;
                if (index == call->count) {
                    stockade_refuse(call, "unknown argument %.*s", (int)(name.end - name.at), name.at);
                    return;
                }
                if (call->values[index].at)
                    stockade_refuse(call, "argument `%s` is given twice", call->names[index]);
                call->values[index] = member;
            }
        } else stockade_refuse(call, "the input has a member beside args and kwargs");
    }
}

/* The next argument's bytes in bincode; NULL where the input ends before them. */
static inline const char *stockade__bincode(stockade_call *call, size_t length) {
    const char *at = call->input.bytes;
    if (call->wrong) return NULL;
    if (call->input.length < length) {
        stockade_refuse(call, "argument %d `%s`: the input ends", call->next, call->names[call->next - 1]);
        return NULL;
    }
    call->input = (stockade_text){at + length, call->input.length - length};
    return at;
}

/* Begins the next argument; false where there is none to be had from JSON. */
static inline bool stockade__begin(stockade_call *call, stockade_json *value) {
    int index = call->next++;
    if (index >= call->count) stockade_panic("a task takes more arguments than it declares");
    if (call->wrong) return false;
    if (call->codec == STOCKADE_JSON) {
        *value = call->values[index];
        if (!value->at) stockade_refuse(call, "argument %d `%s`: missing", index + 1, call->names[index]);
        return value->at;
    }
    if (call->codec == STOCKADE_RAW)
        stockade_refuse(call,
                        "raw bytes are an input only for a task with one parameter of a byte or text type");
    return false;
}

static inline void stockade__expected(stockade_call *call, const char *what) {
    stockade_refuse(call, "argument %d `%s`: expected %s", call->next, call->names[call->next - 1], what);
}

/* Each takes the next argument; where it is not of the type, the call is refused and zero is given. */
static inline int64_t stockade_take_i64(stockade_call *call) {
    stockade_json value;
    int64_t number = 0;
    if (stockade__begin(call, &value)) {
        if (!stockade_json_i64(value, &number)) stockade__expected(call, "an i64");
    } else if (call->codec == STOCKADE_BINCODE) {
        const char *at = stockade__bincode(call, 8);
        if (at) memcpy(&number, at, 8);
    }
    return call->wrong ? 0 : number;
}

static inline double stockade_take_f64(stockade_call *call) {
    stockade_json value;
    double number = 0;
    if (stockade__begin(call, &value)) {
        if (!stockade_json_f64(value, &number)) stockade__expected(call, "an f64");
    } else if (call->codec == STOCKADE_BINCODE) {
        const char *at = stockade__bincode(call, 8);
        if (at) memcpy(&number, at, 8);
    }
    return call->wrong ? 0 : number;
}

static inline bool stockade_take_bool(stockade_call *call) {
    stockade_json value;
    bool flag = false;
    if (stockade__begin(call, &value)) {
        if (!stockade_json_bool(value, &flag)) stockade__expected(call, "a bool");
    } else if (call->codec == STOCKADE_BINCODE) {
        const char *at = stockade__bincode(call, 1);
        if (at && (unsigned char)*at > 1) stockade__expected(call, "a bool");
        flag = at && *at;
    }
    return !call->wrong && flag;
}

static inline stockade_text stockade__take(stockade_call *call, bool text) {
    stockade_json value;
    stockade_text taken = {"", 0};
    if (call->codec == STOCKADE_RAW && call->count == 1 && !call->wrong && call->next == 0) {
        call->next++;
        taken = call->input;
        call->input.length = 0;
    } else if (stockade__begin(call, &value)) {
        if (!(text ? stockade_json_text(value, &taken) : stockade_json_bytes(value, &taken)))
            stockade__expected(call, text ? "a text" : "a text in base64");
    } else if (call->codec == STOCKADE_BINCODE) {
        uint64_t length = 0;
        const char *at = stockade__bincode(call, 8);
        if (at) memcpy(&length, at, 8);
        if (length > call->input.length) stockade__expected(call, "as many bytes as its length says");
        else if (at) taken = (stockade_text){stockade__bincode(call, (size_t)length), (size_t)length};
    }
    if (text && !call->wrong && !stockade_is_utf8(taken)) stockade__expected(call, "UTF-8");
    return call->wrong ? (stockade_text){"", 0} : taken;
}

static inline stockade_text stockade_take_text(stockade_call *call) { return stockade__take(call, true); }
static inline stockade_text stockade_take_bytes(stockade_call *call) { return stockade__take(call, false); }

/* Any argument as JSON; only callers that use JSON can give it. `null` where it is refused. */
static inline stockade_json stockade_take_json(stockade_call *call) {
    static const char null[] = "null";
    stockade_json value = {null, null + 4};
    if (!stockade__begin(call, &value) && !call->wrong)
        stockade_refuse(call, "argument %d `%s`: this guest reads it from JSON only", call->next,
                        call->names[call->next - 1]);
    return call->wrong ? (stockade_json){null, null + 4} : value;
}

/* Whether all arguments were there, of their types, and nothing is left. Ask before you work. */
static inline bool stockade_taken(stockade_call *call) {
    if (!call->wrong && call->codec != STOCKADE_JSON && call->input.length)
        stockade_refuse(call, "too many arguments: %zu bytes are left", call->input.length);
    return !call->wrong;
}

/* ---- Results, and items of a streamed result: encoded in the caller's codec. ---- */

typedef void stockade_sink(const void *from, size_t length);

static inline int stockade__number(stockade_call *call, stockade_sink *sink, const void *bincode,
                                   size_t length, const char *json) {
    if (call->codec == STOCKADE_BINCODE) sink(bincode, length);
    else sink(json, strlen(json));
    return STOCKADE_SUCCESS;
}

static inline int stockade__write_i64(stockade_call *call, stockade_sink *sink, int64_t number) {
    char json[24];
    snprintf(json, sizeof json, "%lld", (long long)number);
    return stockade__number(call, sink, &number, 8, json);
}

static inline int stockade__write_f64(stockade_call *call, stockade_sink *sink, double number) {
    stockade_buffer json = {0};
    stockade_put_f64(&json, number);
    stockade_put_bytes(&json, "", 1);
    return stockade__number(call, sink, &number, 8, json.bytes);
}

static inline int stockade__write_text(stockade_call *call, stockade_sink *sink, stockade_text text,
                                       bool bytes) {
    stockade_buffer encoded = {0};
    uint64_t length = text.length;
    if (call->codec == STOCKADE_RAW) {
        sink(text.bytes, text.length);
        return STOCKADE_SUCCESS;
    }
    if (call->codec == STOCKADE_BINCODE) {
        stockade_put_bytes(&encoded, &length, 8);
        stockade_put_bytes(&encoded, text.bytes, text.length);
    } else if (bytes) stockade_put_base64(&encoded, text);
    else stockade_put_text(&encoded, text);
    sink(encoded.bytes, encoded.length);
    return STOCKADE_SUCCESS;
}

static inline int stockade_return_i64(stockade_call *call, int64_t number) {
    return stockade__write_i64(call, stockade_output_write, number);
}
static inline int stockade_return_f64(stockade_call *call, double number) {
    return stockade__write_f64(call, stockade_output_write, number);
}
static inline int stockade_return_bool(stockade_call *call, bool flag) {
    char byte = flag;
    return stockade__number(call, stockade_output_write, &byte, 1, flag ? "true" : "false");
}
static inline int stockade_return_text(stockade_call *call, stockade_text text) {
    return stockade__write_text(call, stockade_output_write, text, false);
}
static inline int stockade_return_bytes(stockade_call *call, stockade_text bytes) {
    return stockade__write_text(call, stockade_output_write, bytes, true);
}
static inline int stockade_return_nothing(stockade_call *call) {
    return stockade__number(call, stockade_output_write, "", 0, "null");
}
/* JSON that was built; a caller that uses bincode gets an error. */
static inline int stockade_return_json(stockade_call *call, stockade_buffer *json) {
    if (call->codec == STOCKADE_BINCODE)
        return stockade_fail("the result cannot be encoded: this guest writes it as JSON only", NULL);
    stockade_output_write(json->bytes, json->length);
    return STOCKADE_SUCCESS;
}

static inline void stockade_emit_i64(stockade_call *call, int64_t number) {
    stockade__write_i64(call, stockade_emit, number);
}
static inline void stockade_emit_f64(stockade_call *call, double number) {
    stockade__write_f64(call, stockade_emit, number);
}
static inline void stockade_emit_text(stockade_call *call, stockade_text text) {
    stockade__write_text(call, stockade_emit, text, false);
}
static inline void stockade_emit_bytes(stockade_call *call, stockade_text bytes) {
    stockade__write_text(call, stockade_emit, bytes, true);
}

/* ---- Declaring tasks. ---- */

/* Runs one call of a function; STOCKADE_TASK writes what calls this. */
static inline int32_t stockade_run(int count, const char *const *names, int (*body)(stockade_call *)) {
    size_t length = stockade_input_len();
    char *input = stockade_alloc(length);
    stockade_input_read(input, 0, length);
    stockade_call call = {
        .codec = stockade_input_codec(), .count = count, .names = names, .input = {input, length}};
    if (call.codec < STOCKADE_RAW || call.codec > STOCKADE_JSON)
        stockade_refuse(&call, "the input has a codec that this guest's SDK does not know");
    else if (call.codec == STOCKADE_JSON) stockade__sort(&call);
    int status = body(&call);
    stockade__free_all();
    fflush(stdout);
    return call.wrong ? STOCKADE_BAD_ARGUMENTS : status;
}

#define STOCKADE__PICK(_0, _1, _2, _3, _4, _5, _6, picked, ...) picked
#define STOCKADE__EACH(each, comma, ...)                                                                     \
    STOCKADE__PICK(_, ##__VA_ARGS__, STOCKADE__6, STOCKADE__5, STOCKADE__4, STOCKADE__3, STOCKADE__2,        \
                   STOCKADE__1, STOCKADE__0)                                                                 \
    (each, comma, ##__VA_ARGS__)
#define STOCKADE__0(each, comma)
#define STOCKADE__1(each, comma, a) each a
#define STOCKADE__2(each, comma, a, ...) each a comma STOCKADE__1(each, comma, __VA_ARGS__)
#define STOCKADE__3(each, comma, a, ...) each a comma STOCKADE__2(each, comma, __VA_ARGS__)
#define STOCKADE__4(each, comma, a, ...) each a comma STOCKADE__3(each, comma, __VA_ARGS__)
#define STOCKADE__5(each, comma, a, ...) each a comma STOCKADE__4(each, comma, __VA_ARGS__)
#define STOCKADE__6(each, comma, a, ...) each a comma STOCKADE__5(each, comma, __VA_ARGS__)
#define STOCKADE__NAME(name, type) #name,
#define STOCKADE__PARAMETER(name, type) "{\\\"name\\\":\\\"" #name "\\\",\\\"type\\\":\\\"" type "\\\"}"

/* clang-format off */
/* One line of the manifest, by way of the assembler: clang puts variables into no custom section. */
#define STOCKADE__RECORD(kind, name, doc, result, ...)                                                 \
    ".section .custom_section.stockade.tasks,\"\",@\n"                                                   \
    ".ascii \"{\\\"abi\\\":1,\\\"kind\\\":\\\"" kind "\\\",\\\"name\\\":\\\"" #name "\\\","                    \
    "\\\"export\\\":\\\"stockade.task." #name "\\\",\\\"doc\\\":\\\"" doc "\\\","                             \
    "\\\"params\\\":[" STOCKADE__EACH(STOCKADE__PARAMETER, ",", ##__VA_ARGS__) "],"                        \
    "\\\"result\\\":\\\"" result "\\\"}\\n\"\n"                                                             \
    ".text\n"

#define STOCKADE__FUNCTION(kind, name, doc, result, ...)                                               \
    __asm__(STOCKADE__RECORD(kind, name, doc, result, ##__VA_ARGS__));                                  \
    static int stockade_body_##name(stockade_call *call);                                              \
    __attribute__((export_name("stockade.task." #name))) int32_t stockade_export_##name(void) {        \
        static const char *const names[] = {STOCKADE__EACH(STOCKADE__NAME, , ##__VA_ARGS__) NULL};     \
        return stockade_run(sizeof names / sizeof *names - 1, names, stockade_body_##name);            \
    }                                                                                                  \
    static int stockade_body_##name(stockade_call *call)
/* clang-format on */

/* STOCKADE_TASK(name, "doc", "result type", (parameter, "type"), ...) { ... } with at most six
   parameters; doc and types without quotes, backslashes and line ends. */
#define STOCKADE_TASK(name, doc, result, ...) STOCKADE__FUNCTION("task", name, doc, result, ##__VA_ARGS__)
/* Runs before the tasks, as the host's Instances have it. At most one of each. */
#define STOCKADE_INITIALIZER(name, doc, ...) STOCKADE__FUNCTION("initializer", name, doc, "", ##__VA_ARGS__)
/* Runs when a worker closes. */
#define STOCKADE_FINALIZER(name, doc, ...) STOCKADE__FUNCTION("finalizer", name, doc, "", ##__VA_ARGS__)

#endif
