/*
 * The tasks of the ABI's test vectors, in C; examples-wasm/vectors has them in Rust.
 *
 *     stockade run vectors.wasm add 2 40
 *     stockade run vectors.wasm summarize '{"name": "depths", "values": [1, 2.5, -3]}'
 */
#include "stockade.h"

static int64_t loaded_value;

STOCKADE_TASK(echo, "Gives back what it is given.", "Bytes", (data, "Bytes")) {
    stockade_text data = stockade_take_bytes(call);
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    return stockade_return_bytes(call, data);
}

STOCKADE_TASK(add, "Adds two numbers.", "i64", (a, "i64"), (b, "i64")) {
    int64_t a = stockade_take_i64(call), b = stockade_take_i64(call);
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    return stockade_return_i64(call, (int64_t)((uint64_t)a + (uint64_t)b));
}

STOCKADE_TASK(negate, "The negative of a number, if that is really meant.", "f64", (x, "f64"),
              (really, "bool")) {
    double x = stockade_take_f64(call);
    bool really = stockade_take_bool(call);
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    return stockade_return_f64(call, really ? -x : x);
}

STOCKADE_TASK(greet, "Greets somebody.", "String", (name, "String")) {
    stockade_text name = stockade_take_text(call);
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    stockade_buffer greeting = {0};
    stockade_put(&greeting, "Hello, ");
    stockade_put_bytes(&greeting, name.bytes, name.length);
    stockade_put(&greeting, "!");
    return stockade_return_text(call, (stockade_text){greeting.bytes, greeting.length});
}

STOCKADE_TASK(summarize, "Sums up a series.", "Summary", (series, "Series")) {
    stockade_json series = stockade_take_json(call), values, value;
    stockade_text name;
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    if (!stockade_json_member(series, "name", &value) || !stockade_json_text(value, &name))
        return stockade_refuse(call, "series: expected a text `name`");
    if (!stockade_json_member(series, "values", &values) || *values.at != '[')
        return stockade_refuse(call, "series: expected a list `values`");

    double sum = 0, largest = 0;
    int64_t count = 0;
    for (const char *at = NULL; stockade_json_next(values, &at, NULL, &value); count++) {
        double number;
        if (!stockade_json_f64(value, &number))
            return stockade_refuse(call, "series: expected numbers as `values`");
        sum += number;
        if (count == 0 || number > largest) largest = number;
    }

    stockade_buffer summary = {0};
    stockade_put(&summary, "{\"name\":");
    stockade_put_text(&summary, name);
    stockade_put(&summary, ",\"count\":");
    stockade_put_i64(&summary, count);
    stockade_put(&summary, ",\"sum\":");
    stockade_put_f64(&summary, sum);
    stockade_put(&summary, ",\"largest\":");
    if (count) stockade_put_f64(&summary, largest);
    else stockade_put(&summary, "null");
    stockade_put(&summary, "}");
    return stockade_return_json(call, &summary);
}

STOCKADE_TASK(fail, "Fails.", "", (code, "i64")) {
    long long code = stockade_take_i64(call);
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    char message[64], data[64];
    snprintf(message, sizeof message, "failed with code %lld", code);
    snprintf(data, sizeof data, "{\"code\":%lld}", code);
    return stockade_fail(message, data);
}

STOCKADE_TASK(panic, "Panics.", "", (message, "String")) {
    stockade_text message = stockade_take_text(call);
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    stockade_panic(strndup(message.bytes, message.length));
}

STOCKADE_TASK(tell, "Emits, logs and tells its progress as often as it is told to.", "i64", (count, "i64")) {
    int64_t count = stockade_take_i64(call);
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    for (int64_t item = 0; item < count; item++) {
        stockade_emit_i64(call, item);
        stockade_info("item %lld", (long long)item);
        stockade_progress(item + 1, count);
    }
    return stockade_return_i64(call, count);
}

STOCKADE_TASK(nothing, "Does nothing.", "") {
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    return stockade_return_nothing(call);
}

STOCKADE_TASK(hosted, "Whether this is a numbered task with a deadline.", "bool") {
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    int64_t remaining = stockade_remaining_ns();
    return stockade_return_bool(call, stockade_task_id() > 0 && remaining > 0 && remaining < INT64_MAX);
}

STOCKADE_TASK(loaded, "What the initializer loaded.", "i64") {
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    return stockade_return_i64(call, loaded_value);
}

STOCKADE_INITIALIZER(load, "Keeps a number for every task.") {
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    loaded_value = 41;
    return stockade_return_nothing(call);
}

STOCKADE_FINALIZER(unload, "Forgets it.") {
    if (!stockade_taken(call)) return STOCKADE_BAD_ARGUMENTS;
    loaded_value = 0;
    return stockade_return_nothing(call);
}

/* Half of a number: numbers need no SDK. */
__attribute__((export_name("half"))) double half(double x) { return x / 2; }
